"""Lesson 04: its exercise on the best cut that fits, judged by what it achieves."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from d2lpart import Partition, PartitionError, partition
from d2lpart.course.checks.exercise import Exercise, Misconception
from d2lpart.course.lesson_04_cuts import as_list, best_sizes, not_a_cut, slower


def fitting_sizes(
    costs: Sequence[float], memory: Sequence[float], capacity: float, num_stages: int
) -> list[int]:
    """The best sizes of which every stage fits its device; an empty list where none fit."""
    try:
        return list(partition(costs, num_stages, memory=memory, capacity=capacity).sizes)
    except PartitionError:
        return []


def _memory_ignored(
    costs: Sequence[float], memory: Sequence[float], capacity: float, num_stages: int
) -> list[int]:
    return best_sizes(costs, num_stages)


def _repair_none(
    costs: Sequence[float], memory: Sequence[float], capacity: float, num_stages: int
) -> list[int]:
    sizes = best_sizes(costs, num_stages)
    return sizes if Partition(sizes).bottleneck(memory) <= capacity else []


def _memory_alone(
    costs: Sequence[float], memory: Sequence[float], capacity: float, num_stages: int
) -> list[int]:
    sizes = best_sizes(memory, num_stages)
    return sizes if Partition(sizes).bottleneck(memory) <= capacity else []


def _all_together(
    costs: Sequence[float], memory: Sequence[float], capacity: float, num_stages: int
) -> list[int]:
    return best_sizes(costs, num_stages) if sum(memory) <= num_stages * capacity else []


def _judge_fitting(args: tuple[Any, ...], sizes: Any) -> str | None:
    costs, memory, capacity, num_stages = args
    right, sizes = fitting_sizes(*args), as_list(sizes)
    if isinstance(sizes, list) and not (right and sizes):
        return _one_fits_nothing(sizes, right, memory, capacity)
    if complaint := not_a_cut(sizes, len(costs), num_stages):
        return complaint
    worse = _too_large(Partition(sizes), memory, capacity) or slower(
        Partition(sizes), Partition(right), costs
    )
    return worse and f"{worse} First throw away the cuts that do not fit, then take the fastest."


def _one_fits_nothing(
    sizes: list[int], right: list[int], memory: Sequence[float], capacity: float
) -> str | None:
    if not right:
        return _nothing_fits(sizes, memory, capacity) if sizes else None
    need = Partition(right).bottleneck(memory)
    return f"{right} fits: its largest stage needs {need:g} of {capacity:g}."


def _nothing_fits(sizes: list[int], memory: Sequence[float], capacity: float) -> str:
    is_cut = not_a_cut(sizes, len(memory), len(sizes)) is None
    over = _too_large(Partition(sizes), memory, capacity) if is_cut else None
    return f"{over or ''} No cut fits, so the list has to be empty.".lstrip()


def _too_large(cut: Partition, memory: Sequence[float], capacity: float) -> str | None:
    needs = cut.loads(memory)
    if max(needs) <= capacity:
        return None
    stage = needs.index(max(needs))
    return (
        f"In {list(cut.sizes)} stage {stage} needs {max(needs):g} of memory, it has {capacity:g}."
    )


def _capped(rng: random.Random) -> Iterator[tuple[list[int], list[int], int, int]]:
    yield [2, 1], [1, 1], 1, 2
    yield [2, 1], [1, 3], 2, 2
    yield [1, 1, 4], [3, 3, 1], 4, 2
    yield [4, 1, 1, 1], [1, 1, 4, 4], 6, 2
    yield [1, 1, 1, 4], [2, 2, 2, 2], 4, 2
    yield [1, 1, 1], [3, 1, 4], 4, 2
    yield [1, 1, 1], [3, 3, 3], 4, 2
    yield [5, 1, 1], [1, 1, 1], 3, 3  # an empty stage would be as fast
    for _ in range(9):
        layers, stages = rng.randint(5, 8), rng.randint(2, 4)
        costs = [rng.randint(1, 9) for _ in range(layers)]
        memory = [rng.randint(1, 9) for _ in range(layers)]
        least = int(partition(memory, stages).bottleneck(memory))
        yield costs, memory, least + rng.randint(-1, 2), stages


def _needs(make: Callable[..., list[int]]) -> Callable[..., float]:
    """Return what the largest stage of `make`'s answer needs, as a function of the arguments."""
    return lambda *args: Partition(make(*args)).bottleneck(args[1])


FITTING_SIZES = Exercise(
    "04.4",
    "The best cut that fits",
    fitting_sizes,
    cases=_capped,
    judge=_judge_fitting,
    misconceptions=[
        Misconception(
            _memory_ignored,
            lambda *args: (
                f"You take the fastest cut, whether it fits or not: its largest stage needs "
                f"{_needs(_memory_ignored)(*args):g}, the device has {args[2]:g}."
            ),
        ),
        Misconception(
            _repair_none,
            lambda *args: (
                f"The fastest cut of all does not fit {args[2]:g}, and you give up. A slower one "
                f"does: {fitting_sizes(*args)}."
            ),
        ),
        Misconception(
            _memory_alone,
            lambda *args: (
                f"You make the memory even. It only has to stay within {args[2]:g}; among the cuts "
                f"that do, the smallest bottleneck in time is {_fastest(*args):g}."
            ),
        ),
        Misconception(
            _all_together,
            lambda *args: (
                f"All layers need {sum(args[1]):g}, all devices have {args[3]} × {args[2]:g}. But "
                f"no device can lend its room: compare stage by stage."
            ),
        ),
    ],
    example=([1, 2, 2, 4], [4, 2, 2, 4], 6, 2),
)


def _fastest(costs: Sequence[float], *rest: Any) -> float:
    sizes = fitting_sizes(costs, *rest)
    return Partition(sizes).bottleneck(costs)
