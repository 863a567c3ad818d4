"""How many bytes a stage holds of one micro-batch: storages that autograd keeps, each once."""

import pytest
import torch
from torch import nn

from d2lpart.models.decoder import Block
from d2lpart.pipeline.pipeline import Pipeline
from d2lpart.stages.footprint import Footprint

FLOAT = 4


def leaf(inputs, wants_gradient=True):
    return inputs.detach().requires_grad_(wants_gradient)


def of(layers, inputs, wants_gradient=True):
    """The bytes counted when the layers really run on the leaf that is measured."""
    footprint, entry = Footprint(list(layers)), leaf(inputs, wants_gradient)
    footprint.begin()

    def compute():
        outputs = entry
        for layer in layers:
            outputs = layer(outputs)
        return outputs

    return footprint.measure(entry, compute)[1]


X = torch.randn(3, 8)  # 96 bytes


@pytest.mark.parametrize(
    ("layers", "floats"),
    [
        ([nn.Identity()], 24),  # the input counts though nobody saves it
        ([nn.Linear(8, 16)], 24),  # its input; not the weight
        ([nn.Linear(8, 16), nn.Tanh()], 24 + 48),  # tanh saves its output
        ([nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2)], 24 + 48),  # saved by two, held once
        ([nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2), nn.Tanh()], 24 + 48 + 6),
        ([nn.Tanh(), nn.Tanh(), nn.Tanh()], 4 * 24),
        ([nn.Linear(8, 8), nn.Flatten(0), nn.Tanh()], 24 + 24),  # a view is the same storage
        ([nn.Softmax(1)], 24 + 24),
    ],
)
def test_each_storage_counts_once_and_weights_not_at_all(layers, floats):
    assert of(layers, X) == FLOAT * floats


def test_a_slice_counts_by_its_own_size():
    """Micro-batches are slices of one storage; each holds its part."""
    whole = torch.randn(30, 8)
    assert of([nn.Linear(8, 2)], whole[3:6]) == FLOAT * 24


def test_buffers_and_frozen_weights_do_not_count():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.randn(8))

        def forward(self, x):
            return x * self.scale

    assert of([Scaled()], X) == FLOAT * 24
    assert of([nn.Linear(8, 16).requires_grad_(False), nn.Tanh()], X) == FLOAT * (24 + 48)


def test_without_anything_to_learn_only_the_input_is_held():
    assert of([nn.Linear(8, 16).requires_grad_(False), nn.Tanh()], X, False) == FLOAT * 24
    front = [nn.Linear(8, 16).requires_grad_(False), nn.Tanh(), nn.Linear(16, 2)]
    assert of(front, X, False) == FLOAT * (24 + 48)


def test_casts_of_weights_do_not_count_but_casts_of_activations_do():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert of([nn.Linear(8, 16)], X) == FLOAT * 24 + 2 * 24
        assert of([nn.Linear(8, 16, bias=False)], X) == FLOAT * 24 + 2 * 24


def test_a_block_counts_what_its_backward_needs():
    """By hand: T = 5 positions, B = 2 samples, C = 8; the saved tensors of each operation."""
    B, T, C, H = 2, 5, 8, 2
    block = Block(C, H)
    counted = of([block], torch.randn(B, T, C)) / FLOAT
    activations = B * T * C
    norms = 2 * (activations + 2 * B * T)  # each one's output feeds a linear map; mean and rstd
    attention = 3 * activations + activations + B * H * T  # q, k, v in one; output; log-sum-exp
    perceptron = 2 * 4 * activations  # before and after GELU
    stream = 2 * activations  # the input, and the sum between the branches
    merged = activations  # the heads side by side, which the output map reads
    least = norms + attention + perceptron + stream
    assert least <= counted <= least + merged


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_footprint_grows_with_the_microbatch(batch):
    one = of([nn.Linear(8, 16), nn.Tanh()], torch.randn(1, 8))
    assert of([nn.Linear(8, 16), nn.Tanh()], torch.randn(batch, 8)) == batch * one


def test_it_is_counted_once_for_each_kind_of_input():
    layers = [nn.Linear(8, 8), nn.Tanh()]
    footprint, calls = Footprint(layers), []
    footprint.begin()

    def measure(inputs):
        entry = leaf(inputs)

        def compute():
            hooked = torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
            calls.append(hooked)
            return layers[1](layers[0](entry))

        return footprint.measure(entry, compute)[1]

    sizes = [measure(x) for x in (X, X, torch.randn(2, 8), X, torch.randn(2, 8))]
    assert sizes == [FLOAT * n for n in (48, 48, 32, 48, 32)]
    assert calls == [True, False, True, False, False]
    footprint.begin()  # nothing has changed: it is still known
    measure(X)
    assert calls[-1] is False


def test_outputs_pass_through_unchanged():
    layer = nn.Linear(8, 2)
    footprint = Footprint([layer])
    outputs, _ = footprint.measure(leaf(X), lambda: layer(X))
    assert torch.equal(outputs, layer(X))
    outputs.sum().backward()
    assert layer.weight.grad is not None


# ---- in a pipeline, from step to step ----------------------------------------------------------


def peak(pipeline):
    return pipeline.step(X, torch.zeros(3, dtype=torch.long)).peak_bytes[0]


@pytest.mark.parametrize("recompute", [False, True])
def test_freezing_between_steps_is_noticed(recompute):
    layers = [nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2)]
    pipeline = Pipeline(layers, [3], ["cpu"], recompute=recompute)
    before = peak(pipeline)
    layers[0].requires_grad_(False)
    layers[2].weight.requires_grad_(False)  # a bias alone needs no activation
    after = peak(pipeline)
    assert before - after == FLOAT * 48
    assert after == peak(Pipeline(layers, [3], ["cpu"], recompute=recompute))
    for layer in layers:
        layer.requires_grad_(True)
    assert peak(pipeline) == before


def test_a_change_of_mode_between_steps_is_noticed():
    layers = [nn.Linear(8, 16), nn.Sequential(nn.Dropout(0.5)), nn.Linear(16, 2)]
    pipeline = Pipeline(layers, [3], ["cpu"])
    training = peak(pipeline)
    layers[1][0].eval()  # a part, while the layer itself stays in training
    assert peak(pipeline) < training
    layers[1][0].train()
    assert peak(pipeline) == training


def test_the_loss_belongs_to_the_last_stage():
    layers = [nn.Linear(8, 16), nn.Linear(16, 2)]
    pipeline = Pipeline(layers, [1, 1], ["cpu"] * 2)
    first, last = pipeline.step(X, torch.zeros(3, dtype=torch.long)).peak_bytes
    assert first == FLOAT * 24
    assert last >= FLOAT * (48 + 6)  # its input and the probabilities of the loss
