"""Lesson 02: its exercise on the batch from which replicas move fewer bytes than a cut network."""

import random
from collections.abc import Iterator, Sequence

from d2lpart.course.checks.exercise import Exercise, misconception


def first_batch_for_replicas(parameters: int, cuts: Sequence[int]) -> int:
    """The smallest batch at which replicas move fewer bytes than the stages between these cuts."""
    return len(cuts) * parameters // sum(cuts) + 1


def _networks_and_cuts(rng: random.Random) -> Iterator[tuple[int, list[int]]]:
    yield 10, [5]
    yield 11, [5]
    yield 10, [2, 3]
    yield 1, [7, 1, 1]
    for _ in range(8):
        cuts = [rng.randint(10, 2000) for _ in range(rng.randint(1, 5))]
        yield rng.randint(1000, 10**6), cuts


@misconception(
    lambda parameters, cuts: (
        f"With {len(cuts) * parameters // sum(cuts)} samples both move equally many. Replicas are "
        f"to move *fewer*."
    )
)
def _rounded_up(parameters: int, cuts: Sequence[int]) -> int:
    return -(-len(cuts) * parameters // sum(cuts))


@misconception(
    lambda parameters, cuts: (
        f"You count 2 replicas. There are as many as stages, {len(cuts) + 1}, and a ring moves 2 × "
        f"{len(cuts)} × {parameters} numbers."
    )
)
def _of_two(parameters: int, cuts: Sequence[int]) -> int:
    return parameters // sum(cuts) + 1


@misconception(
    lambda parameters, cuts: (
        f"You set what *one* rank of the ring sends against what crosses *all* cuts. There are "
        f"{len(cuts) + 1} ranks."
    )
)
def _of_one_rank(parameters: int, cuts: Sequence[int]) -> int:
    ranks = len(cuts) + 1
    return (ranks - 1) * parameters // (ranks * sum(cuts)) + 1


@misconception(
    lambda parameters, cuts: (
        f"A cut is crossed twice: by activations, and by as many gradients. That is 2 × "
        f"{sum(cuts)} numbers a sample."
    )
)
def _only_forward(parameters: int, cuts: Sequence[int]) -> int:
    return 2 * len(cuts) * parameters // sum(cuts) + 1


@misconception(
    lambda parameters, cuts: (
        f"At {len(cuts) * parameters / sum(cuts):.1f} samples the lines cross. A batch is a whole "
        f"number of samples, the next one above that."
    )
)
def _crossing(parameters: int, cuts: Sequence[int]) -> float:
    return len(cuts) * parameters / sum(cuts)


def _next(parameters: int, cuts: Sequence[int]) -> str:
    return (
        f"The lines cross at {_crossing(parameters, cuts):.1f} samples. Replicas move *fewer* from "
        f"the next whole number above on, however near the one below is."
    )


@misconception(_next)
def _to_the_nearest(parameters: int, cuts: Sequence[int]) -> int:
    return round(_crossing(parameters, cuts))


@misconception(_next)
def _cut_off(parameters: int, cuts: Sequence[int]) -> int:
    return len(cuts) * parameters // sum(cuts)


@misconception("You set bytes against numbers: 4 bytes for each are on both sides, and cancel.")
def _bytes_and_numbers(parameters: int, cuts: Sequence[int]) -> int:
    return 4 * len(cuts) * parameters // sum(cuts) + 1


@misconception(
    lambda parameters, cuts: (
        f"A ring of n = {len(cuts) + 1} ranks moves 2(n − 1) times the gradients, not 2n."
    )
)
def _as_many_as_ranks(parameters: int, cuts: Sequence[int]) -> int:
    return (len(cuts) + 1) * parameters // sum(cuts) + 1


BREAK_EVEN = Exercise(
    "02.4",
    "From which batch on are replicas cheaper?",
    first_batch_for_replicas,
    cases=_networks_and_cuts,
    misconceptions=[
        _rounded_up,
        _of_two,
        _of_one_rank,
        _only_forward,
        _crossing,
        _cut_off,
        _to_the_nearest,
        _bytes_and_numbers,
        _as_many_as_ranks,
    ],
    otherwise=lambda parameters, cuts: (
        f"In numbers: the cuts move 2 × batch × {sum(cuts)}, the ring of {len(cuts) + 1} replicas "
        f"2 × {len(cuts)} × {parameters}."
    ),
    example=(129_068, [800]),
)
