"""Lesson 03: its two exercises whose functions are watched at work, not judged by their outputs."""

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from d2lpart.course.comparison import type_words
from d2lpart.course.exercise import Exercise

LossFunction = Callable[[Tensor, Tensor], Tensor]


def split_backward(
    first: nn.Module, second: nn.Module, inputs: Tensor, targets: Tensor, loss_fn: LossFunction
) -> Tensor:
    """One step over two stages: leaves gradients in both, and returns the loss."""
    activation = first(inputs)
    message = activation.detach().requires_grad_()
    loss = loss_fn(second(message), targets)
    loss.backward()
    activation.backward(message.grad)
    return loss


class _Watched(nn.Module):
    """A stage that keeps what came in."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return self.stage(x)


def _examine_split(function: Callable[..., Any], rng: random.Random) -> str | None:
    for samples in (1, 3, rng.randint(4, 9)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.randrange(2**31))
            first, second = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 2)
            inputs, targets = torch.randn(samples, 3), torch.randn(samples, 2)
        found = _split_sentence(function, first, second, inputs, targets)
        if found:
            return found
    return None


def _split_sentence(
    function: Callable[..., Any], first: nn.Module, second: nn.Module, inputs: Tensor, y: Tensor
) -> str | None:
    """Run the function on two stages, and say what is wrong with what it leaves, if anything."""
    uncut = copy.deepcopy(nn.Sequential(first, second))
    expected = mse_loss(uncut(inputs), y)
    expected.backward()
    watched = _Watched(second)
    loss = function(first, watched, inputs, y, mse_loss)
    return (
        _message_sentence(watched, _ratio(first, uncut[0]))
        or _gradient_sentence("second", second, uncut[1])
        or _gradient_sentence("first", first, uncut[0])
        or _loss_sentence(loss, expected.item())
        or _again_sentence(
            lambda: function(first, watched, inputs, y, mse_loss),
            [(first, uncut[0]), (second, uncut[1])],
        )
    )


def _message_sentence(second: _Watched, ratio: float) -> str | None:
    if not second.seen:
        return "`second` was called 0 times: run it on what `first` hands over."
    message = next((seen for seen in second.seen if seen.grad_fn is not None), second.seen[-1])
    if message.grad_fn is not None:
        return (
            f"What enters `second` still has its history ({message.grad_fn.name()}), so the two "
            f"stages share one graph, and the backward of `second` runs on into `first`. "
            f"{_effect(ratio)} Only numbers cross a cut."
        )
    if not any(seen.requires_grad for seen in second.seen):
        return (
            "What enters `second` asks for no gradient (requires_grad is False), so there are 0 "
            "numbers to send back to `first`."
        )
    return None


def _effect(ratio: float) -> str:
    if abs(ratio - 1) < 1e-3:
        return "The gradients are right here, but on 2 devices there is no such graph."
    return f"The gradients of `first` come out {ratio:.3g} times as large as they should."


def _ratio(module: nn.Module, uncut: nn.Module) -> float:
    """Return how many times as large the gradients are as the uncut model's; 0 for none."""
    got = [p.grad for p in module.parameters() if p.grad is not None]
    norm = sum(float(gradient.norm()) for gradient in got)
    return norm / sum(float(p.grad.norm()) for p in uncut.parameters() if p.grad is not None)


def _gradient_sentence(name: str, module: nn.Module, uncut: nn.Module) -> str | None:
    pairs = list(zip(module.parameters(), uncut.parameters(), strict=True))
    missing = sum(p.grad is None for p, _ in pairs)
    if missing:
        after = {
            "second": "Which call of `backward` fills them?",
            "first": "The message has a gradient by now; it has to go on into `first`.",
        }
        return f"{missing} of {len(pairs)} weights of `{name}` have no gradient. {after[name]}"
    if all(torch.allclose(p.grad, q.grad, 1e-4, 1e-6) for p, q in pairs):  # type: ignore[arg-type]
        return None
    return (
        f"The gradients of `{name}` are not those of the uncut model: {_ratio(module, uncut):.3g} "
        f"times as large. Which gradient did its backward start from?"
    )


def _loss_sentence(loss: Any, expected: float) -> str | None:
    if loss is None:
        return "All gradients are right. Now return the loss, too."
    try:
        got = torch.as_tensor(loss).detach().item()
    except (TypeError, ValueError, RuntimeError):
        return f"All gradients are right. Return the loss alone, 1 number, not {type_words(loss)}."
    if not abs(got - expected) <= 1e-5:
        return f"All gradients are right, but the loss is {expected:.4f}, not {got:.4f}."
    return None


