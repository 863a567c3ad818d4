"""The profile against hand formulas and a whole run; and the layers are as they were."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2lpart.decoder import Decoder
from d2lpart.profiler import LayerCost, compute_weights, profile

V, C, HEADS, B, T = 19, 12, 3, 2, 8  # the sizes of the small decoder and its sample


def small(num_layers=2, **options):
    torch.manual_seed(0)
    return Decoder(V, C, num_layers, HEADS, context=10, **options)


def sample():
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))


def test_the_fields_are_those_promised():
    names = [field.name for field in dataclasses.fields(LayerCost)]
    assert names == [
        "name",
        "parameters",
        "parameter_bytes",
        "activation_bytes",
        "boundary_bytes",
        "forward_flops",
        "forward_seconds",
        "backward_seconds",
        "waiting_bytes",
        "gradient_bytes",
    ]
    cost = LayerCost("Linear", 1, 4, 8, 8, 2, 0.25, 0.5)
    assert cost.seconds == 0.75
    with pytest.raises(dataclasses.FrozenInstanceError):
        cost.name = "other"


def test_a_decoder_has_a_sane_cost_a_layer():
    costs = profile(small(), sample())
    assert [cost.name for cost in costs] == ["Embedding", "Block", "Block", "Head"]
    for cost in costs:
        assert cost.forward_seconds > 0
        assert cost.backward_seconds > 0
        assert cost.parameter_bytes == 4 * cost.parameters > 0
        assert cost.activation_bytes >= 0
    assert [cost.boundary_bytes for cost in costs] == [4 * B * T * C] * 3 + [4 * B * T * V]


@pytest.mark.parametrize(("width", "heads", "batch", "positions"), [(12, 3, 2, 8), (16, 2, 1, 10)])
def test_flops_are_the_hand_formula(width, heads, batch, positions):
    """24·b·s·h² + 4·b·s²·h for a block, 2·b·s·h·V for the head (Narayanan et al., 2104.04473).

    4·b·s²·h counts every pair of positions, twice what a causal kernel has to compute.
    """
    model = Decoder(V, width, 1, heads, context=10)
    tokens = torch.zeros(batch, positions, dtype=torch.long)
    flops = [cost.forward_flops for cost in profile(model, tokens)]
    block = 24 * batch * positions * width**2 + 4 * batch * positions**2 * width
    assert flops == [0, block, 2 * batch * positions * width * V]


def test_flops_do_not_hang_on_how_attention_is_computed():
    fused = [cost.forward_flops for cost in profile(small(), sample())]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert [cost.forward_flops for cost in profile(small(), sample())] == fused


@pytest.mark.parametrize("tied", [False, True])
def test_parameters_add_up_to_those_of_the_model(tied):
    model = small(tied=tied)
    counts = [cost.parameters for cost in profile(model, sample())]
    assert sum(counts) == sum(weight.numel() for weight in model.parameters())
    assert counts[0] == (V + 10) * C
    assert counts[1] == counts[2] == 12 * C**2 + 13 * C
    assert counts[3] == 2 * C + (0 if tied else V * C)


def test_a_module_used_twice_has_its_parameters_once():
    linear = nn.Linear(3, 3)
    assert [cost.parameters for cost in profile([linear, linear], torch.ones(1, 3))] == [12, 0]


def test_what_a_block_adds_is_what_its_formulas_hold():
    """In vectors of C numbers a position: 1 + 3 + 1 for attention, 1 + 1 + 4 + 4 after it.

    They are the normalised input, the queries, keys and values, what attention mixes, the stream
    between the branches, its normalised copy, and the perceptron's 4C before and after GELU.
    Beside them stand the mean and deviation of both norms and attention's one number a head.
    With 2 bytes a number, the input and two masks of a byte, this is the 34·s·b·h of Korthikanti
    et al. (2205.05198).
    """
    _, block, _, head = profile(small(), sample())
    assert block.activation_bytes == 4 * B * T * (15 * C + 4 + HEADS)
    assert head.activation_bytes == 4 * B * T * (C + 2)


def held_by_a_whole_run(model, tokens):
    """The bytes of all distinct storages that autograd saves, weights and tokens left out."""
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(tokens)
    for known in (tokens, *model.parameters()):
        storages.pop(known.untyped_storage().data_ptr(), None)
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("options", [{}, {"tied": True}, {"num_layers": 3, "dropout": 0.2}])
def test_activations_and_inner_boundaries_are_all_that_a_run_holds(options):
    model = small(**options)
    costs = profile(model, sample())
    total = sum(cost.activation_bytes for cost in costs)
    total += sum(cost.boundary_bytes for cost in costs[:-1])
    assert total == held_by_a_whole_run(model, sample())


def test_a_saved_output_counts_and_a_saved_input_does_not():
    tanh, linear, relu = profile([nn.Tanh(), nn.Linear(4, 4), nn.ReLU()], torch.ones(2, 4))
    assert tanh.activation_bytes == 0  # nothing in front of it wants a gradient
    assert linear.activation_bytes == 0  # it keeps its input
    assert relu.activation_bytes == 2 * 4 * 4


def test_without_gradients_the_backward_costs_nothing():
    frozen = small().requires_grad_(False)
    costs = profile(frozen, sample())
    assert costs[0].backward_seconds == costs[0].activation_bytes == 0
    assert costs[1].backward_seconds > 0  # its input still wants one
    assert costs[0].parameters == (V + 10) * C


class Spoiler(nn.Module):
    """A layer that overwrites its input, draws at random and changes a buffer."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.count += 1
        return F.dropout(x.mul_(2), 0.5, self.training) * self.weight


