"""What stages need of memory and what they have: which stages fit, and what is over if none do."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from numbers import Real
from typing import Any, NamedTuple

from d2lpart.common.quantities import count
from d2lpart.partitions.amounts import (
    CapacityError,
    PartitionError,
    check_length,
    exact_amounts,
    layers_in_words,
    whole,
)
from d2lpart.partitions.optimum import best_bounds
from d2lpart.partitions.packing import Packing, Table, packing_of_excess, windows
from d2lpart.partitions.sweep import Refused, reach
from d2lpart.schedules.in_flight import StageBytes, peak_held
from d2lpart.schedules.orders import build_schedule
from d2lpart.schedules.schedule import Schedule, ScheduleError
from d2lpart.schedules.validation import validate

NOTHING, ONE = StageBytes(0, 0, 0), StageBytes(1, 1, 1)


class StageMemory(NamedTuple):
    """A stage of some layers needs the sum of `fixed` + held * the sum of `activations`."""

    fixed: list[Fraction]  # of each layer
    activations: list[Fraction]  # of each layer, for one micro-batch
    held: list[int]  # how many micro-batches each stage holds at most
    capacity: list[Fraction]  # of each stage

    def need(self, layers: range, stage: int) -> Fraction:
        """Return what the layers need in a stage."""
        part = slice(layers.start, layers.stop)
        return sum(self.fixed[part], Fraction(0)) + self.held[stage] * sum(self.activations[part])

    def excess(self, layers: range, stage: int) -> Fraction:
        """Return by how much the layers exceed what a stage has."""
        return self.need(layers, stage) - self.capacity[stage]

    @property
    def schedule_matters(self) -> bool:
        """Whether stages need more when they hold more micro-batches."""
        return any(self.activations)

    def held_in_words(self, stage: int) -> str:
        """Return what a need depends on, to be put after it."""
        words = f" with {count(self.held[stage], 'micro-batch')} held"
        return words if self.schedule_matters else ""

    def fewer_in_words(self) -> str:
        """Return the remedy that a schedule offers, to be put after the others."""
        fewer = ", or a schedule that holds fewer micro-batches"
        return fewer if self.schedule_matters and max(self.held) > 1 else ""


def checked_memory(
    memory: Any, capacity: Any, activations: Any, held: list[int], num_layers: int
) -> StageMemory:
    """Return the arguments of `partition`, checked; `held` is for each stage.

    Raises:
        PartitionError: an argument is unusable.
    """
    fixed = exact_amounts("memory", [0] * num_layers if memory is None else memory)
    check_length("memory", fixed, num_layers, "layer")
    kept = exact_amounts("activations", [0] * num_layers if activations is None else activations)
    check_length("activations", kept, num_layers, "layer")
    stages = len(held)
    room = exact_amounts(
        "capacity", [capacity] * stages if isinstance(capacity, Real) else capacity
    )
    check_length("capacity", room, stages, "stage")
    return StageMemory(fixed, kept, held, room)


def most_held(schedule: Any, num_stages: int, num_microbatches: int | None) -> list[int]:
    """Return how many micro-batches each stage holds at most, in a pipeline of one stage a rank.

    A `Schedule` may have several stages a rank; then each stage is counted on its own.

    Raises:
        PartitionError: there is no such schedule, or it is not one of these sizes.
    """
    if not isinstance(schedule, Schedule):
        schedule = _named(schedule, num_stages, num_microbatches)
    else:
        _check_that_it_runs(schedule)
    sizes = [("num_stages", schedule.num_stages, num_stages)]
    if num_microbatches is not None:
        sizes.append(("num_microbatches", schedule.num_microbatches, num_microbatches))
    for name, its, asked in sizes:
        if its != asked:
            raise PartitionError(
                f"{name} is {asked}, in the schedule {schedule.name!r} it is {its}: give the same"
            )
    held = []
    for stage, rank in enumerate(schedule.stage_to_rank):
        stages = dict.fromkeys(schedule.stages_of(rank), NOTHING) | {stage: ONE}
        held.append(int(peak_held(schedule, rank, stages)))
    return held


def _check_that_it_runs(schedule: Schedule) -> None:
    try:
        validate(schedule)
    except ScheduleError as error:
        raise PartitionError(f"the schedule cannot run: {error}") from None


def _named(name: Any, num_stages: int, num_microbatches: int | None) -> Schedule:
    if num_microbatches is None:
        raise PartitionError(
            f"schedule is {name!r} and num_microbatches is not given: what a stage holds depends "
            f"on it, so give both"
        )
    try:
        schedule = build_schedule(name, num_stages, num_microbatches)
    except ValueError as error:
        raise PartitionError(f"schedule is unusable: {error}") from None
    if schedule.num_stages != num_stages:
        raise PartitionError(
            f"{name!r} has {schedule.num_stages} stages on {count(num_stages, 'rank')}, "
            f"num_stages is {num_stages}: give the schedule itself, as build_schedule makes it"
        )
    return schedule


def windows_that_fit(memory: StageMemory) -> list[Table]:
    """Return for each stage and each place where it may end the earliest start that fits.

    Raises:
        PartitionError: no partition fits, with the excess of the one that comes closest.
    """
    fixed, activations, capacity = whole(memory.fixed, memory.activations, memory.capacity)
    tables = {}
    for held in {*memory.held}:
        each = (a + held * b for a, b in zip(fixed, activations, strict=True))
        tables[held] = list(accumulate(each, initial=0))
    needs = [tables[held] for held in memory.held]
    earliest = windows(needs, capacity)
    nothing = [[0] * (len(fixed) + 1)] * len(needs)
    weightless = Packing(nothing, nothing, earliest)
    if isinstance(reach(weightless, weightless.nodes, 0), Refused):
        _refuse_a_layer_alone(memory)
        _refuse_the_closest(memory, best_bounds(packing_of_excess(needs, capacity)))
    return earliest


def _refuse_a_layer_alone(memory: StageMemory) -> None:
    """Raise where a layer fits no stage, however few layers go with it."""
    alike: dict[tuple[int, Fraction], int] = {}
    for stage, kind in enumerate(zip(memory.held, memory.capacity, strict=True)):
        alike.setdefault(kind, stage)
    over, layer, stage = Fraction(0), range(0), 0
    for one in (range(at, at + 1) for at in range(len(memory.fixed))):
        excess, where = min((memory.excess(one, stage), stage) for stage in alike.values())
        if excess > over:
            over, layer, stage = excess, one, where
    if not over:
        return
    place, which = "", "the largest capacity of a stage"
    if memory.schedule_matters:
        place, which = f" in stage {stage}{memory.held_in_words(stage)}", "the capacity there"
    raise CapacityError(
        f"{layers_in_words(layer)} alone needs {{}}{place}, {which} is {{}}: {{}} over; no "
        f"partition helps, so use devices with more memory or split inside the layer"
        f"{memory.fewer_in_words()}",
        *(memory.need(layer, stage), memory.capacity[stage], over),
    )


def _refuse_the_closest(memory: StageMemory, bounds: Sequence[int]) -> None:
    """Raise with the stage that exceeds its capacity the most."""
    stages = [range(*ends) for ends in pairwise(bounds)]
    excess = [memory.excess(layers, stage) for stage, layers in enumerate(stages)]
    over, worst = max(excess), excess.index(max(excess))
    raise CapacityError(
        f"the layers do not fit: in the partition that comes closest, stage {worst} "
        f"({layers_in_words(stages[worst])}) needs {{}}{memory.held_in_words(worst)}, the capacity "
        f"of stage {worst} is {{}}: {{}} over; use more stages or devices with more memory"
        f"{memory.fewer_in_words()}",
        *(memory.need(stages[worst], worst), memory.capacity[worst], over),
    )
