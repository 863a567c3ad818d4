"""`split_model`: a model cut over ranks on paper, from one profile of its layers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from d2lpart.commands.split_report import MicroBatch, SplitReport
from d2lpart.common.quantities import bytes_text
from d2lpart.costs.forecasting import forecast
from d2lpart.costs.layer_cost import LayerCost, at_rate
from d2lpart.costs.memory_forecast import layer_needs, predict_memory
from d2lpart.costs.profiler import profile
from d2lpart.machine.hardware import as_device
from d2lpart.memory.formulas import ADAM_FP32, ADAM_MIXED, BytesPerParameter
from d2lpart.memory.ledger import Ledgers
from d2lpart.models.by_name import Choice
from d2lpart.partitions.amounts import CapacityError
from d2lpart.partitions.partitioning import Partition, PartitionError, partition
from d2lpart.schedules.orders import build_schedule
from d2lpart.schedules.schedule import Schedule
from d2lpart.timelines.simulator import FREE
from d2lpart.timelines.spans import Link

RATE = 156e12  # FLOP/s
ASSUMED = "nothing was run; half the 16-bit peak of an A100, as no rate was given"
TOKEN_BYTES = 8
MEASURABLE = {"cpu": 1e11, "cuda": 1e14}  # FLOPs of a micro-batch: some seconds for the profile

PRECISIONS: dict[str, tuple[torch.dtype, BytesPerParameter]] = {
    "fp32": (torch.float32, ADAM_FP32),
    "mixed": (torch.bfloat16, ADAM_MIXED),
}


def split_model(
    choice: Choice,
    places: Sequence[torch.device],
    *,
    num_microbatches: int,
    samples: int = 1,
    context: int | None = None,
    schedule: str = "1f1b",
    chunks: int | None = None,
    capacity: float | None = None,
    link: Link = FREE,
    rate: float | None = None,
    measure: bool = False,
    precision: str | None = None,
) -> SplitReport:
    """Split a model over as many ranks as there are places, and predict a training step.

    The layers are timed on the first place if that takes some seconds; else nothing is run, and
    their seconds are computed from their operations and a rate.

    Args:
        choice: the model, see `choose_model`.
        places: one a rank, all of one kind; they need not exist where nothing is run.
        num_microbatches: m.
        samples: in a micro-batch.
        context: positions in a sample; by default as many as the model takes.
        schedule: the name of a schedule.
        chunks: stages a rank, where the schedule leaves a choice.
        capacity: bytes that a rank can hold; None is no limit.
        link: between the ranks.
        rate: FLOP/s of a device; with it nothing is run.
        measure: time the layers here, however long it takes.
        precision: "fp32" or "mixed"; by default fp32 where layers are timed, else mixed.

    Raises:
        ValueError: sizes that do not fit together, or a capacity that no partition keeps to.
            Where that is not known, for several stages a rank and for a split backward, the
            report says which rank is too full.
    """
    _check(places, rate, measure, precision)
    order = build_schedule(schedule, len(places), num_microbatches, chunks=chunks)
    size = MicroBatch(samples, choice.context if context is None else context)
    costs, precision = _costs(choice, order, places, size, rate, measure, precision)
    recipe = PRECISIONS[precision][1]
    input_bytes = num_microbatches * size.tokens * TOKEN_BYTES
    limits = None if capacity is None else [capacity] * len(places)

    def memory_of(cut: Partition) -> Ledgers:
        return predict_memory(
            costs, cut, order, recipe=recipe, input_bytes=input_bytes, capacity=limits
        )

    cut = _fastest(costs, order, link)
    if capacity is not None and memory_of(cut).too_full:
        needs = layer_needs(costs, order, recipe=recipe, input_bytes=input_bytes)
        cut = _fitting(costs, order, link, capacity, needs) or cut
    return SplitReport(
        model=choice.name,
        costs=tuple(costs),
        partition=cut,
        schedule=order,
        memory=memory_of(cut),
        timeline=forecast(costs, cut, order, link),
        link=link,
        microbatch=size,
        precision=precision,
        note="" if rate or "measured" in costs[0].timing else ASSUMED,
        context=choice.says if context is None else "",
    )


def _check(
    places: Sequence[torch.device], rate: float | None, measure: bool, precision: str | None
) -> None:
    if len({place.type for place in places}) > 1:
        kinds = ", ".join(sorted({place.type for place in places}))
        raise ValueError(f"devices of several kinds ({kinds}): name devices of one kind")
    if rate is not None and measure:
        raise ValueError("both a rate and a measurement are asked for: leave one of them out")
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}: use one of {', '.join(PRECISIONS)}")


def _fastest(costs: Sequence[LayerCost], order: Schedule, link: Link, **limits: Any) -> Partition:
    """Return the partition with the shortest step, with its loads in seconds."""
    seconds = [cost.seconds for cost in costs]
    best = partition(
        seconds,
        order.num_stages,
        num_microbatches=order.num_microbatches,
        transfer=[2 * link.seconds(cost.boundary_bytes) for cost in costs],
        **limits,
    )
    return Partition(best.sizes, seconds)


def _fitting(
    costs: Sequence[LayerCost],
    order: Schedule,
    link: Link,
    capacity: float,
    needs: tuple[list[int], list[int]],
) -> Partition | None:
    """Return the fastest partition whose stages fit; None where it is not known whether one does.

    It is known where each rank has one stage and its backward is whole. Stages of one rank get
    equal shares of its capacity here, and a split backward is charged as a whole one.

    Raises:
        PartitionError: no partition fits; the message has bytes with their units.
    """
    memory, activations = needs
    try:
        return _fastest(
            costs,
            order,
            link,
            memory=memory,
            activations=activations,
            capacity=capacity * order.num_ranks / order.num_stages,
            schedule=order,
        )
    except CapacityError as error:
        split = any(action.kind == "W" for action in order.position)
        if order.num_stages == order.num_ranks and not split:
            raise PartitionError(error.told(lambda need: bytes_text(float(need)))) from None
        return None


def _costs(
    choice: Choice,
    order: Schedule,
    places: Sequence[torch.device],
    size: MicroBatch,
    rate: float | None,
    measure: bool,
    precision: str | None,
) -> tuple[list[LayerCost], str]:
    """Return the costs of the layers, measured or computed, and in which precision."""

    def build(device: str, precision: str) -> tuple[list[nn.Module], torch.Tensor]:
        layers = choice.layers(device, PRECISIONS[precision][0])
        partition([1] * len(layers), order.num_stages)  # raises where there are too few layers
        return layers, choice.sample(size.samples, size.positions, device)

    on_paper = precision or "mixed"
    layers, sample = build("meta", on_paper)
    facts = profile(layers, sample)
    if rate is None and not measure:
        flops = sum(cost.forward_flops + cost.backward_flops for cost in facts)
        measure = flops <= MEASURABLE.get(places[0].type, 0.0)
    if not measure:
        return at_rate(facts, rate or RATE), on_paper
    precision = precision or "fp32"
    layers, sample = build(str(_there(places)[0]), precision)
    return profile(layers, sample, targets=sample, ranks=len(places)), precision


def _there(places: Sequence[torch.device]) -> list[torch.device]:
    """Return the places by which the layers are timed, once all of them exist."""
    try:
        return [as_device(place) for place in places]
    except ValueError as error:
        raise ValueError(
            f"{error}; the layers of this model would be timed there, but with a rate, such as "
            f"--rate 156TFLOP/s, nothing is run"
        ) from None
