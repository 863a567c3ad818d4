"""How large a case is, and the smaller cases next to it: so that a verdict shows a small one."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.checks.running import run
from d2lpart.course.checks.showing import show_call
from d2lpart.course.checks.trials import Trial, Watch, tried

SHRINKS = 60
"""Smaller cases that are tried, and the seconds that they may take."""
SHRINK_SECONDS = 0.5

Size = tuple[int, float]
"""How many entries the arguments have, and the sum of their magnitudes."""


def size(value: Any) -> Size:
    """Return the natural size of arguments: fewer entries are smaller, then smaller numbers.

    >>> size(([3, 1], 2)), size(([], 100)) < size(([1], 0))
    ((3, 6.0), True)
    """
    if isinstance(value, torch.Tensor):
        return value.numel(), 0.0
    if isinstance(value, dict):
        return _sum(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return _sum(value)
    if isinstance(value, int | float):
        return 1, _magnitude(value)
    return 1, float(len(value)) if isinstance(value, str) else 0.0


def _sum(items: Any) -> Size:
    sizes = [size(item) for item in items]
    return sum(count for count, _ in sizes), sum((amount for _, amount in sizes), 0.0)


def _magnitude(number: float) -> float:
    try:
        return abs(float(number)) if not math.isnan(number) else math.inf
    except OverflowError:
        return math.inf


def smaller(args: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield arguments that are a little smaller than `args`, the boldest first.

    Lists of equal length lose the same item, as costs and memory of one layer would; a number
    becomes 0, 1, half, its whole part, or one less.

    >>> list(smaller(([5, 6], 1)))[:4]
    [([6], 1), ([5], 1), ([5, 6], 0), ([0, 6], 1)]
    """
    yield from _without_an_item(args)
    for index, value in enumerate(args):
        if not isinstance(value, list):
            yield from ((*args[:index], less, *args[index + 1 :]) for less in _less(value))
    for index, value in enumerate(args):
        if isinstance(value, list):
            yield from ((*args[:index], less, *args[index + 1 :]) for less in _one_less(value))


def _without_an_item(args: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    lengths = {len(value) for value in args if isinstance(value, list)}
    for length in sorted(lengths, reverse=True):
        for item in range(length):
            yield tuple(
                value[:item] + value[item + 1 :]
                if isinstance(value, list) and len(value) == length
                else value
                for value in args
            )


def _one_less(values: list[Any]) -> Iterator[list[Any]]:
    for index, value in enumerate(values):
        yield from ([*values[:index], less, *values[index + 1 :]] for less in _less(value))


def _less(value: Any) -> Iterator[Any]:
    """Yield numbers nearer to 0, of the same type; nothing for what is no number."""
    if isinstance(value, list):
        yield from _one_less(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return
    kind = type(value)
    candidates = [0, 1, int(value / 2), int(value), value - math.copysign(1, value)]
    fewer = {kind(number): None for number in candidates if abs(number) < abs(value)}
    yield from fewer


def shrunk(
    exercise: Exercise,
    learner: Any,
    failing: Trial,
    alike: Callable[[Trial], bool],
    watch: Watch,
) -> Trial:
    """Return a smaller case with the same fault, as far as a few tries lead.

    The exercise says which cases are `valid`; `alike` says whether a trial has the fault.
    """
    until = time.monotonic() + SHRINK_SECONDS
    best, tries, again = failing, 0, True
    while again:
        again = False
        for args in smaller(best.args):
            if tries == SHRINKS or time.monotonic() > until:
                return best
            expected = run(exercise.reference, args) if _is_case(exercise, args) else None
            if expected is None or expected.kind != "returned" or size(args) >= size(best.args):
                continue
            tries += 1
            watch(show_call(exercise, args), 0, 0)
            trial = tried(exercise, args, run(learner, args), expected.value, None)
            if _same_fault(trial, failing) and alike(trial):
                best, again = trial, True
                break
    return best


def _is_case(exercise: Exercise, args: tuple[Any, ...]) -> bool:
    assert exercise.valid is not None
    try:
        return exercise.valid(*args)
    except Exception:
        return False


def _same_fault(trial: Trial, other: Trial) -> bool:
    if trial.wrong is None or other.wrong is None or trial.wrong.kind != other.wrong.kind:
        return False
    return trial.layer == other.layer and type(trial.outcome.error) is type(other.outcome.error)
