"""`undisturbed`: one step from several of the same kind, on a machine that has other work, too."""

from collections.abc import Iterable
from typing import Any

from d2lpart.common.arguments import listed_of
from d2lpart.simulator import FREE, Links, simulate
from d2lpart.timeline import Timeline


def undisturbed(timelines: Iterable[Timeline], link: Links = FREE) -> Timeline:
    """Return the step in which each action takes the shortest time that was measured for it.

    Whatever else runs on a machine makes actions longer, never shorter, and now this one, now that.

    Args:
        timelines: several of one schedule, on the virtual clock, which measures each action alone.
        link: the one that they were placed with.

    Raises:
        ValueError: no timeline, several schedules, or a clock that does not place its actions.

    >>> from d2lpart.schedules.orders import build_schedule
    >>> schedule = build_schedule("naive", 2, 1)
    >>> calm = [simulate(schedule, {"F": f, "B": 2}, clock="virtual") for f in (3, 1, 2)]
    >>> undisturbed(calm).makespan
    6.0
    """
    several = listed_of(Timeline, timelines, "give the timelines of some steps")
    if not several or any(t.schedule != several[0].schedule for t in several):
        raise ValueError("undisturbed takes timelines of one schedule: give at least one")
    if any(t.clock != "virtual" for t in several):
        clocks = ", ".join(sorted({t.clock for t in several}))
        raise ValueError(
            f"timelines of clock {clocks}: undisturbed places actions anew, as the virtual clock "
            f"does; run the pipeline with clock='virtual'"
        )
    first = several[0]
    seconds: dict[Any, float] = {}
    for timeline in several:
        for span in timeline.spans:
            seconds[span.action] = min(span.seconds, seconds.get(span.action, span.seconds))
    sizes = {message.action: message.nbytes for message in first.transfers}
    note = f"{first.note}; each duration is the shortest of {len(several)} steps"
    return simulate(
        first.schedule,
        seconds.__getitem__,
        link,
        boundary_bytes=sizes.__getitem__,
        clock="virtual",
        note=note.removeprefix("; "),
    )
