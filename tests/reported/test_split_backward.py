"""Split backwards of layers whose graph may run once only: the loop's gradients, or one sentence.

Every kind of layer that torch lets a user write is run in I and W and held against a loop over the
same micro-batches on one device, to the last bit.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from d2lpart import Pipeline, build_schedule
from d2lpart.machine.hardware import threads
from d2lpart.pipeline.engine import PipelineError
from d2lpart.stages.stage import Stage

pytestmark = [  # what torch says by itself: of checkpoints, and when it compiles
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]

M, N = 4, 12  # micro-batches, samples
C = 6  # numbers a sample
WHOLE, SPLIT = ["1f1b", "gpipe"], ["zb-h1", "zb-h2"]


@pytest.fixture(autouse=True)
def _one_thread():
    with threads(1):
        yield


def linear():
    return nn.Linear(C, C)


def norm():
    made = nn.LayerNorm(C)
    nn.init.uniform_(made.weight, 0.5, 1.5)
    return made


def perceptron():
    return nn.Sequential(norm(), linear(), nn.GELU(), linear())


class Checkpointed(nn.Module):
    def __init__(self, inner, use_reentrant=False):
        super().__init__()
        self.inner, self.use_reentrant = inner, use_reentrant

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=self.use_reentrant)


class Weighted(nn.Module):
    """A function of an activation and a weight, as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.rand(C) + 0.5)

    def forward(self, x):
        return self.function(x, self.weight)


class Frees(torch.autograd.Function):
    """Takes its tensors off the context as it reads them."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.x, ctx.weight = x, weight
        return x * weight

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.x, ctx.weight
        del ctx.x, ctx.weight
        return gradient * weight, (gradient * x).sum(0)


class Once(torch.autograd.Function):
    """Counts that it runs once, and lets its tensors go."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        ctx.runs = [1]
        return x * weight

    @staticmethod
    def backward(ctx, gradient):
        ctx.runs.pop()
        x, weight = ctx.saved_tensors
        ctx.maybe_clear_saved_tensors()
        return gradient * weight, (gradient * x).sum(0)


class Branching(nn.Module):
    """Uses an activation three times, with weights behind each other."""

    def __init__(self):
        super().__init__()
        self.one, self.two = linear(), linear()

    def forward(self, x):
        hidden = torch.tanh(self.one(x))
        return hidden * torch.sigmoid(self.two(hidden)) + hidden


class Hooked(nn.Module):
    """Has hooks on its input, on an activation and on a weight."""

    def __init__(self):
        super().__init__()
        self.one, self.two = linear(), linear()
        self.two.weight.register_hook(lambda gradient: gradient * 3)

    def forward(self, x):
        hidden = self.one(x)
        for tensor in (x, hidden):
            if tensor.requires_grad:
                tensor.register_hook(lambda gradient: gradient * 2)
        return self.two(hidden)


