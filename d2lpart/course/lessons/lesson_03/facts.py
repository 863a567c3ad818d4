"""What the explanations of lesson 03 rest on: splits by hand of a decoder small enough to be quick.

Each function runs the thing it tells of, once; nothing touches torch's global generator.
"""

import copy
from collections.abc import Sequence
from functools import cache
from itertools import pairwise, product

import torch
from torch import Tensor, nn

from d2lpart.models.decoder import Decoder
from d2lpart.pipeline.pipeline import Pipeline
from d2lpart.schedules.orders import build_schedule
from d2lpart.stages.losses import cross_entropy
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.timeline import Timeline


def small_decoder(tied: bool = False, blocks: int = 2) -> Decoder:
    """Return a decoder of 2 + `blocks` layers, the same one every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Decoder(vocab_size=16, width=8, num_layers=blocks, num_heads=2, context=8, tied=tied)


def small_batch() -> tuple[Tensor, Tensor]:
    """Return inputs and targets, (4, 8) each."""
    tokens = torch.arange(36).reshape(4, 9) * 7 % 16
    return tokens[:, :-1], tokens[:, 1:]


def split_step(stages: Sequence[nn.Module], go_back: int | None = None) -> float:
    """Run one step over the stages by hand, and return the loss.

    go_back: how many stages run their backward, counted from the last; None for all of them.
    """
    tokens, targets = small_batch()
    received, sent = [tokens], [stages[0](tokens)]
    for stage in stages[1:]:
        received.append(sent[-1].detach().requires_grad_())
        sent.append(stage(received[-1]))
    sent[-1] = cross_entropy(sent[-1], targets)
    gradient = None
    for x, y in list(zip(received, sent, strict=True))[::-1][:go_back]:
        y.backward(gradient)
        gradient = x.grad
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
def gone_back(ends: tuple[int, ...], go_back: int) -> list[tuple[int, int]]:
    """Return, for each stage, how many of how many parameters have a gradient.

    ends: where each stage ends, in layers. go_back: how many stages, from the last, went back.
    """
    model = small_decoder()
    stages = [model[a:b] for a, b in pairwise((0, *ends))]
    split_step(stages, go_back)
    return [(with_gradient(part), len(list(part.parameters()))) for part in stages]


def stage_1_alone() -> tuple[int, int, int, int]:
    """Return how many of how many parameters have a gradient when only stage 1 went back.

    In the order: stage 0's with a gradient, all of stage 0's, then the same of stage 1.
    """
    front, back = gone_back((2, 4), 1)
    return (*front, *back)


@cache
def changed_by_cuts(blocks: int = 2) -> tuple[int, int]:
    """Return how many ways there are to cut a small decoder, and how many change a gradient."""
    model = small_decoder(blocks=blocks)
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
def losses_without_sending_back(cut: int = 2) -> tuple[float, float]:
    """Return the first and the last loss of ten steps in which stage 0 learns nothing.

    cut: the layers of stage 0.
    """
    model = small_decoder()
    losses = []
    for _ in range(10):
        model.zero_grad()
        losses.append(split_step([model[:cut], model[cut:]], go_back=1))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(0.5 * parameter.grad)
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


def gradient_of_square(weight: float, backwards: int = 1) -> float:
    """Return what `backwards` backwards of weight² through one graph leave in `.grad`."""
    w = torch.tensor(weight, requires_grad=True)
    square = w * w
    for _ in range(backwards):
        square.backward(retain_graph=True)
    assert w.grad is not None
    return w.grad.item()


@cache
def kept(rank: int) -> tuple[int, int, int]:
    """Return what a rank holds between its forward and its backward, in bytes.

    A decoder of four layers is cut into stages of one layer. In the order: its weights, the
    message it got or, on rank 0, the tokens; what its forward left behind for its backward.
    """
    model = small_decoder()
    tokens, targets = small_batch()
    pipeline = Pipeline(model.layers, [1] * 4, ["cpu"] * 4, schedule="naive", clock="virtual")
    result = pipeline.step(tokens, targets)
    weights = sum(p.nbytes for p in model.layers[rank].parameters())
    got = [t.nbytes for t in result.timeline.transfers if t.target == rank and t.action.kind == "F"]
    return weights, sum(got) or tokens.nbytes, result.peak_bytes[rank]


@cache
def naive_step(stages: int = 4) -> Timeline:
    """Return the predicted step of one micro-batch over as many ranks: F takes 1 s, B 2 s."""
    return simulate(build_schedule("naive", stages, 1), {"F": 1.0, "B": 2.0})


def messages(stages: int = 4) -> int:
    """Count the messages of that step."""
    return len(naive_step(stages).transfers)


def starts(action: str, stages: int = 4) -> float:
    """Return when an action, such as "2B0", starts in that step, in seconds."""
    return next(s.start for s in naive_step(stages).spans if str(s.action) == action)


def ranks_at_once(stages: int = 4) -> int:
    """Count the ranks that work at the same moment in that step, at most."""
    spans = naive_step(stages).spans
    return max(sum(s.start <= t.start < s.end for s in spans) for t in spans)
