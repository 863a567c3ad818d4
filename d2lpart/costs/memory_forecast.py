"""`predict_memory`: what each rank of a real pipeline will hold, from a profile of its layers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import ceil

from d2lpart.common.arguments import check_kind
from d2lpart.costs.forecasting import matching
from d2lpart.costs.layer_cost import LayerCost, WeightCopy
from d2lpart.memory.formulas import ADAM_FP32, BytesPerParameter
from d2lpart.memory.ledger import Ledger, Ledgers
from d2lpart.partitions.partitioning import Partition
from d2lpart.schedules.in_flight import StageBytes, peak_held
from d2lpart.schedules.schedule import Schedule


def predict_memory(
    costs: Sequence[LayerCost],
    partition: Partition | Sequence[int],
    schedule: Schedule,
    *,
    recipe: BytesPerParameter = ADAM_FP32,
    recompute: bool = False,
    input_bytes: int = 0,
    target_bytes: int = 0,
    loss_bytes: int | None = None,
    capacity: Sequence[float] | None = None,
) -> Ledgers:
    """Return the computed ledgers of all ranks.

    A stage holds, of each micro-batch in flight, its input and what its layers keep for the
    backward; the last one also what the loss keeps. With `recompute` it holds its input alone, and
    the rest while the micro-batch runs backward.

    The costs hold for the autocast that they were profiled in, and no other: what is kept then has
    other types, and is forecast only if `profile` ran in it, too. The weights stay as they are, so
    the recipe is still one of 32 bits; their copies in low precision count as weights, each once
    for all micro-batches, as long as one of them needs it.

    Buffers count as weights. Frozen weights have neither gradients nor optimizer. A weight that
    several layers share counts on the rank of the first of them, which its optimizer belongs to;
    every other rank that uses it holds a shadow of it, and for a moment the shadow's gradient.

    Args:
        costs: `profile(layers, microbatch)`, taken on an input of one micro-batch, in the step's
            autocast.
        partition: layers a stage.
        schedule: of the pipeline; it says how many micro-batches a rank holds.
        recipe: bytes for each parameter.
        recompute: as in `Pipeline`.
        input_bytes: of the whole mini-batch, which lies on the first stage's rank throughout.
        target_bytes: the same of the targets, which lie on the last stage's rank.
        loss_bytes: what the loss keeps of one micro-batch; by default what the profile has found,
            or the size of the last layer's output where it has found nothing.
        capacity: of each rank, to be shown beside.

    Raises:
        ValueError: partition, schedule and costs do not fit together.

    >>> from d2lpart import build_schedule
    >>> layer = LayerCost("Block", 10**6, 4 * 10**6, 300_000, 100_000, 0, trainable=10**6)
    >>> print(predict_memory([layer] * 4, [2, 2], build_schedule("1f1b", 2, 4)))
    2 ledgers, computed, in MB (1 MB = 0.954 MiB)
              weights  gradients  optimizer activations      total
    rank 0       8.00       8.00      16.00        1.40      33.40
    rank 1       8.00       8.00      16.00        0.90      32.90
    """
    cut = matching(costs, partition, schedule)
    check_kind(recipe, BytesPerParameter, "give one of d2lpart.memory.formulas, such as ADAM_FP32")
    if loss_bytes is None:
        loss_bytes = _loss_bytes(costs)
    split = any(action.kind == "W" for action in schedule.position)
    stages = [_stage_bytes(costs, layers, loss_bytes, recompute, split) for layers in cut.stages]
    ledgers = []
    for rank in range(schedule.num_ranks):
        own = schedule.stages_of(rank)
        layers = [layer for stage in own for layer in cut.stages[stage]]
        held = peak_held(schedule, rank, {stage: stages[stage] for stage in own})
        held += input_bytes if 0 in own else 0
        held += target_bytes if schedule.num_stages - 1 in own else 0
        weights, gradients, optimizer = _state(costs, layers, recipe)
        weights += _most_copies(costs, cut, schedule, rank, recompute)
        ledgers.append(Ledger(weights, gradients, optimizer, ceil(held)))
    return Ledgers(ledgers, capacity)


def layer_needs(
    costs: Sequence[LayerCost],
    schedule: Schedule,
    *,
    recipe: BytesPerParameter = ADAM_FP32,
    input_bytes: int = 0,
) -> tuple[list[int], list[int]]:
    """Return bytes for each layer, as `partition` takes them: once, and for each micro-batch held.

    Where there are several ranks, each layer counts as if it were alone on one: a tied weight is a
    shadow. What a split backward holds otherwise between its halves is not told. In both the
    ledgers of `predict_memory` are exact.

    Args:
        costs: `profile(layers, microbatch)`.
        schedule: of the pipeline.
        recipe: bytes for each parameter.
        input_bytes: of the whole mini-batch, which lies with the first layer.
    """
    places = range(len(costs))
    together = places if schedule.num_ranks == 1 else range(0)
    once = [sum(_state(costs, [layer], recipe, beside=together)) for layer in places]
    once[0] += input_bytes
    for layer in places:
        once[layer] += _size(set(costs[layer].copies) - _copies(costs, together[:layer]))
    loss_bytes = _loss_bytes(costs)
    return once, [_whole(costs, range(layer, layer + 1), loss_bytes) for layer in places]


def _loss_bytes(costs: Sequence[LayerCost]) -> int:
    found = costs[-1].loss_bytes
    return costs[-1].boundary_bytes if found is None else found


def _copies(costs: Sequence[LayerCost], layers: Iterable[int]) -> set[WeightCopy]:
    return {copy for layer in layers for copy in costs[layer].copies}


def _size(copies: Iterable[WeightCopy]) -> int:
    return sum(copy.nbytes for copy in copies)


def _most_copies(
    costs: Sequence[LayerCost], cut: Partition, schedule: Schedule, rank: int, recompute: bool
) -> int:
    """Return the most bytes of low-precision copies that a rank holds at one moment.

    Each stage has a copy of its own, of the weight or of the weight's shadow.
    """
    copies = [_size(_copies(costs, layers)) for layers in cut.stages]
    holding: Counter[int] = Counter()
    peak = 0
    for stage, kind, _ in schedule.orders[rank]:
        if kind in ("BI" if recompute else "F"):
            holding[stage] += 1
        peak = max(peak, sum(copies[held] for held, number in holding.items() if number))
        if kind in "BW":
            holding[stage] -= 1
    return peak


def _state(
    costs: Sequence[LayerCost],
    layers: Sequence[int],
    recipe: BytesPerParameter,
    beside: Sequence[int] = (),
) -> tuple[int, int, int]:
    """Return bytes of weights, gradients and optimizer of layers; tied to `beside` is no shadow."""
    shadows = {
        tied
        for layer in layers
        for tied in costs[layer].tied
        if tied.layer not in layers and tied.layer not in beside
    }
    learned = sum(costs[layer].trainable for layer in layers)
    number = sum(costs[layer].parameters for layer in layers)
    number += sum(tied.parameters for tied in shadows)
    gradients = learned + sum(tied.trainable for tied in shadows)
    buffers = sum(costs[layer].buffer_bytes for layer in layers)
    return (
        ceil(number * recipe.weights) + buffers,
        ceil(gradients * recipe.gradients),
        ceil(learned * recipe.optimizer),
    )


def _held(costs: Sequence[LayerCost], layers: range, waiting: bool) -> int:
    """Return what layers hold of one micro-batch until B or I, or after I `waiting` for W.

    The first one's input is held in any case, unless it is a part of the mini-batch. A tensor
    between two of them is held if the second needs it, and once if the first has it, too.
    """
    held = costs[layers.start - 1].boundary_bytes if layers.start else 0
    between = 0  # bytes that a layer has put out and nobody has asked to hold
    for cost in costs[layers.start : layers.stop]:
        if cost.waits_with_input if waiting else cost.keeps_input:
            held, between = held + between, 0
        held += cost.waiting_bytes if waiting else cost.activation_bytes
        if not cost.is_view:
            between = 0 if cost.keeps_output and not waiting else cost.boundary_bytes
    return held


def _whole(costs: Sequence[LayerCost], layers: range, loss_bytes: int) -> int:
    """Return what layers hold of one micro-batch from its forward on, the loss included."""
    return _held(costs, layers, False) + (loss_bytes if layers.stop == len(costs) else 0)


def _stage_bytes(
    costs: Sequence[LayerCost], layers: range, loss_bytes: int, recompute: bool, split: bool
) -> StageBytes:
    """Return what a stage holds of one micro-batch; `split`: I and W follow, in place of B.

    I lets go of what W does not need at its end, when the gradients that wait for W are there
    already.
    """
    whole = _whole(costs, layers, loss_bytes)
    gradients = sum(costs[layer].gradient_bytes for layer in layers) if split else 0
    first = _held(costs, range(layers.start, layers.start), False)
    waiting = _held(costs, layers, True)
    return StageBytes(first if recompute else whole, whole + gradients, waiting)
