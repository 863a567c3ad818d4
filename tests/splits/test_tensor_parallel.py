"""Layers split inside against the unsplit ones: outputs, loss, gradients, and what it moves."""

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn
from torch.nn import functional as F

from d2lpart.models.convnet import NAMES, lenet
from d2lpart.models.decoder import Block, Decoder
from d2lpart.splits.split_layers import ByInputs, ByOutputs, OnEveryRank, Shares, even_sizes
from d2lpart.splits.tensor_parallel import TensorParallel

CLOSE = 2e-5  # of the largest gradient
BOTH = pytest.mark.parametrize("pairs", [True, False])


def mean_square(outputs, targets):
    return F.mse_loss(outputs, targets)


def agrees(layers, inputs, targets, ranks, **options):
    """Hold a split model against the unsplit one; return the model and the result of its step."""
    whole = nn.Sequential(*copy.deepcopy(list(layers)))
    model = TensorParallel(layers, ["cpu"] * ranks, **options)
    outputs = whole(inputs)
    loss = model.loss_fn(outputs, targets)
    loss.backward()
    torch.testing.assert_close(model(inputs), outputs, rtol=CLOSE, atol=CLOSE)
    result = model.step(inputs, targets)
    assert result.loss == pytest.approx(loss.item(), rel=CLOSE)
    expected = {name: own.grad for name, own in whole.named_parameters() if own.grad is not None}
    found = model.gradients()
    assert found.keys() == expected.keys()
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        assert found[name].shape == gradient.shape
        assert (found[name] - gradient).abs().max() <= CLOSE * largest, name
    return model, result


# ---- equality ------------------------------------------------------------------------------------


@BOTH
@given(
    sizes=st.lists(st.integers(3, 9), min_size=2, max_size=6),
    ranks=st.integers(1, 3),
    biased=st.booleans(),
    seed=st.integers(0, 99),
)
def test_linear_layers_of_any_sizes(pairs, sizes, ranks, biased, seed):
    torch.manual_seed(seed)
    layers = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, bias=biased), nn.Tanh()]
    batch = torch.randn(4, sizes[0]), torch.randn(4, sizes[-1])
    agrees(layers, *batch, ranks, pairs=pairs, loss_fn=mean_square)


@BOTH
@given(
    channels=st.lists(st.integers(3, 6), min_size=2, max_size=4),
    ranks=st.integers(1, 3),
    biased=st.booleans(),
    stride=st.integers(1, 2),
    padding=st.sampled_from([("zeros", 1), ("circular", 1), ("zeros", 2)]),
)
def test_convolutions_by_channels(pairs, channels, ranks, biased, stride, padding):
    torch.manual_seed(0)
    mode, wide = padding
    layers = []
    for inputs, outputs in pairwise(channels):
        options = {"stride": stride, "padding": wide, "padding_mode": mode, "bias": biased}
        layers += [nn.Conv2d(inputs, outputs, 3, **options), nn.ReLU(), nn.AvgPool2d(2, padding=1)]
    shape = nn.Sequential(*layers)(torch.zeros(1, channels[0], 16, 16)).flatten(1).shape
    layers += [nn.Flatten(), nn.Linear(shape[1], 5)]
    inputs, targets = torch.randn(3, channels[0], 16, 16), torch.tensor([0, 4, 2])
    agrees(layers, inputs, targets, ranks, pairs=pairs)


@BOTH
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7, 10])
def test_lenet(pairs, ranks):
    torch.manual_seed(0)
    inputs, targets = torch.randn(5, 1, 28, 28), torch.randint(10, (5,))
    agrees(lenet(), inputs, targets, ranks, pairs=pairs)


@given(
    heads=st.integers(2, 6),
    width=st.integers(1, 4),
    ranks=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_a_block_by_heads_and_hidden_units(heads, width, ranks, seed):
    ranks = min(ranks, heads)
    torch.manual_seed(seed)
    block = Block(heads * width, heads)
    for bias in (own for name, own in block.named_parameters() if name.endswith("bias")):
        nn.init.normal_(bias)  # the decoder's own begin at zero, where a doubled one does not show
    batch = torch.randn(2, 5, heads * width), torch.randn(2, 5, heads * width)
    agrees([block], *batch, ranks, loss_fn=mean_square)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_decoder(ranks):
    torch.manual_seed(0)
    decoder = Decoder(vocab_size=17, width=12, num_layers=2, num_heads=3, context=8)
    tokens, targets = torch.randint(17, (4, 8)), torch.randint(17, (4, 8))
    targets[0, :5] = -100
    agrees(decoder.layers, tokens, targets, ranks)


@BOTH
def test_layers_that_are_not_split_are_on_every_rank(pairs):
    """BatchNorm too: every rank sees the whole mini-batch."""
    torch.manual_seed(0)
    layers = [
        *(
            nn.Conv2d(2, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 6, 3, groups=2),
        ),
        *(nn.GroupNorm(2, 6), nn.Flatten(), nn.Linear(96, 9), nn.LayerNorm(9), nn.Softmax(1)),
        nn.Linear(9, 4),
    ]
    whole = nn.Sequential(*copy.deepcopy(layers))
    inputs, targets = torch.randn(5, 2, 8, 8), torch.randint(4, (5,))
    model, _ = agrees(layers, inputs, targets, 2, pairs=pairs)
    for _ in range(2):  # `agrees` has called it twice, for the outputs and for the step
        whole(inputs)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(model.weights()[name], value)
    assert isinstance(model.get_submodule("1"), OnEveryRank)


@BOTH
def test_a_linear_layer_on_what_is_shared_by_channels(pairs):
    """Its inputs lie along the last dimension, and the channels do not: they are gathered."""
    torch.manual_seed(0)
    layers = [nn.Conv1d(2, 5, 3, padding=1), nn.ReLU(), nn.Linear(8, 3), nn.Flatten()]
    agrees(
        [*layers, nn.Linear(15, 4)], torch.randn(3, 2, 8), torch.randint(4, (3,)), 2, pairs=pairs
    )


def test_frozen_weights_stay_without_a_gradient():
    torch.manual_seed(0)
    layers = [nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)]
    layers[0].weight.requires_grad_(False)
    model, _ = agrees(layers, torch.randn(5, 4), torch.randint(3, (5,)), 2)
    assert "0.weight" not in model.gradients()


