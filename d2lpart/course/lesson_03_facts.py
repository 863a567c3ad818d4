"""What the explanations of lesson 03 rest on: splits by hand of a decoder small enough to be quick.

Each function runs the thing it tells of, once; nothing touches torch's global generator.
"""

import copy
from collections.abc import Sequence
from functools import cache
from itertools import pairwise, product

import torch
from torch import Tensor, nn

from d2lpart.decoder import Decoder
from d2lpart.microbatch import cross_entropy
from d2lpart.orders import build_schedule
from d2lpart.simulator import simulate
from d2lpart.timeline import Timeline


def small_decoder(tied: bool = False) -> Decoder:
    """Return a decoder of 4 layers, the same one every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Decoder(vocab_size=16, width=8, num_layers=2, num_heads=2, context=8, tied=tied)


def small_batch() -> tuple[Tensor, Tensor]:
    """Return inputs and targets, (4, 8) each."""
    tokens = torch.arange(36).reshape(4, 9) * 7 % 16
    return tokens[:, :-1], tokens[:, 1:]


def split_step(stages: Sequence[nn.Module], send_back: bool = True) -> float:
    """Run one step over the stages by hand, and return the loss.

    send_back: whether the gradient of a stage's input goes to the stage before it.
    """
    tokens, targets = small_batch()
    received, sent = [tokens], [stages[0](tokens)]
    for stage in stages[1:]:
        received.append(sent[-1].detach().requires_grad_())
        sent.append(stage(received[-1]))
    sent[-1] = cross_entropy(sent[-1], targets)
    gradient = None
    for x, y in zip(reversed(received), reversed(sent), strict=True):
        y.backward(gradient)
        gradient = x.grad
        if not send_back:
            break
    return sent[-1].item()


def uncut_gradients(model: nn.Module) -> list[Tensor]:
    """Return the gradients of one step of a copy of the model, on one device."""
    model = copy.deepcopy(model)
    tokens, targets = small_batch()
    cross_entropy(model(tokens), targets).backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def with_gradient(module: nn.Module) -> int:
    """Count the parameters that have a gradient."""
    return sum(p.grad is not None for p in module.parameters())


@cache
def stage_1_alone() -> tuple[int, int, int, int]:
    """Return how many of how many parameters have a gradient when only stage 1 went back.

    In the order: stage 0's with a gradient, all of stage 0's, then the same of stage 1.
    """
    model = small_decoder()
    front, back = model[:2], model[2:]
    split_step([front, back], send_back=False)
    counts = [(with_gradient(part), len(list(part.parameters()))) for part in (front, back)]
    return (*counts[0], *counts[1])


@cache
def changed_by_cuts() -> tuple[int, int]:
    """Return how many ways there are to cut the small decoder, and how many change a gradient."""
    model = small_decoder()
    expected = uncut_gradients(model)
    ways = list(product([False, True], repeat=len(model.layers) - 1))
    changed = 0
    for cuts in ways:
        bounds = [0, *(i for i, cut in enumerate(cuts, 1) if cut), len(model.layers)]
        model.zero_grad()
        split_step([model[a:b] for a, b in pairwise(bounds)])
        changed += not all(
            p.grad is not None and torch.equal(p.grad, g)
            for p, g in zip(model.parameters(), expected, strict=True)
        )
    return len(ways), changed


@cache
def losses_without_sending_back(steps: int = 10, rate: float = 0.5) -> tuple[float, float]:
    """Return the first and the last loss of a short training in which stage 0 learns nothing."""
    model = small_decoder()
    losses = []
    for _ in range(steps):
        model.zero_grad()
        losses.append(split_step([model[:2], model[2:]], send_back=False))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(rate * parameter.grad)
    return losses[0], losses[-1]


@cache
def factor_without_detach() -> float:
    """Return how many times too large stage 0's gradients are with `retain_graph=True`."""
    model = small_decoder()
    tokens, targets = small_batch()
    activation = model[:2](tokens)
    activation.retain_grad()
    cross_entropy(model[2:](activation), targets).backward(retain_graph=True)
    activation.backward(activation.grad)
    weight, expected = next(model.parameters()).grad, uncut_gradients(model)[0]
    assert weight is not None
    return float(weight.norm() / expected.norm())


@cache
def missing_of_tied_weight() -> float:
    """Return what part of a tied weight's gradient the embedding's own share lacks."""
    model = small_decoder(tied=True)
    front, back = model[:2], copy.deepcopy(model[2:])
    split_step([front, back])
    own, expected = next(front.parameters()).grad, uncut_gradients(model)[0]
    assert own is not None
    return float((own - expected).norm() / expected.norm())


@cache
def naive_step() -> Timeline:
    """Return the predicted step of one micro-batch over 4 ranks: F takes 1 s, B 2 s."""
    return simulate(build_schedule("naive", 4, 1), {"F": 1.0, "B": 2.0})


def messages() -> int:
    """Count the messages of that step."""
    return len(naive_step().transfers)


def backward_starts(stage: int) -> float:
    """Return when the backward of a stage starts in that step, in seconds."""
    return next(s.start for s in naive_step().spans if s.action == (stage, "B", 0))


def ranks_at_once() -> int:
    """Count the ranks that work at the same moment in that step, at most."""
    spans = naive_step().spans
    return max(sum(s.start <= t.start < s.end for s in spans) for t in spans)
