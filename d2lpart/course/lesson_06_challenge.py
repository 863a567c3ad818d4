"""Lesson 06: the challenge, a schedule that beats 1F1B and holds no more than its first rank."""

import random
from collections.abc import Iterator
from typing import Any

from d2lpart import Schedule, ScheduleError, Timeline, build_schedule, simulate, validate
from d2lpart.course.checks.exercise import Exercise, Misconception, Property

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


def _shorter(args: tuple[Any, ...], output: Any) -> str | None:
    p, m = args
    own, par = timeline_of(output), simulate(build_schedule("1f1b", p, m), SECONDS)
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
    par = simulate(build_schedule("zb-h1", p, m), SECONDS).makespan
    if own.makespan <= par:
        return None
    return f"{own.idle_fraction():.0%} is idle: {own.makespan:g} s, and par is {par:g} s (ZB-H1)"


def _as_it_was(p: int, m: int) -> list[list[str]]:
    """1F1B, whole backwards."""
    return [[str(action) for action in order] for order in build_schedule("1f1b", p, m).orders]


def _twice_ahead(p: int, m: int) -> list[list[str]]:
    return [[str(action) for action in order] for order in build_schedule("zb-h2", p, m).orders]


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
    misconceptions=[
        Misconception(
            _as_it_was,
            lambda p, m: (
                f"That is 1F1B itself, {timeline_of(_as_it_was(p, m)).makespan:g} s. Write each B "
                f"as I and W: the stage before waits for I alone."
            ),
        ),
        Misconception(
            _twice_ahead,
            lambda p, m: (
                f"That is ZB-H2, and short. But it runs {2 * (p - 1)} forwards ahead on rank 0, "
                f"and holds more than {p}."
            ),
        ),
        Misconception(
            _weights_first,
            lambda p, m: (
                f"You run {p - 1}W0 before {p - 1}I0: W needs what I has found on its way."
            ),
        ),
    ],
    otherwise=lambda p, m: (
        f"Begin with 1F1B for {p} ranks, write each B as I and W, and see where a W can wait."
    ),
    example=(4, 8),
)
