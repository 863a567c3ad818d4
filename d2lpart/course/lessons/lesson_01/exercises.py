"""Lesson 01: why one device is not enough; its exercises, on a model's state and on activations."""

import math
import random
from collections.abc import Iterator

from d2lpart.course.checks.exercise import Exercise, misconception


def largest_microbatch(
    batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int
) -> int:
    """The largest micro-batch that divides the batch and lets a rank fit under 1F1B; 0 if none."""
    for size in range(batch, 0, -1):
        held = min(batch // size, ahead)  # micro-batches in flight
        if batch % size == 0 and state_bytes + held * size * sequence_bytes <= capacity:
            return size
    return 0


@misconception(
    lambda b, a, one, state, c: (
        f"You hold one micro-batch at a time. Under 1F1B this rank takes in up to {a} before the "
        f"first one goes."
    )
)
def _one_in_flight(
    batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int
) -> int:
    return largest_microbatch(batch, 1, sequence_bytes, state_bytes, capacity)


@misconception(
    lambda b, a, one, state, c: (
        f"You hold all {b} sequences at once, as GPipe does. Under 1F1B at most {a} micro-batches "
        f"are held."
    )
)
def _all_in_flight(
    batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int
) -> int:
    return largest_microbatch(batch, batch, sequence_bytes, state_bytes, capacity)


@misconception(
    lambda b, a, one, state, c: (
        f"You always count {a} micro-batches in flight. When the micro-batches are large, there "
        f"are fewer than {a} in a batch of {b}."
    )
)
def _uncapped(batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int) -> int:
    sizes = [
        size
        for size in range(1, batch + 1)
        if batch % size == 0 and state_bytes + ahead * size * sequence_bytes <= capacity
    ]
    return max(sizes, default=0)


@misconception(
    lambda b, a, one, state, c: (
        f"Of {c:,} bytes {state:,} are taken before the first activation: weights, gradients and "
        f"optimizer."
    )
)
def _no_state(batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int) -> int:
    return largest_microbatch(batch, ahead, sequence_bytes, 0, capacity)


@misconception(
    lambda b, a, one, state, c: (
        f"That much would fit, but {b} sequences cannot be cut into equal micro-batches of that "
        f"size."
    )
)
def _no_divisor(
    batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int
) -> int:
    if state_bytes + batch * sequence_bytes <= capacity:
        return batch
    return max(0, min(batch, (capacity - state_bytes) // (ahead * sequence_bytes)))


@misconception(
    lambda b, a, one, state, c: (
        "That is how many micro-batches there are. Return how many sequences one of them has."
    )
)
def _how_many(batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int) -> int:
    size = largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity)
    return batch // size if size else 0


@misconception(
    lambda b, a, one, state, c: (
        f"What fills the {c:,} bytes to the last one still fits: 0 have to be left over."
    )
)
def _with_room(batch: int, ahead: int, sequence_bytes: int, state_bytes: int, capacity: int) -> int:
    return largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity - 1)


@misconception(
    lambda b, a, one, state, c: (
        f"One sequence at a time fits if anything does. Is there a larger divisor of {b} that fits?"
    )
)
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
        _one_in_flight,
        _all_in_flight,
        _uncapped,
        _no_state,
        _no_divisor,
        _how_many,
        _with_room,
        _smallest,
    ],
    otherwise=lambda b, a, one, state, c: (
        f"Try the divisors of {b} from the largest: how many micro-batches are there, how many of "
        f"them are in flight, and what do they take beside {state:,} bytes?"
    ),
    example=(16, 4, 10**9, 8 * 10**9, 20 * 10**9),
)


BYTES = 16
"""Of a parameter in training: weight and gradient in 16 bits, what Adam keeps in 32 bits."""


def training_bytes(parameters: int, moments: int) -> tuple[int, int, int]:
    """Bytes of weights, gradients and optimizer; it keeps so many moments of each parameter."""
    return 2 * parameters, 2 * parameters, 4 * (1 + moments) * parameters


@misconception(
    lambda n, k: (
        f"Your optimizer keeps {k} moments and no weight. A step adds small numbers, which 16 bits "
        f"would lose, so it keeps a 32-bit copy as well: {4 * n:,} bytes more."
    )
)
def _no_master(parameters: int, moments: int) -> tuple[int, int, int]:
    return 2 * parameters, 2 * parameters, 4 * moments * parameters


@misconception(lambda n, k: f"The copy has 4 bytes, and so has each of the {k} moments, not 2.")
def _two_byte_moments(parameters: int, moments: int) -> tuple[int, int, int]:
    return 2 * parameters, 2 * parameters, (4 + 2 * moments) * parameters


@misconception(
    lambda n, k: (
        f"What the optimizer keeps has 32 bits: 4 bytes for the copy of the weight and 4 for each "
        f"of the {k} moments."
    )
)
def _all_in_two(parameters: int, moments: int) -> tuple[int, int, int]:
    return 2 * parameters, 2 * parameters, 2 * (1 + moments) * parameters


@misconception(
    lambda n, k: (
        "That is training in 32 bits throughout. Here weights and gradients have 16 bits, and the "
        "32-bit weights are in the optimizer's keeping. (The sum is the same.)"
    )
)
def _all_in_four(parameters: int, moments: int) -> tuple[int, int, int]:
    return 4 * parameters, 4 * parameters, 4 * moments * parameters


@misconception("Those are bits. 8 of them are a byte.")
def _bits(parameters: int, moments: int) -> tuple[int, int, int]:
    return 16 * parameters, 16 * parameters, 32 * (1 + moments) * parameters


@misconception(lambda n, k: f"That is Adam, which keeps 2 moments. This optimizer keeps {k}.")
def _always_adam(parameters: int, moments: int) -> tuple[int, int, int]:
    return training_bytes(parameters, 2)


