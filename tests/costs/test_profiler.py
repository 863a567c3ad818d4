"""The profile against hand formulas and a whole run; and the layers are as they were."""

import copy
import dataclasses
import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2lpart.costs.profiler import compute_weights, profile
from d2lpart.machine.hardware import threads, threads_per_rank
from d2lpart.models.decoder import Decoder
from d2lpart.stages.keyed_dropout import keyed_randomness
from d2lpart.stages.losses import cross_entropy
from d2lpart.stages.stage import Stage

V, C, HEADS, B, T = 19, 12, 3, 2, 8  # the sizes of the small decoder and its sample

NO_SECONDS = dict.fromkeys(
    (
        *("forward_seconds", "backward_seconds", "input_seconds", "weight_seconds"),
        *("split_forward_seconds", "forward_spread", "backward_spread"),
    )
) | {"timing": ""}


def facts(costs):
    """All but what the clock says."""
    return [dataclasses.astuple(dataclasses.replace(cost, **NO_SECONDS)) for cost in costs]


def small(num_layers=2, **options):
    torch.manual_seed(0)
    return Decoder(V, C, num_layers, HEADS, context=10, **options)


def sample():
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))


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


@pytest.mark.parametrize("frozen", [False, True])
def test_a_backward_is_counted_for_what_learns(frozen):
    """Of 24·b·s·h², I and W each take as many as the forward; attention has no part in W.

    Its backward has five products where the forward has two, as it keeps no scores.
    """
    model = small()
    model[1].requires_grad_(not frozen)
    _, first, second, head = profile(model, sample())
    linear, attention = 24 * B * T * C**2, 4 * B * T**2 * C
    for cost in (first, second):
        assert cost.input_flops == linear + 5 * attention // 2
    assert first.weight_flops == (0 if frozen else linear)
    assert second.weight_flops == linear
    assert (head.input_flops, head.weight_flops) == (head.forward_flops, head.forward_flops)


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

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        keyed_randomness(0),  # as in a pipeline: its dropout keeps masks of a byte
    ):
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
    for cost in profile(small().requires_grad_(False), sample()):
        assert cost.forward_seconds > 0 < cost.parameters
        assert cost.backward_seconds == cost.input_seconds == cost.weight_seconds == 0
        assert cost.activation_bytes == cost.waiting_bytes == cost.trainable == 0
        assert cost.backward_flops == 0


def test_frozen_layers_hand_gradients_on_only_to_layers_that_learn():
    """Frozen, learning, frozen: none, then W but no I, then I but no W."""
    layers = [nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)]
    layers[0].requires_grad_(False)
    layers[2].requires_grad_(False)
    first, second, third = profile(layers, torch.ones(8, 4))
    assert [c.trainable for c in (first, second, third)] == [0, 20, 0]
    assert (first.input_flops, first.weight_flops, first.backward_seconds) == (0, 0, 0)
    assert (second.input_flops, second.weight_flops) == (0, 2 * 8 * 4 * 4)
    assert (third.input_flops, third.weight_flops) == (2 * 8 * 4 * 4, 0)
    assert second.backward_seconds > 0 < third.backward_seconds


def test_a_layer_that_lets_no_gradient_through_ends_the_backward():
    class Wall(nn.Module):
        def forward(self, x):
            return x.detach()

    first, wall, last = profile([nn.Linear(4, 4), Wall(), nn.Linear(4, 4)], torch.ones(2, 4))
    assert first.backward_seconds == wall.backward_seconds == 0 < last.backward_seconds


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


def test_targets_add_the_loss_to_the_seconds_of_the_last_layer_alone():
    calls = []

    def loss_fn(outputs, targets):
        calls.append(outputs.requires_grad)
        time.sleep(0.002)
        return cross_entropy(outputs, targets)

    plain = profile(small(), sample(), passes=2)
    timed = profile(small(), sample(), targets=sample(), loss_fn=loss_fn, passes=2)
    assert facts(plain) == facts(timed)
    assert calls == [True] * 2 * 2 * (1 + 2)  # two in flight, with B and with I and W, a warm-up
    assert timed[-1].forward_seconds > 0.002
    assert profile(small(), sample(), targets=sample(), passes=1)[-1].backward_seconds > 0


