"""The profile of layers whose graph may run once only: checkpoints, functions, compiled layers."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from d2lpart import profile

pytestmark = [  # what torch says by itself: of checkpoints, and when it compiles
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]

B, C = 12, 6
FLOAT = 4
PRODUCT = 2 * B * C * C  # the operations of one linear map


def linear():
    return nn.Linear(C, C)


def perceptron():
    return nn.Sequential(nn.LayerNorm(C), linear(), nn.Tanh(), linear())


class Checkpointed(nn.Module):
    def __init__(self, inner, use_reentrant):
        super().__init__()
        self.inner, self.use_reentrant = inner, use_reentrant

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=self.use_reentrant)


class Frees(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.x, ctx.weight = x, weight
        return x * weight

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.x, ctx.weight
        del ctx.x, ctx.weight
        return gradient * weight, (gradient * x).sum(0)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(C))

    def forward(self, x):
        return Frees.apply(x, self.weight)


def size_of(layer):
    return sum(weight.nbytes for weight in layer.parameters())


@pytest.mark.parametrize("device", [None, "meta"])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpointed_layer_holds_its_input_and_computes_its_forward_twice(use_reentrant, device):
    """With use_reentrant=True to the end; else only as far as the last tensor that is needed."""
    layer = Checkpointed(perceptron(), use_reentrant)
    _, plain = profile([linear(), layer.inner], torch.ones(B, C), device)
    _, cost = profile([linear(), layer], torch.ones(B, C), device)
    assert plain.activation_bytes > 2 * FLOAT * B * C
    assert cost.activation_bytes == 0  # beyond the input
    assert cost.forward_flops == plain.forward_flops == 2 * PRODUCT
    again = 2 * PRODUCT if use_reentrant else PRODUCT
    assert (cost.input_flops, cost.weight_flops) == (again + 4 * PRODUCT, 0)
    waiting = 0 if use_reentrant else size_of(layer)
    assert (cost.waiting_bytes, cost.gradient_bytes) == (waiting, waiting)
    if device is None:
        assert cost.forward_seconds > 0 < cost.backward_seconds
        assert cost.input_seconds > 0


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_where_the_input_wants_no_gradient_all_of_it_is_w(use_reentrant):
    first, _ = profile([Checkpointed(perceptron(), use_reentrant), linear()], torch.ones(B, C))
    assert first.input_flops == 0
    assert first.weight_flops == (0 if use_reentrant else 5 * PRODUCT)  # torch gives it none


def test_a_function_that_frees_its_context():
    _, cost = profile([linear(), Scaled()], torch.ones(B, C))
    assert cost.forward_seconds > 0 < cost.backward_seconds
    assert (cost.activation_bytes, cost.waiting_bytes) == (0, FLOAT * C)


def test_a_compiled_layer_is_counted_uncompiled_and_stays_compiled():
    torch._dynamo.reset()
    plain = perceptron()
    layer = torch.compile(plain, backend="aot_eager")
    costs = [profile([linear(), made], torch.ones(B, C))[1] for made in (plain, layer)]
    assert costs[0].forward_flops == costs[1].forward_flops == 2 * PRODUCT
    assert costs[0].activation_bytes == costs[1].activation_bytes > 0
    assert costs[1].forward_seconds > 0 < costs[1].backward_seconds
    outputs = layer(torch.ones(B, C, requires_grad=True))
    assert outputs.grad_fn.name() == "CompiledFunctionBackward"


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_dropout_in_a_checkpoint_is_refused_as_in_a_pipeline(use_reentrant):
    layer = Checkpointed(nn.Sequential(linear(), nn.Dropout(0.5)), use_reentrant)
    message = r"layer 1 \(Checkpointed\) .*dropout inside torch.utils.checkpoint.*recompute=True"
    with pytest.raises(ValueError, match=message):
        profile([linear(), layer], torch.ones(B, C))
