"""Lesson 05: worker idle time; its exercises, without messages and with them."""

import math
import random
from collections.abc import Iterator, Sequence

from d2lpart.course.checks.exercise import Exercise, misconception

Spans = Sequence[tuple[int, float, float]]
Seconds = Sequence[float]  # of each stage
Gaps = tuple[float, float, float]  # to fill, to wait, to drain


def idle_fraction(spans: Spans) -> float:
    """The idle share (idle/total) of all ranks, from spans (rank, start, end) in any order."""
    num_ranks = len({rank for rank, _, _ in spans})
    makespan = max(end for _, _, end in spans) - min(start for _, start, _ in spans)
    busy = sum(end - start for _, start, end in spans)
    return 1 - busy / (num_ranks * makespan)


@misconception(
    lambda spans: (
        f"You take the last end for the length of the step. This one begins at "
        f"{min(start for _, start, _ in spans):g} s, not at 0."
    )
)
def _from_zero(spans: Spans) -> float:
    num_ranks = len({rank for rank, _, _ in spans})
    busy = sum(end - start for _, start, end in spans)
    return 1 - busy / (num_ranks * max(end for _, _, end in spans))


@misconception(
    "You divide by the busy time: that is idle/ideal, which can exceed 100%. Here the idle time is "
    "set against all the time there is, ranks × step."
)
def _over_busy(spans: Spans) -> float:
    idle = idle_fraction(spans)
    return idle / (1 - idle)


@misconception(
    lambda spans: (
        f"{1 - idle_fraction(spans):.0%} is the share in which the ranks work; the rest is idle."
    )
)
def _busy_share(spans: Spans) -> float:
    return 1 - idle_fraction(spans)


@misconception(
    lambda spans: f"That is per cent. A part lies between 0 and 1: {idle_fraction(spans):.4g}."
)
def _percent(spans: Spans) -> float:
    return 100 * idle_fraction(spans)


@misconception(
    lambda spans: (
        f"You take the first and the last span of the list. They come in no order: the step begins "
        f"at {min(start for _, start, _ in spans):g} s and ends at "
        f"{max(end for _, _, end in spans):g} s."
    )
)
def _as_listed(spans: Spans) -> float:
    """Take the first and the last span of the list for those of the step."""
    busy = sum(end - start for _, start, end in spans)
    return 1 - busy / (len({rank for rank, _, _ in spans}) * (spans[-1][2] - spans[0][1]))


@misconception(
    lambda spans: (
        f"You take the end of the span that starts last, "
        f"{max(spans, key=lambda span: span[1])[2]:g} s. Another one ends later, at "
        f"{max(end for _, _, end in spans):g} s."
    )
)
def _last_to_start(spans: Spans) -> float:
    """Take the end of the span that starts last for the end of the step."""
    first, last = min(start for _, start, _ in spans), max(spans, key=lambda span: span[1])
    busy = sum(end - start for _, start, end in spans)
    return 1 - busy / (len({rank for rank, _, _ in spans}) * (last[2] - first))


@misconception(
    lambda spans: (
        f"You set the work of {len({rank for rank, _, _ in spans})} ranks against one lane. Each "
        f"rank has a lane of its own."
    )
)
def _one_lane(spans: Spans) -> float:
    num_ranks = len({rank for rank, _, _ in spans})
    return 1 - num_ranks * (1 - idle_fraction(spans))


@misconception(
    "You leave out the time before a rank's first span and after its last. Filling and draining "
    "are idle time, too: every lane is as long as the step."
)
def _between_own(spans: Spans) -> float:
    """Count as idle only what lies between the first start and the last end of each rank."""
    busy = sum(end - start for _, start, end in spans)
    there = 0.0
    for rank in {rank for rank, _, _ in spans}:
        own = [span for span in spans if span[0] == rank]
        there += max(end for _, _, end in own) - min(start for _, start, _ in own)
    return 1 - busy / there


def _spans(rng: random.Random) -> Iterator[tuple[list[tuple[int, float, float]]]]:
    yield ([(0, 0.0, 1.0), (1, 1.0, 2.0)],)
    yield ([(0, 5.0, 6.0), (1, 6.0, 8.0)],)
    yield ([(0, 0.0, 2.0), (1, 1.0, 3.0)],)  # two ranks work at the same time
    yield ([(0, 0.0, 6.0), (1, 1.0, 2.0)],)  # the one that starts last does not end last
    for case in range(8):
        at, drawn = rng.randint(0, 12) / 4, []
        ranks = list(range(rng.randint(2, 4)))
        for rank in ranks + ranks[::-1]:
            start = at + rng.randint(0, 4) / 4
            end = start + rng.randint(2, 8) / 4
            drawn.append((rank, start, end))
            at = end if case % 2 or rank == ranks[-1] else (start + end) / 2
        rng.shuffle(drawn)
        yield (drawn,)


READ_A_TIMELINE = Exercise(
    "05.1",
    "Read a timeline",
    idle_fraction,
    cases=_spans,
    misconceptions=[
        _from_zero,
        _over_busy,
        _busy_share,
        _percent,
        _as_listed,
        _last_to_start,
        _one_lane,
        _between_own,
    ],
    otherwise=lambda spans: (
        f"Put the picture in a box: {len({rank for rank, _, _ in spans})} lanes, each as long as "
        f"the step. What part of the box is blank?"
    ),
    example=([(0, 0.0, 1.0), (1, 1.0, 2.0), (1, 2.0, 4.0), (0, 4.0, 6.0)],),
)


