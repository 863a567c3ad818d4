"""What layers and ranks need beside what a plain layer tells: shadows, buffers, frozen weights.

The oracle is a counted step, once the optimizer has stepped. And a capacity is kept to.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from d2lpart import Decoder, Pipeline, build_schedule, predict_memory, profile
from d2lpart.commands.splitting import split_model
from d2lpart.costs.layer_cost import LayerCost, WeightCopy
from d2lpart.costs.memory_forecast import layer_needs
from d2lpart.machine.hardware import devices
from d2lpart.memory.formulas import ADAM_FP32, ADAM_MIXED
from d2lpart.models.by_name import choose_model
from d2lpart.schedules.schedule import Schedule

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


# ---- what a profile tells of the loss, of copies and of what lies between two layers ------------


BARE = LayerCost("Layer", 0, 0, 100, 7, 0, waiting_bytes=60, gradient_bytes=50)
HALVES = Schedule(["0F0 0F1 0I0 0I1 0W0 0W1", "1F0 1F1 1I0 1I1 1W0 1W1"], [0, 1])


def activations(costs, schedule, **options):
    return [ledger.activations for ledger in predict_memory(costs, [2, 2], schedule, **options)]


def test_the_loss_keeps_what_the_profile_says_unless_the_caller_knows_better():
    order = build_schedule("gpipe", 2, 3)
    costs = [BARE, BARE, BARE, replace(BARE, loss_bytes=1000)]
    inner = 100 + 7 + 100
    assert activations(costs, order) == [3 * inner, 3 * (7 + inner + 1000)]
    assert activations(costs, order, loss_bytes=1)[1] == 3 * (7 + inner + 1)
    assert activations([BARE] * 4, order)[1] == 3 * (7 + inner + 7)
    assert layer_needs(costs, order)[1] == [100, 107, 107, 1107]


def test_the_targets_lie_on_the_last_rank():
    order = build_schedule("1f1b", 2, 4)
    plain, fed = (activations([BARE] * 4, order, target_bytes=n) for n in (0, 5000))
    assert [b - a for a, b in zip(plain, fed, strict=True)] == [0, 5000]


@pytest.mark.parametrize(
    ("first", "second", "between"),
    [
        ({}, {}, 7),
        ({"keeps_output": True}, {}, 0),  # it is in activation_bytes
        ({}, {"keeps_input": False}, 0),
        ({"is_view": True}, {}, 0),  # of the stage's input
    ],
)
def test_a_tensor_between_two_layers_is_held_once_if_needed(first, second, between):
    costs = [BARE, BARE, replace(BARE, **first), replace(BARE, **second)]
    held = activations(costs, build_schedule("gpipe", 2, 3), loss_bytes=0)
    assert held[1] == 3 * (7 + 100 + between + 100)


def test_between_the_halves_a_layer_waits_with_what_it_says():
    first = replace(BARE, activation_bytes=1, keeps_input=False, gradient_bytes=0)
    second = replace(first, waits_with_input=False)
    held = [activations([first, layer] * 2, HALVES, loss_bytes=0)[0] for layer in (first, second)]
    assert held == [2 * (60 + 7 + 60), 2 * (60 + 60)]  # both wait for W


def test_a_copy_counts_with_the_weights_as_long_as_a_micro_batch_needs_it():
    copies = WeightCopy(0, 0, 10), WeightCopy(1, 0, 200)
    costs = [replace(BARE, copies=(copy,)) for copy in (*copies, copies[0], copies[1])]
    twice = Schedule(["0F0 1F0 1B0 0B0"], [0, 0])  # two stages of one rank
    assert predict_memory(costs, [2, 2], twice)[0].weights == 2 * 210
    assert predict_memory(costs, [2, 2], twice, recompute=True)[0].weights == 210
    tied = Schedule(["0F0 0B0"], [0])
    assert predict_memory(costs, [4], tied)[0].weights == 210
    assert layer_needs(costs, tied)[0] == [10, 200, 0, 0]
    assert layer_needs(costs, HALVES)[0] == [10, 200, 10, 200]


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
