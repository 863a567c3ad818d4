"""Every named schedule run for real: the loop's gradients to the last bit, no work done twice."""

import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from d2lpart import Decoder, Pipeline, build_schedule
from d2lpart.machine.hardware import threads
from d2lpart.schedules.orders import SCHEDULES
from d2lpart.stages.stage import Stage

CLOCKS = ["virtual", "wall"]
CHUNKS = {"1f1b": [1], "zb-h1": [1], "zb-h2": [1], "zb-v": [2]}  # the others take any number
SPLIT = ["zb-h1", "zb-h2", "zb-v"]


@pytest.fixture(autouse=True)
def _one_thread():
    with threads(1):
        yield


def drawn(*shape, below=None):
    generator = torch.Generator().manual_seed(1)
    if below is None:
        return torch.randn(shape, generator=generator)
    return torch.randint(below, shape, generator=generator)


def perceptron():
    torch.manual_seed(0)
    return [nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.GELU()) for _ in range(12)]


def loop(layers, inputs, targets, m, order=None):
    """One device, one micro-batch after another; each weighs what its share of the targets is."""
    for k in order or range(m):
        x, y = inputs.tensor_split(m)[k], targets.tensor_split(m)[k]
        for layer in layers:
            x = layer(x)
        loss = F.cross_entropy(x.flatten(0, -2), y.flatten())
        (loss * (y.numel() / targets.numel())).backward()


def summed(schedule):
    """The order in which a schedule adds up the gradients of the micro-batches, in stage 0."""
    first = schedule.orders[schedule.stage_to_rank[0]]
    return [action.microbatch for action in first if action.stage == 0 and action.kind in "BW"]


def weights(layers):
    return {weight: None for layer in layers for weight in layer.parameters()}


