"""What split layers and replicas have in common: layers that bear copying, and a step's result."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from d2lpart.splits.collectives import Traffic
from d2lpart.stages.generators import UnkeyedDraw, nothing_drawn
from d2lpart.stages.keyed_dropout import uses_randomness


@dataclass(frozen=True)
class SplitResult:
    """What a step over split layers or replicas returns, beside the gradients that it leaves.

    Attributes:
        loss: of the whole mini-batch.
        traffic: what the ranks have sent each other; the mini-batch's way to them is not in it.
        parameter_bytes: the weights that each rank holds.
    """

    loss: float
    traffic: Traffic
    parameter_bytes: tuple[int, ...]

    @property
    def bytes_moved(self) -> int:
        """All bytes that went from one rank to another."""
        return self.traffic.bytes_moved

    @property
    def barriers(self) -> int:
        """How many times all ranks had to wait for each other."""
        return self.traffic.barriers


def check_copyable(layers: Sequence[nn.Module], may_share: bool = False) -> None:
    """Raise unless copies of the layers, each on a rank of its own, compute what the layers do.

    may_share: whether layers may share a weight, as they may where all are copied together.
    """
    seen: dict[nn.Parameter, int] = {}
    for number, layer in enumerate(layers):
        if uses_randomness(layer):
            raise ValueError(
                f"layer {number} ({type(layer).__name__}) has a dropout that is switched on: each "
                f"rank would draw a mask of its own, and the result would not be that of the "
                f"unsplit model; use p=0 or layer.eval()"
            )
        for weight in layer.parameters():
            if seen.setdefault(weight, number) != number and not may_share:
                raise ValueError(
                    f"layers {seen[weight]} and {number} share a weight, and each rank's copies "
                    f"of it would drift apart: use layers that share none, or a Pipeline, which "
                    f"keeps tied weights"
                )


@contextmanager
def nothing_random(devices: Iterable[torch.device]) -> Iterator[None]:
    """Raise a ValueError if anything is drawn in the context: every rank would draw its own."""
    try:
        with nothing_drawn(devices):
            yield
    except UnkeyedDraw as error:
        raise ValueError(
            f"a layer draws random numbers (from {', '.join(error.names)}): each rank would draw "
            f"its own, and the result would not be that of the unsplit model; leave out what is "
            f"random (dropout p=0), or use layer.eval()"
        ) from None


def check_learns(loss: Tensor) -> None:
    """Raise unless a loss is a scalar from which gradients lead back to a weight."""
    if loss.dim():
        raise ValueError(
            f"the loss has shape {tuple(loss.shape)}: loss_fn must return a scalar, such as "
            f"loss.mean()"
        )
    if not loss.requires_grad:
        raise ValueError(
            "no gradient leads back from the loss: leave at least one weight to train, compute the "
            "loss by torch operations, and call step outside torch.no_grad"
        )
