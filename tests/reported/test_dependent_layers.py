"""Layers in which a sample's output depends on other samples, or on what went before: refused."""

import copy

import pytest
import torch
from torch import nn

from d2lpart import Pipeline


class First(nn.Module):
    """The first of what a recurrent layer returns."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)[0]


class Centred(nn.Module):
    """What is over the mean of the batch."""

    def forward(self, x):
        return x - x.mean(0, keepdim=True)


class Summed(nn.Module):
    """One row for the whole batch."""

    def forward(self, x):
        return x.sum(0, keepdim=True)


class RunningMean(nn.Module):
    """Takes away a mean that it keeps from one forward to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x):
        if self.training:
            self.mean += 0.1 * (x.detach().flatten(0, -2).mean(0) - self.mean)
        return x - self.mean


class Remembers(nn.Module):
    """As `RunningMean`, but what it keeps is a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.calls = torch.zeros(8), 0

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().flatten(0, -2).mean(0)
            self.calls += 1
        return x - self.mean


def encoder(batch_first: bool) -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=batch_first)


def pipeline(layer: nn.Module, m: int = 4, **options) -> Pipeline:
    layers = [nn.Linear(8, 8), layer, nn.Linear(8, 3)]
    options = {"clock": "virtual", "loss_fn": nn.MSELoss(), **options}
    return Pipeline(layers, [2, 1], ["cpu"] * 2, num_microbatches=m, **options)


def batch():
    torch.manual_seed(0)
    return torch.randn(8, 4, 8), torch.randn(8, 4, 3)


DEPENDENT = {
    "encoder": (lambda: encoder(False), "MultiheadAttention takes .* batch_first=True"),
    "LSTM": (lambda: First(nn.LSTM(8, 8)), "LSTM takes .* batch_first=True"),
    "GRU": (lambda: First(nn.GRU(8, 8, 2, dropout=0.5)), "GRU takes .* batch_first=True"),
    "centred": (Centred, "use a layer that treats every sample by itself"),
    "frozen and centred": (
        lambda: Centred().requires_grad_(False),
        "treats every sample by itself",
    ),
}


@pytest.mark.parametrize("name", DEPENDENT)
def test_dependence_on_other_samples_is_refused_before_any_gradient(name):
    make, remedy = DEPENDENT[name]
    cut = pipeline(make())
    with pytest.raises(
        ValueError, match=rf"^layer 1 \(\w+\): its output for .*depends on.*{remedy}"
    ):
        cut.step(*batch())
    assert all(weight.grad is None for weight in cut.parameters())
    pipeline(make(), m=1).step(*batch())  # seen once, the mini-batch is no micro-batch


def test_an_output_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"^layer 1 \(Summed\): two micro-batches together give"):
        pipeline(Summed()).step(*batch())


INDEPENDENT = {
    "encoder": lambda: encoder(True),
    "LSTM": lambda: First(nn.LSTM(8, 8, 2, dropout=0.5, batch_first=True)),
    "GRU": lambda: First(nn.GRU(8, 8, batch_first=True)),
    "dropout": lambda: nn.Dropout(0.5),
    "RReLU": nn.RReLU,
    "in place": lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True)),
    "instance norm": lambda: nn.InstanceNorm1d(4, track_running_stats=True),
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_layers_that_treat_every_sample_by_itself_pass(name):
    pipeline(INDEPENDENT[name]()).step(*batch())


KEEPS = [RunningMean, Remembers, lambda: nn.utils.spectral_norm(nn.Linear(8, 8))]


@pytest.mark.parametrize("make", KEEPS)
def test_dependence_on_the_forward_before_is_refused(make):
    layer = make()
    cut = pipeline(layer)
    names = r"(mean|mean, calls|weight_u, weight_v, weight)"
    with pytest.raises(ValueError, match=rf"^layer 1 \(\w+\) changes {names} in its forward"):
        cut.step(*batch())
    pipeline(layer, m=1).step(*batch())
    pipeline(layer.eval()).step(*batch())


@pytest.mark.parametrize("make", KEEPS)
def test_recompute_counts_once_and_finds_what_the_forward_found(make):
    layer = make()
    inputs, targets = batch()
    plain = nn.Sequential(nn.Linear(8, 8), layer, nn.Linear(8, 3))
    again = copy.deepcopy(plain)
    nn.MSELoss()(plain(inputs), targets).backward()
    cut = Pipeline(
        again, [2, 1], ["cpu"] * 2, loss_fn=nn.MSELoss(), recompute=True, clock="virtual"
    )
    cut.step(inputs, targets)
    for name, buffer in plain.named_buffers():
        assert torch.equal(again.get_buffer(name), buffer), name
    if isinstance(layer, Remembers):
        assert again[1].calls == 1
        assert torch.equal(again[1].mean, plain[1].mean)
    for one, other in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=2e-5, atol=1e-7)


def test_the_look_leaves_nothing_behind():
    layer = nn.Sequential(nn.InstanceNorm1d(4, track_running_stats=True), nn.Dropout(0.5))
    looked, blind = (pipeline(copy.deepcopy(layer), probe=look) for look in (True, False))
    blind.load_state_dict(looked.state_dict())
    results = []
    for cut in (looked, blind):
        torch.manual_seed(1)
        results.append(cut.step(*batch()).loss)
    assert results[0] == results[1]
    for (name, one), other in zip(
        looked.state_dict().items(), blind.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_it_looks_once_and_again_when_a_mode_has_changed():
    calls = []

    class Counting(nn.Module):
        def forward(self, x):
            calls.append(len(x))
            return x

    cut = pipeline(Counting(), m=2)
    cut.step(*batch())
    first = len(calls)
    assert first > 2
    calls.clear()
    cut.step(*batch())
    assert calls == [4, 4]
    cut.eval()
    calls.clear()
    cut.step(*batch())
    assert len(calls) == first


def test_it_can_be_switched_off():
    pipeline(Centred(), probe=False).step(*batch())


def test_a_layer_that_takes_one_size_alone_is_left_to_the_step():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.view(2, 4, 8)

    pipeline(Fixed()).step(*batch())


def test_what_a_layer_makes_for_a_size_that_only_the_look_has_is_gone():
    class Caches(nn.Module):
        """Makes a table for the first size it meets, and keeps it."""

        def forward(self, x):
            if not hasattr(self, "table"):
                self.register_buffer("table", torch.ones(len(x), 1, 1), persistent=False)
            if getattr(self, "mask", None) is None:
                self.mask = torch.ones(len(x), 1, 1)
            return x * self.table * self.mask

    pipeline(Caches()).step(*batch())


class Does(nn.Module):
    """A layer whose forward is given."""

    def __init__(self, forward) -> None:
        super().__init__()
        self.does = forward

    def forward(self, x):
        return self.does(x)


def swapped():
    return Does(lambda x: x.transpose(0, 1))


def test_layers_that_take_positions_first_pass_where_they_get_them():
    layers = [nn.Linear(8, 8), swapped(), encoder(False), First(nn.LSTM(8, 8)), swapped()]
    layers[2].eval()
    inputs, targets = torch.randn(8, 4, 8), torch.randn(8, 4, 8)
    whole = nn.Sequential(*copy.deepcopy(layers))
    nn.MSELoss()(whole(inputs), targets).backward()
    cut = Pipeline(
        layers, [3, 2], ["cpu"] * 2, num_microbatches=4, loss_fn=nn.MSELoss(), clock="virtual"
    )
    cut.step(inputs, targets)
    for one, other in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=2e-5, atol=1e-7)


def test_the_look_goes_on_behind_positions_that_are_folded_into_samples():
    layers = [Does(lambda x: x.flatten(0, 1)), nn.Linear(8, 8)]
    layers += [Does(lambda x: x.view(-1, 4, 8).mean(1)), Centred(), nn.Linear(8, 3)]
    cut = Pipeline(layers, [3, 2], ["cpu"] * 2, num_microbatches=4, loss_fn=nn.MSELoss())
    with pytest.raises(ValueError, match=r"^layer 3 \(Centred\): its output"):
        cut.step(torch.randn(8, 4, 8), torch.randn(8, 3))


def test_infinite_numbers_hide_no_dependence():
    masked = Does(lambda x: (x - x.mean(0)).masked_fill(torch.arange(8) < 2, float("-inf")))
    with pytest.raises(ValueError, match="depends on the other samples"):
        pipeline(masked).step(*batch())
    both = Does(lambda x: torch.cat([x + x.flip(0), x], -1)[..., :8] * 0)
    pipeline(both).step(*batch())


@pytest.mark.parametrize("compiled", ["script", "trace"])
def test_scripted_layers_are_looked_at_and_left_alone(compiled):
    plain = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    if compiled == "trace":
        layer = torch.jit.trace(plain, torch.randn(2, 4, 8))
    else:
        layer = torch.jit.script(plain)
    pipeline(layer).step(*batch())


def test_an_attribute_that_the_look_has_changed_is_what_it_was():
    class Notes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = "none yet"

        def forward(self, x):
            self.last = x.detach().mean()
            return x

    layer = Notes()
    cut = pipeline(layer)
    seen = []
    layer.register_forward_pre_hook(lambda *_: seen.append(layer.last))
    cut.step(*batch())
    assert seen[:2] == ["none yet"] * 2
    assert isinstance(layer.last, torch.Tensor)
