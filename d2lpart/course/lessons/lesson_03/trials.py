"""Lesson 03: the trials of its two exercises that are watched at work; they return plain values."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import poisson_nll_loss

Weights = Sequence[Tensor]
Shares = Sequence[float | None]


class _Watched(nn.Module):
    """A stage that keeps what came in."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return self.stage(x)

    def histories(self) -> list[str]:
        """Return the names of what made the inputs, of those that have a history."""
        return [seen.grad_fn.name() for seen in self.seen if seen.grad_fn is not None]


def two_stages(weights: Weights) -> tuple[nn.Module, nn.Module]:
    """Return the stages `first` and `second`, with copies of the weights given."""
    first, second = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 2)
    with torch.no_grad():
        for own, given in zip(_weights(first, second), weights, strict=True):
            own.copy_(given)
    return first, second


def _weights(*stages: nn.Module) -> list[nn.Parameter]:
    return [weight for stage in stages for weight in stage.parameters()]


def split(
    function: Callable[..., Any], weights: Weights, inputs: Tensor, targets: Tensor, calls: int
) -> dict[str, Any]:
    """Call a function of the form of `split_backward` several times on the same two stages.

    The loss is one whose arguments cannot change places.

    Where it shares a graph, autograd's advice to keep that graph is no help: it is not passed on.

    Return what entered `second` ("entered": how often; "history": its grad_fn's name, or "";
    "asks": whether it wants a gradient), the gradients of both stages, and the last loss.
    """
    first, second = two_stages(weights)
    watched = _Watched(second)
    loss = None
    for _ in range(calls):
        try:
            loss = function(first, watched, inputs, targets, poisson_nll_loss)
        except RuntimeError as error:
            if "retain_graph" not in str(error) or not watched.histories():
                raise
            break
    histories = watched.histories()
    return {
        "entered": len(watched.seen),
        "history": histories[0] if histories else "",
        "asks": any(seen.requires_grad for seen in watched.seen),
        "first": [weight.grad for weight in _weights(first)],
        "second": [weight.grad for weight in _weights(second)],
        "loss": loss.detach() if isinstance(loss, Tensor) else loss,
    }


class _Descent:
    """Plain gradient descent on one weight: w − 0.5 · gradient. It counts its steps."""

    def __init__(self, weight: nn.Parameter) -> None:
        self.weight = weight
        self.param_groups = [{"params": [weight], "lr": 0.5}]
        self.steps = 0

    def step(self, closure: None = None) -> None:
        self.steps += 1
        with torch.no_grad():
            if self.weight.grad is not None:
                self.weight.sub_(0.5 * self.weight.grad)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.weight.grad = None


def follow(function: Callable[..., Any], steps: Sequence[Shares]) -> tuple[list[list[float]], int]:
    """Run a function of the form of `tied_step` after each step's backward.

    steps: for each, the gradients that it gives to home and to each shadow; None for no gradient.
    Return the weights that it leaves each time, home first, and how often the optimizer stepped.
    """
    home = nn.Parameter(torch.tensor([8.0]))
    weights = [home, *(nn.Parameter(torch.tensor([8.0])) for _ in steps[0][1:])]
    optimizer = _Descent(home)
    left = []
    for shares in steps:
        for weight, share in zip(weights, shares, strict=True):
            if share is not None:  # as autograd does: what is there is added to
                gradient = torch.tensor([float(share)])
                weight.grad = gradient if weight.grad is None else weight.grad + gradient
        function(home, weights[1:], optimizer)
        left.append([weight.item() for weight in weights])
    return left, optimizer.steps
