"""What a pipeline refuses: each message states the rule, what was given, and what to do instead."""

import copy
import re

import pytest
import torch
from torch import nn

from d2lpart.machine import hardware
from d2lpart.models.decoder import Decoder
from d2lpart.pipeline.engine import PipelineError
from d2lpart.pipeline.pipeline import Pipeline
from d2lpart.schedules.schedule import Schedule, ScheduleError
from d2lpart.stages.losses import cross_entropy
from d2lpart.timelines.spans import Link

CPU = "cpu"
CLOCKS = ["wall", "virtual"]


def layers():
    torch.manual_seed(0)
    return [nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)]


def data(samples=6):
    inputs = torch.randn(samples, 4, generator=torch.Generator().manual_seed(1))
    return inputs, torch.arange(samples) % 3


def refused(message, error=ValueError):
    """Expect an error whose whole message is this; `…` stands for anything."""
    return pytest.raises(error, match=f"^{re.escape(message).replace('…', '.*')}$")


# ---- when it is built --------------------------------------------------------------------------


def test_the_partition_must_be_for_these_layers():
    with refused(
        "the partition (2, 2) is for 4 layers, but there are 3: the sizes must add up to the "
        "number of layers"
    ):
        Pipeline(layers(), [2, 2], [CPU] * 2)
    with refused("the partition (1, 1) is for 2 layers, but there are 3: …"):
        Pipeline(layers(), [1, 1], [CPU] * 2)


@pytest.mark.parametrize("sizes", [[3, 0], [4, -1], [1.5, 1.5], []])
def test_a_size_is_a_whole_number_above_zero(sizes):
    with pytest.raises(ValueError, match="at least one"):
        Pipeline(layers(), sizes, [CPU] * max(1, len(sizes)))


@pytest.mark.parametrize("m", [1, 3])
def test_more_stages_than_layers(m):
    with refused("4 stages for 3 layers: each stage needs at least one layer; …at most 3 stages"):
        Pipeline(layers(), devices=[CPU] * 4, num_microbatches=m)
    with refused("the partition (1, 1, 1, 1) is for 4 layers, but there are 3: …"):
        Pipeline(layers(), [1] * 4, [CPU] * 4, num_microbatches=m)


@pytest.mark.parametrize("m", [0, -2, True, False, 2.0, 1.5, "2", None])
def test_the_number_of_microbatches_is_a_whole_number(m):
    with refused(f"num_microbatches is {m!r}: a schedule needs a whole number of at least 1"):
        Pipeline(layers(), [3], [CPU], num_microbatches=m)


@pytest.mark.parametrize(
    ("name", "said"),
    [("gpu", "'gpu' names no device"), (1.5, "1.5 names no device"), (None, "None names no device"),
     ("mps", "device mps does not exist")],  # meta: see test_layers_refused.py
)  # fmt: skip
def test_a_device_must_exist(name, said):
    with pytest.raises(ValueError, match=rf"^{re.escape(said)}: this machine has (.*, )?cpu$"):
        Pipeline(layers(), [1, 2], [CPU, name])


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_a_missing_gpu_is_named_beside_those_there_are(monkeypatch, gpus):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    have = ", ".join([*(f"cuda:{k}" for k in range(gpus)), "cpu"])
    with refused(f"device cuda:7 does not exist: this machine has {have}"):
        Pipeline(layers(), [1, 2], [CPU, "cuda:7"])


@pytest.mark.parametrize("devices", ["cpu", torch.device("cpu"), [], ()])
def test_devices_are_a_list(devices):
    with refused(f"devices is {devices!r}: give a list with one device a rank"):
        Pipeline(layers(), [3], devices)


def test_as_many_devices_as_stages_or_a_divisor():
    with refused(
        "3 stages for 2 ranks: every rank holds the same number of stages; use a multiple of 2 "
        "stages, or 3 devices"
    ):
        Pipeline(layers(), [1, 1, 1], [CPU] * 2)
    with refused("2 stages for 3 ranks: …; use a multiple of 3 stages, or 2 devices"):
        Pipeline(layers(), [1, 2], [CPU] * 3)
    with refused("1f1b runs one stage a rank, not 2: …"):
        Pipeline([nn.Linear(4, 4) for _ in range(4)], [1] * 4, [CPU] * 2)


@pytest.mark.parametrize("none", [[], nn.Sequential(), nn.ModuleList()])
def test_there_must_be_layers(none):
    with refused("there are no layers: give at least one module"):
        Pipeline(none)


