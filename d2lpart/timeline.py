"""Timeline: all spans of a step, from whatever clock, and what can be read off them.

The simulator and the real run return this one type, so a prediction and a measurement are
compared, explained and drawn by the same code.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from d2lpart import explain, trace
from d2lpart.display import Drawable, seconds_text, staircase
from d2lpart.schedule import Action, Schedule
from d2lpart.span import Span, Transfer

CLOCKS = ("predicted", "virtual", "wall")


@dataclass(frozen=True, repr=False)
class Timeline(Drawable):
    """The spans and transfers of one step.

    Args:
        spans: one `Span` for each action of the schedule; times in seconds.
        transfers: one `Transfer` for each message between ranks.
        clock: "predicted" (durations were given), "virtual" (durations were measured one at a
            time, starts placed by the dependency rule) or "wall" (starts and ends were measured).
        schedule: the order that was followed.
        note: on what the numbers were taken and which part of them is modelled.
    """

    spans: tuple[Span, ...]
    transfers: tuple[Transfer, ...]
    clock: str
    schedule: Schedule
    note: str = ""

    def __init__(
        self,
        spans: Iterable[Span],
        transfers: Iterable[Transfer],
        clock: str,
        schedule: Schedule,
        note: str = "",
    ) -> None:
        if clock not in CLOCKS:
            raise ValueError(f"clock is {clock!r}: use one of {', '.join(CLOCKS)}")
        ordered = tuple(sorted(spans, key=lambda span: (span.start, span.rank, span.end)))
        _check_spans(ordered, schedule)
        object.__setattr__(self, "spans", ordered)
        object.__setattr__(self, "transfers", tuple(sorted(transfers, key=lambda t: t.start)))
        object.__setattr__(self, "clock", clock)
        object.__setattr__(self, "schedule", schedule)
        object.__setattr__(self, "note", note)

    @property
    def num_ranks(self) -> int:
        """How many ranks work."""
        return self.schedule.num_ranks

    @cached_property
    def start(self) -> float:
        """When the first action starts, in seconds."""
        return min(span.start for span in self.spans)

    @cached_property
    def end(self) -> float:
        """When the last action ends, in seconds."""
        return max(span.end for span in self.spans)

    @property
    def makespan(self) -> float:
        """The length of the step in seconds, from the first start to the last end."""
        return self.end - self.start

    def of_rank(self, rank: int) -> Sequence[Span]:
        """Return the spans of one rank in order of time."""
        if not 0 <= rank < self.num_ranks:
            raise ValueError(
                f"there is no rank {rank}: this timeline has ranks 0 to {self.num_ranks - 1}"
            )
        return self._lanes[rank]

    def busy(self, rank: int) -> float:
        """Return the seconds in which `rank` computes."""
        return sum(span.seconds for span in self.of_rank(rank))

    def idle(self, rank: int) -> float:
        """Return the seconds of the step in which `rank` computes nothing."""
        return max(0.0, self.makespan - self.busy(rank))  # rounding leaves nothing below 0

    def idle_fraction(self, rank: int | None = None) -> float:
        """Return idle/total, the share of the step spent idle: of one rank, or over all of them."""
        ranks = range(self.num_ranks) if rank is None else [rank]
        total = self.makespan * len(ranks)
        return sum(map(self.idle, ranks)) / total if total else 0.0

    def bubble_overhead(self) -> float:
        """Return idle/ideal, the idle time of all ranks against the time they compute.

        For GPipe and 1F1B with even stages it is (p−1)/m (arXiv 2104.04473, section 2.2).
        """
        busy = sum(map(self.busy, range(self.num_ranks)))
        return sum(map(self.idle, range(self.num_ranks))) / busy if busy else 0.0

    def in_flight(self, rank: int) -> list[tuple[float, float]]:
        """Return (moment, micro-batches held from then on) for `rank`, in whole-stage units.

        A micro-batch is held from the start of its forward to the end of its backward (of W where
        the backward is split). On a rank with v stages each one held counts 1/v.
        """
        stages = len(self.schedule.stages_of(rank))
        held, course = 0, [(self.start, 0.0)]
        for span in self.of_rank(rank):
            change = (span.action.kind == "F") - (span.action.kind in "BW")
            held += change
            if change:
                course.append((span.start if change > 0 else span.end, held / stages))
        return course

    def peak_in_flight(self, rank: int) -> float:
        """Return the most micro-batches that `rank` holds at once, in whole-stage units."""
        return max(held for _, held in self.in_flight(rank))

    def _peak(self) -> float:
        return max(map(self.peak_in_flight, range(self.num_ranks)))

    def gaps(self, rank: int) -> list[explain.Gap]:
        """Return the idle time of `rank` as gaps in order of time, each with its reason."""
        return list(explain.gaps(self._record, self.of_rank(rank)))

    def critical_path(self) -> list[Span | Transfer]:
        """Return the chain of spans and transfers that the length of the step hangs on."""
        return explain.critical_path(self._record)

    def compare(self, other: "Timeline") -> "Comparison":
        """Set this timeline beside another one: two clocks, two schedules, two partitions."""
        return Comparison(self, other)

    def to_perfetto(self, path: str | Path) -> Path:
        """Write a trace that ui.perfetto.dev and chrome://tracing open, and return its path."""
        return trace.write(path, self.spans, self.transfers, self.schedule, self.headline())

    @cached_property
    def _lanes(self) -> dict[int, list[Span]]:
        lanes = defaultdict(list)
        for span in self.spans:
            lanes[span.rank].append(span)
        return lanes

    @cached_property
    def _record(self) -> explain.Record:
        spans: dict[Action, Span] = {span.action: span for span in self.spans}
        messages = {transfer.action: transfer for transfer in self.transfers}
        return explain.Record(self.schedule, spans, messages, self.start, self.end)

    def headline(self) -> str:
        """Say in one line what was run, on which clock, and how much of it was idle."""
        m = self.schedule.num_microbatches
        ranks = f"{self.num_ranks} rank{'s' * (self.num_ranks != 1)}"
        return (
            f"{self.schedule.name}, {ranks}, {m} micro-batch{'es' * (m != 1)}, {self.clock} clock: "
            f"step {seconds_text(self.makespan)}, idle {self.idle_fraction():.1%} (idle/total)"
        )

    def describe(self) -> str:
        """Return the timeline as text: headline, one lane a rank, where the times are from.

        A box names its micro-batch, and its stage too where a rank has several. A long step is
        drawn with one letter a column, and a line below says how much time a column stands for.
        """
        boxes = [
            [(self._label(span.action), span.start, span.end) for span in self.of_rank(rank)]
            for rank in range(self.num_ranks)
        ]
        lanes = staircase(boxes, self.start, self.end)
        digits = len(str(self.num_ranks - 1))
        lines = [self.headline()]
        for rank, lane in enumerate(lanes):
            lines.append(f"rank {rank:<{digits}} |{lane}| idle {self.idle_fraction(rank):.1%}")
        if lanes[0] and not any(map(str.isdigit, "".join(lanes))):
            column = seconds_text(self.makespan / len(lanes[0]))
            lines.append(f"one column is {column}, and shows what takes most of it")
        return "\n".join([*lines, *([self.note] if self.note else [])])

    def _label(self, action: Action) -> str:
        one_each = self.schedule.num_stages == self.num_ranks
        return f"{action.kind}{action.microbatch}" if one_each else f"{action}-"

    def __repr__(self) -> str:
        return f"<Timeline {self.headline()}>"


