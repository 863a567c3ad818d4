"""`three_ways`: one step of one model, split in each of the three ways, and what each costs."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from d2lpart.common.display import aligned
from d2lpart.common.quantities import bytes_text, seconds_text
from d2lpart.models.layers import listed
from d2lpart.pipeline.pipeline import Pipeline
from d2lpart.pipeline.step_result import StepResult
from d2lpart.splits.collectives import Traffic
from d2lpart.splits.data_parallel import DataParallel
from d2lpart.splits.tensor_parallel import TensorParallel
from d2lpart.timelines.spans import Link


@dataclass(frozen=True)
class Way:
    """What one step cost when the model was split in one way.

    Attributes:
        name: the way.
        loss: of the step; the same in all ways, up to rounding.
        parameter_bytes: the weights on each rank.
        traffic: what the ranks sent each other.
    """

    name: str
    loss: float
    parameter_bytes: tuple[int, ...]
    traffic: Traffic


@dataclass(frozen=True, repr=False)
class ThreeWays:
    """The ways side by side; `link` is what their messages are modelled on, None for none."""

    ways: tuple[Way, ...]
    link: Link | None = None

    def __getitem__(self, name: str) -> Way:
        return {way.name: way for way in self.ways}[name]

    def __str__(self) -> str:
        titles = ["", "weights of the fullest rank", "moved", "messages", "barriers"]
        rows = [titles + ["on the link"] * bool(self.link), *map(self._row, self.ways)]
        return "\n".join(aligned(rows) + [f"link: {self.link}, modelled"] * bool(self.link))

    def _row(self, way: Way) -> list[str]:
        traffic = way.traffic
        held, moved = bytes_text(max(way.parameter_bytes)), bytes_text(traffic.bytes_moved)
        row = [way.name, held, moved, str(traffic.messages), str(traffic.barriers)]
        return row + ([seconds_text(traffic.seconds(self.link))] if self.link else [])

    def __repr__(self) -> str:
        return str(self)


def three_ways(
    layers: Iterable[nn.Module],
    inputs: Tensor,
    targets: Tensor,
    *,
    sizes: Sequence[int],
    devices: Sequence[object],
    pairs: bool = True,
    link: Link | None = None,
) -> ThreeWays:
    """Take one step of copies of `layers`, split in each of the three ways, on equally many ranks.

    The step takes the mini-batch in one piece. The layers themselves are left as they are.

    Args:
        layers: modules that all three can split.
        inputs, targets: one mini-batch.
        sizes: the layers of each stage, for network partitioning.
        devices: one a rank.
        pairs: as `TensorParallel` takes it.
        link: if given, the table says how long the messages take over it, modelled.

    Raises:
        ValueError: what `Pipeline`, `TensorParallel` or `DataParallel` raise.

    >>> import torch
    >>> from d2lpart.models.convnet import lenet
    >>> batch = torch.zeros(4, 1, 28, 28), torch.zeros(4, dtype=torch.long)
    >>> print(three_ways(lenet(), *batch, sizes=[6, 4], devices=["cpu"] * 2))
                             weights of the fullest rank    moved  messages  barriers
    network partitioning                          415 kB  25.6 kB         2         0
    layer-wise partitioning                       258 kB   156 kB        12         3
    data parallelism                              516 kB  1.03 MB         4         1
    """
    layers = listed(layers)
    stages = Pipeline(copy.deepcopy(layers), sizes, devices, schedule="naive")
    split = TensorParallel(layers, devices, pairs=pairs)
    replicas = DataParallel(copy.deepcopy(layers), devices)
    shared, whole = split.step(inputs, targets), replicas.step(inputs, targets)
    ways = (
        _of_pipeline(stages, stages.step(inputs.to(stages.devices[0]), targets)),
        Way("layer-wise partitioning", shared.loss, shared.parameter_bytes, shared.traffic),
        Way("data parallelism", whole.loss, whole.parameter_bytes, whole.traffic),
    )
    return ThreeWays(ways, link)


def _of_pipeline(pipeline: Pipeline, result: StepResult) -> Way:
    """Read the traffic off the timeline: a naive step sends one message at a time, and never waits
    for all ranks at once."""
    messages = result.timeline.transfers
    ranks = range(len(pipeline.devices))
    traffic = Traffic(
        sent=tuple(sum(m.nbytes for m in messages if m.source == rank) for rank in ranks),
        received=tuple(sum(m.nbytes for m in messages if m.target == rank) for rank in ranks),
        messages=len(messages),
        barriers=0,
        rounds=tuple(message.nbytes for message in messages),
    )
    held = tuple(
        sum(weight.nbytes for layer in stage.layers for weight in layer.parameters())
        for stage in pipeline.stages
    )
    return Way("network partitioning", result.loss, held, traffic)
