"""A GradScaler with a pipeline, which runs the backward itself: the usual steps, and overflow."""

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from d2lpart import Pipeline

SCALE = 2.0**10


def layers():
    torch.manual_seed(0)
    return [nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)]


def data(samples=7):
    inputs = torch.randn(samples, 4, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(samples) % 3
    targets[1] = -100
    return inputs, targets


RUNS = {
    "1f1b": {},
    "recompute": {"recompute": True},
    "split backward": {"schedule": "zb-h1"},
    "threads": {"clock": "wall"},
    "pair": {
        "loss_fn": lambda outputs, targets: (
            nn.functional.cross_entropy(outputs, targets, reduction="sum"),
            (targets != -100).sum(),
        )
    },
    "weighted": {"loss_fn": nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 4.0]))},
}


def pipeline(kind="1f1b"):
    return Pipeline(layers(), [2, 1], ["cpu"] * 2, num_microbatches=3, **RUNS[kind])


@pytest.mark.parametrize("kind", RUNS)
def test_gradients_are_scaled_and_the_loss_is_not(kind):
    plain, scaled, scaler = pipeline(kind), pipeline(kind), GradScaler("cpu", init_scale=SCALE)
    optimizer = torch.optim.SGD(scaled.parameters(), 0.1)
    loss = plain.step(*data()).loss
    assert scaled.step(*data(), scaler=scaler).loss == loss
    for one, other in zip(plain.parameters(), scaled.parameters(), strict=True):
        assert torch.equal(other.grad, one.grad * SCALE)  # a power of two rounds nothing
    scaler.unscale_(optimizer)
    for one, other in zip(plain.parameters(), scaled.parameters(), strict=True):
        assert torch.equal(other.grad, one.grad)


def test_training_with_it_is_training_without():
    plain, scaled, scaler = pipeline(), pipeline(), GradScaler("cpu", init_scale=SCALE)
    one = torch.optim.Adam(plain.parameters(), 0.01)
    other = torch.optim.Adam(scaled.parameters(), 0.01)
    for number in range(3):
        one.zero_grad()
        other.zero_grad()
        assert plain.step(*data()).loss == scaled.step(*data(), scaler=scaler).loss
        if number:
            scaler.unscale_(other)
            for run in (plain, scaled):
                nn.utils.clip_grad_norm_(run.parameters(), 0.1)
        else:
            nn.utils.clip_grad_norm_(plain.parameters(), 1e9)
        one.step()
        scaler.step(other)
        scaler.update()
    for weight, twin in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(twin, weight)
    assert scaler.get_scale() == SCALE


class Louder(torch.autograd.Function):
    """The identity, whose gradient overflows."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 1e30


class Loud(nn.Module):
    def forward(self, x):
        return Louder.apply(x)


@pytest.mark.parametrize("overflows", ["gradients", "the scaled loss"])
def test_overflow_is_left_to_the_scaler_which_skips_the_step(overflows):
    scale, inputs, loss_fn = 2.0**40, data()[0], None
    model = layers()
    if overflows == "gradients":
        model[1] = Loud()
    else:
        scale = 2.0**127
        loss_fn = nn.MSELoss()
    run = Pipeline(model, [2, 1], ["cpu"] * 2, num_microbatches=2, loss_fn=loss_fn)
    targets = data()[1].clamp(min=0) if loss_fn is None else torch.full((7, 3), 100.0)
    scaler = GradScaler("cpu", init_scale=scale)
    optimizer = torch.optim.SGD(run.parameters(), 0.1)
    before = [weight.detach().clone() for weight in run.parameters()]
    result = run.step(inputs, targets, scaler=scaler)
    assert 0 < result.loss < 1e5
    assert not all(torch.isfinite(weight.grad).all() for weight in run.parameters())
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == scale / 2
    assert all(map(torch.equal, before, run.parameters()))


def test_a_loss_that_is_not_finite_by_itself_raises_and_leaves_the_gradients():
    run, scaler = pipeline(), GradScaler("cpu", init_scale=SCALE)
    inputs, targets = data()
    inputs[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"^the loss is nan in micro-batch 0: it began in the inp"):
        run.step(inputs, targets, scaler=scaler)
    assert all(weight.grad is None for weight in run.parameters())


def test_one_that_is_switched_off_does_nothing():
    plain, off = pipeline(), pipeline()
    plain.step(*data())
    off.step(*data(), scaler=GradScaler("cpu", enabled=False))
    for one, other in zip(plain.parameters(), off.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_something_else_is_refused():
    with pytest.raises(ValueError, match=r"^1024\.0 is no GradScaler: give a torch\.amp\.GradSc"):
        pipeline().step(*data(), scaler=1024.0)
