"""Users' reports on memory under autocast: what is forecast is what a step is counted to hold.

Each profile is taken in the autocast that the step runs in. Two ranks on a CPU.
"""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2lpart import Decoder, Pipeline, predict_memory, profile
from d2lpart.costs.memory_forecast import layer_needs
from d2lpart.memory.formulas import SGD_FP32

HALF = [torch.bfloat16, torch.float16]
SAMPLES, MICROBATCHES, CONTEXT = 8, 4, 8


def autocast(dtype, **options):
    return torch.autocast("cpu", dtype=dtype, **options) if dtype else nullcontext()


def decoder(vocabulary, width=16, **options):
    torch.manual_seed(0)
    return Decoder(vocabulary, width, 2, 2, CONTEXT, **options)


def text(vocabulary):
    torch.manual_seed(1)
    return torch.randint(vocabulary, (SAMPLES, CONTEXT)), torch.randint(vocabulary, (8, CONTEXT))


def step(layers, sizes, data, schedule="1f1b", loss_fn=None, recompute=False, clock="virtual"):
    """Return the ledgers of a counted step, and its schedule."""
    run = Pipeline(
        layers, sizes, ["cpu"] * 2, schedule=schedule, num_microbatches=MICROBATCHES,
        loss_fn=loss_fn, recompute=recompute, clock=clock,
    )  # fmt: skip
    return run.step(*data, memory=True).memory, run.schedule


