"""Lesson 04: its exercises on the best cut, judged by what it achieves: several may be right."""

import random
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

from d2lpart import Partition, PartitionError, partition
from d2lpart.common.quantities import count
from d2lpart.course.checks.exercise import Exercise, misconception
from d2lpart.course.checks.showing import show_value

Amounts = Sequence[float]  # one a layer


def best_sizes(costs: Amounts, num_stages: int) -> list[int]:
    """The layers of each stage, in a partition with the smallest bottleneck there is."""
    return list(partition(costs, num_stages).sizes)


def _even_sizes(num_layers: int, num_stages: int) -> list[int]:
    each, more = divmod(num_layers, num_stages)
    return [each + (stage < more) for stage in range(num_stages)]


@misconception(
    lambda costs, p: (
        f"You count layers. The best cut of {list(costs)} has a bottleneck of "
        f"{partition(costs, p).bottleneck(costs):g}, yours "
        f"{Partition(_even_sizes(len(costs), p)).bottleneck(costs):g}: weigh them by their costs."
    )
)
def _by_count(costs: Amounts, num_stages: int) -> list[int]:
    return _even_sizes(len(costs), num_stages)


@misconception(
    lambda costs, p: (
        f"You give each stage {len(costs) // p} of {len(costs)} layers, and the last one all that "
        f"is left over. Layers do not weigh alike: weigh them by their costs."
    )
)
def _rest_to_the_last(costs: Amounts, num_stages: int) -> list[int]:
    each = len(costs) // num_stages
    return [each] * (num_stages - 1) + [len(costs) - each * (num_stages - 1)]


def _filled(costs: Amounts, limit: float) -> list[int]:
    """Fill one stage after another up to `limit`."""
    sizes, load = [0], 0.0
    for cost in costs:
        if sizes[-1] and load + cost > limit:
            sizes.append(0)
            load = 0.0
        sizes[-1] += 1
        load += cost
    return sizes


@misconception(
    lambda costs, p: (
        f"No stage is too heavy, but only "
        f"{len(_filled(costs, partition(costs, p).bottleneck(costs)))} of {p} have layers. A stage "
        f"without layers is none: leave one layer for each that follows."
    )
)
def _fill_to_the_limit(costs: Amounts, num_stages: int) -> list[int]:
    return _filled(costs, partition(costs, num_stages).bottleneck(costs))


def _left_over(costs: Amounts, p: int) -> str:
    return (
        f"You close a stage before it exceeds the mean, {sum(costs) / p:.3g}. What is left over "
        f"each time lands at the end: {_fill_to_the_mean(costs, p)}. Most often some stage has to "
        f"be above the mean; find out how far."
    )


@misconception(_left_over)
def _fill_to_the_mean(costs: Amounts, num_stages: int) -> list[int]:
    sizes = _filled(costs, sum(costs) / num_stages)
    rest = sizes[num_stages - 1 :]
    return [*sizes[: num_stages - 1], sum(rest)] if rest else sizes


@misconception(
    lambda costs, p: (
        f"You have cut {sorted(costs)}. The order of the layers is given: the data runs through "
        f"{list(costs)}."
    )
)
def _sorted(costs: Amounts, num_stages: int) -> list[int]:
    return best_sizes(sorted(costs), num_stages)


def as_list(sizes: Any) -> Any:
    """Return what is a list in another form as a list, and 2.0 in it as 2; anything else as it is.

    Other forms are a tensor, an array, a tuple.
    """
    sizes = sizes.tolist() if hasattr(sizes, "tolist") else sizes
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        return sizes
    return [int(x) if isinstance(x, float) and x.is_integer() else x for x in sizes]


def not_a_cut(sizes: Any, num_layers: int, num_stages: int) -> str | None:
    """Say why `sizes` are not those of a partition."""
    if not isinstance(sizes, list):
        return "The answer has to be a list: the number of layers of each stage."
    shown = show_value(sizes)
    if len(sizes) != num_stages:
        return f"{shown} has {count(len(sizes), 'stage')}, not {num_stages}."
    if any(not isinstance(size, Integral) or size < 1 for size in sizes):
        return f"{shown}: a size is a whole number of layers, at least 1."
    if sum(sizes) != num_layers:
        return f"{shown} adds up to {sum(sizes)} layers, there are {num_layers}."
    return None


def _judge_best(args: tuple[Any, ...], sizes: Any) -> str | None:
    costs, num_stages = args
    sizes = as_list(sizes)
    if complaint := not_a_cut(sizes, len(costs), num_stages):
        return complaint
    worse = slower(Partition(sizes), partition(costs, num_stages), costs)
    return worse and (
        f"{worse} There are few ways to choose {num_stages - 1} of {len(costs) - 1} places: have "
        f"you compared all?"
    )


