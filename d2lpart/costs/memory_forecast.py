"""`predict_memory`: what each rank of a real pipeline will hold, from a profile of its layers."""

from collections.abc import Sequence
from math import ceil

from d2lpart.common.arguments import check_kind
from d2lpart.costs.forecasting import matching
from d2lpart.costs.layer_cost import LayerCost
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
    loss_bytes: int | None = None,
    capacity: Sequence[float] | None = None,
) -> Ledgers:
    """Return the computed ledgers of all ranks.

    A stage holds, of each micro-batch in flight, its input and what its layers keep for the
    backward; the last one also what the loss keeps. With `recompute` it holds its input alone, and
    the rest while the micro-batch runs backward.

    Buffers count as weights. Frozen weights have neither gradients nor optimizer. A weight that
    several layers share counts on the rank of the first of them, which its optimizer belongs to;
    every other rank that uses it holds a shadow of it, and for a moment the shadow's gradient.

    Args:
        costs: `profile(layers, microbatch)`, taken on an input of one micro-batch.
        partition: layers a stage.
        schedule: of the pipeline; it says how many micro-batches a rank holds.
        recipe: bytes for each parameter.
        recompute: as in `Pipeline`.
        input_bytes: of the whole mini-batch, which lies on the first stage's rank throughout.
        loss_bytes: what the loss keeps of one micro-batch; by default the size of the last layer's
            output, as cross-entropy does, which keeps its logarithms.
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
    check_kind(recipe, BytesPerParameter, "give one of memory_formulas, such as ADAM_FP32")
    if loss_bytes is None:
        loss_bytes = costs[-1].boundary_bytes
    split = any(action.kind == "W" for action in schedule.position)
    stages = [_stage_bytes(costs, layers, loss_bytes, recompute, split) for layers in cut.stages]
    ledgers = []
    for rank in range(schedule.num_ranks):
        own = schedule.stages_of(rank)
        layers = [layer for stage in own for layer in cut.stages[stage]]
        held = peak_held(schedule, rank, {stage: stages[stage] for stage in own})
        held += input_bytes if 0 in own else 0
        ledgers.append(Ledger(*_state(costs, layers, recipe), ceil(held)))
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
    together = places if schedule.num_ranks == 1 else ()
    once = [sum(_state(costs, [layer], recipe, beside=together)) for layer in places]
    once[0] += input_bytes
    loss_bytes = costs[-1].boundary_bytes
    return once, [_whole(costs, range(layer, layer + 1), loss_bytes) for layer in places]


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


def _inputs(costs: Sequence[LayerCost], layers: range) -> list[int]:
    """Return the size of each layer's input; the first one's is a part of the mini-batch."""
    return [costs[layer - 1].boundary_bytes if layer else 0 for layer in layers]


def _whole(costs: Sequence[LayerCost], layers: range, loss_bytes: int) -> int:
    """Return what layers hold of one micro-batch from its forward on, their inputs included."""
    held = sum(_inputs(costs, layers)) + sum(costs[layer].activation_bytes for layer in layers)
    return held + (loss_bytes if layers.stop == len(costs) else 0)


def _stage_bytes(
    costs: Sequence[LayerCost], layers: range, loss_bytes: int, recompute: bool, split: bool
) -> StageBytes:
    """Return what a stage holds of one micro-batch; `split`: I and W follow, in place of B.

    I lets go of what W does not need at its end, when the gradients that wait for W are there
    already.
    """
    inputs, whole = _inputs(costs, layers), _whole(costs, layers, loss_bytes)
    waiting = sum(inputs) + sum(costs[layer].waiting_bytes for layer in layers)
    gradients = sum(costs[layer].gradient_bytes for layer in layers) if split else 0
    return StageBytes(inputs[0] if recompute else whole, whole + gradients, waiting)
