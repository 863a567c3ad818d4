"""What layers and ranks need beside what a plain layer tells: shadows, buffers, frozen weights.

The oracle is a counted step, once the optimizer has stepped. And a capacity is kept to.
"""

import pytest
import torch
from torch import nn

from d2lpart import Decoder, Pipeline, build_schedule, predict_memory, profile
from d2lpart.commands.splitting import split_model
from d2lpart.costs.memory_forecast import layer_needs
from d2lpart.machine.hardware import devices
from d2lpart.memory.formulas import ADAM_FP32, ADAM_MIXED
from d2lpart.models.by_name import choose_model

WIDTH = 4


def tied_layers():
    """Four layers of 20 parameters; the second has the first one's matrix, the last as well."""
    layers = [nn.Linear(WIDTH, WIDTH) for _ in range(4)]
    layers[1].weight = layers[3].weight = layers[0].weight
    return layers


@pytest.fixture(scope="module")
def costs():
    return profile(tied_layers(), torch.ones(2, WIDTH, device="meta"))


def test_a_profile_tells_which_weights_are_tied(costs):
    assert [cost.parameters for cost in costs] == [20, 4, 20, 4]
    assert costs[0].tied == costs[2].tied == ()
    assert costs[1].tied == costs[3].tied == ((0, 0, WIDTH * WIDTH, WIDTH * WIDTH),)


def test_a_weight_that_comes_again_needs_a_shadow_and_its_gradient(costs):
    order = build_schedule("1f1b", 2, 3)
    once, held = layer_needs(costs, order, input_bytes=100)
    shadow = WIDTH * WIDTH * 8  # four bytes of weight, four of gradient
    assert once == [20 * 16 + 100, 4 * 16 + shadow, 20 * 16, 4 * 16 + shadow]
    activation = 2 * WIDTH * 4
    assert held == [0, activation, activation, activation + activation]  # the loss at the end


def test_one_rank_needs_no_shadow(costs):
    once, _ = layer_needs(costs, build_schedule("gpipe", 1, 3), recipe=ADAM_MIXED)
    assert once == [20 * 16, 4 * 16, 20 * 16, 4 * 16]


@pytest.mark.parametrize(
    ("sizes", "schedule", "own", "shadows"),
    [
        ([1, 1, 1, 1], "1f1b", [20, 4, 20, 4], [0, 16, 0, 16]),
        ([2, 1, 1], "1f1b", [24, 20, 4], [0, 0, 16]),
        ([1, 3], "1f1b", [20, 28], [0, 16]),  # two layers there use it
        ([3, 1], "1f1b", [44, 4], [0, 16]),
        ([4], "1f1b", [48], [0]),
        ([1, 1, 1, 1], "zb-v", [24, 24], [0, 16]),  # stages 0 and 3 share a rank
    ],
)
def test_each_further_rank_holds_a_shadow(costs, sizes, schedule, own, shadows):
    order = build_schedule(schedule, len(own), 4)
    found = predict_memory(costs, sizes, order, recipe=ADAM_MIXED)
    for ledger, number, shadow in zip(found, own, shadows, strict=True):
        assert ledger.weights == ledger.gradients == 2 * (number + shadow)
        assert ledger.optimizer == 12 * number


def counted(layers, sizes, inputs, targets, schedule="1f1b"):
    """Return the ledgers of a second step with Adam, and the schedule."""
    run = Pipeline(layers, sizes, ["cpu"] * len(sizes), schedule=schedule, num_microbatches=4,
                   clock="virtual")  # fmt: skip
    adam = torch.optim.Adam(run.parameters())
    for _ in range(2):
        adam.zero_grad()
        result = run.step(inputs, targets, memory=True)
        adam.step()
    return result.memory, run.schedule


class Shifted(nn.Module):
    """A linear layer and a buffer, which another layer may have as well."""

    def __init__(self, width, shift):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.register_buffer("shift", shift)

    def forward(self, x):
        return self.linear(x) + self.shift