def _models(rng: random.Random) -> Iterator[tuple[int, int]]:
    yield 1, 0
    yield 1, 1
    yield 1000, 2
    for _ in range(8):
        yield rng.randint(1, 400) * 10**8, rng.randint(0, 3)


TRAINING_BYTES = Exercise(
    "01.1",
    "Bytes for a 7B",
    training_bytes,
    cases=_models,
    misconceptions=[_no_master, _two_byte_moments, _all_in_two, _all_in_four, _bits, _always_adam],
    otherwise=lambda n, k: (
        f"Start with one parameter: 2 bytes of weight, 2 of gradient. What does an optimizer with "
        f"{k} moments keep, in numbers of 4 bytes?"
    ),
    example=(7 * 10**9, 2),
)


def fewest_gpus(parameters: int, num_layers: int, usable_bytes: int) -> float:
    """The fewest GPUs for the state of a model cut between its equal layers; infinite if none."""
    most = usable_bytes * num_layers // (BYTES * parameters)  # layers on one GPU
    return math.ceil(num_layers / most) if most else math.inf


@misconception(
    lambda n, L, u: (
        f"You cut anywhere. {u / 1e9:.4g} GB have room for {u * L / (BYTES * n):.2f} layers, and "
        f"only whole ones can be placed."
    )
)
def _cut_anywhere(parameters: int, num_layers: int, usable_bytes: int) -> float:
    return math.ceil(BYTES * parameters / usable_bytes)


@misconception(
    lambda n, L, u: (
        f"You cut anywhere, and stop at {L} GPUs. Count the whole layers that one GPU holds: "
        f"{u * L // (BYTES * n)}."
    )
)
def _at_most_all_layers(parameters: int, num_layers: int, usable_bytes: int) -> float:
    return min(num_layers, _cut_anywhere(parameters, num_layers, usable_bytes))


@misconception(
    lambda n, L, u: (
        f"{2 * n / 1e9:.4g} GB of weights can be read so, not trained: a parameter in training "
        f"takes {BYTES} bytes."
    )
)
def _weights_alone(parameters: int, num_layers: int, usable_bytes: int) -> float:
    return fewest_gpus(parameters // 8, num_layers, usable_bytes)


@misconception(
    lambda n, L, u: (
        f"You want equally many layers on each GPU. {L} layers may also lie {u * L // (BYTES * n)} "
        f"to a GPU, with fewer on the last."
    )
)
def _even_shares(parameters: int, num_layers: int, usable_bytes: int) -> float:
    even = [gpus for gpus in range(1, num_layers + 1) if num_layers % gpus == 0]
    return next((n for n in even if BYTES * parameters <= usable_bytes * n), math.inf)


@misconception(
    lambda n, L, u: (
        f"{L} layers, {u * L // (BYTES * n)} on each GPU: a rest of {L % (u * L // (BYTES * n))} "
        f"has no place. Round up."
    )
)
def _rounded_down(parameters: int, num_layers: int, usable_bytes: int) -> float:
    most = usable_bytes * num_layers // (BYTES * parameters)
    return num_layers // most if most else math.inf


@misconception(
    lambda n, L, u: (
        f"A layer takes {BYTES * n / L / 1e9:.4g} GB. How many have room in {u / 1e9:.4g} GB?"
    )
)
def _layer_a_gpu(parameters: int, num_layers: int, usable_bytes: int) -> float:
    return num_layers


def _nothing_helps(parameters: int, num_layers: int, usable_bytes: int) -> str:
    return (
        f"One layer takes {BYTES * parameters / num_layers / 1e9:.4g} GB, and a GPU has "
        f"{usable_bytes / 1e9:.4g} GB: no number of GPUs helps, so return `math.inf`."
    )


@misconception(_nothing_helps)
def _no_way_out(parameters: int, num_layers: int, usable_bytes: int) -> float:
    return math.ceil(num_layers / max(1, usable_bytes * num_layers // (BYTES * parameters)))


def _large_models(rng: random.Random) -> Iterator[tuple[int, int, int]]:
    yield 10**9, 4, 20 * 10**9  # all on one
    yield 10**9, 4, 10 * 10**9
    yield 10**9, 4, 4 * 10**9  # one layer on each, exactly
    yield 10**9, 4, 3_999_000_000  # no layer fits
    yield 3 * 10**9, 5, 20 * 10**9  # two layers on a GPU: three GPUs, one of them half empty
    for _ in range(10):
        num_layers = rng.randint(6, 130)
        parameters = num_layers * rng.randint(100, 3000) * 10**6
        layer = BYTES * parameters // num_layers
        most = rng.choice([0, 1, 1, 2, 3, 4, 5, 8])
        yield parameters, num_layers, int((most + rng.uniform(0.2, 0.8)) * layer)


FEWEST_GPUS = Exercise(
    "01.2",
    "The smallest number of GPUs",
    fewest_gpus,
    cases=_large_models,
    misconceptions=[
        _cut_anywhere,
        _at_most_all_layers,
        _weights_alone,
        _rounded_down,
        _even_shares,
        _layer_a_gpu,
        _no_way_out,
    ],
    otherwise=lambda n, L, u: (
        f"How many bytes does one of the {L} layers take, how many whole layers does a GPU of "
        f"{u / 1e9:.4g} GB hold, and how many GPUs do {L} layers need then?"
        if fewest_gpus(n, L, u) < math.inf
        else _nothing_helps(n, L, u)
    ),
    example=(200 * 10**9, 110, 36_800_000_000),
)


EXERCISES: list[Exercise] = [TRAINING_BYTES, FEWEST_GPUS, MICROBATCH]
