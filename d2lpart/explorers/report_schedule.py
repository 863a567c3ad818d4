"""What a schedule does with given sizes and times, and why each gap is there.

It is what the schedule explorer shows, for those without widgets.
"""

import html
from dataclasses import dataclass

from d2lpart.schedules.orders import build_schedule
from d2lpart.timelines.gap_reasons import Gap
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.spans import Link
from d2lpart.timelines.svg import lanes_svg
from d2lpart.timelines.timeline import Timeline


@dataclass(frozen=True)
class ScheduleReport:
    """A predicted step, or why there is none.

    timeline: None where `trouble` says why the schedule cannot have these sizes. gaps: every gap of
    every rank, as (rank, gap), the longest first.
    """

    timeline: Timeline | None
    trouble: str = ""

    @property
    def gaps(self) -> list[tuple[int, Gap]]:
        """Every gap of every rank, the longest first."""
        if self.timeline is None:
            return []
        ranks = range(self.timeline.num_ranks)
        found = [(rank, gap) for rank in ranks for gap in self.timeline.gaps(rank)]
        return sorted(found, key=lambda one: -one[1].seconds)

    def why(self, number: int) -> str:
        """Return the chain behind a gap of `gaps`, in words."""
        assert self.timeline is not None, "a report without a timeline has no gaps"
        rank, gap = self.gaps[number]
        return str(self.timeline.why(rank, gap))

    def facts(self) -> list[tuple[str, str]]:
        """Return the figures of the step, as pairs of words."""
        if self.timeline is None:
            return []
        t = self.timeline
        held = [t.peak_in_flight(rank) for rank in range(t.num_ranks)]
        return [
            ("step", f"{t.makespan:.4g} s"),
            ("idle/total", f"{t.idle_fraction():.1%}"),
            ("idle/ideal", f"{t.bubble_overhead():.1%}"),
            ("bubble of the longest rank", f"{t.bubble_rate():.1%}"),
            ("micro-batches held", ", ".join(f"{one:g}" for one in held)),
            ("messages", f"{len(t.transfers)}"),
        ]

    def __repr__(self) -> str:
        if self.timeline is None:
            return self.trouble
        return f"{self.timeline}\n" + "; ".join(f"{name} {text}" for name, text in self.facts())

    def _repr_html_(self) -> str:
        if self.timeline is None:
            return f'<p role="status">{html.escape(self.trouble)}</p>'
        facts = " · ".join(f"{name} <b>{text}</b>" for name, text in self.facts())
        return f'<div role="status">{lanes_svg(self.timeline)}<p>{facts}</p></div>'


def schedule_report(
    schedule: str = "1f1b",
    num_ranks: int = 4,
    num_microbatches: int = 8,
    *,
    chunks: int | None = None,
    forward: float = 1.0,
    backward: float = 2.0,
    latency: float = 0.0,
) -> ScheduleReport:
    """Predict a step of even stages; a size that the schedule cannot have is said, not raised.

    Args:
        schedule, num_ranks, num_microbatches, chunks: as in `build_schedule`.
        forward, backward: seconds of one micro-batch on a rank's whole share; the halves I and W
            of a backward take the same.
        latency: seconds of each message.

    >>> report = schedule_report("gpipe", 2, 3)
    >>> dict(report.facts())["idle/total"]
    '25.0%'
    >>> print(report.why(0))
    rank 0 is idle from 3 s to 6 s: waits for 1B0 on rank 1
      rank 1 computes 1B0 from 4 s to 6 s, once it has done 1F2
      rank 1 computes 1F2 from 3 s to 4 s
    """
    try:
        built = build_schedule(schedule, num_ranks, num_microbatches, chunks=chunks)
        share = num_ranks / built.num_stages
        half = share * backward / 2
        seconds = {"F": share * forward, "B": 2 * half, "I": half, "W": half}
        return ScheduleReport(simulate(built, seconds, Link(latency)))
    except ValueError as error:
        return ScheduleReport(None, str(error))