@pytest.mark.parametrize(("odd", "kind"), [(torch.tanh, "builtin…"), (3, "int"), ("x", "str")])
def test_a_layer_is_a_module(odd, kind):
    with refused(f"layer 1 is {kind}, not a torch.nn.Module: wrap a function in a module, …"):
        Pipeline([nn.Linear(4, 4), odd])


def test_the_same_module_in_two_stages():
    shared = nn.Linear(4, 4)
    with refused(
        "stages 0 and 1 hold the same module Linear: keep both uses in one stage, or build two "
        "modules and share the weight (second.weight = first.weight)"
    ):
        Pipeline([shared, nn.Tanh(), shared], [1, 2], [CPU] * 2)
    inner = nn.Sequential(nn.Tanh(), shared)
    with refused("stages 0 and 2 hold the same module Linear: …"):
        Pipeline([shared, nn.Tanh(), inner], [1, 1, 1], [CPU] * 3)


@pytest.mark.parametrize(("shared", "samples"), [(nn.Tanh(), 6), (nn.Dropout(0.0), 6)])
def test_the_same_module_without_weights_may_be_anywhere(shared, samples):
    model = [nn.Linear(4, 4), shared, nn.Linear(4, 3), shared]
    assert Pipeline(model, [2, 2], [CPU] * 2).step(*data(samples)).loss > 0
    twice = nn.Linear(4, 4)
    assert Pipeline([twice, twice, nn.Linear(4, 3)], [2, 1], [CPU] * 2).step(*data()).loss > 0


def test_clocks_and_schedules_have_names():
    with refused("clock is 'sun': use one of auto, virtual, wall"):
        Pipeline(layers(), [3], [CPU], clock="sun")
    with refused("no schedule is called '2f2b': choose from …1f1b, gpipe, …naive…"):
        Pipeline(layers(), [3], [CPU], schedule="2f2b")


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        (["0F0 0B0", "1F0"], "1B0 is missing"),
        (["0B0 0F0", "1F0 1B0"], "0B0 before 0F0"),
        (["0F0 0B0 0F1 0B1", "1F1 1B1 1F0 1B0"], "deadlock"),
        (["0F0 0F0 0B0", "1F0 1B0"], "0F0 is doubled"),
        (["0F0 0B0 1F0", "1B0"], "stage 1 is on rank 1"),
    ],
)
def test_a_schedule_must_be_able_to_run(orders, message):
    with pytest.raises(ScheduleError, match=message):
        Pipeline(layers(), [1, 2], [CPU] * 2, schedule=Schedule(orders, [0, 1]))


def test_a_schedule_must_fit_the_pipeline():
    schedule = Schedule(["0F0 0F1 0B0 0B1", "1F0 1F1 1B0 1B1"], [0, 1])
    with refused("the schedule has 2 ranks, the pipeline 3: make them equal"):
        Pipeline(layers(), [1, 1, 1], [CPU] * 3, schedule=schedule)
    with refused("the schedule has 2 stages, the pipeline 3: make them equal"):
        Pipeline(layers(), [1, 1, 1], [CPU] * 2, schedule=schedule)
    with refused("the schedule has 2 micro-batches, the pipeline 3: make them equal"):
        Pipeline(layers(), [1, 2], [CPU] * 2, schedule=schedule, num_microbatches=3)
    assert Pipeline(layers(), schedule=schedule).partition.num_stages == 2


@pytest.mark.parametrize("clock", CLOCKS)
def test_batch_norm_in_training(clock):
    model = [nn.Linear(4, 4), nn.Sequential(nn.BatchNorm1d(4), nn.Tanh()), nn.Linear(4, 3)]
    said = (
        "layer 1 holds BatchNorm1d in training mode: it normalises by the statistics of the whole "
        "mini-batch, but would see 2 micro-batches one by one, and the gradients would differ; use "
        "LayerNorm or GroupNorm, layer.eval(), or num_microbatches=1"
    )
    with refused(said):
        Pipeline(model, [2, 1], [CPU] * 2, num_microbatches=2)
    model[1].eval()
    pipeline = Pipeline(model, [2, 1], [CPU] * 2, num_microbatches=2, clock=clock)
    pipeline.step(*data())
    pipeline.train()
    with refused(said):
        pipeline.step(*data())
    with refused("layer 1 holds BatchNorm1d in training mode: it would count …recompute=False"):
        Pipeline(model, [2, 1], [CPU] * 2, recompute=True, probe=False)


