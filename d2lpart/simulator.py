"""`simulate`: a schedule, durations and a link give a timeline, without any hardware.

One rule places every span: an action starts as soon as its rank is free and everything it depends
on has arrived. The virtual clock uses the same rule with measured durations.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from d2lpart.schedule import KINDS, Action, Schedule, dependencies, execution_order
from d2lpart.span import Link, Span, Transfer
from d2lpart.timeline import Timeline

Durations = Mapping[str, float] | Sequence[Mapping[str, float]] | Callable[[Action], float]
Sizes = int | Sequence[int] | Callable[[Action], int]

FREE = Link()


def simulate(
    schedule: Schedule,
    durations: Durations,
    link: Link = FREE,
    *,
    boundary_bytes: Sizes = 0,
    clock: str = "predicted",
    note: str = "",
) -> Timeline:
    """Place every action of `schedule` in time.

    Args:
        schedule: any valid schedule.
        durations: seconds by kind, `{"F": 1, "B": 2}`; or one such mapping for each stage; or a
            function from an `Action` to seconds. B defaults to I + W.
        link: what carries a message between ranks; sends do not block.
        boundary_bytes: the size of a message: one for all cuts, one for each cut (after stage 0,
            after stage 1, …), or a function from the `Action` that sends it.
        clock, note: how the timeline is labelled; the pipeline passes "virtual" with durations
            that it has measured.

    Returns:
        A `Timeline` whose first action starts at 0.

    Raises:
        ScheduleError: the schedule deadlocks.
        ValueError: a duration is missing, negative or not finite.

    >>> from d2lpart.orders import build_schedule
    >>> print(simulate(build_schedule("gpipe", 2, 3), {"F": 1, "B": 2}))
    gpipe, 2 ranks, 3 micro-batches, predicted clock: step 12 s, idle 25.0% (idle/total)
    rank 0 |F0F1F2      B0--B1--B2--| idle 25.0%
    rank 1 |  F0F1F2B0--B1--B2--    | idle 25.0%
    """
    seconds = _by_action(durations, schedule)
    nbytes = _message_size(boundary_bytes, schedule)
    ends: dict[Action, float] = {}
    free = [0.0] * schedule.num_ranks
    spans, transfers = [], []
    for action in execution_order(schedule):
        rank = schedule.stage_to_rank[action.stage]
        start = free[rank]
        for need in dependencies(action, schedule):
            arrived, source = ends[need], schedule.stage_to_rank[need.stage]
            if source != rank:
                size = nbytes(need)
                sent, arrived = arrived, arrived + link.seconds(size)
                transfers.append(Transfer(source, rank, size, sent, arrived, need))
            start = max(start, arrived)
        end = start + seconds(action)
        ends[action] = free[rank] = end
        spans.append(Span(rank, action, start, end))
    return Timeline(spans, transfers, clock, schedule, note)


def _by_action(durations: Durations, schedule: Schedule) -> Callable[[Action], float]:
    """Return the durations as a function from an action to seconds, checked."""
    if callable(durations):
        measure = durations
        return lambda action: _checked(measure(action), str(action))
    if isinstance(durations, Mapping):
        durations = [durations] * schedule.num_stages
    if len(durations) != schedule.num_stages:
        raise ValueError(
            f"durations for {len(durations)} stages, but the schedule has {schedule.num_stages}: "
            f"give one mapping for each stage, or one for all"
        )
    kinds = {action.kind for action in schedule.position}
    table = [_complete(dict(own), kinds, stage) for stage, own in enumerate(durations)]
    return lambda action: table[action.stage][action.kind]


def _complete(own: dict[str, float], kinds: set[str], stage: int) -> dict[str, float]:
    if "B" not in own and {"I", "W"} <= own.keys():
        own["B"] = own["I"] + own["W"]
    missing = [kind for kind in KINDS if kind in kinds and kind not in own]
    if missing:
        raise ValueError(
            f"stage {stage} has no duration for {' and '.join(missing)}: the schedule runs "
            f"{', '.join(k for k in KINDS if k in kinds)}"
        )
    return {kind: _checked(value, f"{kind} of stage {stage}") for kind, value in own.items()}


def _checked(seconds: float, what: str) -> float:
    if not 0 <= seconds < math.inf:
        raise ValueError(f"the duration of {what} is {seconds}: give seconds, 0 or more")
    return seconds


def _message_size(boundary_bytes: Sizes, schedule: Schedule) -> Callable[[Action], int]:
    """Return the bytes of the message that an action sends, as a function of the action."""
    if callable(boundary_bytes):
        return boundary_bytes
    cuts = schedule.num_stages - 1
    sizes = [boundary_bytes] * cuts if isinstance(boundary_bytes, int) else list(boundary_bytes)
    if len(sizes) != cuts or any(size < 0 for size in sizes):
        raise ValueError(
            f"boundary_bytes is {boundary_bytes!r}: give one size of 0 or more for each of the "
            f"{cuts} cuts, or one for all"
        )
    return lambda action: sizes[action.stage if action.kind == "F" else action.stage - 1]
