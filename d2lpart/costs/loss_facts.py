"""What the loss keeps of one micro-batch for its backward, beside what the last layer keeps.

Under autocast that is more than the logits: they may have 16 bits, and the loss is computed in 32.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from d2lpart.costs.layer_cost import LayerCost
from d2lpart.costs.layer_facts import UNKNOWN_WITHOUT_NUMBERS, fake
from d2lpart.stages.footprint import storage_of, weight_of
from d2lpart.stages.losses import LossFunction
from d2lpart.stages.saved import Saved


class CountedLoss:
    """A loss as a function of the outputs, which counts in its first call what autograd saves.

    Numbers alone do not count, nor do the targets, which lie there throughout the step.

    Args:
        loss: the loss.
        targets: what it compares with.
    """

    def __init__(self, loss: Callable[[Tensor], Tensor], targets: Tensor) -> None:
        self._loss, self._targets = loss, targets
        self._known: tuple[int, int] | None = None  # without the outputs, and what they add

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the loss of outputs (B, …)."""
        if self._known is not None:
            return self._loss(outputs)
        seen: list[Tensor] = []
        with Saved(lambda tensor: seen.append(tensor.detach()), splits=False).saving():
            loss = self._loss(outputs)
        storages = {
            storage_of(tensor): tensor.untyped_storage().nbytes()
            for tensor in seen
            if tensor.dim() and weight_of(tensor) is None
        }
        storages.pop(storage_of(self._targets), None)
        kept = storages.pop(storage_of(outputs), None) is not None
        self._known = sum(storages.values()), outputs.nbytes if kept else 0
        return loss

    def beside(self, last: LayerCost) -> LayerCost:
        """Return the cost of the last layer, with what the loss keeps beyond it."""
        assert self._known is not None, "a profile calls the loss"
        own, output = self._known
        return replace(last, loss_bytes=own + (0 if last.keeps_output else output))


def with_logarithms(last: LayerCost, outputs: Tensor) -> LayerCost:
    """Return the cost of the last layer, with what cross-entropy keeps of its outputs (…, V).

    That is the logarithm of each probability, in at least 32 bits under autocast.
    """
    kind = outputs.dtype
    if torch.is_autocast_enabled(outputs.device.type) and kind.is_floating_point:
        kind = torch.promote_types(kind, torch.float32)
    return replace(last, loss_bytes=outputs.numel() * kind.itemsize)


def on_fakes(
    last: LayerCost, outputs: Tensor, targets: Tensor | None, loss_fn: LossFunction
) -> LayerCost:
    """Return the cost of the last layer, with what the loss keeps, inside a `FakeTensorMode`.

    Fakes have no numbers; where the loss has to read some, it counts as cross-entropy.
    """
    if targets is None:
        return with_logarithms(last, outputs)
    wanted = fake(targets)

    def loss(outputs: Tensor) -> Tensor:
        result = loss_fn(outputs, wanted)
        return result[0] if isinstance(result, tuple) else result

    counted = CountedLoss(loss, wanted)
    try:
        counted(outputs.detach().requires_grad_(outputs.is_floating_point()))
    except UNKNOWN_WITHOUT_NUMBERS:
        return with_logarithms(last, outputs)
    return counted.beside(last)
