"""Layers that cannot be one tensor in, one tensor out, on a device with numbers: said in words."""

import re

import pytest
import torch
from torch import nn

from d2lpart import Pipeline, layers_of, profile
from d2lpart.pipeline.engine import PipelineError

CPU = "cpu"
NO_NUMBERS = (
    "which holds no numbers, and a pipeline computes: use a real device, or cost the layers "
    "without running them, by profile(layers, sample, device='meta') and at_rate"
)


class Layer(nn.Module):
    """A layer without weights that does what it is told."""

    def __init__(self, does):
        super().__init__()
        self.does = does

    def forward(self, x):
        return self.does(x)


def add_one(x):
    x += 1
    return x


def data():
    torch.manual_seed(0)
    return torch.randn(4, 4), torch.arange(4)


def refused(message, error=ValueError):
    return pytest.raises(error, match=f"^{re.escape(message).replace('…', '.*')}$")


# ---- in place on what a stage receives -----------------------------------------------------------

IN_PLACE = {
    "at once": [add_one],
    "relu_": [lambda x: x.relu_()],
    "behind a view": [lambda x: x.view(-1, 2, 2), lambda x: x.flatten(1), add_one],
    "inside a block": [lambda x: nn.functional.relu(x, inplace=True) * 2],
}


@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1"])
@pytest.mark.parametrize("kind", IN_PLACE)
def test_a_stage_that_overwrites_its_input_says_which_layer_does(kind, schedule):
    does = IN_PLACE[kind]
    model = [nn.Linear(4, 4), *map(Layer, does), nn.Linear(4, 4)]
    run = Pipeline(model, [1, len(does) + 1], [CPU] * 2, schedule=schedule, num_microbatches=2)
    with refused(
        f"rank 1, stage 1, action 1F0 (micro-batch 0), layer {len(does)} (Layer): ValueError: the "
        f"layer overwrites the input of its stage in place, but whoever made that may still need "
        f"it: make a new tensor (x = x + 1, torch.relu(x), inplace=False), or cut after this layer",
        PipelineError,
    ):
        run.step(*data())
    assert all(weight.grad is None for weight in run.parameters())


@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1"])
@pytest.mark.parametrize("kind", IN_PLACE)
def test_the_remedy_is_true(kind, schedule):
    does = IN_PLACE[kind]
    model = [nn.Linear(4, 4), *map(Layer, does), nn.Linear(4, 4)]
    inputs, targets = data()
    run = Pipeline(model, [len(does) + 1, 1], [CPU] * 2, schedule=schedule, num_microbatches=2)
    run.step(inputs, targets)
    found = [weight.grad.clone() for weight in run.parameters()]
    run.zero_grad()
    nn.functional.cross_entropy(nn.Sequential(*model)(inputs), targets).backward()
    for weight, gradient in zip(run.parameters(), found, strict=True):
        torch.testing.assert_close(gradient, weight.grad)


def test_a_weight_overwritten_in_place_is_not_taken_for_the_input():
    class Counts(nn.Linear):
        def forward(self, x):
            self.weight += 1
            return super().forward(x)

    run = Pipeline([nn.Linear(4, 4), Counts(4, 4)], [1, 1], [CPU] * 2)
    with pytest.raises(PipelineError, match=r"\(Counts\): RuntimeError: a leaf Variable"):
        run.step(*data())


@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1"])
def test_recompute_runs_a_stage_that_begins_with_a_view(schedule):
    model = [nn.Linear(4, 4), nn.Unflatten(1, (2, 2)), nn.Flatten(), nn.Linear(4, 4)]
    losses, gradients = [], []
    for recompute in (False, True):
        run = Pipeline(
            model, [1, 3], [CPU] * 2, schedule=schedule, num_microbatches=2, recompute=recompute
        )
        run.zero_grad()
        losses.append(run.step(*data()).loss)
        gradients.append([weight.grad.clone() for weight in run.parameters()])
    assert losses[0] == losses[1]
    assert all(map(torch.equal, *gradients))


# ---- the device meta ----------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [["meta"], [CPU, torch.device("meta")], ["meta:0", CPU]])
def test_a_pipeline_is_not_built_on_meta(devices):
    with refused(f"devices has meta, {NO_NUMBERS}"):
        Pipeline([nn.Linear(4, 4), nn.Linear(4, 4)], devices=devices)


