"""What a layer holds and computes for one input, read off one forward, one I and one W.

All of it is true on fake tensors as well: bytes are counted by storage, operations by shape. On the
device meta a tensor has a shape and a type, but no memory. An operation on it costs nothing, and
autograd saves what it would save. Which kernel torch takes depends on the device, however, and for
meta it takes attention's plain one, which keeps a score for each pair of positions. So layers there
are run with torch's fake tensors, which are on meta and pass for tensors on a CPU.
"""

import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from d2lpart.costs.layer_cost import LayerCost, TiedWeight, WeightCopy
from d2lpart.stages.footprint import Footprint, Left, storage_of
from d2lpart.stages.keyed_dropout import keyed_randomness, uses_randomness
from d2lpart.stages.saved import Saved
from d2lpart.stages.split_backward import SplitBackward, accumulate, cannot_be_split

CPU = torch.device("cpu")

UNKNOWN_WITHOUT_NUMBERS = (DataDependentOutputException, DynamicOutputShapeException)
"""What a fake tensor raises where a shape, or a value that Python asks for, hangs on numbers."""


class Charge(NamedTuple):
    """What counts for one layer.

    weights: those that no earlier layer has. tied: those that one has. buffers: as weights. homes:
    of each of its weights, the first layer that has it, and the position there.
    """

    weights: list[nn.Parameter]
    tied: tuple[TiedWeight, ...]
    buffers: list[Tensor]
    homes: list[tuple[int, int]]


def charges(layers: Sequence[nn.Module]) -> list[Charge]:
    """Return for each layer what counts for it.

    >>> one, two = nn.Linear(4, 4), nn.Linear(4, 4)
    >>> two.weight = one.weight
    >>> [tuple(weight.shape) for weight in charges([one, two])[1].weights]
    [(4,)]
    >>> charges([one, two])[1].tied
    (TiedWeight(layer=0, position=0, parameters=16, trainable=16),)
    """
    homes: dict[nn.Parameter, tuple[int, int]] = {}
    buffers: set[Tensor] = set()
    found = []
    for index, layer in enumerate(layers):
        weights, tied, own_homes = [], [], []
        for position, weight in enumerate(layer.parameters()):
            home = homes.setdefault(weight, (index, position))
            own_homes.append(home)
            if home[0] == index:
                weights.append(weight)
            else:
                size = weight.numel()
                tied.append(TiedWeight(*home, size, size if weight.requires_grad else 0))
        own = [buffer for buffer in layer.buffers() if buffer not in buffers]
        buffers.update(own)
        found.append(Charge(weights, tuple(tied), own, own_homes))
    return found


