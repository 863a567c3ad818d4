"""Partitions: which consecutive layers each stage holds, and the best ones for given costs."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate, pairwise
from numbers import Integral
from typing import Any

from d2lpart.common.display import Drawable
from d2lpart.common.quantities import count
from d2lpart.partitions.amounts import (
    PartitionError,
    Timed,
    check_length,
    costs_listed,
    exact_amounts,
    layers_in_words,
    listed,
    whole,
    whole_number,
    written,
)
from d2lpart.partitions.optimum import best_bounds
from d2lpart.partitions.packing import Packing, Table, packing_of_work
from d2lpart.partitions.stage_memory import checked_memory, most_held, windows_that_fit
from d2lpart.schedules.schedule import Schedule

__all__ = ["Partition", "PartitionError", "partition"]

BAR = 20  # characters of the longest bar in a description


@dataclass(frozen=True, init=False, repr=False)
class Partition(Drawable):
    """Layers 0, 1, 2, ... cut into stages of consecutive layers; `sizes` counts each stage's.

    `costs`, one a layer, are those the partition was made for: they enter its description and
    its picture, but two partitions are equal when their sizes are.

    >>> p = Partition([5, 4, 3])
    >>> p.stages
    (range(0, 5), range(5, 9), range(9, 12))
    >>> p.bounds, p.crossings, p.stage_of(5)
    ((5, 9), 2, 1)

    Raises:
        PartitionError: a size is not a whole number above 0, or the costs are not one a layer.
    """

    sizes: tuple[int, ...]
    costs: tuple[float, ...] | None = field(compare=False)

    def __init__(self, sizes: Iterable[int], costs: Iterable[float | Timed] | None = None) -> None:
        object.__setattr__(self, "sizes", _checked_sizes(sizes))
        checked = None if costs is None else self._one_a_layer(costs)
        object.__setattr__(self, "costs", checked)

    @property
    def num_layers(self) -> int:
        """The number of layers in all stages together."""
        return sum(self.sizes)

    @property
    def num_stages(self) -> int:
        """The number of stages."""
        return len(self.sizes)

    @property
    def bounds(self) -> tuple[int, ...]:
        """The first layer of every stage but the first: where the network is cut."""
        return tuple(accumulate(self.sizes[:-1]))

    @property
    def stages(self) -> tuple[range, ...]:
        """The layers of each stage."""
        return tuple(range(*ends) for ends in pairwise((0, *self.bounds, self.num_layers)))

    @property
    def crossings(self) -> int:
        """The number of cuts, each crossed once forward and once backward by a micro-batch."""
        return self.num_stages - 1

    def stage_of(self, layer: int) -> int:
        """Return the stage that holds a layer.

        Raises:
            PartitionError: there is no such layer.
        """
        if not isinstance(layer, Integral) or not 0 <= layer < self.num_layers:
            raise PartitionError(
                f"layer {layer!r} does not exist: the {count(self.num_layers, 'layer')} are "
                f"numbered 0 to {self.num_layers - 1}"
            )
        return bisect_right(self.bounds, layer)

    def loads(self, costs: Iterable[float | Timed]) -> tuple[float, ...]:
        """Return the load of each stage: the sum of its layers' costs, in their unit."""
        each = self._one_a_layer(costs)
        return tuple(sum(each[stage.start : stage.stop]) for stage in self.stages)

    def bottleneck(self, costs: Iterable[float | Timed]) -> float:
        """Return the largest load: when all stages work at once, the others wait for that one."""
        return max(self.loads(costs))

    def imbalance(self, costs: Iterable[float | Timed]) -> float:
        """Return the largest load over the mean load: 1.0 is perfect.

        >>> Partition([4, 4, 4]).imbalance([4, 4, 4, 4] + [1] * 8)
        2.0
        """
        loads = exact_amounts("loads", self.loads(costs))
        return float(max(loads) * len(loads) / sum(loads)) if any(loads) else 1.0

    def describe(self) -> str:
        """Return the sizes in words; with costs also each stage's load, share and bar."""
        headline = (
            f"Partition of {count(self.num_layers, 'layer')} into "
            f"{count(self.num_stages, 'stage')}: {' + '.join(map(str, self.sizes))}"
        )
        if self.costs is None:
            return headline
        loads = self.loads(self.costs)
        lines = [headline, *self._rows(loads)]
        slowest = loads.index(max(loads))
        lines.append(
            f"bottleneck {written(max(loads))} on stage {slowest}, "
            f"imbalance {self.imbalance(self.costs):.2f} (largest load over mean load)"
        )
        return "\n".join(lines)

    def _rows(self, loads: Sequence[float]) -> list[str]:
        """Return a line a stage, in columns: its layers, load, share of all loads and bar."""
        total, most = sum(loads) or 1, max(loads) or 1
        columns = [
            [f"stage {number}" for number in range(self.num_stages)],
            [layers_in_words(stage) for stage in self.stages],
            [f"load {written(load)}" for load in loads],
            [f"{float(load / total):.1%}" for load in loads],
        ]
        padded = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
        bars = ["█" * round(BAR * load / most) for load in loads]
        return ["  ".join(row).rstrip() for row in zip(*padded, bars, strict=True)]

    def _one_a_layer(self, costs: Iterable[float | Timed]) -> tuple[float, ...]:
        checked = tuple(costs_listed(costs))
        exact_amounts("costs", checked)
        if len(checked) != self.num_layers:
            raise PartitionError(
                f"{count(len(checked), 'cost')} for {count(self.num_layers, 'layer')}: "
                f"give one cost a layer"
            )
        return checked

    def __repr__(self) -> str:
        return f"Partition({self.sizes})"


