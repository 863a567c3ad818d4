"""What a pipeline refuses, and why: layers that cannot be cut, inputs that do not fit."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from d2lpart.stage import Stage


def check_layers(layers: Sequence[object]) -> None:
    """Raise unless `layers` is a list of modules with at least one in it."""
    if not layers:
        raise ValueError("there are no layers: give at least one module")
    for number, layer in enumerate(layers):
        if not isinstance(layer, nn.Module):
            raise ValueError(
                f"layer {number} is {type(layer).__name__}, not a torch.nn.Module: wrap a function "
                f"in a module, and give the layers as a list or an nn.Sequential"
            )


def check_batch_independence(layers: Iterable[nn.Module], num_microbatches: int) -> None:
    """Raise if a layer's result depends on the whole mini-batch, but is to see slices of it."""
    for number, layer in enumerate(layers):
        for module in layer.modules():
            if isinstance(module, _BatchNorm) and module.training and num_microbatches > 1:
                raise ValueError(
                    f"layer {number} holds {type(module).__name__} in training mode: it normalises "
                    f"by the statistics of the whole mini-batch, but would see {num_microbatches} "
                    f"micro-batches one by one, and the gradients would differ; use LayerNorm or "
                    f"GroupNorm, layer.eval(), or num_microbatches=1"
                )


def check_inputs(inputs: object, targets: object, first: Stage) -> None:
    """Raise unless both are tensors, and `inputs` has the device and type of the first stage."""
    for name, value in (("inputs", inputs), ("targets", targets)):
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} is {type(value).__name__}: give a torch.Tensor")
        if value.device.type == "meta":
            raise ValueError(
                f"{name} is on the device meta, which holds no numbers: use a real one"
            )
    assert isinstance(inputs, Tensor)
    check_device(inputs, first)
    _check_dtype(inputs, first)


def check_device(inputs: Tensor, first: Stage) -> None:
    """Raise unless the inputs are where the first stage is."""
    if inputs.device != first.device:
        raise ValueError(
            f"inputs are on {inputs.device}, but stage 0 is on {first.device}: "
            f"pass inputs.to({str(first.device)!r})"
        )


def _check_dtype(inputs: Tensor, first: Stage) -> None:
    """Raise where the first module that has weights cannot take inputs of this type."""
    with_weights = (m for layer in first.layers for m in layer.modules() if m._parameters)
    module = next(with_weights, None)
    weight = (
        next((w for w in module._parameters.values() if w is not None), None) if module else None
    )
    if weight is None:
        return
    name, floating = type(module).__name__, inputs.is_floating_point()
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        if floating:
            raise ValueError(
                f"inputs are {inputs.dtype}, but layer 0 begins with {name}, which looks up whole "
                f"numbers: pass token numbers as torch.int64 (inputs.long())"
            )
    elif inputs.dtype != weight.dtype and not torch.is_autocast_enabled(inputs.device.type):
        raise ValueError(
            f"inputs are {inputs.dtype}, but layer 0 begins with {name}, whose weights are "
            f"{weight.dtype}: pass inputs.to({weight.dtype})"
        )