def assert_same_gradients(layers, expected):
    for ours, theirs in zip(weights(layers), weights(expected), strict=True):
        if theirs.grad is None:
            assert ours.grad is None
        else:
            assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("p", [1, 2, 3, 4])
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_gradients_are_those_of_the_loop_for_any_sizes(name, p, clock):
    """With fewer micro-batches than ranks, as many, no multiple of them, and unequal ones."""
    inputs, targets = drawn(14, 6), drawn(14, below=6)
    for m in (1, 2, 3, 4, 5, 7):
        for v in CHUNKS.get(name, [1, 2, 3]):
            layers, expected, stages = perceptron(), perceptron(), p * v
            sizes = [12 // stages + (stage < 12 % stages) for stage in range(stages)]
            schedule = build_schedule(name, p, m, chunks=v)
            loop(expected, inputs, targets, m, summed(schedule))
            pipeline = Pipeline(layers, sizes, ["cpu"] * p, schedule=schedule, clock=clock)
            step = pipeline.step(inputs, targets)
            assert_same_gradients(layers, expected)
            assert {span.action for span in step.timeline.spans} == set(schedule.position)


def tie(decoder, how):
    """Let a weight stand in several stages: the embedding in the head, or a block's in another."""
    if how == "blocks":
        decoder.layers[2].perceptron.hidden.weight = decoder.layers[1].perceptron.hidden.weight
    return decoder


def small_decoder(tied):
    torch.manual_seed(0)
    decoder = Decoder(
        vocab_size=11, width=8, num_layers=4, num_heads=2, context=6, tied=tied == "ends"
    )
    return tie(decoder, tied)


@pytest.mark.parametrize("seed", range(36))
def test_split_orders_of_a_decoder(seed):
    """Weights tied or frozen, forwards computed again, micro-batches of unequal size."""
    chance = random.Random(seed)
    name, tied = chance.choice([*SPLIT, "interleaved"]), chance.choice(["no", "ends", "blocks"])
    p, m, v = chance.randint(1, 3), chance.randint(1, 7), chance.randint(1, 2)
    frozen = chance.choice([(), (0, 1), (2,), (5,)])
    ours, theirs = small_decoder(tied), small_decoder(tied)
    for number in frozen:
        ours.layers[number].requires_grad_(False)
        theirs.layers[number].requires_grad_(False)
    inputs, targets = drawn(7, 6, below=11), drawn(7, 6, below=11).flip(0)
    loop(theirs.layers, inputs, targets, m)
    schedule = build_schedule(name, p, m, chunks=v if name == "interleaved" else None)
    stages = schedule.num_stages
    sizes = [6 // stages + (stage < 6 % stages) for stage in range(stages)]
    options = {"clock": chance.choice(CLOCKS), "recompute": chance.random() < 0.3}
    pipeline = Pipeline(ours.layers, sizes, ["cpu"] * p, schedule=schedule, **options)
    pipeline.step(inputs, targets)
    assert_same_gradients(ours.layers, theirs.layers)


# ---- what is held


def most_held(schedule, footprint):
    """The most bytes that each rank holds, from its order and what a micro-batch takes a stage."""
    peaks = []
    for order in schedule.orders:
        held = peak = 0
        for stage, kind, _ in order:
            held += footprint[stage] if kind == "F" else -footprint[stage]
            peak = max(peak, held)
        peaks.append(peak)
    return tuple(peaks)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize(("p", "v", "m"), [(1, 3, 2), (2, 2, 6), (3, 2, 2), (3, 2, 7), (4, 3, 4)])
@pytest.mark.parametrize("name", ["naive", "gpipe", "interleaved"])
def test_bytes_measured_are_those_of_the_stages_in_flight(name, p, v, m, clock):
    """Stages of 12, 6, 4, 3, 2 or 1 layers, several a rank; the last one has the loss, too."""
    inputs, targets = drawn(2 * m, 6), drawn(2 * m, below=6)
    stages = p * v
    sizes = [12 // stages] * stages

    def run(ranks, schedule):
        pipeline = Pipeline(perceptron(), sizes, ["cpu"] * ranks, schedule=schedule, clock=clock)
        return pipeline.step(inputs, targets)

    footprint = run(stages, build_schedule("naive", stages, m)).peak_bytes
    schedule = build_schedule(name, p, m, chunks=v)
    step = run(p, schedule)
    assert step.peak_bytes == most_held(schedule, footprint)
    for rank in range(
        p - 1
    ):  # all of its stages are alike, those of the first and last ranks apart
        own = {footprint[stage] for stage in schedule.stages_of(rank)}
        if len(own) == 1:
            assert step.peak_bytes[rank] == step.timeline.peak_in_flight(rank) * v * own.pop()


@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize(("p", "m"), [(2, 4), (3, 6), (3, 2)])
def test_a_split_order_holds_its_micro_batches_and_gradients_that_wait(name, p, m):
    """From I to W a micro-batch holds gradients as well, but no longer what I alone has needed."""
    inputs, targets = drawn(2 * m, 6), drawn(2 * m, below=6)
    schedule = build_schedule(name, p, m)
    stages = schedule.num_stages
    sizes = [12 // stages] * stages

    def peaks(order, ranks):
        pipeline = Pipeline(perceptron(), sizes, ["cpu"] * ranks, schedule=order, clock="virtual")
        return pipeline.step(inputs, targets)

    footprint = peaks(build_schedule("naive", stages, m), stages).peak_bytes
    step = peaks(schedule, p)
    for rank, held in enumerate(step.peak_bytes):
        own = [footprint[stage] for stage in schedule.stages_of(rank)]
        most = step.timeline.peak_in_flight(rank) * len(own)
        assert 0.5 * most * min(own) < held < 2 * most * max(own)


# ---- no work is done twice


def flops(act, *args):
    with FlopCounterMode(display=False) as counter:
        made = act(*args)
    return counter.get_total_flops(), made


def block():
    return [small_decoder("no").layers[k] for k in (1, 2)], drawn(3, 6, 8)


def convolutions():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Flatten()]
    return [*layers, nn.Linear(32, 5)], drawn(2, 3, 8, 8)


@pytest.mark.parametrize("make", [block, convolutions])
def test_i_and_w_together_compute_what_b_computes(make):
    """In floating-point operations; and W runs no part of the forward, and none of I."""
    layers, inputs = make()
    stage = Stage(0, layers, 0, torch.device("cpu"))
    stage.begin()
    key = (0, 0, 0)
    forward, (outputs, held) = flops(stage.forward, inputs, True, key)
    whole, _ = flops(stage.backward, held, torch.ones_like(outputs), {})
    same, (outputs, held) = flops(stage.forward, inputs, True, key, None, True)
    first, _ = flops(stage.backward_input, held, torch.ones_like(outputs), {})
    second, _ = flops(stage.backward_weight, held, {})
    assert same == forward
    assert first + second == whole
    assert min(first, second) > 0


@pytest.mark.parametrize("tied", ["no", "ends"])
def test_every_order_computes_as_much(tied):
    """Counted by torch over a whole step; with recompute the forward runs twice, and I and W once.

    A backward is two products for each one of the forward, so that is four thirds.
    """
    inputs, targets = drawn(4, 6, below=11), drawn(4, 6, below=11)
    counted = {False: set(), True: set()}
    for recompute, found in counted.items():
        for name in SCHEDULES:
            pipeline = Pipeline(
                small_decoder(tied), [1] * 6 if name == "zb-v" else [2] * 3, ["cpu"] * 3,
                schedule=name, num_microbatches=4, clock="virtual", recompute=recompute,
                probe=False,
            )  # fmt: skip
            found.add(flops(pipeline.step, inputs, targets)[0])
    assert len(counted[False]) == len(counted[True]) == 1
    assert 3 * counted[True].pop() == 4 * counted[False].pop() > 0