@pytest.mark.parametrize("clock", CLOCKS)
def test_batch_norm_in_training_counts_once_where_it_is_looked_at(clock):
    model = [nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)]
    whole = nn.Sequential(*copy.deepcopy(model))
    inputs, targets = data()
    nn.functional.cross_entropy(whole(inputs), targets).backward()
    cut = Pipeline(model, [2, 1], [CPU] * 2, recompute=True, clock=clock)
    cut.step(inputs, targets)
    assert all(map(torch.equal, whole.buffers(), nn.Sequential(*model).buffers()))
    for one, other in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_without_statistics_of_its_own(training):
    """It takes those of the mini-batch in evaluation too."""
    norm = nn.BatchNorm1d(4, track_running_stats=False).train(training)
    model = [nn.Linear(4, 4), norm, nn.Linear(4, 3)]
    mode = "in training mode" if training else "without running statistics"
    with refused(f"layer 1 holds BatchNorm1d {mode}: it normalises by …"):
        Pipeline(model, [2, 1], [CPU] * 2, num_microbatches=2)
    for recompute in (False, True):
        run = Pipeline(model, [2, 1], [CPU] * 2, recompute=recompute)
        assert run.step(*data()).loss > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"latency": -1}, "latency is -1: give seconds, 0 or more"),
        ({"latency": float("nan")}, "latency is nan: give seconds, 0 or more"),
        ({"latency": float("inf")}, "latency is inf: give seconds, 0 or more"),
        ({"bandwidth": 0}, "bandwidth is 0: give bytes per second, more than 0"),
        ({"bandwidth": -5.0}, "bandwidth is -5.0: give bytes per second, more than 0"),
        ({"bandwidth": float("nan")}, "bandwidth is nan: give bytes per second, more than 0"),
    ],
)
def test_a_link_has_a_latency_and_a_bandwidth(given, message):
    with refused(message):
        Link(**given)


# ---- when it is given a mini-batch -------------------------------------------------------------


@pytest.fixture(params=CLOCKS)
def pipeline(request):
    return Pipeline(layers(), [1, 2], [CPU] * 2, num_microbatches=2, clock=request.param)


def untouched(pipeline):
    return all(weight.grad is None for weight in pipeline.parameters())


def test_more_microbatches_than_samples(pipeline):
    with refused(
        "2 micro-batches for 1 sample: each micro-batch needs at least one sample; use at most 1 "
        "micro-batch"
    ):
        pipeline.step(*data(1))
    assert pipeline.step(*data(2)).loss > 0
    assert pipeline.step(*data(3)).loss > 0


@pytest.mark.parametrize(
    ("inputs", "targets"), [((6, 4), (5,)), ((0, 4), (0,)), ((), ()), ((6, 4), ()), ((), (6,))]
)
def test_inputs_and_targets_have_the_same_number_of_samples(pipeline, inputs, targets):
    with refused(
        f"inputs of shape {inputs} and targets of shape {targets}: the first dimension counts the "
        f"samples, and must be the same in both and at least 1"
    ):
        pipeline.step(torch.zeros(inputs), torch.zeros(targets, dtype=torch.long))
    assert untouched(pipeline)


@pytest.mark.parametrize("wrong", [None, [1.0, 2.0], 3])
def test_inputs_and_targets_are_tensors(pipeline, wrong):
    with refused(f"inputs is {type(wrong).__name__}: give a torch.Tensor"):
        pipeline.step(wrong, data()[1])
    with refused(f"targets is {type(wrong).__name__}: give a torch.Tensor"):
        pipeline.step(data()[0], wrong)


def test_inputs_on_a_device_without_numbers(pipeline):
    inputs, targets = data()
    for name, pair in (
        ("inputs", (inputs.to("meta"), targets)),
        ("targets", (inputs, targets.to("meta"))),
    ):
        with refused(f"{name} is on the device meta, which holds no numbers: use a real one"):
            pipeline.step(*pair)
    with refused("inputs is on the device meta, which holds no numbers: use a real one"):
        pipeline(inputs.to("meta"))


def test_every_target_ignored(pipeline):
    with refused(
        "all 6 targets are -100, so no target counts: give at least one target to learn from"
    ):
        pipeline.step(data()[0], torch.full((6,), -100))


def test_everything_frozen(pipeline):
    pipeline.requires_grad_(False)
    with refused("every parameter is frozen: leave at least one to train"):
        pipeline.step(*data())
    inputs, targets = data()
    pipeline.step(inputs.requires_grad_(), targets)
    assert inputs.grad.abs().sum() > 0


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_gradients_switched_off(pipeline, off):
    inputs, targets = data()
    with off(), refused(
        "step makes gradients, but they are switched off here (torch.no_grad): call "
        "pipeline(inputs) to get outputs alone"
    ):  # fmt: skip
        pipeline.step(inputs, targets)
    with off():
        assert pipeline(inputs).shape == (6, 3)