# ---- training ------------------------------------------------------------------------------------


@BOTH
def test_training_split_is_training_unsplit(pairs):
    torch.manual_seed(0)
    layers = lenet()
    whole = copy.deepcopy(layers)
    model = TensorParallel(layers, ["cpu"] * 3, pairs=pairs)
    own, other = (torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (model, whole))
    for _ in range(3):
        inputs, targets = torch.randn(6, 1, 28, 28), torch.randint(10, (6,))
        model.zero_grad()
        other.zero_grad()
        model.step(inputs, targets)
        F.cross_entropy(whole(inputs), targets).backward()
        own.step()
        other.step()
    weights = model.weights()
    assert weights.keys() == whole.state_dict().keys()
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=1e-5)
    whole.load_state_dict(weights)


def test_what_every_rank_has_stays_equal_on_all():
    torch.manual_seed(0)
    model = TensorParallel(Decoder(11, 12, 2, 3, 8), ["cpu"] * 3)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        model.step(torch.randint(11, (4, 8)), torch.randint(11, (4, 8)))
        optimizer.step()
    norms = [part for part in model.modules() if isinstance(part, OnEveryRank)]
    assert len(norms) == 1 + 2 * 3 + 1
    for norm in norms:
        for weights in zip(*(part.parameters() for part in norm.parts), strict=True):
            assert all(torch.equal(weight, weights[0]) for weight in weights)


def test_gradients_are_added_to_what_is_there():
    torch.manual_seed(0)
    model = TensorParallel([nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)], ["cpu"] * 2)
    batch = torch.randn(5, 4), torch.randint(3, (5,))
    model.step(*batch)
    once = {name: gradient.clone() for name, gradient in model.gradients().items()}
    model.step(*batch)
    for name, gradient in model.gradients().items():
        torch.testing.assert_close(gradient, 2 * once[name])


def test_the_layers_given_are_left_as_they_are():
    layers = [nn.Linear(4, 6), nn.Linear(6, 3)]
    layers[0].weight.grad = torch.ones(6, 4)
    before = copy.deepcopy(layers[0].weight)
    model = TensorParallel(layers, ["cpu"] * 2)
    assert model.gradients() == {}
    model.step(torch.randn(5, 4), torch.randint(3, (5,)))
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert torch.equal(layers[0].weight, before)
    assert torch.equal(layers[0].weight.grad, torch.ones(6, 4))


# ---- what is held, and what is moved -------------------------------------------------------------


def test_even_sizes_and_shares():
    assert even_sizes(10, 4, "heads") == [3, 3, 2, 2]
    whole = torch.arange(24).view(2, 12)
    qkv = Shares(1, [1, 3], groups=3)  # three groups of four places
    first, second = qkv.cut(whole)
    assert first[0].tolist() == [0, 4, 8]
    assert second[0].tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert torch.equal(qkv.join([first, second]), whole)


def test_each_rank_holds_its_part():
    model = TensorParallel(lenet(), ["cpu"] * 4, pairs=False)
    rows = [part.weight.shape[0] for part in model.get_submodule(str(NAMES.index("dense1"))).parts]
    assert rows == [32] * 4
    assert repr(model.get_submodule("0").parts[0]).startswith("Conv2d(1, 5, kernel_size=(3, 3)")
    whole = 4 * 129_068
    assert sum(model.parameter_bytes()) == whole  # every weight is somewhere, and only there
    assert max(model.parameter_bytes()) < 0.26 * whole
    pairs = TensorParallel(lenet(), ["cpu"] * 4)
    twice = 50 + 10  # the biases behind a sum are on every rank
    assert sum(pairs.parameter_bytes()) == whole + 3 * 4 * twice
    kinds = [type(layer) for layer in pairs.children() if not isinstance(layer, OnEveryRank)]
    assert kinds == [ByOutputs, ByInputs, ByOutputs, ByInputs]


