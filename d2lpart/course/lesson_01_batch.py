"""Lesson 01: why one device is not enough; its exercise on a batch limited by activations."""

import random
from collections.abc import Iterator

from d2lpart.course.checks.exercise import Exercise, Misconception


def largest_microbatch(
    batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int
) -> int:
    """The largest micro-batch that divides the batch and lets a rank fit under 1F1B; 0 if none."""
    for size in range(batch, 0, -1):
        held = min(batch // size, ahead)  # micro-batches in flight
        if batch % size == 0 and state_bytes + held * size * sequence_bytes <= capacity:
            return size
    return 0


def _one_in_flight(
    batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int
) -> int:
    return largest_microbatch(batch, 1, sequence_bytes, state_bytes, capacity)


def _all_in_flight(
    batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int
) -> int:
    return largest_microbatch(batch, batch, sequence_bytes, state_bytes, capacity)


def _uncapped(batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int) -> int:
    sizes = [
        size
        for size in range(1, batch + 1)
        if batch % size == 0 and state_bytes + ahead * size * sequence_bytes <= capacity
    ]
    return max(sizes, default=0)


def _no_state(batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int) -> int:
    return largest_microbatch(batch, ahead, sequence_bytes, 0, capacity)


def _no_divisor(
    batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int
) -> int:
    if state_bytes + batch * sequence_bytes <= capacity:
        return batch
    return max(0, min(batch, (capacity - state_bytes) // (ahead * sequence_bytes)))


def _how_many(batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int) -> int:
    size = largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity)
    return batch // size if size else 0


def _with_room(batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int) -> int:
    return largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity - 1)


def _smallest(batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int) -> int:
    return min(1, largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity))


def _ranks(rng: random.Random) -> Iterator[tuple[int, int, int, int, int]]:
    yield 4, 1, 10, 100, 120
    yield 4, 2, 10, 100, 140  # exactly
    yield 4, 2, 10, 100, 110
    yield 6, 4, 10, 100, 160  # the whole batch fits, and then one is in flight
    yield 8, 4, 10, 100, 100
    yield 12, 2, 10, 100, 200  # 5 would fit, and does not divide
    for _ in range(12):
        batch = rng.choice([8, 12, 16, 24, 30, 32, 36, 48, 60, 64])
        ahead = rng.randint(1, 8)
        one, state = rng.randint(1, 40) * 10**6, rng.randint(10, 900) * 10**6
        yield batch, ahead, one, state, state + int(rng.uniform(0.5, 1.1 * batch) * one)


MICROBATCH = Exercise(
    "01.3",
    "A batch limited by activations",
    largest_microbatch,
    cases=_ranks,
    misconceptions=[
        Misconception(
            _one_in_flight,
            lambda b, a, one, state, c: (
                f"You hold one micro-batch at a time. Under 1F1B this rank takes in up to {a} "
                f"before the first one goes."
            ),
        ),
        Misconception(
            _all_in_flight,
            lambda b, a, one, state, c: (
                f"You hold all {b} sequences at once, as GPipe does. Under 1F1B at most {a} "
                f"micro-batches are held."
            ),
        ),
        Misconception(
            _uncapped,
            lambda b, a, one, state, c: (
                f"You always count {a} micro-batches in flight. When the micro-batches are large, "
                f"there are fewer than {a} in a batch of {b}."
            ),
        ),
        Misconception(
            _no_state,
            lambda b, a, one, state, c: (
                f"Of {c:,} bytes {state:,} are taken before the first activation: weights, "
                f"gradients and optimizer."
            ),
        ),
        Misconception(
            _no_divisor,
            lambda b, a, one, state, c: (
                f"That much would fit, but {b} sequences cannot be cut into equal micro-batches of "
                f"that size."
            ),
        ),
        Misconception(
            _how_many,
            lambda b, a, one, state, c: (
                "That is how many micro-batches there are. Return how many sequences one of them "
                "has."
            ),
        ),
        Misconception(
            _with_room,
            lambda b, a, one, state, c: (
                f"What fills the {c:,} bytes to the last one still fits: 0 have to be left over."
            ),
        ),
        Misconception(
            _smallest,
            lambda b, a, one, state, c: (
                f"One sequence at a time fits if anything does. Is there a larger divisor of {b} "
                f"that fits?"
            ),
        ),
    ],
    otherwise=lambda b, a, one, state, c: (
        f"Try the divisors of {b} from the largest: how many micro-batches are there, how many of "
        f"them are in flight, and what do they take beside {state:,} bytes?"
    ),
    example=(16, 4, 10**9, 8 * 10**9, 20 * 10**9),
)