class SavesElsewhere(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = perceptron()

    def forward(self, x):
        with torch.autograd.graph.save_on_cpu():
            return self.inner(x)


class MadeWeight(nn.Module):
    """Makes its matrix in a checkpoint."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(C, C))

    def forward(self, x):
        made = checkpoint(lambda w: torch.tanh(w).exp(), self.weight, use_reentrant=False)
        return F.linear(torch.tanh(x), made)


class Shifted(nn.Module):
    """A sum saves nothing, but what is made of its weight does."""

    def __init__(self):
        super().__init__()
        self.shift, self.linear = nn.Parameter(torch.randn(C)), linear()

    def forward(self, x):
        return self.linear(torch.tanh(x) + torch.tanh(self.shift).exp())


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(C, C, batch_first=True)

    def forward(self, x):
        return self.lstm(x[:, None])[0][:, 0]


def backward_hooked():
    made = perceptron()
    made[1].register_full_backward_hook(lambda _, given, __: tuple(g * 2 for g in given))
    return made


def compiled(layer):
    return torch.compile(layer, backend="aot_eager")


def tied_three_times():
    """One weight: used once in stage 0, its home, or twice there; and in the other stage."""
    layers = [linear() for _ in range(5)]
    layers[2].weight = layers[1].weight = layers[3].weight
    return layers


def used_twice(*parts):
    return [*parts, *parts]


# For each kind the layers, and how many of them stage 0 has.
SHARED = {
    "the report": lambda: ([*(lambda n: [n, linear(), n])(norm()), linear(), nn.Tanh()], 3),
    "behind each other": lambda: ([linear(), *used_twice(norm(), linear()), linear()], 1),
    "from the first": lambda: ([*used_twice(norm(), linear()), nn.Tanh(), linear()], 4),
    "in a checkpoint": lambda: ([linear(), *used_twice(Checkpointed(perceptron()), norm())], 1),
    "a function": lambda: ([*used_twice(Weighted(Frees.apply), norm()), linear()], 4),
    "tied in two stages": lambda: (tied_three_times(), 3),
}


def both(make):
    """The layer in stage 0, whose input wants no gradient, and twice in stage 1."""
    return lambda: ([make(), linear(), make(), make()], 2)


ONCE = {
    "checkpoint": both(lambda: Checkpointed(perceptron())),
    "checkpoint of branches": both(lambda: Checkpointed(Branching())),
    "checkpoint in a checkpoint": both(
        lambda: Checkpointed(nn.Sequential(linear(), Checkpointed(perceptron()), norm()))
    ),
    "checkpoint of a weight": both(MadeWeight),
    "checkpoint with a weight": both(lambda: Checkpointed(Shifted())),
    "checkpoint of a part": both(
        lambda: nn.Sequential(perceptron(), Checkpointed(perceptron()), linear())
    ),
    "tensors kept elsewhere": both(SavesElsewhere),
    "function that frees": both(lambda: Weighted(Frees.apply)),
    "function that counts": both(lambda: Weighted(Once.apply)),
    "function in a checkpoint": both(lambda: Checkpointed(Weighted(Frees.apply))),
    "reentrant where nothing waits for I": lambda: (
        [linear(), Checkpointed(perceptron(), True), perceptron(), linear()],
        2,
    ),
    "compiled": both(lambda: compiled(perceptron())),
    "compiled part": both(
        lambda: nn.Sequential(linear(), compiled(perceptron()), Weighted(Once.apply))
    ),
    "compiled checkpoint": both(lambda: compiled(Checkpointed(perceptron()))),
    "checkpoint of compiled": both(lambda: Checkpointed(compiled(perceptron()))),
}

PLAIN = {
    "branches": both(Branching),
    "hooks": both(Hooked),
    "backward hooks": both(backward_hooked),
    "weight norm": both(lambda: nn.utils.parametrizations.weight_norm(linear())),
    "lstm": both(Recurrent),
    "unchanged inputs": lambda: ([linear(), nn.Identity(), nn.Identity(), linear()], 2),
    "a stage that does nothing": lambda: ([linear(), linear(), nn.Identity(), nn.Identity()], 2),
    "in place": lambda: ([linear(), nn.ReLU(inplace=True), linear(), linear()], 2),
}

CASES = SHARED | ONCE | PLAIN
NO_HALVES = {
    "reentrant": lambda: ([linear(), *(Checkpointed(perceptron(), True) for _ in range(3))], 2)
}


def made(name):
    torch._dynamo.reset()
    torch.manual_seed(0)
    layers, first = (CASES | NO_HALVES)[name]()
    return layers, [first, len(layers) - first]


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, C, generator=generator), torch.arange(N) % C


def loop(layers, order):
    """One device, one micro-batch after another."""
    inputs, targets = data()
    for k in order:
        x, y = inputs.tensor_split(M)[k], targets.tensor_split(M)[k]
        for layer in layers:
            x = layer(x)
        (F.cross_entropy(x, y) * (len(y) / N)).backward()


def weights(layers):
    return list(dict.fromkeys(weight for layer in layers for weight in layer.parameters()))


def assert_loop(name, schedule, **options):
    (layers, sizes), (expected, _) = made(name), made(name)
    schedule = build_schedule(schedule, len(sizes), M)
    first = schedule.orders[schedule.stage_to_rank[0]]
    loop(expected, [a.microbatch for a in first if a.stage == 0 and a.kind in "BW"])
    Pipeline(layers, sizes, ["cpu"] * len(sizes), schedule=schedule, **options).step(*data())
    assert len(weights(layers)) == len(weights(expected)) > 0
    for ours, theirs in zip(weights(layers), weights(expected), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("schedule", [*SPLIT, *WHOLE])
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_loop(name, schedule, recompute):
    assert_loop(name, schedule, clock="virtual", recompute=recompute)


@pytest.mark.parametrize("name", CASES)
def test_on_threads_and_counted(name):
    assert_loop(name, "zb-h1", clock="wall", capacity=1e9)


def test_the_two_ends_of_a_v():
    """Four stages on two ranks; the last one does nothing but hand on."""
    torch.manual_seed(0)
    kinds = [Checkpointed(perceptron()), Weighted(Frees.apply), nn.Identity(), linear()]
    pipeline = Pipeline(
        kinds, [1] * 4, ["cpu"] * 2, schedule="zb-v", num_microbatches=M, clock="virtual"
    )
    pipeline.step(*data())
    torch.manual_seed(0)
    expected = [Checkpointed(perceptron()), Weighted(Frees.apply), nn.Identity(), linear()]
    loop(expected, range(M))
    for ours, theirs in zip(weights(kinds), weights(expected), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


# ---- what runs how often -----------------------------------------------------------------------


@pytest.mark.parametrize("compiles", [False, True])
def test_a_checkpoint_runs_its_forward_once_more_and_no_oftener(compiles):
    calls = []

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = perceptron()

        @torch._dynamo.disable
        def count(self):
            calls.append(1)

        def forward(self, x):
            self.count()
            return self.inner(x)

    torch._dynamo.reset()
    tail = compiled(linear()) if compiles else linear()
    layers = [linear(), Checkpointed(Counting()), tail]
    pipeline = Pipeline(layers, [1, 2], ["cpu"] * 2, schedule="zb-h1", num_microbatches=M)
    pipeline.step(*data())
    calls.clear()  # the first step may look at the layers beforehand
    pipeline.step(*data())
    assert len(calls) == 2 * M


def test_what_i_has_computed_is_let_go():
    """A checkpointed layer holds its input until I, and from then on gradients of weights alone."""
    stage = Stage(0, [Checkpointed(perceptron())], 0, torch.device("cpu"))
    stage.begin()
    outputs, held = stage.forward(torch.ones(2, C), True, (0, 0, 0), split=True)
    assert held.nbytes == 4 * 2 * C
    stage.backward_input(held, torch.ones_like(outputs), {})
    own = sum(weight.nbytes for weight in stage.layers[0].parameters())
    assert held.nbytes == 4 * 2 * C + own
    stage.backward_weight(held, {})
    assert all(weight.grad is not None for weight in stage.layers[0].parameters())


# ---- what is refused ---------------------------------------------------------------------------


def refused(layers, schedule, message, **options):
    """Expect a step to fail and to leave the gradients that were there before."""
    before = [torch.ones_like(weight) for weight in weights(layers)]
    for weight, gradient in zip(weights(layers), before, strict=True):
        weight.grad = gradient.clone()
    pipeline = Pipeline(
        layers, [2, 2], ["cpu"] * 2, schedule=schedule, num_microbatches=M, **options
    )
    with pytest.raises(PipelineError, match=message):
        pipeline.step(*data())
    for weight, gradient in zip(weights(layers), before, strict=True):
        assert torch.equal(weight.grad, gradient)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("schedule", SPLIT)
@pytest.mark.parametrize("wrap", [nn.Identity(), perceptron()])
def test_a_reentrant_checkpoint_has_no_halves(wrap, schedule, clock):
    layers = [linear(), linear(), nn.Sequential(wrap, Checkpointed(perceptron(), True)), linear()]
    message = (
        r"rank 1, stage 1, action 1I0 \(micro-batch 0\), layers 2 to 3: .*use_reentrant=True.*"
        r"use use_reentrant=False.*1f1b, gpipe, interleaved"
    )
    refused(layers, schedule, message, clock=clock)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("schedule", WHOLE)
def test_a_reentrant_checkpoint_is_right_where_its_backward_is_whole(schedule, recompute):
    assert_loop("reentrant", schedule, clock="virtual", recompute=recompute)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1"])
def test_dropout_in_a_checkpoint_would_draw_another_mask(schedule, use_reentrant, recompute):
    drops = nn.Sequential(linear(), nn.Dropout(0.5), linear())
    layers = [linear(), linear(), Checkpointed(drops, use_reentrant), linear()]
    message = (
        r"rank 1, stage 1, action 1F0 \(micro-batch 0\), layer 2 \(Checkpointed\): .*dropout "
        r"inside torch.utils.checkpoint.*recompute=True"
    )
    refused(layers, schedule, message, recompute=recompute)
    drops.eval()
    pipeline = Pipeline(layers, [4], ["cpu"], num_microbatches=M)
    assert torch.isfinite(torch.tensor(pipeline.step(*data()).loss))