def gap_seconds(forward: Seconds, backward: Seconds, rank: int) -> Gaps:
    """Seconds that a rank fills, waits and drains in a naive step, one stage a rank."""
    fill = sum(forward[:rank])
    wait = sum(forward[rank + 1 :]) + sum(backward[rank + 1 :])
    drain = sum(backward[:rank])
    return fill, wait, drain


@misconception(
    lambda f, b, r: (
        f"Your filling includes {r}F0, {f[r]:g} s in which rank {r} works. It fills while the {r} "
        f"ranks before it run."
    )
)
def _itself_too(forward: Seconds, backward: Seconds, rank: int) -> Gaps:
    fill, wait, drain = gap_seconds(forward, backward, rank)
    return fill + forward[rank], wait, drain


@misconception(
    lambda f, b, r: (
        f"After {r}F0 the {len(f) - 1 - r} stages behind rank {r} still have their forward to do, "
        f"before any of their backwards."
    )
)
def _one_way(forward: Seconds, backward: Seconds, rank: int) -> Gaps:
    fill, _, drain = gap_seconds(forward, backward, rank)
    return fill, sum(backward[rank + 1 :]), drain


@misconception(
    lambda f, b, r: (
        f"When the forward has reached stage {len(f) - 1}, rank {r} does not go on yet: the "
        f"backward begins there, and has to come back to rank {r}."
    )
)
def _forward_wait(forward: Seconds, backward: Seconds, rank: int) -> Gaps:
    fill, _, drain = gap_seconds(forward, backward, rank)
    return fill, sum(forward[rank + 1 :]), drain


@misconception(
    lambda f, b, r: (
        f"You let the backward run from stage 0 to stage {len(f) - 1}. It begins where the loss "
        f"is, at stage {len(f) - 1}."
    )
)
def _backward_in_order(forward: Seconds, backward: Seconds, rank: int) -> Gaps:
    wait = sum(forward[rank + 1 :]) + sum(backward[:rank])
    return sum(forward[:rank]), wait, sum(backward[rank + 1 :])


@misconception(
    lambda f, b, r: (
        f"You take every stage to be as heavy as stage {r}. A rank waits for the others, so sum up "
        f"their seconds: forward {', '.join(f'{x:g}' for x in f)}."
    )
)
def _all_even(forward: Seconds, backward: Seconds, rank: int) -> Gaps:
    n, f, b = len(forward), forward[rank], backward[rank]
    return rank * f, (n - 1 - rank) * (f + b), rank * b


def _uneven_steps(rng: random.Random) -> Iterator[tuple[list[float], list[float], int]]:
    for rank in range(2):
        yield [1.0, 1.0], [2.0, 2.0], rank
    for rank in range(3):
        yield [1.0, 2.0, 4.0], [3.0, 5.0, 7.0], rank
    for _ in range(8):
        num_ranks = rng.randint(2, 6)
        forward = [float(rng.randint(1, 9)) for _ in range(num_ranks)]
        backward = [float(rng.randint(1, 9)) for _ in range(num_ranks)]
        yield forward, backward, rng.randrange(num_ranks)


UNEVEN_STAGES = Exercise(
    "05.2",
    "Uneven stages: fill, wait, drain",
    gap_seconds,
    cases=_uneven_steps,
    misconceptions=[_itself_too, _one_way, _forward_wait, _backward_in_order, _all_even],
    otherwise=lambda f, b, r: (
        f"Write down all {2 * len(f)} actions in order and mark {r}F0 and {r}B0. What lies before "
        f"the first mark, between the two, behind the second?"
    ),
    example=([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], 1),
)


def step_seconds(forward: Seconds, backward: Seconds, hop: float) -> float:
    """The length of a naive step; each message between neighbouring ranks takes `hop` seconds."""
    return sum(forward) + sum(backward) + 2 * (len(forward) - 1) * hop


@misconception(
    lambda f, b, h: (
        f"You pay for {len(f) - 1} messages, the activations. As many gradients come back."
    )
)
def _hops_forward(forward: Seconds, backward: Seconds, hop: float) -> float:
    return sum(forward) + sum(backward) + (len(forward) - 1) * hop


@misconception(
    lambda f, b, h: (
        f"You count {2 * len(f)} messages, two a rank. A message crosses a cut, and the cuts are "
        f"one fewer than the ranks: {len(f) - 1}."
    )
)
def _hop_a_rank(forward: Seconds, backward: Seconds, hop: float) -> float:
    return sum(forward) + sum(backward) + 2 * len(forward) * hop


@misconception(
    lambda f, b, h: f"You have not used `hop`: {h:g} s for each of the {2 * (len(f) - 1)} messages."
)
def _no_hops(forward: Seconds, backward: Seconds, hop: float) -> float:
    return sum(forward) + sum(backward)


@misconception(
    lambda f, b, h: (
        f"You take the slowest stage, as if all {len(f)} worked at once. They take turns."
    )
)
def _at_once(forward: Seconds, backward: Seconds, hop: float) -> float:
    return max(forward) + max(backward) + 2 * (len(forward) - 1) * hop


@misconception(
    lambda f, b, h: (
        f"You divide the work by {len(f)} ranks. It is shared, but one works after another."
    )
)
def _shared(forward: Seconds, backward: Seconds, hop: float) -> float:
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


EXERCISES: list[Exercise] = [READ_A_TIMELINE, UNEVEN_STAGES, TRANSFER_TIME, LEAST_COMPUTE]
