"""Timeline: all spans of a step, from whatever clock, and what can be read off them.

The simulator and the real run return this one type, so a prediction and a measurement are
compared, explained and drawn by the same code.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from d2lpart.common.arguments import check_kind, listed_of
from d2lpart.common.display import Drawable, staircase
from d2lpart.common.quantities import count, seconds_text
from d2lpart.schedules.schedule import Action, Schedule, check_schedule
from d2lpart.timelines import critical_path, gap_reasons, perfetto
from d2lpart.timelines.occupancy import Occupancy, Times
from d2lpart.timelines.spans import Columns, Span, Transfer, by_time, check_spans

CLOCKS = ("predicted", "virtual", "wall")


@dataclass(frozen=True, repr=False, eq=False)
class Timeline(Occupancy, Drawable):
    """The spans and transfers of one step.

    Args:
        spans: one `Span` for each action of the schedule; times in seconds.
        transfers: one `Transfer` for each message between ranks.
        clock: "predicted" (durations were given), "virtual" (durations were measured one at a
            time, starts placed by the dependency rule) or "wall" (starts and ends were measured).
        schedule: the order that was followed.
        note: on what the numbers were taken and which part of them is modelled.
    """

    clock: str
    schedule: Schedule
    note: str = ""
    _columns: Columns = field(init=False)

    def __init__(
        self,
        spans: Iterable[Span],
        transfers: Iterable[Transfer],
        clock: str,
        schedule: Schedule,
        note: str = "",
    ) -> None:
        check_schedule(schedule)
        own = listed_of(Span, spans, "give a Span(rank, action, start, end) for each action")
        messages = listed_of(Transfer, transfers, "give a Transfer for each message, or []")
        check_spans(own, schedule)
        self._label_it(clock, schedule, note)
        object.__setattr__(self, "spans", tuple(sorted(own, key=by_time)))
        object.__setattr__(self, "transfers", tuple(sorted(messages, key=by_time)))

    @classmethod
    def of_columns(
        cls, columns: Columns, clock: str, schedule: Schedule, note: str = ""
    ) -> "Timeline":
        """Return the timeline of times in columns; its spans are made when they are asked for."""
        timeline = cls.__new__(cls)
        timeline._label_it(clock, schedule, note)
        object.__setattr__(timeline, "_columns", columns)
        return timeline

    def _label_it(self, clock: str, schedule: Schedule, note: str) -> None:
        if clock not in CLOCKS:
            raise ValueError(f"clock is {clock!r}: use one of {', '.join(CLOCKS)}")
        object.__setattr__(self, "clock", clock)
        object.__setattr__(self, "schedule", schedule)
        object.__setattr__(self, "note", note)

    @property
    def num_ranks(self) -> int:
        """How many ranks work."""
        return self.schedule.num_ranks

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The spans of all actions, in order of time."""
        lanes = map(self.of_rank, range(self.num_ranks))
        return tuple(sorted((span for lane in lanes for span in lane), key=by_time))

    @cached_property
    def transfers(self) -> tuple[Transfer, ...]:
        """The messages between ranks, in order of time."""
        return tuple(sorted(self._columns.transfers(), key=by_time))

    def of_rank(self, rank: int) -> Sequence[Span]:
        """Return the spans of one rank in order of time."""
        self._check_rank(rank)
        if rank not in self._lanes:
            self._lanes[rank] = self._columns.spans(rank)
        return self._lanes[rank]

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

    def peak_in_flight(self, rank: int | None = None) -> float:
        """Return the most micro-batches that a rank, or any one, holds at once, as `in_flight`."""
        ranks = range(self.num_ranks) if rank is None else [rank]
        return max(held for rank in ranks for _, held in self.in_flight(rank))

    def gaps(self, rank: int) -> list[gap_reasons.Gap]:
        """Return the idle time of `rank` as gaps in order of time, each with its reason."""
        return list(gap_reasons.gaps(self._record, self.of_rank(rank)))

    def why(self, rank: int, gap: gap_reasons.Gap | int) -> critical_path.Cause:
        """Return what `rank` waits for in a gap, and what that waited for, back to its beginning.

        Args:
            rank: the idle rank.
            gap: one of `gaps(rank)`, or its place there.

        Raises:
            ValueError: the rank has no such gap, or there is no such rank.

        >>> from d2lpart import build_schedule, simulate
        >>> print(simulate(build_schedule("naive", 2, 1), {"F": 1, "B": 2}).why(0, 0))
        rank 0 is idle from 1 s to 4 s: waits for 1B0 on rank 1
          rank 1 computes 1B0 from 2 s to 4 s, once it has done 1F0
          rank 1 computes 1F0 from 1 s to 2 s
        """
        own = self.gaps(rank)
        if isinstance(gap, int):
            if not 0 <= gap < len(own):
                raise ValueError(f"rank {rank} has {len(own)} gaps, and none is number {gap}")
            gap = own[gap]
        elif gap not in own:
            raise ValueError(f"rank {rank} has no such gap as {gap}: give one of gaps({rank})")
        return critical_path.why(self._record, rank, gap)

    def critical_path(self) -> list[Span | Transfer]:
        """Return the chain of spans and transfers that the length of the step hangs on."""
        return critical_path.chain_to_end(self._record)

    def compare(self, other: "Timeline") -> "Comparison":
        """Set this timeline beside another one: two clocks, two schedules, two partitions."""
        check_kind(other, Timeline, "compare with one, such as simulate(…) or a step's .timeline")
        return Comparison(self, other)

    def to_perfetto(self, path: str | Path) -> Path:
        """Write a trace that ui.perfetto.dev and chrome://tracing open, and return its path."""
        return perfetto.write(path, self.spans, self.transfers, self.schedule, self.headline())

    @cached_property
    def _lanes(self) -> dict[int, list[Span]]:
        """The spans of each rank; those in columns join when they are asked for."""
        if "spans" not in self.__dict__:
            return {}
        lanes: dict[int, list[Span]] = {rank: [] for rank in range(self.num_ranks)}
        for span in self.spans:
            lanes[span.rank].append(span)
        return lanes

    @cached_property
    def _times(self) -> list[Times]:
        """For each rank, the starts and the ends of its actions in order of time."""
        ranks = range(self.num_ranks)
        if "_columns" in self.__dict__:
            return [self._columns.times(rank) for rank in ranks]
        lanes = [self._lanes[rank] for rank in ranks]
        return [([span.start for span in own], [span.end for span in own]) for own in lanes]

    @cached_property
    def _record(self) -> gap_reasons.Record:
        return gap_reasons.Record(self.schedule, self.spans, self.transfers, self.start, self.end)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Timeline):
            return NotImplemented
        names = "clock", "schedule", "note", "spans", "transfers"
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def __hash__(self) -> int:
        return hash((self.clock, self.note, self.start, self.end))

    def headline(self) -> str:
        """Say in one line what was run, on which clock, and how much of it was idle."""
        m = self.schedule.num_microbatches
        sizes = f"{count(self.num_ranks, 'rank')}, {count(m, 'micro-batch')}"
        return (
            f"{self.schedule.name}, {sizes}, {self.clock} clock: "
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
        rows.append(("peak held", *(f"{t.peak_in_flight():g}" for t in (a, b))))
        for rank in range(max(a.num_ranks, b.num_ranks)):
            cells = (f"{t.idle_fraction(rank):.1%}" if rank < t.num_ranks else "" for t in (a, b))
            rows.append((f"rank {rank} idle", *cells))
        table = [f"{name:<13}{x:>{width}}  {y:>{width}}" for name, x, y in rows]
        return "\n".join([f"second step / first step = {self.ratio:.3f}", *table])

    def lanes(self) -> str:
        """Return the lanes of both as text, on one axis of time: equal columns are equal times."""
        both = self.first, self.second
        boxes = [
            [(t._label(s.action), s.start - t.start, s.end - t.start) for s in t.of_rank(rank)]
            for t in both
            for rank in range(t.num_ranks)
        ]
        drawn = iter(staircase(boxes, 0.0, max(t.makespan for t in both)))
        blocks = [
            [t.headline(), *(f"rank {r:<3}|{next(drawn)}|" for r in range(t.num_ranks))]
            for t in both
        ]
        return "\n".join(line for block in blocks for line in block)

    def __repr__(self) -> str:
        return self.describe()