def _again_sentence(
    run: Callable[[], Any], stages: Sequence[tuple[nn.Module, nn.Module]]
) -> str | None:
    """Run once more: the gradients of a second micro-batch are to be added."""
    run()
    ratios = [_ratio(module, uncut) for module, uncut in stages]
    name, ratio = max(zip(("first", "second"), ratios, strict=True), key=lambda r: abs(r[1] - 2))
    if abs(ratio - 2) < 1e-3:
        return None
    return (
        f"One call is right. After two calls the gradients of `{name}` are {ratio:.3g} times those "
        f"of one, not 2 times: those of several micro-batches have to add up, so neither clear nor "
        f"replace them here, and leave the weights as they are."
    )


SPLIT_BACKWARD = Exercise("03.5", "Two stages by hand", split_backward, examine=_examine_split)


def tied_step(home: nn.Parameter, shadows: Sequence[nn.Parameter], optimizer: Any) -> None:
    """End a step of a tied weight: gradients come home, the weight moves, the shadows follow."""
    for shadow in shadows:
        if shadow.grad is not None:
            home.grad = shadow.grad if home.grad is None else home.grad + shadow.grad
            shadow.grad = None
    optimizer.step()
    optimizer.zero_grad()
    for shadow in shadows:
        shadow.data.copy_(home.data)


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


Shares = Sequence[float | None]


def _follow(function: Callable[..., Any], steps: Sequence[Shares]) -> tuple[list[list[float]], int]:
    """Run the function after each step's backward.

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


def _examine_tied(function: Callable[..., Any], rng: random.Random) -> str | None:
    a, b, c = rng.sample(range(2, 8), 3)
    easy: list[Shares] = [[a, b], [b, c], [c, a]]
    hard: list[Shares] = [[a, b, c], [b, None, a], [None, c, b]]
    for steps in (easy, hard):
        (got, count), (wanted, once_each) = _follow(function, steps), _follow(tied_step, steps)
        if got != wanted:
            return _tied_sentence(steps, got, wanted)
        if count != once_each:
            return (
                f"Right for plain gradient descent, but `optimizer.step()` ran {count} times in "
                f"{once_each} steps. Other optimizers, Adam for one, have to step once each time, "
                f"with the sum."
            )
    return None


def _tied_sentence(
    steps: Sequence[Shares], got: list[list[float]], wanted: list[list[float]]
) -> str:
    """Explain the first step that goes wrong."""
    k = next(k for k in range(len(steps)) if got[k] != wanted[k])
    before = got[k - 1][0] if k else 8.0
    used, right = 2 * (before - got[k][0]), 2 * (before - wanted[k][0])
    shares = ", ".join(str(share) for share in steps[k])
    if used == 0:
        return f"Step {k}: the weight stays at {before:g}; who moves it by its gradient?"
    if used != right:
        return (
            f"Step {k}: the shares are {shares} (home first), so the gradient is {right:g}; you "
            f"step with {used:g}.{_guess(steps, k, used)}"
        )
    stale = next(weight for weight in got[k] if weight != got[k][0])
    return (
        f"Step {k}: the weight at home is right, {got[k][0]:g}, but a shadow holds {stale:g}: "
        f"the next forward would compute with two different weights."
    )


def _guess(steps: Sequence[Shares], k: int, used: float) -> str:
    """Name the idea behind a wrong gradient, where one is known that makes this number."""
    now = [share or 0 for share in steps[k]]
    before = [share or 0 for share in steps[k - 1]] if k else [0] * len(now)
    ideas = [
        (now[0], "That is the share of home alone."),
        (sum(now[1:]), "The share that was at home is lost: add to it."),
        (now[-1], "Each share takes the place of the one before: add them."),
        (sum(now) / len(now), "That is the mean; but each share is a part of the gradient."),
        (sum(now) + sum(before[1:]), "Shares of the step before still lie in the shadows."),
        (sum(now) + sum(before), "The gradient of the step before is still there."),
    ]
    return next((f" {idea}" for number, idea in ideas if number == used), "")


TIED_STEP = Exercise("03.6", "One weight on two stages", tied_step, examine=_examine_tied)