def test_nothing_is_changed():
    layers = [nn.Linear(4, 4), nn.BatchNorm1d(4), Spoiler(), nn.Linear(4, 4)]
    model = nn.Sequential(*layers)
    layers[1].eval()
    x = torch.randn(3, 4)
    layers[0](x).sum().backward()  # two gradients are there before, the rest is None
    twin, x_before = copy.deepcopy(model), x.clone()
    gradients = [weight.grad for weight in model.parameters()]
    values = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    data = [tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())]
    random_state, threads = torch.get_rng_state(), torch.get_num_threads()
    profile(layers, x)
    assert torch.equal(x, x_before)
    assert not x.requires_grad
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.get_num_threads() == threads
    assert [part.training for part in model.modules()] == [p.training for p in twin.modules()]
    assert [weight.grad for weight in model.parameters()] == gradients
    assert all(map(torch.equal, gradients[:2], values))
    assert gradients[2:] == [None] * 5
    assert [t.data_ptr() for t in (*model.parameters(), *model.buffers())] == data
    for (name, after), before in zip(
        model.state_dict().items(), twin.state_dict().values(), strict=True
    ):
        assert torch.equal(after, before), name
    layers[1].train()
    profile(layers, x)
    assert layers[1].num_batches_tracked == 0


def test_everything_is_put_back_after_a_failure():
    layers = [nn.BatchNorm1d(4), nn.Linear(5, 5)]
    layers[0].weight.grad = torch.ones(4)
    with pytest.raises(ValueError, match="layer 1"):
        profile(layers, torch.randn(3, 4))
    assert torch.equal(layers[0].weight.grad, torch.ones(4))
    assert layers[0].num_batches_tracked == 0


def test_it_measures_gradients_also_where_they_are_switched_off():
    with torch.no_grad():
        assert profile(small(), sample())[1].backward_seconds > 0
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_the_one_the_layers_are_in(training):
    seen = []
    layer = nn.Dropout(0.5).train(training)
    layer.register_forward_hook(lambda module, *_: seen.append(module.training))
    profile([layer], torch.ones(2))
    assert set(seen) == {training}


def test_a_named_device_that_is_already_there_changes_nothing():
    model = small()
    plain, named = (profile(model, sample(), device) for device in (None, "cpu"))
    for one, other in zip(plain, named, strict=True):
        facts = {"forward_seconds": 0.0, "backward_seconds": 0.0}
        assert dataclasses.replace(one, **facts) == dataclasses.replace(other, **facts)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("tied", [False, True])
def test_layers_visit_the_gpu_and_come_home(tied):
    model = small(tied=tied)
    model(sample()).sum().backward()
    data = [(weight.data_ptr(), weight.grad.data_ptr()) for weight in model.parameters()]
    here, there = profile(model, sample()), profile(model, sample(), "cuda")
    assert [(w.data_ptr(), w.grad.data_ptr()) for w in model.parameters()] == data
    assert {weight.device.type for weight in model.parameters()} == {"cpu"}
    assert [cost.forward_flops for cost in here] == [cost.forward_flops for cost in there]
    assert [cost.parameters for cost in here] == [cost.parameters for cost in there]
    assert all(cost.forward_seconds > 0 < cost.backward_seconds for cost in there)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_each_layer_runs_where_it_is():
    model = small()
    model.layers[1].cuda()
    model.layers[2].cuda()
    before = torch.cuda.get_rng_state()
    assert len(profile(model, sample())) == 4
    assert torch.equal(before, torch.cuda.get_rng_state())
    assert model.layers[1].attention.output.weight.is_cuda
    assert not model.layers[3].norm.weight.is_cuda


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    ("layers", "x", "message"),
    [
        ([], torch.ones(1), r"0 layers.*at least 1.*model.layers"),
        ([nn.ReLU(), F.relu], torch.ones(1), r"layer 1 is a function.*torch modules"),
        ([nn.ReLU()], [1.0], r"the sample is a list.*tensor"),
        (
            [nn.ReLU(), Pair()],
            torch.ones(2, 3),
            r"layer 1 \(Pair\) on an input of shape \(2, 3\).*returns a tuple.*1 tensor.*wrap",
        ),
        (
            [nn.Linear(3, 4), nn.ReLU(), nn.Linear(5, 6)],
            torch.ones(2, 3),
            r"layer 2 \(Linear\) on an input of shape \(2, 4\), torch.float32: .*multiplied",
        ),
    ],
)
def test_what_cannot_be_profiled_is_named(layers, x, message):
    with pytest.raises(ValueError, match=message):
        profile(layers, x)


def test_a_device_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(ValueError, match=r"cuda:99.*cpu"):
        profile([nn.ReLU()], torch.ones(1), "cuda:99")


@pytest.mark.parametrize("tied", [False, True])
def test_compute_weights_are_half_the_flops_of_a_position(tied):
    """But for the pairs of positions in attention, and for the 1 that every layer has."""
    model = small(num_layers=3, tied=tied)
    flops = [cost.forward_flops for cost in profile(model, sample())]
    pairs = [0] + [4 * B * T**2 * C] * 3 + [0]
    expected = [1 + (f - p) / (2 * B * T) for f, p in zip(flops, pairs, strict=True)]
    assert compute_weights(model) == expected
    assert compute_weights(model)[1] == 1 + 12 * C**2


def test_compute_weights_of_layers_of_other_kinds():
    layers = [
        nn.EmbeddingBag(5, 3),
        nn.Conv2d(2, 3, kernel_size=5),
        nn.LayerNorm(7),
        nn.MultiheadAttention(4, 2),
        nn.Sequential(nn.Embedding(9, 2), nn.Linear(2, 3)),
    ]
    assert compute_weights(layers) == [1, 1 + 150, 1, 1 + 4 * 16, 1 + 6]
    assert compute_weights([]) == []
