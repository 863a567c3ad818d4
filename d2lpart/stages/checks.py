"""What a pipeline refuses, and why: layers that cannot be cut, inputs that do not fit."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from d2lpart.common.arguments import check_kind
from d2lpart.stages.layer_parts import parts
from d2lpart.stages.stage import Stage
from d2lpart.timelines.spans import Link

COMPUTES = (
    "and a pipeline computes: use a real device, or cost the layers without running them, by "
    "profile(layers, sample, device='meta') and at_rate"
)


def check_numbers(layers: Iterable[nn.Module]) -> None:
    """Raise if a layer has a weight or a buffer without numbers."""
    for number, layer in enumerate(layers):
        for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
            if tensor.is_meta:
                raise ValueError(
                    f"{name} of layer {number} ({type(layer).__name__}) is on the device meta, "
                    f"which holds no numbers, {COMPUTES}; layer.to_empty(device='cpu') makes room "
                    f"for weights that are then to be set"
                )


def check_batch_independence(
    layers: Iterable[nn.Module], num_microbatches: int, recompute: bool
) -> None:
    """Raise if a layer's result depends on the whole mini-batch, but it is not to see it once."""
    for number, layer in enumerate(layers):
        for module in parts([layer]):
            if not isinstance(module, _BatchNorm):
                continue
            counts, has_counted = module.training, module.running_mean is not None
            if has_counted and not counts:
                continue
            mode = "in training mode" if counts else "without running statistics"
            holds = f"layer {number} holds {type(module).__name__} {mode}"
            if num_microbatches > 1:
                raise ValueError(
                    f"{holds}: it normalises by the statistics of the whole mini-batch, but would "
                    f"see {num_microbatches} micro-batches one by one, and the gradients would "
                    f"differ; use LayerNorm or GroupNorm, layer.eval(), or num_microbatches=1"
                )
            if recompute and has_counted:
                raise ValueError(
                    f"{holds}: it would count the mini-batch 2 times in its running statistics, "
                    f"since recompute runs the forward 2 times; use LayerNorm or GroupNorm, "
                    f"layer.eval(), probe=True or recompute=False"
                )


def check_stage_inputs(stages: Sequence[Sequence[nn.Module]]) -> None:
    """Raise if a stage begins by overwriting the activation that the stage before it made."""
    for number, layers in enumerate(stages):
        first = next(_in_order(layers), None)
        if number and getattr(first, "inplace", False):
            raise ValueError(
                f"stage {number} begins with {type(first).__name__}(inplace=True), which "
                f"overwrites what stage {number - 1} has made and may still need: use "
                f"inplace=False, or cut one layer later"
            )


def check_options(loss_fn: object, link: object, seed: object) -> None:
    """Raise unless the options of a pipeline are of the kinds it takes."""
    if loss_fn is not None and not callable(loss_fn):
        raise ValueError(f"loss_fn is {loss_fn!r}: give a function of outputs and targets, or None")
    if not isinstance(link, Link):
        raise ValueError(f"link is {link!r}: give a Link(latency, bandwidth)")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise ValueError(f"seed is {seed!r}: give a whole number, or None")


def check_inputs(inputs: object, targets: object, first: Stage) -> None:
    """Raise unless both are tensors, and `inputs` has the device and type of the first stage."""
    for name, value in (("inputs", inputs), ("targets", targets)):
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} is {type(value).__name__}: give a torch.Tensor")
        _check_real(name, value)
    if targets is not inputs and targets.requires_grad:  # type: ignore[attr-defined]
        raise ValueError(
            "targets want a gradient, but a step hands none on to them: pass targets.detach()"
        )
    assert isinstance(inputs, Tensor)
    check_device(inputs, first)
    _check_dtype(inputs, first)


def check_device(inputs: object, first: Stage) -> None:
    """Raise unless the inputs are a tensor where the first stage is."""
    check_kind(inputs, Tensor, "give the inputs of the first layer")
    assert isinstance(inputs, Tensor)
    _check_real("inputs", inputs)
    if inputs.device != first.device:
        raise ValueError(
            f"inputs are on {inputs.device}, but stage 0 is on {first.device}: "
            f"pass inputs.to({str(first.device)!r})"
        )


def _check_real(name: str, tensor: Tensor) -> None:
    if tensor.is_meta:
        raise ValueError(f"{name} is on the device meta, which holds no numbers: use a real one")


def _check_dtype(inputs: Tensor, first: Stage) -> None:
    """Raise where the first weights that the inputs meet cannot take their type.

    Only torch's own modules are judged: what others do with their inputs cannot be seen.
    """
    meets = next((m for m in _in_order(first.layers) if not _passes_on(m)), None)
    name = type(meets).__name__
    if isinstance(meets, nn.Embedding | nn.EmbeddingBag) and inputs.is_floating_point():
        raise ValueError(
            f"inputs are {inputs.dtype}, but {name} comes first, which looks up whole numbers: "
            f"pass token numbers as torch.int64 (inputs.long())"
        )
    if isinstance(meets, nn.Linear | _ConvNd) and not torch.is_autocast_enabled(inputs.device.type):
        dtype = next(meets.parameters()).dtype
        if inputs.dtype != dtype:
            raise ValueError(
                f"inputs are {inputs.dtype}, but {name} comes first, whose weights are {dtype}: "
                f"pass inputs.to({dtype})"
            )


def _in_order(layers: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Yield the modules that run one after another."""
    for layer in layers:
        if type(layer) is nn.Sequential:
            yield from _in_order(layer)
        else:
            yield layer


def _passes_on(module: nn.Module) -> bool:
    """Say whether this is a module of torch without weights, which keeps the type of its input."""
    return type(module).__module__.startswith("torch.nn.") and not list(module.parameters())