# ---- the type of the inputs --------------------------------------------------------------------


@pytest.mark.parametrize("first", [[], [nn.Flatten()], [nn.Sequential(nn.Identity(), nn.ReLU())]])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bfloat16])
def test_numbers_of_another_type_than_the_weights(first, wrapped, dtype):
    model = [*first, nn.Linear(4, 3)]
    run = Pipeline([nn.Sequential(*model)] if wrapped else model, [1 if wrapped else len(model)])
    with refused(
        f"inputs are {dtype}, but Linear comes first, whose weights are torch.float32: pass "
        f"inputs.to(torch.float32)"
    ):
        run.step(torch.ones(6, 4, dtype=dtype), data()[1])


def test_floats_for_an_embedding():
    run = Pipeline([nn.Embedding(5, 4), nn.Linear(4, 3)], [1, 1], [CPU] * 2)
    with refused(
        "inputs are torch.float32, but Embedding comes first, which looks up whole numbers: pass "
        "token numbers as torch.int64 (inputs.long())"
    ):
        run.step(torch.ones(6), data()[1])
    assert run.step(torch.ones(6, dtype=torch.int32), data()[1]).loss > 0


def test_floats_for_a_decoder():
    run = Pipeline(Decoder(5, 4, 1, 2, 3), [1, 2], [CPU] * 2)
    with pytest.raises(
        PipelineError, match=r"rank 0, .* layer 0 \(Embedding\): ValueError: tokens"
    ):
        run.step(torch.ones(6, 3), torch.ones(6, 3, dtype=torch.long))


class OneHot(nn.Module):
    """Takes whole numbers, although its weights are floats."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(5, 4)

    def forward(self, x):
        return self.inner(nn.functional.one_hot(x, 5).float())


class Table(nn.Module):
    """An embedding of one's own."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Parameter(torch.randn(5, 4))

    def forward(self, x):
        return self.rows[x]


class Patches(nn.Module):
    """Takes floats, although its first weights are an embedding's."""

    def __init__(self):
        super().__init__()
        self.position = nn.Embedding(6, 4)
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(x) + self.position(torch.arange(len(x)))


class Casts(nn.Module):
    """Takes numbers of any type, and has no weights."""

    def forward(self, x):
        return x.float()


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [(OneHot(), torch.ones(6).long()), (Table(), torch.ones(6).long()),
     (Patches(), torch.ones(6, 4)), (nn.LayerNorm(4), torch.ones(6, 4)),
     (nn.Linear(4, 4).double(), torch.ones(6, 4).double()), (Casts(), torch.ones(6, 4).double())],
)  # fmt: skip
def test_what_a_layer_takes_is_its_own_business(layer, inputs):
    head = nn.Linear(4, 3).to(next(layer.parameters(), torch.ones(1)).dtype)
    for sizes in ([2], [1, 1]):
        assert Pipeline([layer, head], sizes, [CPU] * len(sizes)).step(inputs, data()[1]).loss > 0


def test_autocast_takes_care_of_types():
    run = Pipeline(layers(), [1, 2], [CPU] * 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert run.step(data()[0].bfloat16(), data()[1]).loss > 0


# ---- what layers and losses return -------------------------------------------------------------


class Returns(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make, self.weight = make, nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.make(x * self.weight)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("number", [0, 2, 3])
@pytest.mark.parametrize(
    ("make", "kind"), [(lambda x: (x, None), "tuple"), (lambda x: None, "NoneType")]
)
def test_a_layer_returns_one_tensor(clock, number, make, kind):
    model = layers()
    model.insert(number, Returns(make))
    run = Pipeline(model, [2, 2], [CPU] * 2, clock=clock)
    stage = number // 2
    with refused(
        f"rank {stage}, stage {stage}, action {stage}F0 (micro-batch 0), layer {number} (Returns): "
        f"ValueError: the layer returned {kind}: a layer hands one tensor to the next",
        PipelineError,
    ):
        run.step(*data())
    assert untouched(run)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (lambda o, t: nn.functional.cross_entropy(o, t, reduction="none"), "shape (3,)"),
        (lambda o, t: None, "NoneType"),
        (lambda o, t: 1.5, "float"),
        (lambda o, t: (o.sum(), 2, 3), "tuple"),
        (lambda o, t: (o.sum(0), 2), "shape (3,)"),
    ],
)
def test_a_loss_is_a_scalar(clock, wrong, got):
    run = Pipeline(layers(), [1, 2], [CPU] * 2, num_microbatches=2, loss_fn=wrong, clock=clock)
    with refused(
        f"rank 1, …, loss_fn: ValueError: the loss is not a scalar: loss_fn returned {got}; return "
        f"the mean over the micro-batch, such as loss.mean(), or a pair (sum, count) of scalars",
        PipelineError,
    ):
        run.step(*data())
    assert untouched(run)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("clock", CLOCKS)
