"""Lesson 05: worker idle time; its exercises on what messages add to a step."""

import math
import random
from collections.abc import Iterator, Sequence

from d2lpart.course.checks.exercise import Exercise, misconception


def step_seconds(forward: Sequence[float], backward: Sequence[float], hop: float) -> float:
    """The length of a naive step; each message between neighbouring ranks takes `hop` seconds."""
    return sum(forward) + sum(backward) + 2 * (len(forward) - 1) * hop


@misconception(
    lambda f, b, h: (
        f"You pay for {len(f) - 1} messages, the activations. As many gradients come back."
    )
)
def _hops_forward(forward: Sequence[float], backward: Sequence[float], hop: float) -> float:
    return sum(forward) + sum(backward) + (len(forward) - 1) * hop


@misconception(
    lambda f, b, h: (
        f"You count {2 * len(f)} messages, two a rank. A message crosses a cut, and the cuts are "
        f"one fewer than the ranks: {len(f) - 1}."
    )
)
def _hop_a_rank(forward: Sequence[float], backward: Sequence[float], hop: float) -> float:
    return sum(forward) + sum(backward) + 2 * len(forward) * hop


@misconception(
    lambda f, b, h: f"You have not used `hop`: {h:g} s for each of the {2 * (len(f) - 1)} messages."
)
def _no_hops(forward: Sequence[float], backward: Sequence[float], hop: float) -> float:
    return sum(forward) + sum(backward)


@misconception(
    lambda f, b, h: (
        f"You take the slowest stage, as if all {len(f)} worked at once. They take turns."
    )
)
def _at_once(forward: Sequence[float], backward: Sequence[float], hop: float) -> float:
    return max(forward) + max(backward) + 2 * (len(forward) - 1) * hop


@misconception(
    lambda f, b, h: (
        f"You divide the work by {len(f)} ranks. It is shared, but one works after another."
    )
)
def _shared(forward: Sequence[float], backward: Sequence[float], hop: float) -> float:
    return (sum(forward) + sum(backward)) / len(forward) + 2 * (len(forward) - 1) * hop


def _steps_with_hops(rng: random.Random) -> Iterator[tuple[list[float], list[float], float]]:
    yield [1.0], [2.0], 0.5
    yield [1.0, 2.0], [2.0, 4.0], 0.5
    yield [1.0, 3.0, 1.0], [2.0, 5.0, 3.0], 0.0
    for _ in range(8):
        num_ranks = rng.randint(2, 8)
        forward = [float(rng.randint(1, 9)) for _ in range(num_ranks)]
        backward = [float(rng.randint(1, 9)) for _ in range(num_ranks)]
        yield forward, backward, rng.randint(1, 20) / 8


TRANSFER_TIME = Exercise(
    "05.3",
    "Transfer time",
    step_seconds,
    cases=_steps_with_hops,
    misconceptions=[_hops_forward, _hop_a_rank, _no_hops, _at_once, _shared],
    otherwise=lambda f, b, h: (
        f"Walk along the critical path: {2 * len(f)} actions, one message wherever the rank "
        f"changes. It changes {2 * (len(f) - 1)} times."
    ),
    example=([1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0], 0.5),
)


def least_compute(num_ranks: int, hop: float, most_idle: float) -> float:
    """The fewest seconds of compute in a naive step at which at most `most_idle` is idle.

    With C seconds of compute and H = 2(n−1)·hop, idle is 1 − C/(n(C + H)). For two ranks or more
    and hop > 0; infinite where no amount of compute is enough.
    """
    busy = num_ranks * (1 - most_idle)  # the share of the step in which some rank must work
    messages = 2 * (num_ranks - 1) * hop
    return busy * messages / (1 - busy) if busy < 1 else math.inf


@misconception(
    lambda n, h, x: (
        f"A negative time. Even with messages that take no time, {n} ranks idle at least (n − 1)/n "
        f"= {(n - 1) / n:.1%}, so no amount of work brings them to {x:.1%}: return `math.inf`."
    )
)
def _unchecked(num_ranks: int, hop: float, most_idle: float) -> float:
    busy = num_ranks * (1 - most_idle)
    return busy * 2 * (num_ranks - 1) * hop / (1 - busy)


@misconception(
    lambda n, h, x: f"You pay for {n - 1} messages; with the gradients there are {2 * (n - 1)}."
)
def _half_the_hops(num_ranks: int, hop: float, most_idle: float) -> float:
    return least_compute(num_ranks, hop / 2, most_idle)


@misconception(lambda n, h, x: f"That is one rank's share; the step computes {n} times as much.")
def _each_rank(num_ranks: int, hop: float, most_idle: float) -> float:
    return least_compute(num_ranks, hop, most_idle) / num_ranks


@misconception(
    lambda n, h, x: (
        f"You hold down the time in which nobody works. But while one rank computes, {n - 1} of "
        f"{n} are idle all the same."
    )
)
def _nobody_works(num_ranks: int, hop: float, most_idle: float) -> float:
    return (1 - most_idle) / most_idle * 2 * (num_ranks - 1) * hop


def _limits(rng: random.Random) -> Iterator[tuple[int, float, float]]:
    yield 2, 1.0, 0.75
    yield 2, 1.0, 0.25
    yield 2, 1.0, 0.5  # (n − 1)/n itself is not reached either
    yield 4, 0.5, 0.875
    yield 4, 0.5, 0.5
    for _ in range(5):
        num_ranks = rng.randint(2, 8)
        least = (num_ranks - 1) / num_ranks
        yield num_ranks, rng.randint(1, 8) / 8, least + rng.uniform(0.1, 0.9) / num_ranks
        yield num_ranks, rng.randint(1, 8) / 8, least * rng.uniform(0.3, 0.9)


LEAST_COMPUTE = Exercise(
    "05.4",
    "How much work makes a link cheap enough?",
    least_compute,
    cases=_limits,
    misconceptions=[_unchecked, _half_the_hops, _each_rank, _nobody_works],
    otherwise=lambda n, h, x: (
        f"Start from idle = 1 − C/(n(C + H)) with n = {n} and H = {2 * (n - 1) * h:g} s, set it to "
        f"{x:.4g} and solve for C."
        if (n - 1) / n < x
        else f"However large C is, {n} ranks idle more than (n − 1)/n = {(n - 1) / n:.4g}; {x:.4g} "
        f"is not reached, and the answer is `math.inf`."
    ),
    example=(4, 0.25, 0.8),
)
