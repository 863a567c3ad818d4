"""`predict_memory`: what each rank of a real pipeline will hold, from a profile of its layers."""

from collections.abc import Sequence
from math import ceil
from typing import Protocol

from d2lpart.held import StageBytes, peak_held
from d2lpart.ledger import Ledger, Ledgers
from d2lpart.memory_formulas import ADAM_FP32, BytesPerParameter
from d2lpart.partitioning import Partition
from d2lpart.schedule import Schedule


class LayerBytes(Protocol):
    """What a layer of a profile tells about its memory; `LayerCost` does."""

    @property
    def parameters(self) -> int:
        """How many weights the layer has."""

    @property
    def activation_bytes(self) -> int:
        """What it holds for the backward, its input aside."""

    @property
    def waiting_bytes(self) -> int:
        """What it holds between I and W, its input aside."""

    @property
    def gradient_bytes(self) -> int:
        """The gradients among these."""

    @property
    def boundary_bytes(self) -> int:
        """The size of its output."""


def predict_memory(
    costs: Sequence[LayerBytes],
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
    the rest while the micro-batch runs backward. A weight that several layers share counts in the
    first of them.

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
    >>> from types import SimpleNamespace
    >>> layer = SimpleNamespace(
    ...     parameters=10**6, activation_bytes=300_000, waiting_bytes=0, gradient_bytes=0,
    ...     boundary_bytes=100_000)
    >>> print(predict_memory([layer] * 4, [2, 2], build_schedule("1f1b", 2, 4)))
    2 ledgers, computed, in MB (1 MB = 0.954 MiB)
              weights  gradients  optimizer activations      total
    rank 0       8.00       8.00      16.00        1.40      33.40
    rank 1       8.00       8.00      16.00        0.90      32.90
    """
    cut = partition if isinstance(partition, Partition) else Partition(partition)
    if cut.num_layers != len(costs) or cut.num_stages != schedule.num_stages:
        raise ValueError(
            f"a partition of {cut.num_layers} layers into {cut.num_stages} stages, "
            f"{len(costs)} costs, a schedule of {schedule.num_stages} stages: make layers and "
            f"costs equally many, and the stages as well"
        )
    if loss_bytes is None:
        loss_bytes = costs[-1].boundary_bytes
    split = any(action.kind == "W" for action in schedule.position)
    stages = [_stage_bytes(costs, layers, loss_bytes, recompute, split) for layers in cut.stages]
    ledgers = []
    for rank in range(schedule.num_ranks):
        own = schedule.stages_of(rank)
        number = sum(costs[layer].parameters for stage in own for layer in cut.stages[stage])
        held = peak_held(schedule, rank, {stage: stages[stage] for stage in own})
        held += input_bytes if 0 in own else 0
        weights, gradients, optimizer = (ceil(number * nbytes) for nbytes in recipe)
        ledgers.append(Ledger(weights, gradients, optimizer, ceil(held)))
    return Ledgers(ledgers, capacity)


def _stage_bytes(
    costs: Sequence[LayerBytes], layers: range, loss_bytes: int, recompute: bool, split: bool
) -> StageBytes:
    """Return what a stage holds of one micro-batch; `split`: I and W follow, in place of B.

    The input of the first stage is a part of the mini-batch, and lies there anyway. I lets go of
    what W does not need at its end, when the gradients that wait for W are there already.
    """
    inputs = [costs[layer - 1].boundary_bytes if layer else 0 for layer in layers]
    whole = sum(inputs) + sum(costs[layer].activation_bytes for layer in layers)
    waiting = sum(inputs) + sum(costs[layer].waiting_bytes for layer in layers)
    if layers.stop == len(costs):
        whole += loss_bytes
    gradients = sum(costs[layer].gradient_bytes for layer in layers) if split else 0
    return StageBytes(inputs[0] if recompute else whole, whole + gradients, waiting)