def test_a_loss_may_be_a_sum_with_a_count():
    def loss_fn(outputs, targets):
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="sum"), B * T

    assert profile(small(), sample(), targets=sample(), loss_fn=loss_fn)[-1].seconds > 0


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_the_spread_is_about_the_median(passes):
    for cost in profile(small(), sample(), passes=passes):
        for kind, (low, high) in {"F": cost.forward_spread, "B": cost.backward_spread}.items():
            assert 0 < low <= cost.seconds_of(kind) <= high
        assert cost.timing.endswith(f"median of {2 * passes} runs")


def test_each_layer_is_timed_with_the_threads_that_a_rank_will_have():
    seen = set()
    layer = nn.Linear(2, 2)
    with threads(4):
        handle = layer.register_forward_hook(lambda *_: seen.add(torch.get_num_threads()))
        (cost,) = profile([layer], torch.ones(1, 2), ranks=2)
        handle.remove()
        assert torch.get_num_threads() == 4
        assert seen == {4, threads_per_rank([torch.device("cpu")] * 2)} == {4, 2}
        assert cost.timing == "measured on cpu with 2 threads, median of 6 runs"


def test_dropout_draws_as_in_a_pipeline():
    """So its seconds are those of a pipeline, and torch's generator stands still meanwhile."""
    states = []
    layer = nn.Dropout(0.5)
    layer.register_forward_hook(lambda *_: states.append(torch.get_rng_state()))
    profile([layer], torch.ones(8), passes=1)
    assert len(states) == 1 + 2 * 2 * 2
    assert all(torch.equal(states[0], state) for state in states[1:])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_what_waits_for_w_is_what_a_stage_of_that_layer_holds(tied, dropout):
    model = small(tied=tied, dropout=dropout)
    x = sample()
    for layer, cost in zip(model, profile(model, x), strict=True):
        stage = Stage(0, [layer], 0, torch.device("cpu"))
        stage.begin()
        wants = x.is_floating_point()
        x, held = stage.forward(x, wants, (0, 0, 0), split=True)
        whole = held.nbytes
        assert cost.activation_bytes == whole - held.inputs.nbytes
        stage.backward_input(held, torch.ones_like(x), {})
        assert cost.waiting_bytes == held.nbytes - held.inputs.nbytes
        assert cost.gradient_bytes == held.peak_nbytes - whole


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
    assert facts(plain) == facts(named)


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
    assert {cost.timing for cost in there} == {"measured on cuda:0, median of 6 runs"}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_events_see_what_the_host_does_not_wait_for():
    """A kernel that sleeps returns to the host at once; the seconds are those of the stream."""

    class Sleeper(nn.Linear):
        def forward(self, x):
            torch.cuda._sleep(20_000_000)  # clock cycles: 10 ms at 2 GHz
            return super().forward(x)

    plain, sleeper = profile([nn.Linear(4, 4), Sleeper(4, 4)], torch.ones(2, 4), "cuda")
    assert sleeper.forward_seconds > 0.004 > plain.forward_seconds
    assert sleeper.backward_seconds < 0.004


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
        ([], torch.ones(1), r"no layers.*at least one"),
        ([nn.ReLU(), F.relu], torch.ones(1), r"layer 1 is function, not a torch.nn.Module.*wrap"),
        ([nn.ReLU()], [1.0], r"the sample is a list.*tensor"),
        (
            [nn.ReLU(), Pair()],
            torch.ones(2, 3),
            r"layer 1 \(Pair\) on an input of shape \(2, 3\).*returns a tuple.*1 tensor.*wrap",
        ),
        ([nn.Linear(3, 3).double()], torch.ones(2, 3), r"layer 0 \(Linear\).*dtype"),
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": [1]}, r"targets is a list.*tensor"),
        ({"loss_fn": F.mse_loss}, r"loss_fn is given, but no targets"),
        ({"targets": torch.zeros(3, 3)}, r"inputs of shape \(2, 3\) and targets of shape \(3, 3\)"),
        ({"ranks": 0}, r"ranks is 0.*at least 1"),
        ({"passes": 2.0}, r"passes is 2.0.*whole number"),
        ({"passes": True}, r"passes is True.*whole number"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        profile([nn.ReLU()], torch.ones(2, 3), **options)


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