def slower(cut: Partition, best: Partition, costs: Amounts) -> str | None:
    """Say by how much the bottleneck of `cut` is above that of `best`; None if it is not."""
    loads, goal = cut.loads(costs), best.bottleneck(costs)
    if max(loads) <= goal + 1e-9:
        return None
    slowest = loads.index(max(loads))
    return (
        f"{list(cut.sizes)} has a bottleneck of {max(loads):g}, on stage {slowest}; the best has "
        f"{goal:g}."
    )


def _cuts(rng: random.Random) -> Iterator[tuple[list[int], int]]:
    yield [5], 1
    yield [1, 2], 2
    yield [5, 1, 1], 3
    yield [1, 1, 4], 2
    yield [3, 3, 3, 1, 1, 1], 3
    yield [1, 6, 6, 1, 1, 6], 3
    yield [1] * 11, 4
    for _ in range(8):
        layers = rng.randint(5, 9)
        yield [rng.randint(1, 9) for _ in range(layers)], rng.randint(2, 4)


BEST_SIZES = Exercise(
    "04.3",
    "The best cut",
    best_sizes,
    cases=_cuts,
    judge=_judge_best,
    misconceptions=[_by_count, _rest_to_the_last, _fill_to_the_limit, _fill_to_the_mean, _sorted],
    example=([4, 4, 4, 4] + [1] * 8, 3),
)


def fitting_sizes(costs: Amounts, memory: Amounts, capacity: float, num_stages: int) -> list[int]:
    """The best sizes of which every stage fits its device; an empty list where none fit."""
    try:
        return list(partition(costs, num_stages, memory=memory, capacity=capacity).sizes)
    except PartitionError:
        return []


@misconception(
    lambda *args: (
        f"You take the fastest cut, whether it fits or not: its largest stage needs "
        f"{Partition(best_sizes(args[0], args[3])).bottleneck(args[1]):g}, the device has "
        f"{args[2]:g}."
    )
)
def _memory_ignored(costs: Amounts, memory: Amounts, capacity: float, num_stages: int) -> list[int]:
    return best_sizes(costs, num_stages)


@misconception(
    lambda *args: (
        f"The fastest cut of all does not fit {args[2]:g}, and you give up. A slower one does: "
        f"{fitting_sizes(*args)}."
    )
)
def _repair_none(costs: Amounts, memory: Amounts, capacity: float, num_stages: int) -> list[int]:
    sizes = best_sizes(costs, num_stages)
    return sizes if Partition(sizes).bottleneck(memory) <= capacity else []


@misconception(
    lambda *args: (
        f"You make the memory even. It only has to stay within {args[2]:g}; among the cuts that "
        f"do, the smallest bottleneck in time is {_fastest(*args):g}."
    )
)
def _memory_alone(costs: Amounts, memory: Amounts, capacity: float, num_stages: int) -> list[int]:
    sizes = best_sizes(memory, num_stages)
    return sizes if Partition(sizes).bottleneck(memory) <= capacity else []


@misconception(
    lambda *args: (
        f"All layers need {sum(args[1]):g}, all devices have {args[3]} × {args[2]:g}. But no "
        f"device can lend its room: compare stage by stage."
    )
)
def _all_together(costs: Amounts, memory: Amounts, capacity: float, num_stages: int) -> list[int]:
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
    sizes: list[int], right: list[int], memory: Amounts, capacity: float
) -> str | None:
    if not right:
        return _nothing_fits(sizes, memory, capacity) if sizes else None
    need = Partition(right).bottleneck(memory)
    return f"{right} fits: its largest stage needs {need:g} of {capacity:g}."


def _nothing_fits(sizes: list[int], memory: Amounts, capacity: float) -> str:
    is_cut = not_a_cut(sizes, len(memory), len(sizes)) is None
    over = _too_large(Partition(sizes), memory, capacity) if is_cut else None
    return f"{over or ''} No cut fits, so the list has to be empty.".lstrip()


def _too_large(cut: Partition, memory: Amounts, capacity: float) -> str | None:
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


FITTING_SIZES = Exercise(
    "04.4",
    "The best cut that fits",
    fitting_sizes,
    cases=_capped,
    judge=_judge_fitting,
    misconceptions=[_memory_ignored, _repair_none, _memory_alone, _all_together],
    example=([1, 2, 2, 4], [4, 2, 2, 4], 6, 2),
)


def _fastest(costs: Amounts, *rest: Any) -> float:
    sizes = fitting_sizes(costs, *rest)
    return Partition(sizes).bottleneck(costs)
