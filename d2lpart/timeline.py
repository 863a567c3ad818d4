"""Timeline: all spans of a step, from whatever clock, and what can be read off them.

The simulator and the real run return this one type, so a prediction and a measurement are
compared, explained and drawn by the same code.
"""

from collections import defaultdict
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
        if {span.action for span in ordered} != set(schedule.position):
            raise ValueError(
                f"{len(ordered)} spans for {len(schedule.position)} actions: a timeline needs "
                f"one span for each action of its schedule"
            )
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
        return self.makespan - self.busy(rank)

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

    def peak_in_flight(self, rank: int) -> float:
        """Return how many micro-batches `rank` holds at most, in whole-stage units.

        A micro-batch is held from the start of its forward to the end of its backward (of W where
        the backward is split). On a rank with v stages each one held counts 1/v.
        """
        held = peak = 0
        for span in self.of_rank(rank):
            held += (span.action.kind == "F") - (span.action.kind in "BW")
            peak = max(peak, held + (span.action.kind in "BW"))
        return peak / len(self.schedule.stages_of(rank))

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
        """Return the timeline as text: headline, one lane a rank, where the times are from."""
        lanes = staircase(
            [
                [(f"{a.kind}{a.microbatch}", start, end) for _, a, start, end in self._lanes[rank]]
                for rank in range(self.num_ranks)
            ],
            self.start,
            self.end,
        )
        rows = [
            f"rank {rank} |{lane}| idle {self.idle_fraction(rank):.1%}"
            for rank, lane in enumerate(lanes)
        ]
        return "\n".join([self.headline(), *rows, *([self.note] if self.note else [])])

    def __repr__(self) -> str:
        return f"<Timeline {self.headline()}>"


@dataclass(frozen=True, repr=False)
class Comparison(Drawable):
    """Two timelines side by side, in words and on one axis."""

    first: Timeline
    second: Timeline

    @property
    def ratio(self) -> float:
        """The second step's length over the first's."""
        return self.second.makespan / self.first.makespan

    def describe(self) -> str:
        """Return a table: step, idle and peak of both, and their ratio."""
        a, b = self.first, self.second
        head = [f"{t.schedule.name} ({t.clock})" for t in (a, b)]
        width = max(14, *map(len, head))
        rows = [("", *head), ("step", *(seconds_text(t.makespan) for t in (a, b)))]
        rows.append(("idle/total", *(f"{t.idle_fraction():.1%}" for t in (a, b))))
        rows.append(("idle/ideal", *(f"{t.bubble_overhead():.1%}" for t in (a, b))))
        for rank in range(max(a.num_ranks, b.num_ranks)):
            cells = (f"{t.idle_fraction(rank):.1%}" if rank < t.num_ranks else "" for t in (a, b))
            rows.append((f"rank {rank} idle", *cells))
        table = [f"{name:<13}{x:>{width}}  {y:>{width}}" for name, x, y in rows]
        return "\n".join([f"second step / first step = {self.ratio:.3f}", *table])

    def __repr__(self) -> str:
        return self.describe()
