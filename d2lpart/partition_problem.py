"""What `partition` is asked: its arguments, checked and brought to whole numbers."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from numbers import Real
from typing import Any

from d2lpart.amounts import (
    PartitionError,
    amounts,
    count,
    layers_in_words,
    whole,
    whole_number,
    written,
)
from d2lpart.optimum import Problem, best_bounds


def partition_problem(
    costs: Sequence[Any],
    num_stages: Any,
    num_microbatches: Any,
    transfer: Any,
    memory: Any,
    capacity: Any,
    speed: Any,
) -> Problem:
    """Return the problem in whole numbers; the arguments are those of `partition`.

    Raises:
        PartitionError: an argument is unusable, or the layers do not fit the capacities.
    """
    work = amounts("costs", costs)
    _check_counts(len(work), num_stages, num_microbatches)
    cuts = _cuts(transfer, len(work))
    unit, rates = _rates(speed, num_stages)
    store, room = _store(memory, capacity, len(work), num_stages)
    _check_room(store, room)
    (work_units, cut_units), (store_units, room_units) = whole(work, cuts), whole(store, room)
    return Problem(
        work_units,
        rates,
        cuts=[cut * unit for cut in cut_units],
        memory=store_units,
        capacity=room_units,
    )


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


def _check_length(name: str, values: Sequence[Any], wanted: int, what: str) -> None:
    if len(values) != wanted:
        raise PartitionError(
            f"{name} has {count(len(values), 'number')} for {count(wanted, what)}: "
            f"give one a {what}"
        )


def _cuts(transfer: Any, num_layers: int) -> list[Fraction]:
    """Return the cost of the cut before each layer, with 0 at both ends of the network."""
    cuts = [Fraction(0)] * (num_layers - 1)
    if transfer is not None:
        cuts = amounts("transfer", transfer)
        if len(cuts) == num_layers:
            cuts.pop()
        _check_length("transfer", cuts, num_layers - 1, "cut")
    return [Fraction(0), *cuts, Fraction(0)]


def _rates(speed: Any, num_stages: int) -> tuple[int, list[int]]:
    """Return a unit u, and u / speed of each stage: whole numbers."""
    if speed is None:
        return 1, [1] * num_stages
    speeds = amounts("speed", speed)
    _check_length("speed", speeds, num_stages, "stage")
    if not all(speeds):
        raise PartitionError(
            f"speed[{speeds.index(Fraction(0))}] is 0: every device needs a speed above 0"
        )
    unit = math.lcm(*(each.numerator for each in speeds))
    return unit, [int(unit / each) for each in speeds]


def _store(
    memory: Any, capacity: Any, num_layers: int, num_stages: int
) -> tuple[list[Fraction], list[Fraction]]:
    """Return what each layer needs and what each stage has; all 0 where memory does not count."""
    if memory is None and capacity is None:
        return [Fraction(0)] * num_layers, [Fraction(0)] * num_stages
    if memory is None or capacity is None:
        given, missing = ("capacity", "memory") if memory is None else ("memory", "capacity")
        raise PartitionError(f"{given} is given without {missing}: give both or neither")
    store = amounts("memory", memory)
    _check_length("memory", store, num_layers, "layer")
    room = amounts("capacity", [capacity] * num_stages if isinstance(capacity, Real) else capacity)
    _check_length("capacity", room, num_stages, "stage")
    return store, room


def _check_room(store: Sequence[Fraction], room: Sequence[Fraction]) -> None:
    """Raise where no partition fits, with the smallest excess there is over all of them."""
    need = max(store)
    if need > max(room):
        raise PartitionError(
            f"layer {store.index(need)} alone needs {written(need)}, the largest capacity of a "
            f"stage is {written(max(room))}: {written(need - max(room))} over; no partition "
            f"helps, so use devices with more memory or split inside the layer"
        )
    if sum(store) <= min(room):
        return
    needs, capacities = whole(store, room)
    spared = [max(capacities) - each for each in capacities]  # then equal loads are equal excess
    bounds = best_bounds(Problem(needs, [1] * len(room), fixed=spared))
    stages = [range(*ends) for ends in pairwise(bounds)]
    excess = [
        sum(store[stage.start : stage.stop]) - have
        for stage, have in zip(stages, room, strict=True)
    ]
    over, worst = max(excess), excess.index(max(excess))
    if over > 0:
        raise PartitionError(
            f"the layers do not fit: in the partition that comes closest, stage {worst} "
            f"({layers_in_words(stages[worst])}) needs {written(room[worst] + over)}, the capacity "
            f"of stage {worst} is {written(room[worst])}: {written(over)} over; use more stages "
            f"or devices with more memory"
        )