def _checked_sizes(sizes: Any) -> tuple[int, ...]:
    remedy = "each stage needs a whole number of layers, at least one"
    checked = tuple(
        whole_number(f"the size of stage {stage}", size, remedy)
        for stage, size in enumerate(listed("sizes", sizes))
    )
    if not checked:
        raise PartitionError("sizes is empty: a partition has at least one stage")
    return checked


def partition(
    costs: Iterable[float | Timed],
    num_stages: int,
    *,
    num_microbatches: int | None = None,
    transfer: Iterable[float] | None = None,
    memory: Iterable[float] | None = None,
    capacity: float | Iterable[float] | None = None,
    speed: Iterable[float] | None = None,
    activations: Iterable[float] | None = None,
    schedule: str | Schedule | None = None,
) -> Partition:
    """Return the best partition of layers with these costs, by exact search.

    The load of a stage is the sum of its costs / its speed, plus the transfer of each cut it
    touches. Best is the smallest largest load, and of these the least sum of loads, the time of
    one micro-batch from end to end. With m micro-batches best is instead the smallest
    sum(loads) + (m-1) * max(loads), the step of a filled pipeline whose transfers block (GPipe,
    arXiv 1811.06965), and of these the smallest largest load. Of equally good partitions the one
    with the least sum of squared loads is returned, and of these the one with the shortest last
    stages.

    A stage needs the sum of its layers' `memory`, plus that of their `activations` for each
    micro-batch it holds. It holds as many as are in flight at once in its place of the schedule:
    in 1F1B the first of p stages holds p, the last holds one. A named schedule has a rank for
    each stage. A `Schedule` may have several stages a rank; each is then counted on its own, with
    a capacity of its own, so give it its share of its rank's memory.

    Nothing is rounded: a float counts as the decimal it prints as, so 0.1 + 0.2 equals 0.3.

    Args:
        costs: of each layer, in any unit, for instance seconds; or a profile, whose seconds of
            forward and backward count (one that was made on meta has none: see `at_rate`).
        num_stages: how many stages, each of at least one layer.
        num_microbatches: m.
        transfer: of the cut after each layer, in the unit of costs; the last layer's, which no
            cut follows, may be left out.
        memory: of each layer, in any unit, for instance bytes.
        capacity: the memory a stage has, one number for all or one a stage.
        speed: of each stage's device, relative to that on which costs were taken.
        activations: what each layer holds for one micro-batch, in the unit of memory.
        schedule: the name of one for `build_schedule`, which wants `num_microbatches`; or a
            `Schedule` of as many stages.

    Returns:
        The partition. It shows the costs as its loads, unless transfers or speeds are among them.

    Raises:
        PartitionError: an argument is unusable, or the layers do not fit the capacities.

    >>> partition([4, 4, 4, 4] + [1] * 8, 3)
    Partition((2, 2, 8))
    >>> held = {"activations": [1] * 8, "schedule": "1f1b", "num_microbatches": 8}
    >>> partition([1] * 8, 4, capacity=7, **held)
    Partition((1, 2, 3, 2))
    """
    given = costs_listed(costs)
    problem = as_packing(
        given,
        num_stages,
        num_microbatches=num_microbatches,
        transfer=transfer,
        speed=speed,
        memory=memory,
        capacity=capacity,
        activations=activations,
        schedule=schedule,
    )
    bounds = best_bounds(problem, num_microbatches)
    sizes = [end - start for start, end in pairwise(bounds)]
    plain = transfer is None and speed is None  # else the sums of costs are not the loads
    return Partition(sizes, given if plain else None)


