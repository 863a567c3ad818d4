"""Gradients that a layer adds in its backward: times its share they are those of the mini-batch."""

import pytest
import torch
from torch import nn

from d2lpart import Pipeline, microbatch_share


class Add(torch.autograd.Function):
    """Hands an activation on, and gives an auxiliary loss the gradient `scale` in the backward."""

    @staticmethod
    def forward(ctx, x, auxiliary, scale):
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, torch.tensor(ctx.scale), None


class Balanced(nn.Module):
    """A layer with an auxiliary loss: the mean square of what it makes."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.linear, self.shared = nn.Linear(4, 4), shared

    def forward(self, x):
        x = self.linear(x)
        return Add.apply(x, x.square().mean(), microbatch_share() if self.shared else 1.0)


def gradient(m: int, *, shared: bool = True, targets=None, **options) -> torch.Tensor:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 4), Balanced(shared), nn.Linear(4, 3)]
    cut = Pipeline(layers, [1, 2], ["cpu"] * 2, num_microbatches=m, clock="virtual", **options)
    cut.step(torch.randn(12, 4), torch.arange(12) % 3 if targets is None else targets)
    return cut.layers[0].weight.grad


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("schedule", ["1f1b", "gpipe", "zb-h1"])
@pytest.mark.parametrize("m", [2, 3, 4])
def test_with_their_share_they_are_those_of_one_piece(m, schedule, recompute):
    expected = gradient(1)
    found = gradient(m, schedule=schedule, recompute=recompute)
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-7)


def test_without_it_they_grow_with_the_number_of_microbatches():
    alone = {"loss_fn": lambda outputs, targets: 0 * outputs.sum()}
    once, thrice = gradient(1, shared=False, **alone), gradient(3, shared=False, **alone)
    torch.testing.assert_close(thrice, 3 * once, rtol=2e-5, atol=1e-7)
    torch.testing.assert_close(gradient(3, **alone), once, rtol=2e-5, atol=1e-7)


def test_shares_follow_what_counts_and_add_up_to_one():
    seen = []

    class Notes(nn.Module):
        def forward(self, x):
            seen.append(microbatch_share())
            return x

    targets = torch.tensor([0, 1, -100, 2, -100, -100])
    layers = [nn.Linear(4, 4), Notes(), nn.Linear(4, 3)]
    cut = Pipeline(layers, [2, 1], ["cpu"] * 2, num_microbatches=2, clock="virtual", probe=False)
    cut.step(torch.randn(6, 4), targets)
    assert seen == [2 / 3, 1 / 3]
    assert microbatch_share() == 1.0


def test_a_pair_divides_them_by_the_whole_count():
    def pair(outputs, targets):
        return nn.functional.cross_entropy(outputs, targets, reduction="sum"), len(targets)

    alone = {"loss_fn": lambda outputs, targets: (0 * outputs.sum(), len(targets))}
    mean = gradient(3, loss_fn=lambda outputs, targets: 0 * outputs.sum())
    torch.testing.assert_close(12 * gradient(3, **alone), mean, rtol=2e-5, atol=1e-7)
    assert gradient(3, loss_fn=pair).isfinite().all()
