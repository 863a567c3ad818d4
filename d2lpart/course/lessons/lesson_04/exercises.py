"""Lesson 04: placement and balance; its exercises. Those on the best cut are in `cuts`."""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

from d2lpart.course.checks.exercise import Exercise, misconception
from d2lpart.course.lessons.lesson_04.cuts import BEST_SIZES, FITTING_SIZES


def crossings(placement: Sequence[int]) -> int:
    """How many pairs of neighbouring layers lie on different devices."""
    return sum(a != b for a, b in pairwise(placement))


@misconception(
    lambda placement: (
        f"You count devices: {len(set(placement))} − 1. That holds for consecutive groups. Here "
        f"the data comes back to a device that it has left."
    )
)
def _devices_less_one(placement: Sequence[int]) -> int:
    return len(set(placement)) - 1


@misconception(
    lambda placement: (
        f"You count all {len(placement) - 1} pairs of neighbours. A pair on one device crosses "
        f"nothing."
    )
)
def _every_pair(placement: Sequence[int]) -> int:
    return len(placement) - 1


@misconception(
    lambda placement: (
        f"You count the ways to a higher device, {sum(a < b for a, b in pairwise(placement))} of "
        f"them. The way back to a lower one is a crossing, too."
    )
)
def _upward(placement: Sequence[int]) -> int:
    return sum(a < b for a, b in pairwise(placement))


@misconception(
    lambda placement: (
        f"You count groups: {crossings(placement) + 1}. Crossings lie between groups, one fewer."
    )
)
def _groups(placement: Sequence[int]) -> int:
    return crossings(placement) + 1


@misconception(
    lambda placement: (
        f"You count messages, forward and backward. A crossing has two of them, so "
        f"{2 * crossings(placement)} is twice the number asked for."
    )
)
def _there_and_back(placement: Sequence[int]) -> int:
    return 2 * crossings(placement)


@misconception(
    lambda placement: (
        f"You compare layer 0 with layer {len(placement) - 1}, too: `placement[-1]` is the last "
        f"one. Nothing passes between these two."
    )
)
def _round(placement: Sequence[int]) -> int:
    """Compare each layer with the one before, and the first with the last: Python's index -1."""
    return sum(a != placement[layer - 1] for layer, a in enumerate(placement))


@misconception(
    lambda placement: (
        f"You add up how far the device numbers are apart, "
        f"{sum(abs(a - b) for a, b in pairwise(placement))} in all. From device 2 to device 0 is "
        f"one crossing, as from 1 to 0."
    )
)
def _distance(placement: Sequence[int]) -> int:
    return sum(abs(a - b) for a, b in pairwise(placement))


def _placements(rng: random.Random) -> Iterator[tuple[list[int]]]:
    for small in ([0], [0, 0], [0, 1], [0, 0, 1], [0, 1, 0], [0, 1, 1, 0], [0, 1, 2, 2, 1, 0]):
        yield (small,)
    for layers in (12, 24):
        yield ([layer % 3 for layer in range(layers)],)
    for _ in range(5):
        yield ([rng.randrange(4) for _ in range(rng.randint(4, 10))],)


CROSSINGS = Exercise(
    "04.1",
    "Crossings of a placement",
    crossings,
    cases=_placements,
    misconceptions=[
        _devices_less_one,
        _every_pair,
        _upward,
        _groups,
        _there_and_back,
        _round,
        _distance,
    ],
    otherwise=lambda placement: (
        f"Walk through the {len(placement)} layers, and count where the device changes."
    ),
    example=([0, 0, 1, 1, 2, 2],),
)


def step_seconds(loads: Sequence[float], num_microbatches: int) -> float:
    """The seconds of a GPipe step; `loads` are the seconds of one micro-batch on each stage."""
    return sum(loads) + (num_microbatches - 1) * max(loads)


@misconception(
    lambda loads, m: (
        f"You let each of the {m} micro-batches wait until the one before has left. While one is "
        f"on stage 1, the next can be on stage 0."
    )
)
def _one_at_a_time(loads: Sequence[float], m: int) -> float:
    return m * sum(loads)


@misconception(
    lambda loads, m: (
        f"The slowest stage works for {m} × {max(loads):g} s. The step also has the time before "
        f"its first micro-batch and the time after its last."
    )
)
def _bottleneck_alone(loads: Sequence[float], m: int) -> float:
    return m * max(loads)


@misconception(
    lambda loads, m: (
        f"One micro-batch needs {sum(loads):g} s for all stages. After it come {m - 1} others, not "
        f"{m}."
    )
)
def _one_too_many(loads: Sequence[float], m: int) -> float:
    return sum(loads) + m * max(loads)


@misconception(
    lambda loads, m: (
        f"You make all {len(loads)} stages as slow as the slowest. The first micro-batch needs "
        f"only {sum(loads):g} s to pass through them."
    )
)
def _all_the_slowest(loads: Sequence[float], m: int) -> float:
    return (m + len(loads) - 1) * max(loads)


@misconception(
    lambda loads, m: (
        f"You use the mean load, {sum(loads) / len(loads):g} s. The pipeline moves at the pace of "
        f"its slowest stage, {max(loads):g} s."
    )
)
def _mean_stage(loads: Sequence[float], m: int) -> float:
    return (m + len(loads) - 1) * sum(loads) / len(loads)


def _steps(rng: random.Random) -> Iterator[tuple[list[float], int]]:
    yield [3.0], 2
    yield [1.0, 2.0], 1
    yield [2.0, 2.0], 3
    yield [1.0, 3.0], 3
    for _ in range(6):
        yield [float(rng.randint(1, 9)) for _ in range(rng.randint(2, 5))], rng.randint(2, 9)


STEP_SECONDS = Exercise(
    "04.2",
    "The step of uneven stages",
    step_seconds,
    cases=_steps,
    misconceptions=[
        _one_at_a_time,
        _bottleneck_alone,
        _one_too_many,
        _all_the_slowest,
        _mean_stage,
    ],
    otherwise=lambda loads, m: (
        f"The first micro-batch is through after {sum(loads):g} s. How often does another one "
        f"come out after that?"
    ),
    example=([2.0, 2.0, 2.0], 4),
)


EXERCISES: list[Exercise] = [CROSSINGS, STEP_SECONDS, BEST_SIZES, FITTING_SIZES]