def _check_spans(spans: Sequence[Span], schedule: Schedule) -> None:
    if not spans:
        raise ValueError("there are no spans: a timeline needs one for each action, at least one")
    given, wanted = Counter(span.action for span in spans), Counter(schedule.position.keys())
    if given != wanted:
        odd = min(a for a in given.keys() | wanted.keys() if given[a] != wanted[a])
        raise ValueError(
            f"spans of {odd}: {given[odd]}, actions {odd} in the schedule: {wanted[odd]}; a "
            f"timeline needs one span for each action"
        )


@dataclass(frozen=True, repr=False)
class Comparison(Drawable):
    """Two timelines side by side, in words and on one axis."""

    first: Timeline
    second: Timeline

    @property
    def ratio(self) -> float:
        """The second step's length over the first's."""
        first, second = self.first.makespan, self.second.makespan
        return second / first if first else (1.0 if first == second else math.inf)

    def describe(self) -> str:
        """Return a table: the ratio of the steps, then step, idle and most micro-batches held."""
        a, b = self.first, self.second
        head = [f"{t.schedule.name} ({t.clock})" for t in (a, b)]
        width = max(14, *map(len, head))
        rows = [("", *head), ("step", *(seconds_text(t.makespan) for t in (a, b)))]
        rows.append(("idle/total", *(f"{t.idle_fraction():.1%}" for t in (a, b))))
        rows.append(("idle/ideal", *(f"{t.bubble_overhead():.1%}" for t in (a, b))))
        rows.append(("peak held", *(f"{t._peak():g}" for t in (a, b))))
        for rank in range(max(a.num_ranks, b.num_ranks)):
            cells = (f"{t.idle_fraction(rank):.1%}" if rank < t.num_ranks else "" for t in (a, b))
            rows.append((f"rank {rank} idle", *cells))
        table = [f"{name:<13}{x:>{width}}  {y:>{width}}" for name, x, y in rows]
        return "\n".join([f"second step / first step = {self.ratio:.3f}", *table])

    def __repr__(self) -> str:
        return self.describe()
