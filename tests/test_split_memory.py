"""What layers need when one of their weights is tied, and that a capacity is kept to."""

import pytest
import torch
from torch import nn

from d2lpart import Partition, build_schedule, predict_memory, profile
from d2lpart.hardware import devices
from d2lpart.memory_formulas import ADAM_FP32, ADAM_MIXED
from d2lpart.model_choice import choose_model
from d2lpart.split_memory import layer_needs, with_shadows
from d2lpart.splitting import split_model

WIDTH = 4


def tied_layers():
    """Four layers of 20 parameters; the second has the first one's matrix, the last as well."""
    layers = [nn.Linear(WIDTH, WIDTH) for _ in range(4)]
    layers[1].weight = layers[3].weight = layers[0].weight
    return layers


@pytest.fixture(scope="module")
def costs():
    return profile(tied_layers(), torch.ones(2, WIDTH, device="meta"))


def test_a_weight_that_comes_again_needs_a_shadow_and_its_gradient(costs):
    order = build_schedule("1f1b", 2, 3)
    once, held = layer_needs(tied_layers(), costs, order, ADAM_FP32, input_bytes=100)
    assert [cost.parameters for cost in costs] == [20, 4, 20, 4]
    shadow = WIDTH * WIDTH * 8  # four bytes of weight, four of gradient
    assert once == [20 * 16 + 100, 4 * 16 + shadow, 20 * 16, 4 * 16 + shadow]
    activation = 2 * WIDTH * 4
    assert held == [0, activation, activation, activation + activation]  # the loss at the end


def test_one_rank_needs_no_shadow(costs):
    once, _ = layer_needs(tied_layers(), costs, build_schedule("gpipe", 1, 3), ADAM_MIXED, 0)
    assert once == [20 * 16, 4 * 16, 20 * 16, 4 * 16]


@pytest.mark.parametrize(
    ("sizes", "schedule", "shadows"),
    [
        ([1, 1, 1, 1], "1f1b", [0, 16, 0, 16]),
        ([2, 1, 1], "1f1b", [0, 0, 16]),
        ([3, 1], "1f1b", [0, 16]),
        ([4], "1f1b", [0]),
        ([1, 1, 1, 1], "zb-v", [0, 16]),  # stages 0 and 3 share a rank
    ],
)
def test_each_further_rank_holds_a_shadow(costs, sizes, schedule, shadows):
    cut = Partition(sizes)
    ranks = 2 if schedule == "zb-v" else len(sizes)
    order = build_schedule(schedule, ranks, 4)
    plain = predict_memory(costs, cut, order, recipe=ADAM_MIXED)
    found = with_shadows(plain, tied_layers(), cut, order, ADAM_MIXED)
    for rank, numbers in enumerate(shadows):
        assert found[rank].weights - plain[rank].weights == 2 * numbers
        assert found[rank].gradients - plain[rank].gradients == 2 * numbers
        assert found[rank].optimizer == plain[rank].optimizer
        assert found[rank].activations == plain[rank].activations


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
