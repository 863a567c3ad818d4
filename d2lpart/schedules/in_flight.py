"""What a rank holds of its micro-batches as it goes through its order, and the most of it.

A micro-batch is held from its forward to its backward; where the backward is split, to the weight
gradient, and between the halves it holds another amount. No time enters: a rank does one thing at a
time, so its order says all. With 1/v for each of v stages a rank the peak is
`Timeline.peak_in_flight`.
"""

from collections.abc import Mapping
from numbers import Integral
from typing import NamedTuple

from d2lpart.schedules.schedule import Schedule


class StageBytes(NamedTuple):
    """What one stage holds of one micro-batch, in bytes or in any other unit."""

    forward: float  # after F, until B or I
    backward: float  # while B or I runs
    waiting: float  # after I, until W


def whole(amount: float) -> StageBytes:
    """Return a stage that holds one amount from the forward to the end."""
    return StageBytes(amount, amount, amount)


def peak_held(schedule: Schedule, rank: int, stages: Mapping[int, StageBytes]) -> float:
    """Return the most that a rank holds at one moment.

    Args:
        schedule: a valid schedule.
        rank: which rank of it.
        stages: what each stage of the rank holds of one micro-batch.

    Raises:
        ValueError: there is no such rank.

    >>> from d2lpart import build_schedule
    >>> schedule = build_schedule("1f1b", 4, 16)
    >>> [peak_held(schedule, rank, {rank: whole(1)}) for rank in range(4)]
    [4, 3, 2, 1]
    """
    if not isinstance(rank, Integral) or not 0 <= rank < schedule.num_ranks:
        raise ValueError(f"there is no rank {rank!r}: the ranks are 0 to {schedule.num_ranks - 1}")
    held: float = 0
    peak: float = 0
    for stage, kind, _ in schedule.orders[rank]:
        forward, backward, waiting = stages[stage]
        if kind == "F":
            held += forward
            peak = max(peak, held)
        elif kind == "W":
            held -= waiting
        else:
            peak = max(peak, held - forward + backward)
            held += (waiting if kind == "I" else 0) - forward
            peak = max(peak, held)
    return peak
