"""What each layer costs: parameters, floating-point operations, bytes held, measured seconds."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from d2lpart.common.arguments import check_whole
from d2lpart.common.quantities import count
from d2lpart.costs.layer_cost import SPLIT_F, LayerCost, Quartiles
from d2lpart.costs.layer_facts import (
    UNKNOWN_WITHOUT_NUMBERS,
    Charge,
    charges,
    facts_of,
    fake,
    without_numbers,
)
from d2lpart.costs.layer_times import Chain, Times
from d2lpart.costs.loss_facts import CountedLoss, on_fakes, with_logarithms
from d2lpart.machine.hardware import as_device, threads_per_rank
from d2lpart.machine.transfer import Place
from d2lpart.models.layers import listed
from d2lpart.stages.losses import LossFunction, cross_entropy
from d2lpart.stages.microbatch import Batch


def profile(
    layers: Iterable[nn.Module],
    sample: Tensor,
    device: torch.device | str | None = None,
    *,
    targets: Tensor | None = None,
    loss_fn: LossFunction | None = None,
    ranks: int = 1,
    passes: int = 3,
) -> list[LayerCost]:
    """Run the layers one after another on a sample, and return what each of them costs.

    Each layer gets the detached output of the one before, in the mode (training or evaluation)
    that it is in. First it is looked at: weights, bytes, operations. Then all layers are timed, in
    sequence as in a step: forwards from the first to the last, backwards from the last to the
    first, with two micro-batches in flight; once to warm up, then `passes` times with B and as
    often with I and W. The seconds are medians. On CUDA they are those between events in the
    stream.
    Weights have gradients already, to which the new ones are added. A layer's input wants a
    gradient if a layer before it learns.

    A compiled layer is looked at uncompiled, and timed as it is. Where a backward has no halves (a
    checkpoint with `use_reentrant=True`) all of it is I, and W takes no time.

    With `targets` the last layer's seconds include the loss, forward and backward, since the loss
    runs where the last layer runs, and `loss_bytes` is what the loss keeps. Without, its backward
    starts from ones, and `loss_bytes` is what cross-entropy would keep.

    Types are those of the moment: profile in the `torch.autocast` that the step will run in. Bytes
    found outside of it, or inside where the step runs without, are those of another step.

    Afterwards the layers are as before: weights, buffers, gradients, modes and torch's random
    state. Give `device` to run them elsewhere: they are moved there for the measurement and put
    back where they were. While it is timed, a step's gradients and its activations of one
    micro-batch are held.

    On the device meta nothing runs and no memory is needed: where layers or sample are on meta, or
    `device="meta"`, everything but the seconds is what it would be on a CPU, and the seconds are
    None; `at_rate` computes some. The autocast to enter there is therefore the CPU's. A loss that
    has to read numbers, such as one with a mask, counts as cross-entropy there.

    Args:
        layers: modules that each turn one tensor into one tensor; a `Decoder` is a sequence of
            them.
        sample: the input of the first layer, in the size that is to be timed: one micro-batch.
        device: where to run; None means where each layer is.
        targets: of the sample, as `Pipeline.step` takes them.
        loss_fn: as `Pipeline` takes it; by default cross-entropy.
        ranks: how many ranks are going to share the CPU: its threads are divided among them, as
            in a `Pipeline`.
        passes: how often all layers are timed; each pass gives two numbers for a median.

    Raises:
        ValueError: there are no layers; one fails, which the message names by its index; or
            autocast is on for a GPU where layers on meta pass for a CPU's.

    >>> linear, relu = profile([nn.Linear(8, 4), nn.ReLU()], torch.ones(2, 8))
    >>> linear.parameters, linear.forward_flops, linear.boundary_bytes
    (36, 128, 32)
    >>> linear.activation_bytes, relu.activation_bytes   # ReLU keeps its output
    (0, 32)
    """
    layers = listed(layers)
    _check(sample, targets, loss_fn, ranks=ranks, passes=passes)
    charged, wants = charges(layers), _wants(layers)
    if _on_meta(layers, sample, device):
        _check_autocast()
        with without_numbers(layers), torch.enable_grad():
            costs, _, outputs = _facts(layers, fake(sample), charged, wants)
            costs[-1] = on_fakes(costs[-1], outputs, targets, loss_fn or cross_entropy)
            return costs
    place = None if device is None else as_device(device)
    with _put_back(layers, place, sample.device):
        costs, where, outputs = _facts(layers, sample, charged, wants, place)
        finish, costs[-1] = None, with_logarithms(costs[-1], outputs)
        del outputs
        if targets is not None:
            batch = Batch(sample, targets.to(where[-1]), 1, loss_fn or cross_entropy)
            finish = CountedLoss(partial(batch.loss, 0), batch.targets)
        places = {device: Place(device) for device in where}
        chain = Chain(layers, [places[device] for device in where], sample, wants, finish)
        threads = threads_per_rank([where[0]] * ranks)
        times = chain.time(passes, threads)
        if finish is not None:
            costs[-1] = finish.beside(costs[-1])
    return [
        _with_seconds(cost, own, _words(device, 2 * passes, threads))
        for cost, own, device in zip(costs, times, where, strict=True)
    ]


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


def _check(sample: object, targets: object, loss_fn: object, **counts: object) -> None:
    if not isinstance(sample, Tensor):
        raise ValueError(
            f"the sample is a {type(sample).__name__}: pass the tensor that the first layer takes"
        )
    if not (targets is None or isinstance(targets, Tensor)):
        raise ValueError(f"targets is a {type(targets).__name__}: pass a tensor, or leave it out")
    if loss_fn is not None and targets is None:
        raise ValueError(
            "loss_fn is given, but no targets: the loss is timed on both; pass targets=, too"
        )
    for name, number in counts.items():
        check_whole(name, number)


def _wants(layers: Sequence[nn.Module]) -> list[bool]:
    """Say for each layer whether its input wants a gradient: whether a layer before it learns."""
    learns = [any(weight.requires_grad for weight in layer.parameters()) for layer in layers]
    return [any(learns[:index]) for index in range(len(layers))]


def _on_meta(
    layers: Sequence[nn.Module], sample: Tensor, device: torch.device | str | None
) -> bool:
    tensors = [sample, *(t for layer in layers for t in (*layer.parameters(), *layer.buffers()))]
    named = device is not None and str(device).partition(":")[0] == "meta"
    return named or (device is None and any(tensor.is_meta for tensor in tensors))


def _check_autocast() -> None:
    """Refuse an autocast that layers on meta would not notice."""
    others = [kind for kind in ("cuda", "xpu", "mps") if torch.is_autocast_enabled(kind)]
    if others and not torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype(others[0])
        raise ValueError(
            f"autocast is on for {others[0]} alone, and layers on meta are costed as on a CPU: "
            f'profile them in torch.autocast("cpu", dtype={dtype})'
        )


def _facts(
    layers: Sequence[nn.Module],
    sample: Tensor,
    charged: Sequence[Charge],
    wants: Sequence[bool],
    place: torch.device | None = None,
) -> tuple[list[LayerCost], list[torch.device], Tensor]:
    """Return the costs of the layers, without seconds, where they are, and the last output."""
    costs, where = [], []
    for index, layer in enumerate(layers):
        try:
            where.append(place or _place_of(layer, sample))
            sample = sample.to(where[-1])
            cost, sample = facts_of(layer, sample, wants[index], charged[index])
        except UNKNOWN_WITHOUT_NUMBERS as error:
            raise ValueError(
                f"layer {index} ({type(layer).__name__}) needs real numbers: what it makes depends "
                f"on the values in its input ({error}), and on meta there are none; profile layers "
                f"and sample on a real device"
            ) from error
        except Exception as error:
            raise ValueError(
                f"layer {index} ({type(layer).__name__}) on an input of shape "
                f"{tuple(sample.shape)}, {sample.dtype}: {error}"
            ) from error
        costs.append(cost)
    return costs, where, sample


def _place_of(layer: nn.Module, sample: Tensor) -> torch.device:
    tensors = (*layer.parameters(), *layer.buffers(), sample)
    return tensors[0].device


def _with_seconds(cost: LayerCost, times: Times, timing: str) -> LayerCost:
    median = {kind: statistics.median(seconds) for kind, seconds in times.items()}
    return replace(
        cost,
        forward_seconds=median["F"],
        backward_seconds=median["B"],
        split_forward_seconds=median[SPLIT_F],
        input_seconds=median["I"],
        weight_seconds=median["W"],
        forward_spread=_quartiles(times["F"]),
        backward_spread=_quartiles(times["B"]),
        timing=timing,
    )


def _quartiles(seconds: Sequence[float]) -> Quartiles:
    first, _, third = statistics.quantiles(seconds, n=4, method="inclusive")
    return first, third


def _words(device: torch.device, runs: int, threads: int) -> str:
    at_once = f" with {count(threads, 'thread')}" if device.type == "cpu" else ""
    return f"measured on {device}{at_once}, median of {runs} runs"


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