@pytest.mark.parametrize("devices", [None, [CPU] * 2])
def test_layers_without_numbers_are_not_moved(devices):
    with torch.device("meta"):
        second = nn.Linear(4, 4)
    with refused(
        f"weight of layer 1 (Linear) is on the device meta, {NO_NUMBERS}; "
        f"layer.to_empty(device='cpu') makes room for weights that are then to be set"
    ):
        Pipeline([nn.Linear(4, 4), second], devices=devices)
    second.to_empty(device=CPU).reset_parameters()
    assert Pipeline([nn.Linear(4, 4), second], devices=devices).step(*data()).loss > 0


def test_a_buffer_without_numbers_counts_too():
    layer = nn.Linear(4, 4)
    layer.register_buffer("table", torch.empty(2, device="meta"))
    with pytest.raises(ValueError, match=r"^table of layer 0 \(Linear\) is on the device meta"):
        Pipeline([layer], devices=[CPU])


def test_inputs_without_numbers_are_not_asked_to_move():
    run = Pipeline([nn.Linear(4, 4)], devices=[CPU])
    inputs, targets = data()
    message = "is on the device meta, which holds no numbers: use a real one"
    with refused(f"inputs {message}"):
        run.step(inputs.to("meta"), targets)
    with refused(f"inputs {message}"):
        run(inputs.to("meta"))
    with refused(f"targets {message}"):
        run.step(inputs, targets.to("meta"))


NEEDS_NUMBERS = {
    "aten.nonzero.default": lambda x: x[x > 0],
    "aten.masked_select.default": lambda x: torch.masked_select(x, x > 0),
    "aten._local_scalar_dense.default": lambda x: x if x.sum() > 0 else -x,
}


@pytest.mark.parametrize("operation", NEEDS_NUMBERS)
def test_a_layer_that_needs_numbers_cannot_be_profiled_on_meta(operation):
    layers = [nn.Linear(4, 4), Layer(NEEDS_NUMBERS[operation])]
    with refused(
        f"layer 1 (Layer) needs real numbers: what it makes depends on the values in its input "
        f"({operation}), and on meta there are none; profile layers and sample on a real device"
    ):
        profile(layers, data()[0], device="meta")
    assert profile(layers, data()[0])[1].forward_seconds > 0


# ---- more than one argument ---------------------------------------------------------------------


class WithMask(nn.Module):
    def forward(self, x, mask):
        return x * mask


class WithMaskByName(nn.Module):
    def forward(self, x, *, mask):
        return x * mask


class Takes(nn.Module):
    def forward(self):
        return torch.ones(())


REMEDY = (
    "but a layer takes one tensor: wrap it in a module whose forward(x) supplies the rest; for the "
    "padding mask of a Hugging Face decoder use layers_of(model, padding=…)"
)


@pytest.mark.parametrize(
    ("layer", "lacks"),
    [
        (WithMask(), "(WithMask) also wants mask"),
        (WithMaskByName(), "(WithMaskByName) also wants mask"),
        (Takes(), "(Takes) takes nothing"),
        (nn.MultiheadAttention(4, 2), "(MultiheadAttention) also wants key and value"),
        (nn.TransformerDecoderLayer(4, 2), "(TransformerDecoderLayer) also wants memory"),
        (nn.Bilinear(4, 4, 4), "(Bilinear) also wants input2"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda layers: Pipeline(layers, devices=[CPU] * 2),
        lambda layers: profile(layers, data()[0]),
        layers_of,
    ],
)
def test_a_layer_takes_one_tensor(layer, lacks, use):
    with refused(f"layer 1 {lacks}, {REMEDY}"):
        use([nn.Linear(4, 4), layer])


def test_arguments_that_may_be_left_out_do_no_harm():
    class Free(nn.Module):
        def forward(self, *given, mask=None, **more):
            return given[0]

    class Optional(nn.Module):
        def forward(self, x, mask=None, *, scale=1.0):
            return x * scale

    hooked = WithMask()
    hooked.register_forward_pre_hook(lambda layer, given: (*given, 2.0))
    model = [nn.Linear(4, 4), Free(), Optional(), hooked]
    inputs, targets = data()
    plain = nn.functional.cross_entropy(2 * model[0](inputs), targets)
    assert Pipeline(model, [2, 2], [CPU] * 2).step(inputs, targets).loss == pytest.approx(
        plain.item(), rel=1e-6
    )