def test_a_loss_leads_back_to_the_weights(clock, recompute):
    def loss_fn(outputs, targets):
        return cross_entropy(outputs.detach(), targets)

    run = Pipeline(layers(), [1, 2], [CPU] * 2, loss_fn=loss_fn, clock=clock, recompute=recompute)
    with refused(
        "no gradient leads back from the loss: loss_fn must compute it from the outputs …"
    ):
        run.step(*data())


@pytest.mark.parametrize("recompute", [False, True])
def test_one_microbatch_without_anything_to_learn_may_be_constant(recompute):
    def loss_fn(outputs, targets):
        chosen = outputs[targets == 1]
        return (chosen.sum() if len(chosen) else torch.zeros(()), len(chosen))

    run = Pipeline(
        layers(), [1, 2], [CPU] * 2, num_microbatches=3, loss_fn=loss_fn, recompute=recompute
    )
    run.step(data()[0], torch.tensor([0, 0, 1, 0, 1, 1]))
    assert run.layers[0].weight.grad.abs().sum() > 0
    with refused("loss_fn counted 0 in every micro-batch: there is no mean to take"):
        Pipeline(layers(), [3], [CPU], loss_fn=lambda o, t: (o.sum(), 0)).step(*data())


@pytest.mark.parametrize("stage", [0, 1])
def test_recompute_needs_the_input_as_it_was(stage):
    class Doubles(nn.Module):
        def forward(self, x):
            return x.mul_(2)

    model = [Doubles(), nn.Linear(4, 3)] if stage == 0 else [nn.Linear(4, 3), Doubles()]
    run = Pipeline(model, [1, 1], [CPU] * 2, recompute=True)
    with refused(
        f"rank {stage}, …: ValueError: stage {stage} changes its input in place, so that its "
        f"forward cannot run again: use inplace=False in its first layers, or recompute=False",
        PipelineError,
    ):
        run.step(*data())


# ---- numbers that are none ---------------------------------------------------------------------


def spoiled(how):
    """A pipeline and inputs whose third micro-batch of three gives a loss that is not finite."""
    model, (inputs, targets), loss_fn = layers(), data(), None
    if how == "inputs":
        inputs[5, 1] = torch.nan
    if how == "weight":
        model[2].weight.data[0, 0] = torch.inf
    if how == "layer":
        model[1] = Returns(lambda x: torch.log(-1 - x.abs()))
    if how == "loss_fn":

        def loss_fn(outputs, targets):
            return cross_entropy(outputs, targets) / (0.0 if 2 in targets else 1.0)

    return model, inputs, targets, loss_fn


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    ("how", "began"),
    [
        ("inputs", "nan in micro-batch 2: it began in the inputs, which hold NaN or infinite "
                   "numbers"),
        ("weight", "nan in micro-batch 0: it began in layer 2 (Linear) of stage 1, whose weight "
                   "weight is not finite"),
        ("layer", "nan in micro-batch 0: it began in layer 1 (Returns) of stage 1"),
        ("loss_fn", "inf in micro-batch 0: the outputs of all layers are finite, so it began in "
                    "loss_fn"),
    ],
)  # fmt: skip
def test_a_loss_that_is_not_finite_says_where_it_began(clock, recompute, how, began):
    model, inputs, targets, loss_fn = spoiled(how)
    targets = torch.tensor([2, 1, 0, 1, 0, 1])
    run = Pipeline(
        model, [1, 2], [CPU] * 2, num_microbatches=3, loss_fn=loss_fn, clock=clock,
        recompute=recompute,
    )  # fmt: skip
    kept = [torch.ones_like(weight) for weight in run.parameters()]
    for weight, gradient in zip(run.parameters(), kept, strict=True):
        weight.grad = gradient
    with refused(f"the loss is {began}. The gradients are left as they were before this step"):
        run.step(inputs, targets)
    for weight, gradient in zip(run.parameters(), kept, strict=True):
        assert weight.grad is gradient
        assert torch.equal(gradient, torch.ones_like(weight))


def test_default_devices_are_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(hardware, "cores", lambda: 2)
    run = Pipeline(layers())
    assert run.devices == [torch.device("cpu")] * 2
    assert run.partition.num_layers == 3
    assert Pipeline(layers(), [1, 1, 1]).devices == [torch.device("cpu")] * 3
    assert len(Pipeline([nn.Linear(4, 3)]).devices) == 1
