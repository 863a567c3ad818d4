"""Why a rank stands idle: the reason of each gap.

The answer is read off the spans alone. A span could start once its rank was free and all that it
depends on had arrived; whatever arrived last is what it waited for.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from d2lpart.schedules.schedule import Action, Schedule, dependencies
from d2lpart.timelines.spans import Span, Transfer


class Gap(NamedTuple):
    """A piece of idle time, with its reason in words.

    `kind` sorts the reasons: "fill" before the rank's first action, "drain" after its last,
    "wait" for another rank, "wire" for a wire that carries another message, "transfer" for a
    message under way, "overhead" for the rest. `cause` is the span or transfer that is waited for.
    """

    start: float
    end: float
    reason: str
    kind: str
    cause: Span | Transfer | None = None

    @property
    def seconds(self) -> float:
        """How long the rank stands idle."""
        return self.end - self.start


@dataclass(frozen=True)
class Record:
    """What happened in a step: its spans and transfers in order of time, found by action."""

    schedule: Schedule
    spans: Sequence[Span]
    transfers: Sequence[Transfer]
    start: float
    end: float

    @cached_property
    def last(self) -> Span:
        """The span that ends the step."""
        return max(self.spans, key=lambda span: span.end)

    @cached_property
    def of(self) -> dict[Action, Span]:
        """The span of each action."""
        return {span.action: span for span in self.spans}

    @cached_property
    def message(self) -> dict[Action, Transfer]:
        """The transfer of what an action made."""
        return {transfer.action: transfer for transfer in self.transfers}

    @cached_property
    def before(self) -> dict[Action, Span | None]:
        """For each action, the span that its rank ran just before."""
        before: dict[Action, Span | None] = {}
        last: dict[int, Span] = {}
        for span in sorted(self.spans, key=lambda span: (span.start, span.end)):
            before[span.action] = last.get(span.rank)
            last[span.rank] = span
        return before

    @cached_property
    def ahead(self) -> dict[Action, Transfer]:
        """For what an action made, the message that was on the wire until this one was taken."""
        ahead: dict[Action, Transfer] = {}
        last: dict[Hashable, Transfer] = {}
        for message in sorted(self.transfers, key=lambda message: (message.start, message.end)):
            if message.wire:
                pair = (message.source, message.target) if message.wire == "pair" else message.wire
                previous = last.get(pair)
                if previous and message.start > self.of[message.action].end:
                    ahead[message.action] = previous
                last[pair] = message
        return ahead

    def needs(self, span: Span) -> Iterator[tuple[float, Span]]:
        """Yield what a span waits for: when it has arrived, and the span that makes it."""
        for action in dependencies(span.action, self.schedule):
            maker = self.of[action]
            message = self.message.get(action) if maker.rank != span.rank else None
            yield (message.end if message else maker.end), maker


def gaps(record: Record, own: Sequence[Span]) -> Iterator[Gap]:
    """Yield the gaps between a rank's spans `own` (in order of time) over the whole step.

    What is shorter than a billionth of the step is rounding, and no gap.
    """
    grain = 1e-9 * (record.end - record.start)
    free = record.start
    for number, span in enumerate(own):
        for until, reason, kind, cause in _reasons(record, span, "wait" if number else "fill"):
            until = min(until, span.start)
            if until - free > grain:
                yield Gap(free, until, reason, kind, cause)
                free = until
        free = span.end
    if record.end - free > grain:
        last = record.last
        reason = f"has nothing left to do until {last.action} on rank {last.rank} ends the step"
        yield Gap(free, record.end, reason, "drain", last)


Reason = tuple[float, str, str, Span | Transfer | None]


def _reasons(record: Record, span: Span, kind: str) -> Iterator[Reason]:
    """Yield what holds a span back, in order of time: until when, reason, kind and cause."""
    last = max(record.needs(span), default=None)
    if last is not None:
        arrived, maker = last
        yield maker.end, f"waits for {maker.action} on rank {maker.rank}", kind, maker
        message = record.message.get(maker.action) if maker.rank != span.rank else None
        if message is not None and maker.action in record.ahead:
            other = record.ahead[maker.action]
            yield message.start, f"waits for {_busy(other)}", "wire", other
        reason = f"waits for the transfer of {maker.action} from rank {maker.rank}"
        yield arrived, reason, "transfer", message
    yield span.start, f"overhead before {span.action}", "overhead", None


def _busy(other: Transfer) -> str:
    way = f"from rank {other.source} to rank {other.target}"
    if other.wire == "bus":
        return f"the bus, busy with {other.action} {way}"
    return f"the wire {way}, busy with {other.action}"
