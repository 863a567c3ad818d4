"""Why a rank stands idle: the reason of each gap, and the chain that fixes the step's length.

Both questions are answered from the spans alone. A span could start once its rank was free and all
that it depends on had arrived; whatever arrived last is what it waited for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from d2lpart.schedule import Action, Schedule, dependencies
from d2lpart.span import Span, Transfer


class Gap(NamedTuple):
    """A piece of idle time, with its reason in words.

    `kind` sorts the reasons: "fill" before the rank's first action, "drain" after its last,
    "wait" for another rank, "transfer" for a message under way, "overhead" for the rest.
    """

    start: float
    end: float
    reason: str
    kind: str

    @property
    def seconds(self) -> float:
        """How long the rank stands idle."""
        return self.end - self.start


@dataclass(frozen=True)
class Record:
    """What happened in a step, looked up by action."""

    schedule: Schedule
    spans: Mapping[Action, Span]
    transfers: Mapping[Action, Transfer]
    start: float
    end: float

    @cached_property
    def last(self) -> Span:
        """The span that ends the step."""
        return max(self.spans.values(), key=lambda span: span.end)

    def needs(self, span: Span) -> Iterator[tuple[float, Span]]:
        """Yield what a span waits for: when it has arrived, and the span that makes it."""
        for action in dependencies(span.action, self.schedule):
            maker = self.spans[action]
            message = self.transfers.get(action) if maker.rank != span.rank else None
            yield (message.end if message else maker.end), maker


def gaps(record: Record, own: Sequence[Span]) -> Iterator[Gap]:
    """Yield the gaps between a rank's spans `own` (in order of time) over the whole step.

    What is shorter than a billionth of the step is rounding, and no gap.
    """
    grain = 1e-9 * (record.end - record.start)
    free = record.start
    for number, span in enumerate(own):
        for until, reason, kind in _reasons(record, span, "wait" if number else "fill"):
            until = min(until, span.start)
            if until - free > grain:
                yield Gap(free, until, reason, kind)
                free = until
        free = span.end
    if record.end - free > grain:
        last = record.last
        reason = f"has nothing left to do until {last.action} on rank {last.rank} ends the step"
        yield Gap(free, record.end, reason, "drain")


def _reasons(record: Record, span: Span, kind: str) -> Iterator[tuple[float, str, str]]:
    """Yield what holds a span back, in order of time: until when, the reason and its kind."""
    last = max(record.needs(span), default=None)
    if last is not None:
        arrived, maker = last
        yield maker.end, f"waits for {maker.action} on rank {maker.rank}", kind
        source = f"of {maker.action} from rank {maker.rank}"
        yield arrived, f"waits for the transfer {source}", "transfer"
    yield span.start, f"overhead before {span.action}", "overhead"


def critical_path(record: Record) -> list[Span | Transfer]:
    """Return the chain that ends the step: spans and transfers, each waiting for the last."""
    before = _predecessors(record)
    chain: list[Span | Transfer] = []
    link: Span | None = record.last
    while link is not None:
        chain.append(link)
        previous = before[link.action]
        arrived, maker = max(record.needs(link), default=(record.start, None))
        if maker is None or (previous is not None and previous.end >= arrived):
            link = previous
            continue
        if maker.rank != link.rank and maker.action in record.transfers:
            chain.append(record.transfers[maker.action])
        link = maker
    return chain[::-1]


def _predecessors(record: Record) -> dict[Action, Span | None]:
    """For each action, the span that its rank ran just before."""
    before: dict[Action, Span | None] = {}
    last: dict[int, Span] = {}
    for span in sorted(record.spans.values(), key=lambda span: (span.start, span.end)):
        before[span.action] = last.get(span.rank)
        last[span.rank] = span
    return before
