"""`bubbles`: the bubble by formula, simulated and measured, each definition by its name."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean

from d2lpart.common.arguments import check_kind
from d2lpart.common.display import aligned
from d2lpart.schedules.closed_form import (
    BUBBLE_RATE,
    DEFINITIONS,
    FORMS,
    IDLE_IDEAL,
    IDLE_TOTAL,
    bubble_formula,
)
from d2lpart.timelines.timeline import Timeline


@dataclass(frozen=True, repr=False)
class BubbleTable:
    """Rows by definition; columns: the closed form, then one for each timeline.

    `closed[definition]` is None where there is none; `why_not` says why, and is else empty.
    """

    closed: dict[str, float | None]
    timelines: tuple[Timeline, ...]
    why_not: dict[str, str]

    def value(self, definition: str, timeline: Timeline) -> float:
        """Return the bubble of a timeline by one of the three definitions.

        Raises:
            ValueError: no such definition, or no timeline.
        """
        if definition not in DEFINITIONS:
            raise ValueError(f"no definition {definition!r}: use one of {', '.join(DEFINITIONS)}")
        check_kind(timeline, Timeline, "give one of the table's")
        read = {
            IDLE_TOTAL: timeline.idle_fraction,
            IDLE_IDEAL: timeline.bubble_overhead,
            BUBBLE_RATE: timeline.bubble_rate,
        }
        return read[definition]()

    def __str__(self) -> str:
        clocks = [
            "simulated" if t.clock == "predicted" else f"measured ({t.clock})"
            for t in self.timelines
        ]
        rows = [("", "closed form", *clocks)]
        for name, closed in self.closed.items():
            cells = [f"{self.value(name, t):.2%}" for t in self.timelines]
            rows.append((name, "-" if closed is None else f"{closed:.2%}", *cells))
        notes = dict.fromkeys(self.why_not.values())
        form = FORMS.get(self.timelines[0].schedule.name)
        source = [f"closed form: idle {form.formula} s a rank, {form.source}"] if form else []
        return "\n".join([*aligned(rows, " | "), *source, *(f"-: {note}" for note in notes)])

    def __repr__(self) -> str:
        return str(self)


def bubbles(*timelines: Timeline) -> BubbleTable:
    """Return a table of the bubble: closed form beside simulated beside measured.

    Args:
        timelines: of one schedule, at least one. F, I and W of the closed form are the means of the
            first one, over all stages; where stages differ, the formula does not hold.

    Raises:
        ValueError: no timeline, or timelines of several schedules.

    >>> from d2lpart import build_schedule, simulate
    >>> print(bubbles(simulate(build_schedule("1f1b", 4, 8), {"F": 1, "B": 2})))
                           | closed form | simulated
    idle/total             |      27.27% |    27.27%
    idle/ideal             |      37.50% |    37.50%
    (cost − m(F+I+W))/cost |      27.27% |    27.27%
    closed form: idle (p−1)(F+B) s a rank, Megatron-LM (arXiv 2104.04473), section 2.2
    """
    for timeline in timelines:
        check_kind(timeline, Timeline, "give those of simulate(…) or of steps")
    if not timelines or any(t.schedule != timelines[0].schedule for t in timelines):
        raise ValueError("bubbles compares timelines of one schedule: give at least one")
    closed: dict[str, float | None] = {}
    why_not = {}
    for definition in DEFINITIONS:
        try:
            closed[definition] = _closed(timelines[0], definition)
        except ValueError as error:
            closed[definition], why_not[definition] = None, str(error)
    return BubbleTable(closed, timelines, why_not)


def _closed(timeline: Timeline, definition: str) -> float:
    """Return the closed form with the timeline's mean durations."""
    schedule = timeline.schedule
    chunks = schedule.num_stages // schedule.num_ranks
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for span in timeline.spans:
        seconds[span.action.kind].append(span.seconds)
    mean = {kind: chunks * fmean(own) for kind, own in seconds.items()}
    whole = mean.get("B", 0.0)
    return bubble_formula(
        schedule.name,
        schedule.num_ranks,
        schedule.num_microbatches,
        definition=definition,
        chunks=chunks,
        forward=mean["F"],
        input_gradient=mean.get("I", whole / 2),
        weight_gradient=mean.get("W", whole / 2),
    )