@contextmanager
def without_numbers(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Let fakes stand for all weights and buffers of the layers as long as the context lasts.

    Tensors made inside are fakes, too. The layers themselves may be anywhere, on meta for one.
    """
    modules = dict.fromkeys(module for layer in layers for module in layer.modules())
    stood = [
        (module, name, tensor)
        for module in modules
        for named in (module._parameters, module._buffers)
        for name, tensor in named.items()
        if tensor is not None
    ]
    with FakeTensorMode():
        fakes = {tensor: fake(tensor) for _, _, tensor in stood}  # a tied weight stays one
        try:
            for module, name, tensor in stood:
                setattr(module, name, fakes[tensor])
            yield
        finally:
            for module, name, tensor in stood:
                setattr(module, name, tensor)


def fake(tensor: Tensor) -> Tensor:
    """Return a fake of the same shape, strides and type, inside a `FakeTensorMode`."""
    made = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=CPU)
    return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


Sizes = tuple[int, ...]


class Entry(NamedTuple):
    """The input of a layer: a leaf, a copy that the layer may even overwrite, and where I ends."""

    leaf: Tensor
    tensor: Tensor
    end: GradientEdge | None  # None: no gradient is wanted

    @classmethod
    def of(cls, inputs: Tensor, wants_gradient: bool) -> "Entry":
        """Return a way in for these inputs; only numbers with a fraction can want a gradient."""
        continuous = inputs.is_floating_point() or inputs.is_complex()
        leaf = inputs.detach().requires_grad_(wants_gradient and continuous)
        tensor = leaf.clone()
        return cls(leaf, tensor, get_gradient_edge(tensor) if tensor.requires_grad else None)


def facts_of(
    layer: nn.Module, inputs: Tensor, wants_gradient: bool, charge: Charge
) -> tuple[LayerCost, Tensor]:
    """Return the cost of a layer without seconds, and its output.

    Args:
        layer: it takes and returns one tensor, in the mode that it is in.
        inputs: where the layer is.
        wants_gradient: whether anything before the layer learns.
        charge: what counts for this layer.

    Raises:
        ValueError: the layer returned something else than one tensor.
    """
    way_in = Entry.of(inputs, wants_gradient)
    entry = way_in.tensor
    footprint, saved = Footprint([layer]), Saved()
    random = uses_randomness(layer)
    left, forward, first_half, flops = Left(0, entry.nbytes), 0, 0, _counter()
    with _uncompiled(), flops:
        output, held = footprint.measure(entry, lambda: run(layer, entry, random), saved)
        forward = first_half = flops.get_total_flops()
        ends = storage_of(entry), storage_of(output)
        if output.requires_grad:
            halves = halves_of(output, way_in, saved)
            halves.run_input(torch.ones_like(output))
            first_half = flops.get_total_flops()
            left = footprint.measure_left(entry, halves.held(), saved.let_go())
            halves.run_weights()
    cost = LayerCost(
        name=type(layer).__name__,
        parameters=sum(weight.numel() for weight in charge.weights),
        parameter_bytes=sum(weight.nbytes for weight in charge.weights),
        activation_bytes=held - entry.nbytes,
        boundary_bytes=output.nbytes,
        forward_flops=forward,
        waiting_bytes=left.total - entry.nbytes,
        gradient_bytes=left.gradients,
        trainable=sum(weight.numel() for weight in charge.weights if weight.requires_grad),
        input_flops=first_half - forward,
        weight_flops=flops.get_total_flops() - first_half,
        buffer_bytes=sum(buffer.nbytes for buffer in charge.buffers),
        tied=charge.tied,
        copies=_copies(layer, charge, footprint),
        keeps_input=ends[0] in footprint.seen,
        keeps_output=ends[1] in footprint.seen,
        waits_with_input=left.inputs,
        is_view=ends[0] == ends[1],
    )
    return cost, output.detach()


def _copies(layer: nn.Module, charge: Charge, footprint: Footprint) -> tuple[WeightCopy, ...]:
    """Return the copies of the layer's weights that its forward has left held."""
    weights = zip(charge.homes, layer.parameters(), strict=True)
    made = [(home, footprint.copies[weight]) for home, weight in weights]
    return tuple(WeightCopy(*home, sum(copies.values())) for home, copies in made if copies)


class Whole:
    """A backward that cannot be split: all of it is I."""

    def __init__(self, root: GradientEdge, entry: Entry) -> None:
        self._root, self._leaf = root, entry.leaf

    def run_input(self, gradient: Tensor) -> Tensor | None:
        """Run the backward, and return the gradient of the input."""
        accumulate([(self._root, gradient)])
        return self._leaf.grad

    def run_weights(self) -> None:
        """Do nothing: it is done."""

    def held(self) -> list[Tensor]:
        """Return the gradients that wait for W: none."""
        return []


def halves_of(output: Tensor, entry: Entry, saved: Saved) -> SplitBackward | Whole:
    """Return the backward of one layer as I and W; where the input wants no gradient all is W."""
    root, end = get_gradient_edge(output), entry.end
    if end is not None and cannot_be_split(root.node):
        return Whole(root, entry)
    return SplitBackward(root, end or root, end is not None, saved)


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Run compiled layers as they were before, for as long as the context lasts.

    Torch counts no operations inside them. Worse, a layer that it would have to compile while they
    are counted is never compiled again.
    """
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
        warnings.filterwarnings("ignore", r"Using `torch\.compile\(module\)` when there are global")
        yield


def run(layer: nn.Module, inputs: Tensor, random: bool, *key: int) -> Tensor:
    """Return the output of a layer; its dropout draws as in a pipeline, which keeps small masks.

    Args:
        layer, inputs: the layer, and what it takes.
        random: whether the layer `uses_randomness`.
        key: what dropout depends on.

    Raises:
        ValueError: the layer returned something else than one tensor.
    """
    with keyed_randomness(0, *key) if random else nullcontext():
        output = layer(inputs)
    if not isinstance(output, Tensor):
        raise ValueError(
            f"it returns a {type(output).__name__}, and a layer hands 1 tensor to the next; "
            "wrap it in a module that returns the tensor alone"
        )
    return output


def _counter() -> FlopCounterMode:
    """Return torch's counter, with the attention kernel of the CPU, which it leaves out."""
    aten: Any = torch.ops.aten
    return FlopCounterMode(
        display=False,
        custom_mapping={
            aten._scaled_dot_product_flash_attention_for_cpu: _attention,
            aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
        },
    )


def _attention(query: Sizes, key: Sizes, value: Sizes, *_: object, **__: object) -> int:
    """Count scores and mixing for queries (B, H, T, D), keys (B, H, S, D), values (B, H, S, E)."""
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(
    gradient: Sizes, query: Sizes, key: Sizes, value: Sizes, *_: object, **__: object
) -> int:
    """Count five products where the forward has two: the scores are computed once more."""
    return int(sdpa_backward_flop_count(gradient, query, key, value))