def costs_of(layers, data, **options):
    inputs, targets = (part[: SAMPLES // MICROBATCHES] for part in data)
    return profile(layers, inputs, targets=targets, ranks=2, passes=1, **options)


def forecast(costs, sizes, schedule, data, recompute=False):
    inputs, targets = data
    return predict_memory(
        costs, sizes, schedule, recipe=SGD_FP32, recompute=recompute, input_bytes=inputs.nbytes,
        target_bytes=targets.nbytes,
    )  # fmt: skip


def agree(predicted, measured, rel=0.05):
    for computed, real in zip(predicted, measured, strict=True):
        assert computed.weights == real.weights
        assert computed.gradients == real.gradients
        assert real.activations == pytest.approx(computed.activations, rel=rel)
        assert real.total == pytest.approx(computed.total, rel=rel)


def smoothed(outputs, targets):
    """Cross-entropy in 32 bits, with a part of each target given to the other tokens."""
    return F.cross_entropy(outputs.float().flatten(0, 1), targets.flatten(), label_smoothing=0.1)


def squares(outputs, targets):
    """A loss that keeps a tensor of its own, and no logarithm."""
    return (outputs - F.one_hot(targets, outputs.shape[-1])).pow(2).mean()


def summed(outputs, targets):
    """A sum and a number; the backward needs the outputs themselves, and their exponentials."""
    return (outputs.exp() * outputs).sum() / 1e6, targets.numel()


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("vocabulary", [64, 4096])
@pytest.mark.parametrize("dtype", [None, *HALF])
@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved", "zb-h1", "zb-v"])
def test_a_profile_in_autocast_foretells_a_step_in_it(schedule, dtype, vocabulary, recompute):
    data, model = text(vocabulary), decoder(vocabulary)
    sizes = [1] * 4 if schedule in ("interleaved", "zb-v") else [2, 2]
    with autocast(dtype):
        costs = costs_of(model, data)
        measured, order = step(model, sizes, data, schedule, recompute=recompute)
    agree(forecast(costs, sizes, order, data, recompute), measured)


@pytest.mark.parametrize("loss_fn", [None, smoothed, squares, summed])
@pytest.mark.parametrize("dtype", [None, *HALF])
@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1"])
@pytest.mark.parametrize("meta", [False, True])
def test_what_the_users_loss_keeps_is_found(loss_fn, dtype, schedule, meta):
    data, model = text(512), decoder(512)
    with autocast(dtype):
        costs = costs_of(model, data, loss_fn=loss_fn, **({"device": "meta"} if meta else {}))
        measured, order = step(model, [2, 2], data, schedule, loss_fn)
    agree(forecast(costs, [2, 2], order, data), measured, rel=0.01)


def test_the_reported_figures():
    """2.72 MB were forecast and 5.29 MB measured: 16 bits a logit, where the loss keeps 32."""
    data, model = text(16384), decoder(16384)
    with autocast(torch.bfloat16):
        costs = costs_of(model, data)
        measured, order = step(model, [2, 2], data)
    logits = costs[-1].boundary_bytes
    assert costs[-1].loss_bytes == 2 * logits
    halved = predict_memory(costs, [2, 2], order, loss_bytes=logits)[1]
    assert measured[1].activations / halved.activations == pytest.approx(5.29 / 2.72, rel=0.02)
    computed = forecast(costs, [2, 2], order, data)[1]
    assert measured[1].activations / computed.activations == pytest.approx(1, abs=0.001)


@pytest.mark.parametrize("dtype", [None, *HALF])
@pytest.mark.parametrize("tied", [False, True])
def test_layers_on_meta_and_without_targets_are_costed_as_here(dtype, tied):
    data, model = text(512), decoder(512, tied=tied)
    with torch.device("meta"):
        there = decoder(512, tied=tied)
    sample = data[0][:2]
    with autocast(dtype):
        found = [
            profile(model, sample, ranks=2, passes=1), costs_of(model, data),
            profile(there, sample), costs_of(there, data),
        ]  # fmt: skip
        measured, order = step(model, [2, 2], data)
    ledgers = [forecast(costs, [2, 2], order, data) for costs in found]
    assert ledgers[1:] == ledgers[:-1]
    agree(ledgers[0], measured, rel=0.001)


def test_on_meta_a_loss_that_reads_numbers_counts_as_cross_entropy():
    def masked(outputs, targets):
        chosen = targets != 3
        return F.cross_entropy(outputs[chosen], targets[chosen])

    data = text(64)
    with torch.device("meta"):
        there = decoder(64)
    assert costs_of(there, data, loss_fn=masked) == costs_of(there, data)


def test_on_meta_an_autocast_of_the_gpu_alone_is_refused():
    before = torch.is_autocast_enabled("cuda")
    torch.set_autocast_enabled("cuda", True)
    try:
        with pytest.raises(
            ValueError, match=r'on for cuda alone.* in torch\.autocast\("cpu", dtyp'
        ):
            profile(decoder(64), text(64)[0], "meta")
        with autocast(torch.bfloat16):
            assert profile(decoder(64), text(64)[0], "meta")[1].copies
    finally:
        torch.set_autocast_enabled("cuda", before)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("cache_enabled", [True, False])
@pytest.mark.parametrize("recompute", [True, False])
def test_copies_of_weights_count_once_or_with_each_micro_batch(clock, cache_enabled, recompute):
    """Wide layers, whose copies weigh more than what a micro-batch keeps."""
    data, model = text(64), decoder(64, width=64)
    with autocast(torch.bfloat16, cache_enabled=cache_enabled):
        costs = costs_of(model, data)
        measured, order = step(model, [2, 2], data, "gpipe", recompute=recompute, clock=clock)
    assert bool(costs[1].copies) is cache_enabled
    agree(forecast(costs, [2, 2], order, data, recompute), measured, rel=0.001)


@pytest.mark.parametrize(("schedule", "sizes"), [("1f1b", [2, 2]), ("interleaved", [1] * 4)])
def test_a_copy_of_a_tied_weight_counts_once_a_stage(schedule, sizes):
    layers = [nn.Linear(64, 64) for _ in range(4)]
    layers[1].weight = layers[3].weight = layers[0].weight
    data = torch.randn(SAMPLES, 64), torch.randint(64, (SAMPLES,))
    with autocast(torch.bfloat16):
        costs = costs_of(layers, data)
        measured, order = step(layers, sizes, data, schedule)
    assert [[tuple(copy) for copy in cost.copies] for cost in costs] == [
        [], [(0, 0, 2 * 64 * 64)], [(2, 0, 2 * 64 * 64)], [(0, 0, 2 * 64 * 64)]
    ]  # fmt: skip
    agree(forecast(costs, sizes, order, data), measured, rel=0.005)
    once, _ = layer_needs(costs, order, recipe=SGD_FP32)
    assert once[2] == 8 * (64 * 64 + 64) + 2 * 64 * 64


def activations():
    return [nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64),
            nn.GELU(), nn.Linear(64, 64), nn.Sigmoid()]  # fmt: skip


def views():
    flat = [nn.Linear(64, 64), nn.Flatten(), nn.Linear(64, 64), nn.Unflatten(1, (8, 8))]
    return [*flat, nn.Flatten(), nn.Flatten(), nn.Linear(64, 64), nn.Tanh()]


@pytest.mark.parametrize("make", [activations, views])
@pytest.mark.parametrize("loss_fn", [None, F.mse_loss])
@pytest.mark.parametrize("dtype", [None, *HALF])
@pytest.mark.parametrize("schedule", ["gpipe", "zb-h1"])
@pytest.mark.parametrize("sizes", [[4, 4], [2, 6], [5, 3]])
def test_what_lies_between_two_layers_counts_once_and_only_if_needed(
    make, loss_fn, dtype, schedule, sizes
):
    """An input is kept as a cast alone, an output by the layer itself, a view by what it views."""
    layers = make()
    targets = torch.randint(64, (SAMPLES,)) if loss_fn is None else torch.randn(SAMPLES, 64)
    data = torch.randn(SAMPLES, 64), targets
    with autocast(dtype):
        costs = costs_of(layers, data, loss_fn=loss_fn)
        measured, order = step(layers, sizes, data, schedule, loss_fn)
    agree(forecast(costs, sizes, order, data), measured)
