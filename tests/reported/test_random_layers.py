"""Random numbers that no name tells of: keyed all the same, or refused with the layer named."""

import copy
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from d2lpart import DataParallel, Pipeline, TensorParallel


class Unnamed(nn.Module):
    """A layer whose forward is given."""

    def __init__(self, forward) -> None:
        super().__init__()
        self.linear, self.chance, self.own = nn.Linear(8, 8), 0.5, forward

    def forward(self, x):
        return self.own(self, x)


def functional(self, x):
    return F.dropout(self.linear(x), self.chance, self.training)


def stochastic_depth(self, x):
    keep = x.new_empty(len(x), 1).bernoulli_(1 - self.chance)
    return x + self.linear(x) * keep / (1 - self.chance)


def layer_drop(self, x):
    return self.linear(x) if self.training and torch.rand(()) < self.chance else x + self.linear(x)


def layer_drop_of_python(self, x):
    return self.linear(x) if random.random() < self.chance else x + self.linear(x)


def noise(self, x):
    return self.linear(x) + torch.randn_like(x)


def times(self, x):
    """A whole number for each sample, as diffusion models draw their times."""
    return self.linear(x) * torch.randint(1, 4, (len(x), 1))


LAYERS = {
    "F.dropout": lambda: Unnamed(functional),
    "stochastic depth": lambda: Unnamed(stochastic_depth),
    "layer drop": lambda: Unnamed(layer_drop),
    "layer drop, Python's random": lambda: Unnamed(layer_drop_of_python),
    "noise": lambda: Unnamed(noise),
    "RReLU": nn.RReLU,
    "times": lambda: Unnamed(times),
}


def data():
    torch.manual_seed(0)
    return torch.randn(8, 8), torch.randn(8, 8)


def trained(layer: nn.Module, steps: int = 1, **options) -> tuple[list[float], list[torch.Tensor]]:
    """Return the losses and the gradients that some steps leave."""
    options = {"partition": [1, 2], "clock": "virtual", "num_microbatches": 4, **options}
    torch.manual_seed(3)
    layers = [nn.Linear(8, 8), copy.deepcopy(layer), nn.Linear(8, 8)]
    cut = Pipeline(layers, devices=["cpu"] * 2, loss_fn=nn.MSELoss(), **options)
    losses = [cut.step(*data()).loss for _ in range(steps)]
    return losses, [weight.grad for weight in cut.parameters()]


def equal(one, other) -> bool:
    return one[0] == other[0] and all(map(torch.equal, one[1], other[1]))


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_seed_repeats_what_is_drawn_whatever_the_cut_and_recompute(name, clock):
    layer = LAYERS[name]()
    first = trained(layer, seed=5)
    assert equal(first, trained(layer, seed=5, clock=clock))
    assert equal(first, trained(layer, seed=5, clock=clock, recompute=True))
    assert equal(first, trained(layer, seed=5, clock=clock, partition=[2, 1]))
    assert first[0] != trained(layer, seed=6)[0]


@pytest.mark.parametrize("name", LAYERS)
def test_recompute_without_a_seed_draws_once(name):
    layer = LAYERS[name]()
    assert equal(trained(layer), trained(layer, recompute=True))


def test_a_random_loss_is_keyed_too():
    def noisy(outputs, targets):
        return F.mse_loss(outputs + torch.randn_like(outputs), targets)

    def run(recompute):
        torch.manual_seed(3)
        cut = Pipeline(
            [nn.Linear(8, 8), nn.Linear(8, 8)], [1, 1], ["cpu"] * 2, num_microbatches=2,
            loss_fn=noisy, seed=1, recompute=recompute, clock="virtual",
        )  # fmt: skip
        return cut.step(*data()).loss, [weight.grad for weight in cut.parameters()]

    assert equal(run(recompute=False), run(recompute=True))


def test_a_generator_of_its_own_is_refused_where_draws_must_repeat():
    generator = torch.Generator().manual_seed(1)

    def own(self, x):
        return self.linear(x) * torch.rand(x.shape, generator=generator)

    before = generator.get_state()
    for options in ({"seed": 1}, {"recompute": True}):
        with pytest.raises(ValueError, match=r"^layer 1 \(Unnamed\) draws from a generator of its"):
            trained(Unnamed(own), **options)
        assert torch.equal(generator.get_state(), before)
    trained(Unnamed(own))


@pytest.mark.parametrize("inside", [nn.Dropout(0.5), lambda x: x * torch.rand_like(x)])
@pytest.mark.parametrize("reentrant", [True, False])
def test_what_a_checkpoint_would_draw_anew_is_refused(reentrant, inside):
    def checkpointed(self, x):
        return checkpoint(lambda y: inside(self.linear(y)), x, use_reentrant=reentrant)

    with pytest.raises(ValueError, match=r"torch\.utils\.checkpoint.*recompute=True"):
        trained(Unnamed(checkpointed))


def test_randomness_that_begins_later_is_found():
    layer = Unnamed(noise)
    layer.own = lambda self, x: self.linear(x)
    cut = Pipeline(
        [nn.Linear(8, 8), layer], [1, 1], ["cpu"] * 2, num_microbatches=2, loss_fn=nn.MSELoss(),
        recompute=True, clock="virtual",
    )  # fmt: skip
    cut.step(*data())
    before = [weight.grad.clone() for weight in cut.parameters()]
    layer.own = noise
    with pytest.raises(ValueError, match=r"^torch's generator of the CPU went on during the step"):
        cut.step(*data())
    assert all(torch.equal(w.grad, old) for w, old in zip(cut.parameters(), before, strict=True))
    cut.step(*data())  # looked at anew


def test_replicas_refuse_a_dropout_that_no_name_tells_of():
    layers = [nn.Linear(8, 8), Unnamed(functional)]
    with pytest.raises(ValueError, match=r"^a layer draws random numbers .* each rank would"):
        DataParallel(layers, ["cpu"] * 2, loss_fn=nn.MSELoss()).step(*data())
    with pytest.raises(ValueError, match=r"^a layer draws random numbers .* each rank would"):
        TensorParallel(layers, ["cpu"] * 2, loss_fn=nn.MSELoss()).step(*data())


def steps(cut: Pipeline, number: int) -> list[float]:
    return [cut.step(*data()).loss for _ in range(number)]


def test_a_resumed_run_draws_the_masks_of_an_unbroken_one(tmp_path):
    def new() -> Pipeline:
        torch.manual_seed(3)
        layers = [nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 8)]
        options = {"loss_fn": nn.MSELoss(), "seed": 5, "clock": "virtual"}
        return Pipeline(layers, [1, 2], ["cpu"] * 2, **options)

    unbroken = steps(new(), 5)
    first = new()
    assert steps(first, 3) == unbroken[:3]
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = new()
    second.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert second.steps == 3
    assert steps(second, 2) == unbroken[3:]
    nn.Sequential(*first.layers).load_state_dict(torch.load(tmp_path / "state.pt"))
    assert list(first.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.parametrize("options", [{"seed": 1}, {"recompute": True}])
def test_a_generator_of_another_library_is_refused_where_draws_must_repeat(options):
    chance = random.Random(0)

    def own(self, x):
        return self.linear(x) * chance.random()

    with pytest.raises(ValueError, match=r"^layer 1 \(Unnamed\) draws from a generator of its"):
        trained(Unnamed(own), **options)
