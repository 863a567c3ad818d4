"""What `partition` is asked: its arguments, checked and brought to whole numbers."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Any

from d2lpart.amounts import PartitionError, check_length, exact_amounts, whole, whole_number
from d2lpart.common.quantities import count
from d2lpart.packing import Packing, Table, packing_of_work
from d2lpart.stage_memory import checked_memory, most_held, windows_that_fit


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
