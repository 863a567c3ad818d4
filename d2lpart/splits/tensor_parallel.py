"""TensorParallel: layers split inside, over all ranks. D2L calls it layer-wise partitioning.

Between layers a value is whole (each rank has all of it) or shared (each rank has some channels).
The constructor goes through the layers once and puts together a program: what the ranks exchange
before a layer follows from the layer, and from how its input is shared.

    | layer                            | input whole       | input shared                         |
    | linear or convolution            | copied, ByOutputs | ByInputs in pairs; spread, ByOutputs |
    | each number or channel by itself | OnEveryRank       | OnEveryRank; its output is shared    |
    | any other                        | OnEveryRank       | gathered, OnEveryRank                |

A decoder's block and head take whole values, and have their own splits (`split_layers`).

In earnest, use `torch.distributed.tensor.parallel`: `parallelize_module` with `ColwiseParallel` and
`RowwiseParallel`, which do on DTensors and between processes what is written out here in one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from d2lpart.common.arguments import check_kind
from d2lpart.models.decoder import Block, Head
from d2lpart.models.layers import listed
from d2lpart.splits.collectives import Group, Tensors, copied, gathered, spread
from d2lpart.splits.copies import SplitResult, check_copyable, check_learns, nothing_random
from d2lpart.splits.split_layers import (
    LINEAR,
    ByInputs,
    ByOutputs,
    Linear,
    OnEveryRank,
    Split,
    SplitBlock,
    SplitHead,
    even_sizes,
)
from d2lpart.stages.losses import cross_entropy

ALIKE = (
    nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Identity,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d,  # refused unless they drop nothing
)  # fmt: skip
"""Layers that treat each number by itself."""
BY_CHANNEL = (nn.AvgPool1d, nn.AvgPool2d, nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveAvgPool2d)
"""Layers that treat each channel by itself."""
CHANNELS, LAST = 1, -1  # the dimension along which a value is shared


@dataclass(frozen=True)
class _Shared:
    """A value that is shared: along which dimension, and how many places each rank has."""

    dim: int
    sizes: tuple[int, ...]


class TensorParallel(nn.Module):
    """Layers of which each rank computes its share of the channels, hidden units or heads.

    Linear layers, convolutions, and a decoder's blocks and head are split; where the ranks do not
    divide a layer evenly, the first ranks get one channel (unit, head) more. Every other layer, an
    `nn.Sequential` in the list too, is on every rank, whole. The parts are copies, and each rank
    holds its own; an optimizer over `parameters()` steps them all. All ranks see the same
    mini-batch, and compute the same loss.

    Args:
        layers: modules, each taking and returning one tensor; the first dimension counts samples.
        devices: one a rank; several ranks may share one.
        pairs: True splits linear layers by outputs and by inputs in turn, so that ranks meet once
            for each two layers (Megatron-LM); False splits all by outputs, so that they meet
            before each layer (D2L). A decoder's block is two pairs either way.
        loss_fn: `loss_fn(outputs, targets)` returns a scalar; by default cross-entropy.

    Raises:
        ValueError: more ranks than a layer has channels, units or heads; a layer that draws random
            numbers; layers that share a weight.

    >>> model = TensorParallel([nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)], ["cpu"] * 2)
    >>> result = model.step(torch.randn(8, 4), torch.zeros(8, dtype=torch.long))
    >>> result.barriers, result.bytes_moved   # one all-reduce of (8, 2) floats
    (1, 128)
    """

    def __init__(
        self,
        layers: Iterable[nn.Module],
        devices: Sequence[Any],
        *,
        pairs: bool = True,
        loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        layers = listed(layers)
        check_copyable(layers)
        self.group = Group(devices)
        self.pairs, self.loss_fn = pairs, loss_fn or cross_entropy
        self._program: list[Callable[[Tensors], list[Tensor]]] = []
        shared: _Shared | None = None
        for number, layer in enumerate(layers):
            try:
                split, shared = self._split(layer, shared)
            except ValueError as error:
                raise ValueError(f"layer {number} ({type(layer).__name__}): {error}") from None
            self.add_module(str(number), split)
            self._program.append(split)
        self._meet(gathered, shared)

    def _meet(self, exchange: Callable[..., list[Tensor]], shared: _Shared | None) -> None:
        """Let the ranks exchange a shared value; a whole one needs no exchange."""
        if shared:
            self._program.append(partial(exchange, self.group, dim=shared.dim))

    def _split(self, layer: nn.Module, shared: _Shared | None) -> tuple[nn.Module, _Shared | None]:
        """Split a layer, behind what the ranks exchange for it; tell how its output is shared."""
        if isinstance(layer, LINEAR) and getattr(layer, "groups", 1) == 1:
            return self._split_linear(layer, shared)
        if shared and (isinstance(layer, ALIKE) or _by_channel(layer, shared)):
            flat = isinstance(layer, nn.Flatten)
            after = _Shared(LAST, shared.sizes) if flat else shared
            return OnEveryRank(layer, self.group), after
        self._meet(gathered, shared)
        if isinstance(layer, Block):
            return SplitBlock(layer, self.group), None
        if isinstance(layer, Head):
            head = SplitHead(layer, self.group)
            return head, _Shared(LAST, head.tokens)
        return OnEveryRank(layer, self.group), None

    def _split_linear(
        self, layer: Linear, shared: _Shared | None
    ) -> tuple[nn.Module, _Shared | None]:
        """Split by inputs where it completes a pair, else by outputs."""
        dim = LAST if isinstance(layer, nn.Linear) else CHANNELS
        outputs, inputs = layer.weight.shape[:2]
        if self.pairs and shared and shared.dim == dim:
            times = inputs // sum(shared.sizes)  # a channel that was flattened is several inputs
            return ByInputs(layer, self.group, [size * times for size in shared.sizes]), None
        sizes = even_sizes(outputs, len(self.group), "outputs")
        if shared:
            self._meet(spread, shared)
        else:
            self._program.append(partial(copied, self.group))
        return ByOutputs(layer, self.group, sizes), _Shared(dim, tuple(sizes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs of the whole model, as rank 0 has them."""
        return self._outputs(inputs)[0]

    def _outputs(self, inputs: Tensor) -> list[Tensor]:
        check_copyable(  # once more: a dropout may have been switched on since
            [split.parts[0] if isinstance(split, Split) else split for split in self.children()]
        )
        check_kind(inputs, Tensor, "give the inputs of the first layer")
        values = [inputs.detach().to(device) for device in self.group.devices]
        with nothing_random(self.group.devices):
            for run in self._program:
                values = run(values)
        return values

    def step(self, inputs: Tensor, targets: Tensor) -> SplitResult:
        """Run forward and backward of one mini-batch; each rank gets the gradients of its parts.

        They are added to what is in `.grad`. `gradients()` puts them together. The inputs get none.
        """
        check_kind(targets, Tensor, "give one target for each output")
        self.group.reset()
        outputs = self._outputs(inputs)
        losses = [self.loss_fn(own, targets.to(own.device)) for own in outputs]
        check_learns(losses[0])
        torch.autograd.backward(losses)
        return SplitResult(losses[0].item(), self.group.traffic(), self.parameter_bytes())

    def parameter_bytes(self) -> tuple[int, ...]:
        """Return the bytes of the weights that each rank holds."""
        held = [0] * len(self.group)
        for _, split in self._splits():
            for rank, part in enumerate(split.parts):
                held[rank] += sum(weight.nbytes for weight in part.parameters())
        return tuple(held)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights put together: the `state_dict` of the unsplit layers."""
        return self._joined(lambda weight: weight.detach())

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients put together, by the names of the unsplit layers' parameters."""
        return self._joined(lambda weight: weight.grad)

    def _joined(self, read: Callable[[Tensor], Tensor | None]) -> dict[str, Tensor]:
        return {
            f"{prefix}.{name}": value
            for prefix, split in self._splits()
            for name, value in split.joined(read)
        }

    def _splits(self) -> Iterator[tuple[str, Split]]:
        for name, module in self.named_modules():
            if isinstance(module, Split):
                yield name, module


def _by_channel(layer: nn.Module, shared: _Shared) -> bool:
    """Say whether a layer treats each channel by itself, and the value is shared by channels."""
    if isinstance(layer, nn.Flatten):
        alone = layer.start_dim == 1 and layer.end_dim == -1
        return alone and shared.dim == CHANNELS
    return isinstance(layer, BY_CHANNEL) and shared.dim == CHANNELS
