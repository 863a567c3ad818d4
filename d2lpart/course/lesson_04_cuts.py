"""Lesson 04: its exercise on the best cut, judged by what it achieves: several may be right."""

import random
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

from d2lpart import Partition, partition
from d2lpart.common.quantities import count
from d2lpart.course.checks.exercise import Exercise, Misconception
from d2lpart.course.checks.showing import show_value


def best_sizes(costs: Sequence[float], num_stages: int) -> list[int]:
    """The layers of each stage, in a partition with the smallest bottleneck there is."""
    return list(partition(costs, num_stages).sizes)


def _by_count(costs: Sequence[float], num_stages: int) -> list[int]:
    each, more = divmod(len(costs), num_stages)
    return [each + (stage < more) for stage in range(num_stages)]


def _rest_to_the_last(costs: Sequence[float], num_stages: int) -> list[int]:
    each = len(costs) // num_stages
    return [each] * (num_stages - 1) + [len(costs) - each * (num_stages - 1)]


def _filled(costs: Sequence[float], limit: float) -> list[int]:
    """Fill one stage after another up to `limit`."""
    sizes, load = [0], 0.0
    for cost in costs:
        if sizes[-1] and load + cost > limit:
            sizes.append(0)
            load = 0.0
        sizes[-1] += 1
        load += cost
    return sizes


def _fill_to_the_limit(costs: Sequence[float], num_stages: int) -> list[int]:
    return _filled(costs, partition(costs, num_stages).bottleneck(costs))


def _fill_to_the_mean(costs: Sequence[float], num_stages: int) -> list[int]:
    sizes = _filled(costs, sum(costs) / num_stages)
    rest = sizes[num_stages - 1 :]
    return [*sizes[: num_stages - 1], sum(rest)] if rest else sizes


def _sorted(costs: Sequence[float], num_stages: int) -> list[int]:
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


def slower(cut: Partition, best: Partition, costs: Sequence[float]) -> str | None:
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
    misconceptions=[
        Misconception(
            _by_count,
            lambda costs, p: (
                f"You count layers. The best cut of {list(costs)} has a bottleneck of "
                f"{partition(costs, p).bottleneck(costs):g}, yours "
                f"{Partition(_by_count(costs, p)).bottleneck(costs):g}: weigh them by their costs."
            ),
        ),
        Misconception(
            _rest_to_the_last,
            lambda costs, p: (
                f"You give each stage {len(costs) // p} of {len(costs)} layers, and the last one "
                f"all that is left over. Layers do not weigh alike: weigh them by their costs."
            ),
        ),
        Misconception(
            _fill_to_the_limit,
            lambda costs, p: (
                f"No stage is too heavy, but only {len(_fill_to_the_limit(costs, p))} of {p} have "
                f"layers. A stage without layers is none: leave one layer for each that follows."
            ),
        ),
        Misconception(
            _fill_to_the_mean,
            lambda costs, p: (
                f"You close a stage before it exceeds the mean, {sum(costs) / p:.3g}. What is left "
                f"over each time lands at the end: {_fill_to_the_mean(costs, p)}. Most often some "
                f"stage has to be above the mean; find out how far."
            ),
        ),
        Misconception(
            _sorted,
            lambda costs, p: (
                f"You have cut {sorted(costs)}. The order of the layers is given: the data runs "
                f"through {list(costs)}."
            ),
        ),
    ],
    example=([4, 4, 4, 4] + [1] * 8, 3),
)
