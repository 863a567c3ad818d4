"""A loss that is NaN or infinite: where it began."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from d2lpart.stages.microbatch import Batch
from d2lpart.stages.stage import Key, Stage


def check_loss(loss: float, stages: Sequence[Stage], batch: Batch, key: Key) -> None:
    """Raise a ValueError if the loss is not finite.

    The forward of the first bad micro-batch is run once more, with the same dropout, to name the
    layer in whose output the first bad number appears.
    """
    if math.isfinite(loss):
        return
    bad = [k for k, kept in sorted(batch.kept.items()) if not torch.isfinite(kept.loss)]
    microbatch = bad[0] if bad else 0
    with torch.no_grad():
        began = _origin(stages, batch.input(microbatch), (*key, microbatch))
    raise ValueError(
        f"the loss is {loss} in micro-batch {microbatch}: {began}. The gradients are left as they "
        f"were before this step"
    )


def _origin(stages: Sequence[Stage], activation: Tensor, key: Key) -> str:
    if not _finite(activation):
        return "it began in the inputs, which hold NaN or infinite numbers"
    for stage in stages:
        for number, layer, activation in stage.walk(activation.to(stage.device), key):  # noqa: B020
            if not _finite(activation):
                weights = [name for name, w in layer.named_parameters() if not _finite(w)]
                cause = f", whose weight {weights[0]} is not finite" if weights else ""
                name = type(layer).__name__
                return f"it began in layer {number} ({name}) of stage {stage.index}{cause}"
    return "the outputs of all layers are finite, so it began in loss_fn"


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
