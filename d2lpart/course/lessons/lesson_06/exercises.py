"""Lesson 06: pipeline parallelism; its exercises, and the challenge to beat 1F1B."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from d2lpart import Schedule, ScheduleError, Timeline, build_schedule, simulate, validate
from d2lpart.course.checks.exercise import Exercise, Misconception, Property, misconception

SECONDS = {"F": 1.0, "I": 1.0, "W": 1.0}


def my_schedule(p: int, m: int) -> list[list[str]]:
    """Orders of F, I and W for p ranks, shorter than 1F1B; no rank holds more than p at once."""
    orders: list[list[str]] = []
    for r in range(p):
        order = []
        for k in range(r + 1 - p, m + r):
            if k + p - 1 - r < m:
                order.append(f"{r}F{k + p - 1 - r}")
            if 0 <= k < m:
                order.append(f"{r}I{k}")
            if 0 <= k - r < m:
                order.append(f"{r}W{k - r}")
        orders.append(order)
    return orders


def timeline_of(orders: Any) -> Timeline:
    """Simulate orders, one stage a rank; raises `ScheduleError` for what cannot run."""
    return simulate(Schedule(orders, range(len(orders))), SECONDS)


def _legal(args: tuple[Any, ...], output: Any) -> str | None:
    p, m = args
    if len(output) != p:
        return f"{len(output)} orders for {p} ranks: return one list of actions a rank."
    try:
        schedule = validate(Schedule(output, range(p)))
    except (ScheduleError, ValueError) as error:
        return f"It cannot run: {error}."
    if schedule.num_microbatches != m:
        return f"It runs {schedule.num_microbatches} micro-batches of {m}."
    return None


def _within(args: tuple[Any, ...], output: Any) -> str | None:
    p, _ = args
    timeline = timeline_of(output)
    held = [timeline.peak_in_flight(rank) for rank in range(p)]
    worst = max(range(p), key=held.__getitem__)
    if held[worst] > p:
        return (
            f"Rank {worst} holds {held[worst]:g} micro-batches at once; {p} are allowed. A "
            f"micro-batch is held until its W."
        )
    return None


def _named(name: str, p: int, m: int) -> Timeline:
    return simulate(build_schedule(name, p, m), SECONDS)


def _shorter(args: tuple[Any, ...], output: Any) -> str | None:
    p, m = args
    own, par = timeline_of(output), _named("1f1b", p, m)
    if own.makespan < par.makespan or p == 1:
        return None
    gaps = [(rank, gap) for rank in range(p) for gap in own.gaps(rank)]
    rank, gap = max(gaps, key=lambda one: one[1].seconds)
    return (
        f"It takes {own.makespan:g} s, and 1F1B {par.makespan:g} s. The longest gap is on rank "
        f"{rank}, from {gap.start:g} s to {gap.end:g} s: it {gap.reason}. What can run there, or "
        f"come sooner?"
    )


def _par(args: tuple[Any, ...], output: Any) -> str | None:
    p, m = args
    own = timeline_of(output)
    par = _named("zb-h1", p, m).makespan
    if own.makespan <= par:
        return None
    return f"{own.idle_fraction():.0%} is idle: {own.makespan:g} s, and par is {par:g} s (ZB-H1)"


@misconception(
    lambda p, m: (
        f"That is 1F1B itself, {_named('1f1b', p, m).makespan:g} s. Write each B as I and W: the "
        f"stage before waits for I alone."
    )
)
def _as_it_was(p: int, m: int) -> list[list[str]]:
    """1F1B, whole backwards."""
    return [[str(action) for action in order] for order in build_schedule("1f1b", p, m).orders]


@misconception(
    lambda p, m: (
        f"That is ZB-H2, and short. But it runs {2 * (p - 1)} forwards ahead on rank 0, and holds "
        f"more than {p}."
    )
)
def _twice_ahead(p: int, m: int) -> list[list[str]]:
    return [[str(action) for action in order] for order in build_schedule("zb-h2", p, m).orders]


@misconception(
    lambda p, m: f"You run {p - 1}W0 before {p - 1}I0: W needs what I has found on its way."
)
def _weights_first(p: int, m: int) -> list[list[str]]:
    """ZB-H1 with I and W exchanged."""
    turn = str.maketrans("IW", "WI")
    return [[action.translate(turn) for action in order] for order in my_schedule(p, m)]


def _cases(rng: random.Random) -> Iterator[tuple[int, int]]:
    yield 2, 2
    yield 3, 3
    yield 3, 5
    for _ in range(5):
        p = rng.randint(2, 6)
        yield p, rng.randint(p, 3 * p)


CHALLENGE = Exercise(
    "06.4",
    "Beat 1F1B",
    my_schedule,
    cases=_cases,
    properties=[
        Property("legal schedule", _legal),
        Property("no rank holds more than p", _within),
        Property("shorter than 1F1B", _shorter),
        Property("as short as par", _par, must=False),
    ],
    misconceptions=[_as_it_was, _twice_ahead, _weights_first],
    otherwise=lambda p, m: (
        f"Begin with 1F1B for {p} ranks, write each B as I and W, and see where a W can wait."
    ),
    example=(4, 8),
)


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


@misconception(
    lambda order: (
        f"You count the {[action[0] for action in order].index('B')} forwards before the first "
        f"backward. Later the rank may run further ahead: {' '.join(order)}."
    )
)
def _ahead(order: Sequence[str]) -> int:
    """Count the forwards before the first backward."""
    return next((place for place, action in enumerate(order) if action[0] == "B"), len(order))


@misconception(
    lambda order: f"You count all {len(order) // 2} forwards. A backward lets its micro-batch go."
)
def _all_forwards(order: Sequence[str]) -> int:
    return sum(action[0] == "F" for action in order)


@misconception(
    lambda order: (
        "You look right behind a backward, or right before a forward. The most is held "
        f"right behind a forward, {most_held(order)} here."
    )
)
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
    misconceptions=[_all_forwards, _ahead, _after_backwards],
    otherwise=lambda order: f"Walk through {' '.join(order)}: +1 for F, −1 for B.",
    example=(["F0", "F1", "B0", "F2", "B1", "B2"],),
)


def interleaved_layers(num_layers: int, p: int, v: int) -> list[list[int]]:
    """The layers of each rank, v stages a rank; num_layers is a multiple of p·v."""
    each = num_layers // (p * v)
    stages = [list(range(s * each, (s + 1) * each)) for s in range(p * v)]
    return [[layer for s in range(r, p * v, p) for layer in stages[s]] for r in range(p)]


@misconception(
    lambda n, p, v: (
        f"You give each rank one run of {n // p} layers. Interleaved, it has {v} runs of "
        f"{n // (p * v)}."
    )
)
def _in_groups(num_layers: int, p: int, v: int) -> list[list[int]]:
    return interleaved_layers(num_layers, p, 1)


@misconception(
    lambda n, p, v: (
        f"You deal the layers out one by one. A stage is {n // (p * v)} consecutive layers; the "
        f"stages are dealt out."
    )
)
def _one_by_one(num_layers: int, p: int, v: int) -> list[list[int]]:
    return interleaved_layers(num_layers, p, num_layers // p)


@misconception(
    lambda n, p, v: (
        f"The right {v} stages a rank, as lists in a list. Put their layers one behind the other."
    )
)
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
    misconceptions=[_in_groups, _one_by_one, _neighbours],
    otherwise=lambda n, p, v: (
        f"{p * v} stages of {n // (p * v)} layers each; stage s is on rank s mod {p}."
    ),
    example=(12, 3, 2),
)

EXERCISES: list[Exercise] = [BUBBLE, MOST_HELD, INTERLEAVED, CHALLENGE]
