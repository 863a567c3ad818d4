"""`simulate`: a schedule, durations and a link give a timeline, without any hardware.

One rule places every span: an action starts as soon as its rank is free and everything it depends
on has arrived. The virtual clock uses the same rule with measured durations.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from d2lpart.schedule import KINDS, Action, Schedule, dependencies, execution_order, validate
from d2lpart.span import Link, Span, Transfer
from d2lpart.timeline import Timeline

Durations = Mapping[str, float] | Sequence[Mapping[str, float]] | Callable[[Action], float]
Sizes = float | Sequence[float] | Callable[[Action], float]

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
        ScheduleError: the schedule cannot run; see `validate`.
        ValueError: a duration is missing, negative or not finite, or a size is not a whole
            number of bytes.

    >>> from d2lpart.orders import build_schedule
    >>> print(simulate(build_schedule("gpipe", 2, 3), {"F": 1, "B": 2}))
    gpipe, 2 ranks, 3 micro-batches, predicted clock: step 12 s, idle 25.0% (idle/total)
    rank 0 |F0F1F2      B0--B1--B2--| idle 25.0%
    rank 1 |  F0F1F2B0--B1--B2--    | idle 25.0%
    """
    validate(schedule)
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
    if not (isinstance(durations, Sequence) and all(isinstance(d, Mapping) for d in durations)):
        raise ValueError(
            f"durations is {durations!r}: give seconds by kind, such as {{'F': 1, 'B': 2}}, one "
            f"such mapping for each stage, or a function from an Action to seconds"
        )
    if len(durations) != schedule.num_stages:
        raise ValueError(
            f"durations for {len(durations)} stages, but the schedule has {schedule.num_stages}: "
            f"give one mapping for each stage, or one for all"
        )
    kinds = {action.kind for action in schedule.position}
    table = [_complete(dict(own), kinds, stage) for stage, own in enumerate(durations)]
    return lambda action: table[action.stage][action.kind]


def _complete(own: dict[str, Any], kinds: set[str], stage: int) -> dict[str, float]:
    if "B" not in own and {"I", "W"} <= own.keys():
        own["B"] = own["I"] + own["W"]
    missing = [kind for kind in KINDS if kind in kinds and kind not in own]
    if missing:
        raise ValueError(
            f"stage {stage} has no duration for {' and '.join(missing)}: the schedule runs "
            f"{', '.join(k for k in KINDS if k in kinds)}; give the seconds of each "
            f"(B defaults to I + W)"
        )
    return {kind: _checked(value, f"{kind} of stage {stage}") for kind, value in own.items()}


def _checked(seconds: Any, what: str) -> float:
    try:
        value = float(seconds)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"the duration of {what} is {seconds!r}: give seconds, 0 or more")
    return value


def _message_size(boundary_bytes: Sizes, schedule: Schedule) -> Callable[[Action], int]:
    """Return the bytes of the message that an action sends, as a function of the action."""
    if callable(boundary_bytes):
        return lambda action: _whole(boundary_bytes(action), f"the message of {action}")
    cuts = schedule.num_stages - 1
    one_each = isinstance(boundary_bytes, Iterable)
    given: Any = boundary_bytes if one_each else [boundary_bytes] * cuts
    if len(given) != cuts:
        raise ValueError(
            f"{len(given)} sizes in boundary_bytes, but the schedule has {cuts} cuts: give one "
            f"size for each cut, or one for all"
        )
    sizes = [_whole(size, f"the message over cut {cut}") for cut, size in enumerate(given)]
    return lambda action: sizes[action.stage if action.kind == "F" else action.stage - 1]


def _whole(nbytes: Any, what: str) -> int:
    try:
        whole = int(nbytes)
    except (TypeError, ValueError, OverflowError):
        whole = -1
    if whole < 0 or whole != nbytes:
        raise ValueError(f"{what} has {nbytes!r} bytes: give a whole number, 0 or more")
    return whole
