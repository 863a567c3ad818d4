"""A mini-batch cut into micro-batches, and the loss that makes their gradients add up to its own.

The mean over a micro-batch is weighed by its share of what counts in the mini-batch, by the rule of
its loss (`losses`). A loss function that returns a pair (sum, count) does the weighing itself; then
the sums are added, and the gradients are divided by the whole count at the end of the step.
"""

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from d2lpart.common.quantities import count
from d2lpart.stages.losses import LossFunction, is_loss, rule_of

_now = threading.local()


def microbatch_share() -> float:
    """Return which part of the mini-batch the micro-batch counts for that a layer computes now.

    The shares of all micro-batches add up to 1; outside a pipeline's step it is 1. A gradient that
    a layer adds in its own backward (of an auxiliary loss, such as the load balance of a mixture of
    experts) is added for each micro-batch: times this share it is that of the mini-batch, whatever
    m is. Where loss_fn returns a pair, it is divided by the whole count with all others.

    >>> microbatch_share()
    1.0
    """
    return getattr(_now, "share", 1.0)


@contextmanager
def sharing(share: float) -> Iterator[None]:
    """Let `microbatch_share` return this on the calling thread."""
    before = microbatch_share()
    _now.share = share
    try:
        yield
    finally:
        _now.share = before


class Kept(NamedTuple):
    """The loss of one micro-batch: a mean over a number of targets, a pair's sum, or a sum."""

    loss: Tensor
    number: Tensor | float
    form: str  # "mean", "pair" or "sum"


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
    scale: Callable[[Tensor], Tensor] = lambda loss: loss  # what the backward starts from
    outputs: dict[int, Tensor] | None = None  # None: they are not kept
    hold: Callable[[Tensor], object] = lambda outputs: None  # counts those that are kept
    holds: list[object] = field(default_factory=list)

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
        self._rule = rule_of(self.loss_fn)
        counts = self._rule.counts(self.targets).tensor_split(self.num_microbatches)
        self.weights = [part.sum().item() for part in counts]
        self._whole = sum(self.weights)
        if not self._whole:
            weightless = " or of a class of weight 0" if self._rule.weighted else ""
            raise ValueError(
                f"all {self.targets.numel()} targets are {self._rule.leaves_out}{weightless}, so "
                f"no target counts: give at least one target to learn from"
            )

    def share(self, microbatch: int) -> float:
        """Return which part of all that counts in the mini-batch is in this micro-batch."""
        return self.weights[microbatch] / self._whole

    def skipped(self, microbatch: int) -> bool:
        """Say whether no target of this micro-batch counts, so that it has nothing to teach."""
        return self.weights[microbatch] == 0

    def input(self, microbatch: int) -> Tensor:
        """Return the inputs of one micro-batch."""
        return self._inputs[microbatch]

    def target(self, microbatch: int) -> Tensor:
        """Return the targets of one micro-batch."""
        return self._targets[microbatch]

    def loss(self, microbatch: int, outputs: Tensor) -> Tensor:
        """Return what the backward of this micro-batch starts from; the loss itself is kept.

        Raises:
            ValueError: the loss function returned something else than a scalar or a pair.
        """
        if self.outputs is not None and microbatch not in self.outputs:  # recompute comes twice
            self.outputs[microbatch] = outputs.detach().clone()  # loss_fn may overwrite them
            self.holds.append(self.hold(self.outputs[microbatch]))
        return self.scale(self._loss(microbatch, outputs))

    def joined(self, run: Callable[[int], Tensor]) -> Tensor | None:
        """Return the outputs of the mini-batch, if they are kept; `run` makes those not made."""
        if self.outputs is None:
            return None
        with torch.no_grad():
            for k in range(self.num_microbatches):
                if k not in self.outputs:
                    with sharing(self.share(k)):
                        self.outputs[k] = run(k)
                    self.holds.append(self.hold(self.outputs[k]))
            parts = [self.outputs[k] for k in range(self.num_microbatches)]
            return torch.cat([torch.atleast_1d(part) for part in parts])

    def _loss(self, microbatch: int, outputs: Tensor) -> Tensor:
        result = self.loss_fn(outputs, self._targets[microbatch].to(outputs.device))
        if isinstance(result, tuple) and len(result) == 2:
            loss, number = result
            if is_loss(result) or not is_loss(loss):  # else it is a loss and something that is none
                return self._keep(microbatch, loss, number, "pair")
        if self._rule.adds:
            return self._keep(microbatch, result, 1, "sum")
        return self._keep(microbatch, result, self.weights[microbatch], "mean") * self.share(
            microbatch
        )

    def _keep(self, microbatch: int, loss: object, number: Tensor | float, form: str) -> Tensor:
        if not isinstance(loss, Tensor) or loss.dim() != 0:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(
                f"the loss is not a scalar: loss_fn returned {got}; return the mean over the "
                f"micro-batch, such as loss.mean(), or a pair (sum, count) of scalars"
            )
        self.learns = self.learns or loss.requires_grad
        self.kept[microbatch] = Kept(loss.detach(), number, form)
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
        means = sum(k.form == "mean" for k in kept)
        if 0 < means < len(kept):
            raise ValueError(
                f"loss_fn returned a mean for {count(means, 'micro-batch')} and a pair (sum, "
                f"count) for {len(kept) - means}: return the same of the two for all"
            )
        total = _sum(float(k.loss) * (float(k.number) if means else 1.0) for k in kept)
        if self._rule.adds:
            return total, 1.0
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
