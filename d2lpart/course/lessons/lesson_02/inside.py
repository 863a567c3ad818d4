"""Lesson 02: its exercise in which two layers are split inside, by outputs and by inputs."""

import random
from collections.abc import Iterator

import torch
from torch import Tensor

from d2lpart.course.checks.exercise import Exercise, misconception


def split_terms(x: Tensor, first: Tensor, bias: Tensor, second: Tensor, ranks: int) -> list[Tensor]:
    """The terms of relu(x @ first.T + bias) @ second.T, one a rank, hidden units split evenly."""
    terms = []
    for rank in range(ranks):
        own = slice(rank * len(bias) // ranks, (rank + 1) * len(bias) // ranks)
        hidden = torch.relu(x @ first[own].T + bias[own])
        terms.append(hidden @ second[:, own].T)
    return terms


def _whole_numbers(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """From −4 to 4, none of them 0."""
    sizes = torch.randint(1, 5, shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < 0.5, -1.0, 1.0) * sizes


def _pairs(rng: random.Random) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, int]]:
    """Small whole numbers, so that a case can be worked out by hand."""
    x, first, bias, second = [[2.0]], [[1.0], [-1.0]], [1.0, 3.0], [[2.0, -1.0]]  # terms 6 and −1
    yield torch.tensor(x), torch.tensor(first), torch.tensor(bias), torch.tensor(second), 2
    sizes = [(1, 2, 2, 1, 1)]
    sizes += [
        (rng.randint(1, 4), rng.randint(1, 5), k * rng.randint(2, 3), rng.randint(1, 4), k)
        for k in (2, 2, 3, 4)
    ]
    for samples, inputs, hidden, outputs, ranks in sizes:
        generator = torch.Generator().manual_seed(rng.randrange(2**31))
        shapes = (samples, inputs), (hidden, inputs), (hidden,), (outputs, hidden)
        yield (*(_whole_numbers(shape, generator) for shape in shapes), ranks)  # type: ignore[misc]


@misconception(
    lambda x, first, bias, second, ranks: (
        f"Each rank computes the whole output, so the sum is {ranks} times too large, and nothing "
        f"is split."
    )
)
def _whole_everywhere(
    x: Tensor, first: Tensor, bias: Tensor, second: Tensor, ranks: int
) -> list[Tensor]:
    return [torch.relu(x @ first.T + bias) @ second.T for _ in range(ranks)]


@misconception(
    lambda x, first, bias, second, ranks: (
        f"The sum is right, but each rank has used all {len(bias)} hidden units. It may use "
        f"{len(bias) // ranks}."
    )
)
def _an_nth_each(
    x: Tensor, first: Tensor, bias: Tensor, second: Tensor, ranks: int
) -> list[Tensor]:
    return [torch.relu(x @ first.T + bias) @ second.T / ranks for _ in range(ranks)]


@misconception(
    "The relu stands behind the second layer. It belongs to the hidden units, and each rank can "
    "apply it to its own."
)
def _relu_too_late(
    x: Tensor, first: Tensor, bias: Tensor, second: Tensor, ranks: int
) -> list[Tensor]:
    each = len(bias) // ranks
    runs = [slice(rank * each, (rank + 1) * each) for rank in range(ranks)]
    return [torch.relu((x @ first[own].T + bias[own]) @ second[:, own].T) for own in runs]


@misconception(
    "There is no relu. It belongs between the layers, and each rank can apply it to its own hidden "
    "units."
)
def _no_relu(x: Tensor, first: Tensor, bias: Tensor, second: Tensor, ranks: int) -> list[Tensor]:
    parts = zip(first.chunk(ranks), bias.chunk(ranks), second.chunk(ranks, 1), strict=True)
    return [(x @ rows.T + more) @ columns.T for rows, more, columns in parts]


@misconception("The bias is missing: each hidden unit has its own, and goes with it.")
def _no_bias(x: Tensor, first: Tensor, bias: Tensor, second: Tensor, ranks: int) -> list[Tensor]:
    return split_terms(x, first, torch.zeros_like(bias), second, ranks)


@misconception(
    lambda x, first, bias, second, ranks: (
        f"The sum is right. But rank r is to have {len(bias) // ranks} consecutive units, and you "
        f"deal them out in turn."
    )
)
def _dealt_out(x: Tensor, first: Tensor, bias: Tensor, second: Tensor, ranks: int) -> list[Tensor]:
    return [
        torch.relu(x @ first[r::ranks].T + bias[r::ranks]) @ second[:, r::ranks].T
        for r in range(ranks)
    ]


SPLIT_TERMS = Exercise(
    "02.3",
    "Two layers, split inside",
    split_terms,
    cases=_pairs,
    misconceptions=[
        _whole_everywhere,
        _an_nth_each,
        _relu_too_late,
        _no_relu,
        _no_bias,
        _dealt_out,
    ],
    otherwise=lambda x, first, bias, second, ranks: (
        f"Of {len(bias)} hidden units rank 0 has the first {len(bias) // ranks}: rows of `first`, "
        f"entries of `bias`, columns of `second`."
    ),
    tolerance=1e-5,
)
