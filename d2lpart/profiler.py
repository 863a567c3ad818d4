"""What each layer costs: parameters, floating-point operations, bytes held, measured seconds."""

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from d2lpart.footprint import Footprint
from d2lpart.hardware import as_device, synchronize

WARM_UPS = 2
RUNS = 5

Sizes = tuple[int, int, int, int]


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs for one sample input.

    Attributes:
        name: the class of the layer.
        parameters: how many weights it has, frozen ones too. A parameter that several layers
            share counts in the first of them alone, as do its bytes.
        parameter_bytes: their size.
        activation_bytes: what the forward leaves held for the backward, in bytes: every storage
            that autograd keeps, once, beyond the layer's input and its weights. The input is the
            boundary of the layer before, so a stage holds the sum of `activation_bytes` over its
            layers, plus the size of every layer's input.
        boundary_bytes: the size of the layer's output, which a cut after it has to carry.
        forward_flops: floating-point operations of the matrix products of one forward, a
            multiply-add counted as 2 (torch.utils.flop_counter). Attention counts every pair of
            positions, also those that a causal mask hides. A backward takes about twice as many.
        forward_seconds: the median of some forwards, on the clock of the host.
        backward_seconds: the same for the backward; 0 where nothing wants a gradient.
    """

    name: str
    parameters: int
    parameter_bytes: int
    activation_bytes: int
    boundary_bytes: int
    forward_flops: int
    forward_seconds: float
    backward_seconds: float

    @property
    def seconds(self) -> float:
        """Forward and backward together."""
        return self.forward_seconds + self.backward_seconds


def profile(
    layers: Iterable[nn.Module], sample: Tensor, device: torch.device | str | None = None
) -> list[LayerCost]:
    """Run the layers one after another on a sample, and return what each of them costs.

    Each layer gets the detached output of the one before, in the mode (training or evaluation)
    that it is in. It is run a few times to warm up, then timed; a GPU is waited for at each
    reading of the clock, so that launching counts too. The gradient given to a backward is all
    ones, and the first layer computes none for the sample.

    Afterwards the layers are as before: weights, buffers, gradients, modes and torch's random
    state. Give `device` to run them elsewhere: they are moved there for the measurement and put
    back where they were.

    Args:
        layers: modules that each turn one tensor into one tensor; a `Decoder` is a sequence of
            them.
        sample: the input of the first layer, in the size that is to be timed: one micro-batch.
        device: where to run; None means where each layer is.

    Raises:
        ValueError: there are no layers, or one fails, which the message names by its index.

    >>> linear, relu = profile([nn.Linear(8, 4), nn.ReLU()], torch.ones(2, 8))
    >>> linear.parameters, linear.forward_flops, linear.boundary_bytes
    (36, 128, 32)
    >>> linear.activation_bytes, relu.activation_bytes   # ReLU keeps its output
    (0, 32)
    """
    layers = list(layers)
    _check(layers, sample)
    place = None if device is None else as_device(device)
    costs: list[LayerCost] = []
    counted: set[nn.Parameter] = set()
    with _put_back(layers, place, sample.device):
        for index, layer in enumerate(layers):
            new = set(layer.parameters()) - counted
            counted |= new
            try:
                sample = sample.to(place or _place_of(layer, sample)).detach()
                cost, sample = _measure(layer, sample, new, wants_gradient=index > 0)
            except Exception as error:
                raise ValueError(
                    f"layer {index} ({type(layer).__name__}) on an input of shape "
                    f"{tuple(sample.shape)}, {sample.dtype}: {error}"
                ) from error
            costs.append(cost)
    return costs


def compute_weights(layers: Iterable[nn.Module]) -> list[float]:
    """Return a cost for each layer without running it: the weights it multiplies by, plus 1.

    These are the parameters with at least two dimensions, except those of `nn.Embedding`, which
    are looked up. A linear layer takes 2 floating-point operations a position for each of them,
    so this stands in for seconds where nothing has been measured. It leaves out the pairs of
    positions in attention, and that a convolution uses a weight many times. A weight shared
    with an embedding counts where it multiplies. The 1 keeps every layer from being free.

    >>> compute_weights([nn.Embedding(100, 8), nn.Linear(8, 16), nn.ReLU()])
    [1.0, 129.0, 1.0]
    """
    return [1.0 + sum(map(_multiplied, layer.modules())) for layer in layers]


def _multiplied(module: nn.Module) -> int:
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return 0
    return sum(p.numel() for p in module.parameters(recurse=False) if p.dim() >= 2)


def _check(layers: Sequence[object], sample: object) -> None:
    if not layers:
        raise ValueError(
            "0 layers: a profile needs at least 1; pass the layers of a model, such as model.layers"
        )
    for index, layer in enumerate(layers):
        if not isinstance(layer, nn.Module):
            raise ValueError(f"layer {index} is a {type(layer).__name__}: pass torch modules")
    if not isinstance(sample, Tensor):
        raise ValueError(
            f"the sample is a {type(sample).__name__}: pass the tensor that the first layer takes"
        )


@contextmanager
def _put_back(
    layers: Sequence[nn.Module], place: torch.device | None, start: torch.device
) -> Iterator[None]:
    """Move the layers to `place`, and in the end put back everything that a run can change."""
    weights = list(dict.fromkeys(p for layer in layers for p in layer.parameters()))
    buffers = list(dict.fromkeys(b for layer in layers for b in layer.buffers()))
    gradients = [weight.grad for weight in weights]
    data = [tensor.data for tensor in (*weights, *buffers)]
    places = {place, start, *(tensor.device for tensor in (*weights, *buffers))}
    gpus = [device for device in places if device is not None and device.type == "cuda"]
    with torch.random.fork_rng(gpus), torch.enable_grad():
        try:
            for weight in weights:
                weight.grad = None
                weight.data = weight.data.to(place or weight.device)
            for buffer in buffers:  # a copy: BatchNorm writes into its buffers
                buffer.data = buffer.data.to(place or buffer.device, copy=True)
            yield
        finally:
            for weight in weights:
                weight.grad = None
            for tensor, before in zip((*weights, *buffers), data, strict=True):
                tensor.data = before
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient


def _place_of(layer: nn.Module, sample: Tensor) -> torch.device:
    tensors = (*layer.parameters(), *layer.buffers(), sample)
    return tensors[0].device


def _measure(
    layer: nn.Module, inputs: Tensor, new: Iterable[nn.Parameter], wants_gradient: bool
) -> tuple[LayerCost, Tensor]:
    """Return the cost of a layer, to which the parameters `new` are charged, and its output."""
    entry = _entry(inputs, wants_gradient)
    output, held = Footprint([layer]).measure(entry, lambda: _one_tensor(layer(entry)))
    flops = _count_flops(layer, inputs)
    forward, backward = _time(layer, inputs, wants_gradient)
    new = list(new)
    cost = LayerCost(
        name=type(layer).__name__,
        parameters=sum(weight.numel() for weight in new),
        parameter_bytes=sum(weight.nbytes for weight in new),
        activation_bytes=held - entry.nbytes,
        boundary_bytes=output.nbytes,
        forward_flops=flops,
        forward_seconds=forward,
        backward_seconds=backward,
    )
    return cost, output.detach()


def _entry(inputs: Tensor, wants_gradient: bool) -> Tensor:
    """Return a fresh input that a layer may even overwrite."""
    leaf = inputs.detach().requires_grad_(wants_gradient and inputs.is_floating_point())
    return leaf.clone()


def _one_tensor(output: object) -> Tensor:
    if not isinstance(output, Tensor):
        raise ValueError(
            f"it returns a {type(output).__name__}, and a layer hands 1 tensor to the next; "
            "wrap it in a module that returns the tensor alone"
        )
    return output


def _count_flops(layer: nn.Module, inputs: Tensor) -> int:
    # Torch's counter leaves out the attention kernel that it uses on a CPU.
    missing = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    counter = FlopCounterMode(display=False, custom_mapping=missing)
    with torch.no_grad(), counter:
        layer(inputs.clone())
    return counter.get_total_flops()


def _attention_flops(query: Sizes, key: Sizes, value: Sizes, *_: object, **__: object) -> int:
    """Count scores and mixing for queries (B, H, T, D), keys (B, H, S, D), values (B, H, S, E)."""
    batch, heads, positions, width = query
    return 2 * batch * heads * positions * key[2] * (width + value[3])


def _time(layer: nn.Module, inputs: Tensor, wants_gradient: bool) -> tuple[float, float]:
    """Return the median seconds of a forward and of a backward."""
    forward, backward = [], []
    for _ in range(WARM_UPS + RUNS):
        entry = _entry(inputs, wants_gradient)
        begin = _now(inputs.device)
        output = layer(entry)
        forward.append(_now(inputs.device) - begin)
        backward.append(_time_backward(output))
    return statistics.median(forward[WARM_UPS:]), statistics.median(backward[WARM_UPS:])


def _time_backward(output: Tensor) -> float:
    if not output.requires_grad:
        return 0.0
    gradient = torch.ones_like(output)
    begin = _now(output.device)
    torch.autograd.backward(output, gradient)
    return _now(output.device) - begin


def _now(device: torch.device) -> float:
    synchronize([device])
    return time.perf_counter()