def as_packing(
    costs: Sequence[Any],
    num_stages: Any,
    *,
    num_microbatches: Any,
    transfer: Any,
    speed: Any,
    memory: Any,
    capacity: Any,
    activations: Any,
    schedule: Any,
) -> Packing:
    """Return the problem in whole numbers; the arguments are those of `partition`.

    Raises:
        PartitionError: an argument is unusable, or the layers do not fit the capacities.
    """
    work = exact_amounts("costs", costs)
    _check_counts(len(work), num_stages, num_microbatches)
    cuts = _cuts(transfer, len(work))
    unit, rates = _rates(speed, num_stages)
    _check_pairs(memory=memory, capacity=capacity, activations=activations, schedule=schedule)
    earliest: Sequence[Table] = [[0] * (len(work) + 1)] * num_stages
    if capacity is not None:
        held = [0] * num_stages
        if schedule is not None:
            held = most_held(schedule, num_stages, num_microbatches)
        earliest = windows_that_fit(checked_memory(memory, capacity, activations, held, len(work)))
    work_units, cut_units = whole(work, cuts)
    before = list(accumulate(work_units, initial=0))
    return packing_of_work(before, rates, [cut * unit for cut in cut_units], earliest)


def _check_pairs(**given: Any) -> None:
    """Raise where an argument is given without another that it means nothing without."""
    pairs = [
        ("activations", "schedule"),
        ("schedule", "activations"),
        ("activations", "capacity"),
        ("memory", "capacity"),
    ]
    if given["activations"] is None:
        pairs.append(("capacity", "memory"))
    for one, other in pairs:
        if given[one] is not None and given[other] is None:
            raise PartitionError(f"{one} is given without {other}: give both or neither")


def _check_counts(num_layers: int, num_stages: Any, num_microbatches: Any) -> None:
    """Raise where one of the three numbers cannot be."""
    stages = whole_number("num_stages", num_stages, "give a whole number of stages, at least 1")
    if num_microbatches is not None:
        remedy = "give a whole number of micro-batches, at least 1"
        whole_number("num_microbatches", num_microbatches, remedy)
    if not num_layers:
        raise PartitionError("costs is empty: give one cost a layer")
    if stages > num_layers:
        raise PartitionError(
            f"{count(stages, 'stage')} for {count(num_layers, 'layer')}: each stage needs at "
            f"least one layer; use at most {count(num_layers, 'stage')}"
        )


def _cuts(transfer: Any, num_layers: int) -> list[Fraction]:
    """Return the cost of the cut before each layer, with 0 at both ends of the network."""
    cuts = [Fraction(0)] * (num_layers - 1)
    if transfer is not None:
        cuts = exact_amounts("transfer", transfer)
        if len(cuts) == num_layers:
            cuts.pop()
        check_length("transfer", cuts, num_layers - 1, "cut")
    return [Fraction(0), *cuts, Fraction(0)]


def _rates(speed: Any, num_stages: int) -> tuple[int, list[int]]:
    """Return a unit u, and u / speed of each stage: whole numbers."""
    if speed is None:
        return 1, [1] * num_stages
    speeds = exact_amounts("speed", speed)
    check_length("speed", speeds, num_stages, "stage")
    if not all(speeds):
        raise PartitionError(
            f"speed[{speeds.index(Fraction(0))}] is 0: every device needs a speed above 0"
        )
    unit = math.lcm(*(each.numerator for each in speeds))
    return unit, [int(unit / each) for each in speeds]
