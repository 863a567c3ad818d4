"""Lesson 02: its exercise on the batch from which replicas move fewer bytes than a cut network."""

import random
from collections.abc import Iterator, Sequence

from d2lpart.course.checks.exercise import Exercise, Misconception


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


def _rounded_up(parameters: int, cuts: Sequence[int]) -> int:
    return -(-len(cuts) * parameters // sum(cuts))


def _of_two(parameters: int, cuts: Sequence[int]) -> int:
    return parameters // sum(cuts) + 1


def _of_one_rank(parameters: int, cuts: Sequence[int]) -> int:
    ranks = len(cuts) + 1
    return (ranks - 1) * parameters // (ranks * sum(cuts)) + 1


def _only_forward(parameters: int, cuts: Sequence[int]) -> int:
    return 2 * len(cuts) * parameters // sum(cuts) + 1


def _crossing(parameters: int, cuts: Sequence[int]) -> float:
    return len(cuts) * parameters / sum(cuts)


def _to_the_nearest(parameters: int, cuts: Sequence[int]) -> int:
    return round(_crossing(parameters, cuts))


def _cut_off(parameters: int, cuts: Sequence[int]) -> int:
    return len(cuts) * parameters // sum(cuts)


def _bytes_and_numbers(parameters: int, cuts: Sequence[int]) -> int:
    return 4 * len(cuts) * parameters // sum(cuts) + 1


def _next(parameters: int, cuts: Sequence[int]) -> str:
    return (
        f"The lines cross at {_crossing(parameters, cuts):.1f} samples. Replicas move *fewer* from "
        f"the next whole number above on, however near the one below is."
    )


def _as_many_as_ranks(parameters: int, cuts: Sequence[int]) -> int:
    return (len(cuts) + 1) * parameters // sum(cuts) + 1


BREAK_EVEN = Exercise(
    "02.4",
    "From which batch on are replicas cheaper?",
    first_batch_for_replicas,
    cases=_networks_and_cuts,
    misconceptions=[
        Misconception(
            _rounded_up,
            lambda parameters, cuts: (
                f"With {_rounded_up(parameters, cuts)} samples both move equally many. Replicas "
                f"are to move *fewer*."
            ),
        ),
        Misconception(
            _of_two,
            lambda parameters, cuts: (
                f"You count 2 replicas. There are as many as stages, {len(cuts) + 1}, and a ring "
                f"moves 2 × {len(cuts)} × {parameters} numbers."
            ),
        ),
        Misconception(
            _of_one_rank,
            lambda parameters, cuts: (
                f"You set what *one* rank of the ring sends against what crosses *all* cuts. There "
                f"are {len(cuts) + 1} ranks."
            ),
        ),
        Misconception(
            _only_forward,
            lambda parameters, cuts: (
                f"A cut is crossed twice: by activations, and by as many gradients. That is "
                f"2 × {sum(cuts)} numbers a sample."
            ),
        ),
        Misconception(
            _crossing,
            lambda parameters, cuts: (
                f"At {_crossing(parameters, cuts):.1f} samples the lines cross. A batch is a whole "
                f"number of samples, the next one above that."
            ),
        ),
        Misconception(_cut_off, _next),
        Misconception(_to_the_nearest, _next),
        Misconception(
            _bytes_and_numbers,
            "You set bytes against numbers: 4 bytes for each are on both sides, and cancel.",
        ),
        Misconception(
            _as_many_as_ranks,
            lambda parameters, cuts: (
                f"A ring of n = {len(cuts) + 1} ranks moves 2(n − 1) times the gradients, not 2n."
            ),
        ),
    ],
    otherwise=lambda parameters, cuts: (
        f"In numbers: the cuts move 2 × batch × {sum(cuts)}, the ring of {len(cuts) + 1} replicas "
        f"2 × {len(cuts)} × {parameters}."
    ),
    example=(129_068, [800]),
)
