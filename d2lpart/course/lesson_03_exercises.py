"""Lesson 03: splitting a transformer decoder; its exercises that are judged by their outputs.

Those on messages are in `lesson_03_messages`; the two whose functions have to be watched at work in
`lesson_03_by_hand`.
"""

import random
from collections.abc import Iterator, Sequence

from d2lpart.course.checks.exercise import Exercise, Misconception
from d2lpart.course.lesson_03_by_hand import SPLIT_BACKWARD, TIED_STEP
from d2lpart.course.lesson_03_messages import (
    BACKWARD_MESSAGES,
    BYTES_MOVED,
    stage_counts,
    stages_have,
)


def events(num_stages: int) -> list[str]:
    """The actions of one step, one micro-batch, in the order in which they happen."""
    forward = [f"{stage}F0" for stage in range(num_stages)]
    return forward + [f"{stage}B0" for stage in reversed(range(num_stages))]


def _same_order(num_stages: int) -> list[str]:
    return [f"{stage}{kind}0" for kind in "FB" for stage in range(num_stages)]


def _stage_by_stage(num_stages: int) -> list[str]:
    return [f"{stage}{kind}0" for stage in range(num_stages) for kind in "FB"]


def _forward_alone(num_stages: int) -> list[str]:
    return events(num_stages)[:num_stages]


def _from_one(num_stages: int) -> list[str]:
    return [f"{int(event[:-2]) + 1}{event[-2:]}" for event in events(num_stages)]


def _microbatch_first(num_stages: int) -> list[str]:
    return [f"0{event[-2]}{event[:-2]}" for event in events(num_stages)]


EVENTS = Exercise(
    "03.1",
    "The order of events",
    events,
    cases=stage_counts,
    misconceptions=[
        Misconception(
            _same_order,
            lambda p: (
                f"After {p - 1}F0 you run 0B0. It needs the gradient that 1B0 sends, and your 1B0 "
                f"comes later: the backward begins at stage {p - 1}, where the loss is."
            ),
        ),
        Misconception(
            _stage_by_stage,
            lambda p: (
                f"You run 0B0 before {p - 1}F0. There is no loss yet, so nothing to go back from: "
                f"the {p} forwards come first."
            ),
        ),
        Misconception(
            _forward_alone,
            lambda p: f"{p} of the {2 * p} actions are there: each stage has a backward, too.",
        ),
        Misconception(
            _from_one,
            lambda p: f"Stages count from 0: the last of {p} is stage {p - 1}.",
        ),
        Misconception(
            _microbatch_first,
            lambda p: (
                f"The order is right. But the stage stands in front, the micro-batch behind: "
                f"{p - 1}F0, not 0F{p - 1}."
            ),
        ),
    ],
    otherwise=lambda p: (
        f"{stages_have(p)} {2 * p} actions: {p} times F, then {p} times B. Which B can start first?"
    ),
    example=(2,),
)


def microbatch_weights(microbatches: Sequence[Sequence[int]]) -> list[float]:
    """The share of each micro-batch in the mean loss; a target of -100 does not count."""
    counts = [sum(target != -100 for target in targets) for targets in microbatches]
    return [count / sum(counts) for count in counts]


def _alike(microbatches: Sequence[Sequence[int]]) -> list[float]:
    return [1 / len(microbatches)] * len(microbatches)


def _by_length(microbatches: Sequence[Sequence[int]]) -> list[float]:
    total = sum(map(len, microbatches))
    return [len(targets) / total for targets in microbatches]


def _counts_alone(microbatches: Sequence[Sequence[int]]) -> list[float]:
    return [float(sum(t != -100 for t in targets)) for targets in microbatches]


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


def _counted(microbatches: Sequence[Sequence[int]]) -> str:
    counts = _counts_alone(microbatches)
    return f"{', '.join(f'{count:g}' for count in counts)} targets count"


MICROBATCH_WEIGHTS = Exercise(
    "03.4",
    "The weights of micro-batches",
    microbatch_weights,
    cases=_target_lists,
    misconceptions=[
        Misconception(
            _alike,
            lambda k: (
                f"You take the mean of the means. Here {_counted(k)}, and each target is to weigh "
                f"alike."
            ),
        ),
        Misconception(
            _by_length,
            lambda k: f"You count the targets of -100, too; without them {_counted(k)}.",
        ),
        Misconception(
            _counts_alone,
            lambda k: f"Your weights add up to {sum(_counts_alone(k)):g}; shares add up to 1.",
        ),
        Misconception(
            _within,
            lambda k: (
                f"You divide by the targets of the micro-batch itself. Here {_counted(k)}: divide "
                f"by the sum of these, so that the weights add up to 1."
            ),
        ),
    ],
    otherwise=lambda k: f"Here {_counted(k)}. What share of them all is in each micro-batch?",
    example=([[3, 8, 2], [1, -100, -100]],),
)

ALL: list[Exercise] = [
    EVENTS,
    BACKWARD_MESSAGES,
    BYTES_MOVED,
    MICROBATCH_WEIGHTS,
    SPLIT_BACKWARD,
    TIED_STEP,
]