def test_tied_weights_are_foretold_as_they_are_counted():
    torch.manual_seed(0)
    model = Decoder(64, 32, 4, 2, 16, tied=True)
    inputs, targets = torch.randint(64, (2, 8, 16))
    inputs, targets = inputs.clone(), targets.clone()
    costs = profile(model.layers, inputs[:2])
    measured, order = counted(model, [2, 2, 2], inputs, targets)
    predicted = predict_memory(costs, [2, 2, 2], order, input_bytes=inputs.nbytes)
    token = 64 * 32 * 4
    assert sum(ledger.weights for ledger in measured) == token + sum(
        weight.nbytes for weight in model.parameters()
    )
    for computed, real in zip(predicted, measured, strict=True):
        assert computed.weights == real.weights
        assert computed.gradients - token < real.gradients <= computed.gradients
        assert real.optimizer == pytest.approx(computed.optimizer, rel=0.01)
        assert real.activations == pytest.approx(computed.activations, rel=0.05)
    assert predicted.compare(measured).difference == pytest.approx(0, abs=0.05)


def test_buffers_and_frozen_weights_are_foretold_as_they_are_counted():
    torch.manual_seed(0)
    shift = torch.zeros(8)
    layers = [Shifted(8, shift), Shifted(8, shift), Shifted(8, torch.zeros(8)), nn.Linear(8, 3)]
    layers[0].requires_grad_(False)
    layers[2].linear.weight.requires_grad_(False)
    inputs, targets = torch.randn(8, 8), torch.randint(3, (8,))
    costs = profile(layers, inputs[:2])
    assert [cost.buffer_bytes for cost in costs] == [32, 0, 32, 0]
    assert [cost.trainable for cost in costs] == [0, 72, 8, 27]
    measured, order = counted(layers, [2, 2], inputs, targets)
    predicted = predict_memory(costs, [2, 2], order, input_bytes=inputs.nbytes)
    for computed, real in zip(predicted, measured, strict=True):
        assert computed.weights == real.weights
        assert computed.gradients == real.gradients
        counters = 2 * 4 if real is measured[0] else 3 * 4  # a number for each weight that learns
        assert real.optimizer == computed.optimizer + counters


def test_buffers_and_frozen_weights_count_in_the_needs_of_layers():
    layers = [Shifted(8, torch.zeros(8)), nn.Linear(8, 3)]
    layers[0].requires_grad_(False)
    costs = profile(layers, torch.ones(2, 8, device="meta"))
    once, _ = layer_needs(costs, build_schedule("1f1b", 2, 4), recipe=ADAM_FP32)
    assert once == [72 * 4 + 32, 27 * 16]


@pytest.mark.parametrize(
    ("schedule", "share", "sizes"),
    [
        ("1f1b", 0.95, (8, 8, 8)),
        ("1f1b", 0.8, (7, 8, 9)),  # the first rank holds three micro-batches, the last one
        ("zb-v", 0.95, (3, 2, 3, 4, 5, 7)),
        ("gpipe", 0.95, None),  # each rank holds them all: nothing is to be gained
        ("zb-h1", 0.5, ()),
    ],
)
def test_a_capacity_is_kept_to_at_the_price_of_some_time(schedule, share, sizes):
    """Narrow layers and long samples, so that activations weigh."""

    def split(capacity):
        return split_model(
            choose_model("decoder:width=16,layers=22,heads=2,vocab=8,context=64"),
            devices(3), num_microbatches=6, schedule=schedule, rate=1e9, capacity=capacity,
        )  # fmt: skip

    free = split(None)
    capacity = share * free.memory.largest
    if sizes is None:
        with pytest.raises(ValueError, match=r"6 micro-batches held, .* over; use more stages"):
            split(capacity)
        return
    report = split(capacity)
    if not sizes:  # not known whether any fits, so the fastest is shown, and that it is too large
        assert report.partition == free.partition
        assert report.memory.too_full
    else:
        assert report.partition.sizes == sizes
        assert report.fits
        assert report.timeline.makespan > free.timeline.makespan
