"""Lesson 06: pipeline parallelism; its exercises. The challenge has its own file."""

import random
from collections.abc import Iterator, Sequence

from d2lpart import build_schedule
from d2lpart.course.checks.exercise import Exercise, Misconception
from d2lpart.course.lesson_06_challenge import CHALLENGE


def bubble(p: int, m: int, v: int) -> float:
    """The idle part of the step (idle/total), p even ranks, m micro-batches, v stages a rank."""
    return (p - 1) / (v * m + p - 1)


def _sizes(rng: random.Random) -> Iterator[tuple[int, int, int]]:
    yield 1, 3, 1
    yield 2, 1, 1
    yield 2, 2, 2
    for _ in range(8):
        p = rng.randint(2, 8)
        yield p, p * rng.randint(1, 4), rng.randint(1, 4)


BUBBLE = Exercise(
    "06.1",
    "The bubble formula",
    bubble,
    cases=_sizes,
    misconceptions=[
        Misconception(
            lambda p, m, v: (p - 1) / (v * m),
            lambda p, m, v: (
                f"You set the {p - 1} blank slots against the {v * m} of work: idle/ideal. The "
                f"step has {v * m + p - 1} slots."
            ),
        ),
        Misconception(
            lambda p, m, v: (p - 1) / (m + p - 1),
            lambda p, m, v: (
                f"That is one stage a rank. With {v} a rank works in {v * m} short slots, and "
                f"waits in {p - 1} of them."
            ),
        ),
        Misconception(
            lambda p, m, v: (p * v - 1) / (m + p * v - 1),
            lambda p, m, v: f"You count {p * v} ranks. {p * v} stages live on {p} ranks.",
        ),
        Misconception(
            lambda p, m, v: (p - 1) / (m + p - 1) / v,
            lambda p, m, v: (
                f"Divided by {v} are the idle *seconds*. The step is shorter, too: {v * m + p - 1} "
                f"short slots, {p - 1} of them blank."
            ),
        ),
        Misconception(
            lambda p, m, v: 100 * (p - 1) / (v * m + p - 1),
            "That is in %. Asked for is the part itself, between 0 and 1.",
        ),
        Misconception(
            lambda p, m, v: v * m / (v * m + p - 1),
            lambda p, m, v: f"That is the part in which a rank works, {v * m} slots.",
        ),
        Misconception(
            lambda p, m, v: (p - 1) / (v * m + p),
            lambda p, m, v: f"The step has {v * m} + {p} − 1 slots.",
        ),
    ],
    otherwise=lambda p, m, v: (
        f"Draw {p} lanes. A rank works in {v * m} slots; how many slots late does the last begin?"
    ),
    example=(4, 8, 1),
    tolerance=5e-4,  # three decimals will do
)


def most_held(order: Sequence[str]) -> int:
    """The most micro-batches that a rank holds at once, from its order such as F0 F1 B0 B1."""
    held = most = 0
    for action in order:
        held += 1 if action[0] == "F" else -1
        most = max(most, held)
    return most


def _any_order(rng: random.Random, m: int) -> list[str]:
    """An order whose backwards come as they please, each at some time behind its forward."""
    order: list[str] = []
    held: list[int] = []
    forwards = 0
    while held or forwards < m:
        if forwards < m and (not held or rng.random() < 0.6):
            held.append(forwards)
            order.append(f"F{forwards}")
            forwards += 1
        else:
            order.append(f"B{held.pop(rng.randrange(len(held)))}")
    return order


def _orders(rng: random.Random) -> Iterator[tuple[list[str]]]:
    yield (["F0", "B0"],)
    yield (["F0", "B0", "F1", "B1"],)
    yield (["F0", "F1", "B1", "B0"],)
    for _ in range(8):
        name = rng.choice(["gpipe", "1f1b"])
        schedule = build_schedule(name, rng.randint(2, 5), rng.randint(3, 12))
        order = schedule.orders[rng.randrange(schedule.num_ranks)]
        yield ([f"{action.kind}{action.microbatch}" for action in order],)
    for _ in range(3):
        yield (_any_order(rng, rng.randint(4, 9)),)
    yield (["F0", "F1", "F2", "B2", "F3", "F4", "B0", "B1", "B3", "B4"],)
    yield (["F0", "F1", "B0", "F2", "F3", "B1", "B2", "B3"],)


