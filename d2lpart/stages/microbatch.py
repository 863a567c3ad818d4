"""A mini-batch cut into micro-batches, and the loss that makes their gradients add up to its own.

A full-batch backward takes the mean over all that counts. The mean over a micro-batch is therefore
weighed by its share of what counts: targets that are not −100 where targets are integers, samples
elsewhere. A loss function that returns a pair (sum, count) does the weighing itself; then the sums
are added, and the gradients are divided by the whole count at the end of the step.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from d2lpart.common.quantities import count

IGNORED = -100  # the target that cross-entropy leaves out

LossFunction = Callable[[Tensor, Tensor], Tensor | tuple[Tensor, Tensor | float]]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits (…, V) against integer targets (…)."""
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), ignore_index=IGNORED)


class Kept(NamedTuple):
    """The loss of one micro-batch: a mean or a sum over a number of targets."""

    loss: Tensor
    number: Tensor | float
    mean: bool


@dataclass
class Batch:
    """The micro-batches of one step, and the losses that come of them.

    Args:
        inputs, targets: tensors whose first dimension counts samples; the inputs on the device of
            the first stage, the targets on that of the last.
        num_microbatches: m; the sizes differ by at most one sample.
        loss_fn: as `Pipeline` takes it.
    """

    inputs: Tensor
    targets: Tensor
    num_microbatches: int
    loss_fn: LossFunction
    kept: dict[int, Kept] = field(default_factory=dict)
    learns: bool = False

    def __post_init__(self) -> None:
        samples = self.inputs.shape[0] if self.inputs.dim() else 0
        if samples != (self.targets.shape[0] if self.targets.dim() else 0) or not samples:
            raise ValueError(
                f"inputs of shape {tuple(self.inputs.shape)} and targets of shape "
                f"{tuple(self.targets.shape)}: the first dimension counts the samples, and must be "
                f"the same in both and at least 1"
            )
        if self.num_microbatches > samples:
            raise ValueError(
                f"{count(self.num_microbatches, 'micro-batch')} for {count(samples, 'sample')}: "
                f"each micro-batch needs at least one sample; use at most "
                f"{count(samples, 'micro-batch')}"
            )
        self._inputs = self.inputs.detach().tensor_split(self.num_microbatches)
        self._targets = self.targets.tensor_split(self.num_microbatches)
        counts = self._counts().tensor_split(self.num_microbatches)
        self.weights = [int(part.sum()) for part in counts]
        self._whole = sum(self.weights)
        if not self._whole:
            raise ValueError(
                f"all {self.targets.numel()} targets are {IGNORED}, so no target counts: give at "
                f"least one target to learn from"
            )

    def _counts(self) -> Tensor:
        """Return how much of each sample counts, on the CPU."""
        samples, kind = self.targets.shape[0], self.targets.dtype
        if kind.is_floating_point or kind.is_complex or kind == torch.bool:
            return torch.ones(samples, dtype=torch.long)
        counted = self.targets.long() != IGNORED  # as a byte, −100 would be class 156
        return counted.reshape(samples, -1).sum(dim=1).cpu()

    def skipped(self, microbatch: int) -> bool:
        """Say whether no target of this micro-batch counts, so that it has nothing to teach."""
        return self.weights[microbatch] == 0

    def input(self, microbatch: int) -> Tensor:
        """Return the inputs of one micro-batch."""
        return self._inputs[microbatch]

    def loss(self, microbatch: int, outputs: Tensor) -> Tensor:
        """Return what the backward of this micro-batch starts from; the loss itself is kept.

        Raises:
            ValueError: the loss function returned something else than a scalar or a pair.
        """
        result = self.loss_fn(outputs, self._targets[microbatch])
        if isinstance(result, tuple) and len(result) == 2:
            return self._keep(microbatch, *result, mean=False)
        weight = self.weights[microbatch]
        return self._keep(microbatch, result, weight, mean=True) * (weight / self._whole)

    def _keep(self, microbatch: int, loss: object, number: Tensor | float, *, mean: bool) -> Tensor:
        if not isinstance(loss, Tensor) or loss.dim() != 0:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(
                f"the loss is not a scalar: loss_fn returned {got}; return the mean over the "
                f"micro-batch, such as loss.mean(), or a pair (sum, count) of scalars"
            )
        self.learns = self.learns or loss.requires_grad
        self.kept[microbatch] = Kept(loss.detach(), number, mean)
        return loss

    def total(self) -> tuple[float, float]:
        """Return the loss of the mini-batch, and what its gradients have yet to be divided by.

        Raises:
            ValueError: nothing counts, means and sums are mixed, or no gradient leads from the loss
                to the outputs.
        """
        if not self.learns:
            raise ValueError(
                "no gradient leads back from the loss: loss_fn must compute it from the outputs by "
                "torch operations, without detach(), item() or no_grad()"
            )
        kept = self.kept.values()
        means = sum(k.mean for k in kept)
        if 0 < means < len(kept):
            raise ValueError(
                f"loss_fn returned a mean for {count(means, 'micro-batch')} and a pair (sum, "
                f"count) for {len(kept) - means}: return the same of the two for all"
            )
        total = _sum(float(k.loss) * (float(k.number) if k.mean else 1.0) for k in kept)
        number = _sum(float(k.number) for k in kept)
        if number == 0:
            raise ValueError("loss_fn counted 0 in every micro-batch: there is no mean to take")
        return total / number, 1.0 if means else number


def _sum(values: Iterable[float]) -> float:
    """Return the exact sum, rounded once; of numbers without one what adding them up gives."""
    values = list(values)
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # too large, or ∞ − ∞
        return sum(values)