@pytest.mark.parametrize("n", [2, 5])
def test_the_bytes_of_lenet_split_by_outputs(n):
    """Forward, all gather pool1, pool2, dense1 and the logits; backward, all but the logits."""
    _, result = agrees(lenet(), torch.randn(3, 1, 28, 28), torch.randint(10, (3,)), n, pairs=False)
    numbers = 2 * (20 * 13 * 13 + 50 * 4 * 4 + 128) + 10
    assert result.bytes_moved == 4 * 3 * (n - 1) * numbers
    assert result.barriers == 4 + 3


@pytest.mark.parametrize("n", [2, 5])
def test_the_bytes_of_lenet_split_in_pairs(n):
    """Forward, conv2 and the logits are summed; backward, the gradient of pool2."""
    _, result = agrees(lenet(), torch.randn(3, 1, 28, 28), torch.randint(10, (3,)), n)
    numbers = 50 * 9 * 9 + 10 + 50 * 4 * 4
    assert result.bytes_moved == 4 * 3 * 2 * (n - 1) * numbers
    assert result.barriers == 2 + 1


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_decoder_has_four_barriers_a_block(blocks):
    decoder = Decoder(vocab_size=14, width=8, num_layers=blocks, num_heads=2, context=6)
    batch = torch.randint(14, (3, 6)), torch.randint(14, (3, 6))
    _, result = agrees(decoder, *batch, 2)
    assert result.barriers == 4 * blocks + 2  # and two for the head: its input, and the logits
    stream = 4 * 3 * 6 * 8  # bytes
    assert result.bytes_moved == 2 * (4 * blocks + 1) * stream + 4 * 3 * 6 * 14


def test_one_rank_moves_nothing():
    _, result = agrees(lenet(), torch.randn(3, 1, 28, 28), torch.randint(10, (3,)), 1)
    assert (result.bytes_moved, result.barriers, result.traffic.messages) == (0, 0, 0)


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "ranks", "message"),
    [
        ([nn.Linear(4, 2)], 3, r"layer 0 \(Linear\): 3 ranks for 2 outputs: .* at most 2 ranks"),
        ([nn.ReLU(), Block(8, 2)], 3, r"layer 1 \(Block\): 3 ranks for 2 attention heads"),
        ([nn.Linear(4, 4), nn.Dropout(0.5)], 2, r"layer 1 \(Dropout\) has a dropout .* use p=0"),
        (Decoder(9, 8, 1, 2, 4, tied=True), 2, "layers 0 and 2 share a weight"),
        ([], 2, "there are no layers"),
        ([torch.relu], 2, "not a torch.nn.Module"),
    ],
)
def test_what_cannot_be_split_is_refused(layers, ranks, message):
    with pytest.raises(ValueError, match=message):
        TensorParallel(layers, ["cpu"] * ranks)


def test_dropout_that_is_off_is_no_dropout():
    layers = [nn.Linear(4, 4), nn.Dropout(0.5).eval(), nn.Linear(4, 3)]
    agrees(layers, torch.randn(5, 4), torch.randint(3, (5,)), 2)


@pytest.mark.parametrize(
    "layers", [[nn.Linear(4, 4), nn.Dropout(0.5)], [Block(4, 2, dropout=0.1), nn.Linear(4, 4)]]
)
def test_dropout_that_is_switched_on_later_is_refused_then(layers):
    for layer in layers:
        layer.eval()
    model = TensorParallel(layers, ["cpu"] * 2, loss_fn=mean_square)
    batch = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    model.step(*batch)
    model.train()
    with pytest.raises(ValueError, match="has a dropout that is switched on"):
        model.step(*batch)


def test_a_loss_that_teaches_nothing_is_refused():
    layers = [nn.Linear(4, 3)]
    batch = torch.randn(5, 4), torch.randint(3, (5,))
    with torch.no_grad(), pytest.raises(ValueError, match="no gradient leads back"):
        TensorParallel(layers, ["cpu"] * 2).step(*batch)
    each = TensorParallel(layers, ["cpu"] * 2, loss_fn=lambda out, t: out.sum(1))
    with pytest.raises(ValueError, match=r"the loss has shape \(5,\): .* return a scalar"):
        each.step(*batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@BOTH
def test_ranks_on_a_gpu_and_on_the_cpu(pairs):
    torch.manual_seed(0)
    whole = lenet()
    model = TensorParallel(whole, ["cpu", "cuda:0", "cuda:0"], pairs=pairs)
    inputs, targets = torch.randn(5, 1, 28, 28), torch.randint(10, (5,))
    F.cross_entropy(whole(inputs), targets).backward()
    model.step(inputs, targets)
    for name, weight in whole.named_parameters():
        gradient = model.gradients()[name].cpu()
        torch.testing.assert_close(gradient, weight.grad, rtol=1e-3, atol=1e-4)
