"""Lesson 03: its exercises on what crosses the cuts: which messages, and how many bytes."""

import random
from collections.abc import Iterator

from d2lpart.course.checks.exercise import Exercise, Misconception


def stages_have(p: int) -> str:
    """Begin a sentence about p stages."""
    return "1 stage has" if p == 1 else f"{p} stages have"


def stage_counts(rng: random.Random) -> Iterator[tuple[int]]:
    """Yield the cases of a function of the number of stages."""
    for num_stages in range(1, 6):
        yield (num_stages,)
    for _ in range(3):
        yield (rng.randint(6, 12),)


def backward_messages(num_stages: int) -> list[tuple[int, int]]:
    """The messages of the backward pass as (from stage, to stage), in the order of sending."""
    return [(stage, stage - 1) for stage in range(num_stages - 1, 0, -1)]


def _forward_messages(num_stages: int) -> list[tuple[int, int]]:
    return [(stage, stage + 1) for stage in range(num_stages - 1)]


def _front_first(num_stages: int) -> list[tuple[int, int]]:
    return [(stage, stage - 1) for stage in range(1, num_stages)]


def _one_a_stage(num_stages: int) -> list[tuple[int, int]]:
    return [(stage, stage - 1) for stage in reversed(range(num_stages))]


def _to_and_from(num_stages: int) -> list[tuple[int, int]]:
    return [(b, a) for a, b in backward_messages(num_stages)]


def _both_ways(num_stages: int) -> list[tuple[int, int]]:
    return _forward_messages(num_stages) + backward_messages(num_stages)


def _messages_from_one(num_stages: int) -> list[tuple[int, int]]:
    return [(a + 1, b + 1) for a, b in backward_messages(num_stages)]


def _from_the_loss(num_stages: int) -> list[tuple[int, int]]:
    return [(num_stages - 1, stage) for stage in reversed(range(num_stages - 1))]


BACKWARD_MESSAGES = Exercise(
    "03.2",
    "The messages of the backward pass",
    backward_messages,
    cases=stage_counts,
    misconceptions=[
        Misconception(
            _forward_messages,
            lambda p: (
                f"Those are the {p - 1} activations. A gradient goes the other way, from the stage "
                f"that received to the stage that sent."
            ),
        ),
        Misconception(
            _front_first,
            lambda p: (
                f"The right {p - 1} messages, but stage 1 cannot send first: it has nothing before "
                f"stage 2 has sent. The first one leaves stage {p - 1}."
            ),
        ),
        Misconception(
            _one_a_stage,
            lambda p: (
                f"You send {p} messages over {p - 1} cuts: there is no stage before stage 0, and "
                f"token numbers want no gradient."
            ),
        ),
        Misconception(
            _from_the_loss,
            lambda p: (
                f"Stage {p - 1} knows the gradient of its own input alone. What stage 0 needs, "
                f"stage 1 has to compute."
            ),
        ),
        Misconception(
            _to_and_from,
            lambda p: (
                f"The order of the cuts is right. But a pair begins with the stage that sends, and "
                f"the first gradient leaves stage {p - 1}."
            ),
        ),
        Misconception(
            _both_ways,
            lambda p: f"The first {p - 1} of them carry activations. List those with gradients.",
        ),
        Misconception(
            _messages_from_one,
            lambda p: f"Stages count from 0: the last of {p} is stage {p - 1}.",
        ),
    ],
    otherwise=lambda p: f"{stages_have(p)} {p - 1} cuts. Who has the first gradient of an input?",
    example=(3,),
)


def bytes_moved(
    batch: int, positions: int, width: int, num_stages: int, bytes_per_number: int
) -> int:
    """The bytes that cross in one step, if one activation is (batch, positions, width)."""
    return 2 * (num_stages - 1) * batch * positions * width * bytes_per_number


def _one_way(*sizes: int) -> int:
    return bytes_moved(*sizes) // 2


def _cut_a_stage(
    batch: int, positions: int, width: int, num_stages: int, bytes_per_number: int
) -> int:
    return bytes_moved(batch, positions, width, num_stages + 1, bytes_per_number)


def _numbers(batch: int, positions: int, width: int, num_stages: int, bytes_per_number: int) -> int:
    return bytes_moved(batch, positions, width, num_stages, 1)


def _one_sample(
    batch: int, positions: int, width: int, num_stages: int, bytes_per_number: int
) -> int:
    return bytes_moved(1, positions, width, num_stages, bytes_per_number)


def _wide_gradients(
    batch: int, positions: int, width: int, num_stages: int, bytes_per_number: int
) -> int:
    return (num_stages - 1) * batch * positions * width * (bytes_per_number + 4)


def _sizes(rng: random.Random) -> Iterator[tuple[int, int, int, int, int]]:
    yield 2, 3, 4, 2, 4
    yield 2, 3, 4, 1, 4
    yield 2, 3, 4, 3, 2
    for _ in range(8):
        sizes = (rng.randint(1, 64), rng.randint(1, 512), 64 * rng.randint(1, 16))
        yield *sizes, rng.randint(1, 12), rng.choice([2, 4])


BYTES_MOVED = Exercise(
    "03.3",
    "The bytes of one step",
    bytes_moved,
    cases=_sizes,
    misconceptions=[
        Misconception(
            _one_way,
            lambda *sizes: (
                f"That is the forward, {_one_way(*sizes)} bytes; as many come back as gradients."
            ),
        ),
        Misconception(
            _cut_a_stage,
            lambda b, t, c, p, n: (
                f"{p} stages have {p - 1} cuts: nothing crosses behind the last stage."
            ),
        ),
        Misconception(
            _numbers,
            lambda b, t, c, p, n: f"You count numbers; each of them takes {n} bytes.",
        ),
        Misconception(
            _one_sample,
            lambda b, t, c, p, n: f"That is one sample; the mini-batch has {b}.",
        ),
        Misconception(
            _wide_gradients,
            lambda b, t, c, p, n: (
                f"You give each number of a gradient 4 bytes. It has {n}, as its activation has."
            ),
        ),
    ],
    otherwise=lambda b, t, c, p, n: (
        f"One message has {b} × {t} × {c} numbers. How many cuts are there, for num_stages = {p}, "
        f"and how often is each crossed?"
    ),
    example=(8, 32, 64, 4, 4),
)
