"""Lesson 03: its two exercises whose functions are watched at work, not judged by their outputs."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import poisson_nll_loss

from d2lpart.course.checks.comparison import type_words
from d2lpart.course.checks.exercise import Exercise, observe
from d2lpart.course.lessons.lesson_03.trials import Shares, Weights, follow, split, two_stages

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


def _examine_split(function: Callable[..., Any], rng: random.Random) -> str | None:
    for samples in (1, 3, rng.randint(4, 9)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.randrange(2**31))
            stages = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 2)
            inputs, targets = torch.randn(samples, 3), torch.randn(samples, 2)
        weights = [weight.detach() for stage in stages for weight in stage.parameters()]
        found = _split_sentence(function, weights, inputs, targets)
        if found:
            return found
    return None


def _split_sentence(
    function: Callable[..., Any], weights: Weights, inputs: Tensor, targets: Tensor
) -> str | None:
    """Run the function on two stages, and say what is wrong with what it leaves, if anything."""
    first, second = two_stages(weights)
    expected = poisson_nll_loss(second(first(inputs)), targets)
    expected.backward()
    right = {
        "first": [weight.grad for weight in first.parameters()],
        "second": [weight.grad for weight in second.parameters()],
    }
    seen = observe(split, function, weights, inputs, targets, 1)
    found = (
        _message_sentence(seen, _ratio(seen["first"], right["first"]))
        or _gradient_sentence("second", seen["second"], right["second"])
        or _gradient_sentence("first", seen["first"], right["first"])
        or _loss_sentence(seen["loss"], expected.item())
    )
    if found:
        return found
    twice = observe(split, function, weights, inputs, targets, 2)
    return _again_sentence({name: _ratio(twice[name], right[name]) for name in right})


def _message_sentence(seen: dict[str, Any], ratio: float) -> str | None:
    if not seen["entered"]:
        return "`second` was called 0 times: run it on what `first` hands over."
    if seen["history"]:
        return (
            f"What enters `second` still has its history ({seen['history']}), so the two stages "
            f"share one graph, and the backward of `second` runs on into `first`. "
            f"{_effect(ratio)} Only numbers cross a cut."
        )
    if not seen["asks"]:
        return (
            "What enters `second` asks for no gradient (requires_grad is False), so there are 0 "
            "numbers to send back to `first`."
        )
    return None


def _effect(ratio: float) -> str:
    if abs(ratio - 1) < 1e-3:
        return "The gradients are right here, but on 2 devices there is no such graph."
    return f"The gradients of `first` come out {ratio:.3g} times as large as they should."


Gradients = Sequence[Tensor | None]


def _ratio(got: Gradients, right: Gradients) -> float:
    """Return how many times as large gradients are as the uncut model's; 0 for none."""
    ours, theirs = (sum(float(g.norm()) for g in own if g is not None) for own in (got, right))
    return ours / theirs


def _gradient_sentence(name: str, got: Gradients, right: Gradients) -> str | None:
    missing = sum(gradient is None for gradient in got)
    if missing:
        after = {
            "second": "Which call of `backward` fills them?",
            "first": "The message has a gradient by now; it has to go on into `first`.",
        }
        return f"{missing} of {len(got)} weights of `{name}` have no gradient. {after[name]}"
    both = [(g, r) for g, r in zip(got, right, strict=True) if g is not None and r is not None]
    if all(torch.allclose(g, r, 1e-4, 1e-6) for g, r in both):
        return None
    off = sum(float((g - r).norm()) for g, r in both) / sum(float(r.norm()) for _, r in both)
    start = {
        "second": "Is the loss `loss_fn(outputs, targets)`, in this order and as it stands?",
        "first": "Which gradient did its backward start from?",
    }
    return (
        f"The gradients of `{name}` are not those of the uncut model: they are off by "
        f"{off:.0%} of their length. {start[name]}"
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


def _again_sentence(ratios: dict[str, float]) -> str | None:
    """Judge two calls: the gradients of a second micro-batch are to be added."""
    off = {name: ratio for name, ratio in ratios.items() if not abs(ratio - 2) < 1e-3}  # or NaN
    if not off:
        return None
    name, ratio = max(off.items(), key=lambda pair: abs(pair[1] - 2))
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


def _examine_tied(function: Callable[..., Any], rng: random.Random) -> str | None:
    a, b, c = rng.sample(range(2, 8), 3)
    easy: list[Shares] = [[a, b], [b, c], [c, a]]
    hard: list[Shares] = [[a, b, c], [b, None, a], [None, c, b]]
    for steps in (easy, hard):
        got, count = observe(follow, function, steps)
        wanted, once_each = follow(tied_step, steps)
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
        return (
            f"Step {k}: the shares are {shares} (home first), and the weight stays at {before:g}. "
            f"Who moves it by their sum?"
        )
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
