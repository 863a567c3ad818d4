"""Lesson 03: splitting a transformer decoder; its exercises that are judged by their outputs.

The two whose functions have to be watched at work are in `by_hand`.
"""

import random
from collections.abc import Iterator, Sequence

from d2lpart.course.checks.exercise import Exercise, misconception
from d2lpart.course.lessons.lesson_03.by_hand import SPLIT_BACKWARD, TIED_STEP


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


@misconception(
    lambda p: (
        f"Those are the {p - 1} activations. A gradient goes the other way, from the stage that "
        f"received to the stage that sent."
    )
)
def _forward_messages(num_stages: int) -> list[tuple[int, int]]:
    return [(stage, stage + 1) for stage in range(num_stages - 1)]


@misconception(
    lambda p: (
        f"The right {p - 1} messages, but stage 1 cannot send first: it has nothing before stage 2 "
        f"has sent. The first one leaves stage {p - 1}."
    )
)
def _front_first(num_stages: int) -> list[tuple[int, int]]:
    return [(stage, stage - 1) for stage in range(1, num_stages)]


@misconception(
    lambda p: (
        f"You send {p} messages over {p - 1} cuts: there is no stage before stage 0, and token "
        f"numbers want no gradient."
    )
)
def _one_a_stage(num_stages: int) -> list[tuple[int, int]]:
    return [(stage, stage - 1) for stage in reversed(range(num_stages))]


@misconception(
    lambda p: (
        f"The order of the cuts is right. But a pair begins with the stage that sends, and the "
        f"first gradient leaves stage {p - 1}."
    )
)
def _to_and_from(num_stages: int) -> list[tuple[int, int]]:
    return [(b, a) for a, b in backward_messages(num_stages)]


@misconception(lambda p: f"The first {p - 1} of them carry activations. List those with gradients.")
def _both_ways(num_stages: int) -> list[tuple[int, int]]:
    return _forward_messages(num_stages) + backward_messages(num_stages)


@misconception(lambda p: f"Stages count from 0: the last of {p} is stage {p - 1}.")
def _messages_from_one(num_stages: int) -> list[tuple[int, int]]:
    return [(a + 1, b + 1) for a, b in backward_messages(num_stages)]


@misconception(
    lambda p: (
        f"Stage {p - 1} knows the gradient of its own input alone. What stage 0 needs, stage 1 has "
        f"to compute."
    )
)
def _from_the_loss(num_stages: int) -> list[tuple[int, int]]:
    return [(num_stages - 1, stage) for stage in reversed(range(num_stages - 1))]


BACKWARD_MESSAGES = Exercise(
    "03.2",
    "The messages of the backward pass",
    backward_messages,
    cases=stage_counts,
    misconceptions=[
        _forward_messages,
        _front_first,
        _one_a_stage,
        _from_the_loss,
        _to_and_from,
        _both_ways,
        _messages_from_one,
    ],
    otherwise=lambda p: f"{stages_have(p)} {p - 1} cuts. Who has the first gradient of an input?",
    example=(3,),
)


def bytes_moved(
    batch: int, positions: int, width: int, num_stages: int, bytes_per_number: int
) -> int:
    """The bytes that cross in one step, if one activation is (batch, positions, width)."""
    return 2 * (num_stages - 1) * batch * positions * width * bytes_per_number


@misconception(
    lambda *sizes: (
        f"That is the forward, {bytes_moved(*sizes) // 2} bytes; as many come back as gradients."
    )
)
def _one_way(*sizes: int) -> int:
    return bytes_moved(*sizes) // 2


@misconception(
    lambda b, t, c, p, n: f"{p} stages have {p - 1} cuts: nothing crosses behind the last stage."
)
def _cut_a_stage(
    batch: int, positions: int, width: int, num_stages: int, bytes_per_number: int
) -> int:
    return bytes_moved(batch, positions, width, num_stages + 1, bytes_per_number)


@misconception(lambda b, t, c, p, n: f"You count numbers; each of them takes {n} bytes.")
def _numbers(batch: int, positions: int, width: int, num_stages: int, bytes_per_number: int) -> int:
    return bytes_moved(batch, positions, width, num_stages, 1)


@misconception(lambda b, t, c, p, n: f"That is one sample; the mini-batch has {b}.")
def _one_sample(
    batch: int, positions: int, width: int, num_stages: int, bytes_per_number: int
) -> int:
    return bytes_moved(1, positions, width, num_stages, bytes_per_number)


@misconception(
    lambda b, t, c, p, n: (
        f"You give each number of a gradient 4 bytes. It has {n}, as its activation has."
    )
)
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
    misconceptions=[_one_way, _cut_a_stage, _numbers, _one_sample, _wide_gradients],
    otherwise=lambda b, t, c, p, n: (
        f"One message has {b} × {t} × {c} numbers. How many cuts are there, for num_stages = {p}, "
        f"and how often is each crossed?"
    ),
    example=(8, 32, 64, 4, 4),
)