def _ahead(order: Sequence[str]) -> int:
    """Count the forwards before the first backward."""
    return next((place for place, action in enumerate(order) if action[0] == "B"), len(order))


def _all_forwards(order: Sequence[str]) -> int:
    return sum(action[0] == "F" for action in order)


def _after_backwards(order: Sequence[str]) -> int:
    """Look only after each backward."""
    held, most = 0, 0
    for action in order:
        held += 1 if action[0] == "F" else -1
        most = max(most, held) if action[0] == "B" else most
    return most


MOST_HELD = Exercise(
    "06.2",
    "What a rank holds",
    most_held,
    cases=_orders,
    misconceptions=[
        Misconception(
            _all_forwards,
            lambda order: (
                f"You count all {_all_forwards(order)} forwards. A backward lets its micro-batch "
                f"go."
            ),
        ),
        Misconception(
            _ahead,
            lambda order: (
                f"You count the {_ahead(order)} forwards before the first backward. Later the rank "
                f"may run further ahead: {' '.join(order)}."
            ),
        ),
        Misconception(
            _after_backwards,
            lambda order: (
                "You look right behind a backward, or right before a forward. The most is held "
                f"right behind a forward, {most_held(order)} here."
            ),
        ),
    ],
    otherwise=lambda order: f"Walk through {' '.join(order)}: +1 for F, −1 for B.",
    example=(["F0", "F1", "B0", "F2", "B1", "B2"],),
)


def interleaved_layers(num_layers: int, p: int, v: int) -> list[list[int]]:
    """The layers of each rank, v stages a rank; num_layers is a multiple of p·v."""
    each = num_layers // (p * v)
    stages = [list(range(s * each, (s + 1) * each)) for s in range(p * v)]
    return [[layer for s in range(r, p * v, p) for layer in stages[s]] for r in range(p)]


def _in_groups(num_layers: int, p: int, v: int) -> list[list[int]]:
    return interleaved_layers(num_layers, p, 1)


def _one_by_one(num_layers: int, p: int, v: int) -> list[list[int]]:
    return interleaved_layers(num_layers, p, num_layers // p)


def _neighbours(num_layers: int, p: int, v: int) -> list[list[list[int]]]:
    """Give a list of stages a rank in place of a list of layers."""
    each = num_layers // (p * v)
    return [[list(range(s * each, (s + 1) * each)) for s in range(r, p * v, p)] for r in range(p)]


def _models(rng: random.Random) -> Iterator[tuple[int, int, int]]:
    yield 2, 2, 1
    yield 4, 2, 2
    yield 12, 3, 4
    for _ in range(6):
        p, v = rng.randint(2, 5), rng.randint(2, 4)
        yield p * v * rng.randint(2, 4), p, v


INTERLEAVED = Exercise(
    "06.3",
    "Who has which layers",
    interleaved_layers,
    cases=_models,
    misconceptions=[
        Misconception(
            _in_groups,
            lambda n, p, v: (
                f"You give each rank one run of {n // p} layers. Interleaved, it has {v} runs of "
                f"{n // (p * v)}."
            ),
        ),
        Misconception(
            _one_by_one,
            lambda n, p, v: (
                f"You deal the layers out one by one. A stage is {n // (p * v)} consecutive "
                f"layers; the stages are dealt out."
            ),
        ),
        Misconception(
            _neighbours,
            lambda n, p, v: (
                f"The right {v} stages a rank, as lists in a list. Put their layers one behind the "
                f"other."
            ),
        ),
    ],
    otherwise=lambda n, p, v: (
        f"{p * v} stages of {n // (p * v)} layers each; stage s is on rank s mod {p}."
    ),
    example=(12, 3, 2),
)

ALL: list[Exercise] = [BUBBLE, MOST_HELD, INTERLEAVED, CHALLENGE]