def events(num_stages: int) -> list[str]:
    """The actions of one step, one micro-batch, in the order in which they happen."""
    forward = [f"{stage}F0" for stage in range(num_stages)]
    return forward + [f"{stage}B0" for stage in reversed(range(num_stages))]


@misconception(
    lambda p: (
        f"After {p - 1}F0 you run 0B0. It needs the gradient that 1B0 sends, and your 1B0 comes "
        f"later: the backward begins at stage {p - 1}, where the loss is."
    )
)
def _same_order(num_stages: int) -> list[str]:
    return [f"{stage}{kind}0" for kind in "FB" for stage in range(num_stages)]


@misconception(
    lambda p: (
        f"You run 0B0 before {p - 1}F0. There is no loss yet, so nothing to go back from: the {p} "
        f"forwards come first."
    )
)
def _stage_by_stage(num_stages: int) -> list[str]:
    return [f"{stage}{kind}0" for stage in range(num_stages) for kind in "FB"]


@misconception(lambda p: f"{p} of the {2 * p} actions are there: each stage has a backward, too.")
def _forward_alone(num_stages: int) -> list[str]:
    return events(num_stages)[:num_stages]


@misconception(lambda p: f"Stages count from 0: the last of {p} is stage {p - 1}.")
def _from_one(num_stages: int) -> list[str]:
    return [f"{int(event[:-2]) + 1}{event[-2:]}" for event in events(num_stages)]


@misconception(
    lambda p: (
        f"The order is right. But the stage stands in front, the micro-batch behind: {p - 1}F0, "
        f"not 0F{p - 1}."
    )
)
def _microbatch_first(num_stages: int) -> list[str]:
    return [f"0{event[-2]}{event[:-2]}" for event in events(num_stages)]


EVENTS = Exercise(
    "03.1",
    "The order of events",
    events,
    cases=stage_counts,
    misconceptions=[_same_order, _stage_by_stage, _forward_alone, _from_one, _microbatch_first],
    otherwise=lambda p: (
        f"{stages_have(p)} {2 * p} actions: {p} times F, then {p} times B. Which B can start first?"
    ),
    example=(2,),
)


def microbatch_weights(microbatches: Sequence[Sequence[int]]) -> list[float]:
    """The share of each micro-batch in the mean loss; a target of -100 does not count."""
    counts = [sum(target != -100 for target in targets) for targets in microbatches]
    return [count / sum(counts) for count in counts]


@misconception(
    lambda k: (
        f"You take the mean of the means. Here {_counted(k)}, and each target is to weigh alike."
    )
)
def _alike(microbatches: Sequence[Sequence[int]]) -> list[float]:
    return [1 / len(microbatches)] * len(microbatches)


@misconception(lambda k: f"You count the targets of -100, too; without them {_counted(k)}.")
def _by_length(microbatches: Sequence[Sequence[int]]) -> list[float]:
    total = sum(map(len, microbatches))
    return [len(targets) / total for targets in microbatches]


@misconception(lambda k: f"Your weights add up to {sum(_counts(k))}; shares add up to 1.")
def _counts_alone(microbatches: Sequence[Sequence[int]]) -> list[float]:
    return [float(count) for count in _counts(microbatches)]


@misconception(
    lambda k: (
        f"You divide by the targets of the micro-batch itself. Here {_counted(k)}: divide by the "
        f"sum of these, so that the weights add up to 1."
    )
)
def _within(microbatches: Sequence[Sequence[int]]) -> list[float]:
    return [sum(t != -100 for t in targets) / len(targets) for targets in microbatches]


def _target_lists(rng: random.Random) -> Iterator[tuple[list[list[int]]]]:
    yield ([[1, 1], [2, 2]],)
    yield ([[5], [5, 7, 9]],)
    yield ([[4, -100], [4, 6]],)
    yield ([[-100, -100], [1, 2]],)
    for _ in range(6):
        drawn = [
            [rng.choice([-100, *range(5)]) for _ in range(rng.randint(2, 6))] for _ in range(3)
        ]
        yield ([[rng.randint(0, 9), -100], *drawn],)


def _counts(microbatches: Sequence[Sequence[int]]) -> list[int]:
    return [sum(target != -100 for target in targets) for targets in microbatches]


def _counted(microbatches: Sequence[Sequence[int]]) -> str:
    return f"{', '.join(map(str, _counts(microbatches)))} targets count"


MICROBATCH_WEIGHTS = Exercise(
    "03.4",
    "The weights of micro-batches",
    microbatch_weights,
    cases=_target_lists,
    misconceptions=[_alike, _by_length, _counts_alone, _within],
    otherwise=lambda k: f"Here {_counted(k)}. What share of them all is in each micro-batch?",
    example=([[3, 8, 2], [1, -100, -100]],),
)

EXERCISES: list[Exercise] = [
    EVENTS,
    BACKWARD_MESSAGES,
    BYTES_MOVED,
    MICROBATCH_WEIGHTS,
    SPLIT_BACKWARD,
    TIED_STEP,
]
