"""The decoder against a written-out one, and everything it promises about its weights."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2lpart.models.decoder import Attention, Block, Decoder, Embedding, Head

SMALL = {"vocab_size": 17, "width": 12, "num_layers": 2, "num_heads": 3, "context": 10}


def small(**changes):
    torch.manual_seed(0)
    return Decoder(**(SMALL | changes))


def some_tokens(batch=2, positions=7, vocab_size=17):
    return torch.randint(vocab_size, (batch, positions), generator=torch.Generator().manual_seed(1))


def norm(x, weights, name):
    x = x - x.mean(-1, keepdim=True)
    x = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attention_by_hand(x, weights, name, num_heads):
    """Each head and each position in a loop, with a softmax over what it may see."""
    _, T, C = x.shape
    D = C // num_heads
    q, k, v = linear(x, weights, f"{name}.query_key_value").split(C, dim=-1)
    mixed = torch.zeros_like(x)
    for h in range(num_heads):
        part = slice(h * D, (h + 1) * D)
        for t in range(T):
            scores = (q[:, t, None, part] * k[:, : t + 1, part]).sum(-1) / math.sqrt(D)
            chances = scores.exp() / scores.exp().sum(-1, keepdim=True)
            mixed[:, t, part] = (chances[..., None] * v[:, : t + 1, part]).sum(1)
    return linear(mixed, weights, f"{name}.output")


def decoder_by_hand(weights, tokens, num_layers, num_heads):
    x = weights["0.token.weight"][tokens] + weights["0.position.weight"][: tokens.shape[1]]
    for i in range(1, num_layers + 1):
        branch = norm(x, weights, f"{i}.attention_norm")
        x = x + attention_by_hand(branch, weights, f"{i}.attention", num_heads)
        branch = norm(x, weights, f"{i}.perceptron_norm")
        branch = linear(branch, weights, f"{i}.perceptron.hidden")
        branch = branch * 0.5 * (1 + torch.erf(branch / math.sqrt(2)))
        x = x + linear(branch, weights, f"{i}.perceptron.output")
    last = num_layers + 1
    return norm(x, weights, f"{last}.norm") @ weights[f"{last}.projection.weight"].T


def shaken(model):
    """The model in float64 with large random weights, so that no term is too small to matter."""
    generator = torch.Generator().manual_seed(2)
    model = model.double()
    for weight in model.parameters():
        weight.data = torch.randn(weight.shape, generator=generator, dtype=torch.float64) * 0.5
    return model


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("num_layers", "num_heads", "positions"), [(1, 1, 1), (2, 3, 7), (3, 4, 10)]
)
def test_the_decoder_is_the_one_written_out_by_hand(num_layers, num_heads, positions, tied):
    model = shaken(small(num_layers=num_layers, num_heads=num_heads, tied=tied))
    tokens = some_tokens(positions=positions)
    by_hand = decoder_by_hand(model.state_dict(), tokens, num_layers, num_heads)
    torch.testing.assert_close(model(tokens), by_hand)


def test_fused_attention_has_the_gradients_of_a_written_out_softmax():
    attention = shaken(Attention(12, 3))
    x = torch.randn(2, 5, 12, dtype=torch.float64, requires_grad=True)
    weights = {f"a.{name}": weight for name, weight in attention.named_parameters()}
    leaves = [x, *attention.parameters()]
    fused = torch.autograd.grad(attention(x).pow(2).sum(), leaves)
    by_hand = torch.autograd.grad(attention_by_hand(x, weights, "a", 3).pow(2).sum(), leaves)
    torch.testing.assert_close(fused, by_hand)


@pytest.mark.parametrize("changed", [0, 3, 6])
def test_a_position_sees_itself_and_those_before_it_only(changed):
    model, tokens = shaken(small()), some_tokens()
    other = tokens.clone()
    other[:, changed] = (other[:, changed] + 1) % 17
    difference = (model(tokens) - model(other)).abs().amax(dim=(0, 2))
    assert torch.all(difference[:changed] == 0)
    assert torch.all(difference[changed:] > 0)


def test_the_layers_are_a_plain_list_and_the_state_dict_is_that_of_a_sequential():
    model = small(num_layers=3)
    kinds = [type(layer) for layer in model.layers]
    assert kinds == [Embedding, Block, Block, Block, Head]
    assert type(model.layers) is list
    sequential = nn.Sequential(*model.layers)
    assert list(model.state_dict()) == list(sequential.state_dict())
    other = small(num_layers=3)
    other.load_state_dict(sequential.state_dict())
    assert torch.equal(sequential(some_tokens()), other(some_tokens()))


def test_a_slice_is_a_run_of_the_same_layers():
    model, tokens = small(num_layers=3), some_tokens()
    first, second = model[:2], model[2:]
    assert type(first) is nn.Sequential
    assert [*first, *second] == model.layers
    assert model[-1] is model.layers[-1]
    assert torch.equal(second(first(tokens)), model(tokens))


@pytest.mark.parametrize("tied", [False, True])
def test_the_number_of_parameters_is_megatrons_formula_and_the_last_norm(tied):
    V, C, L, T = 50, 24, 3, 9
    model = Decoder(V, C, L, 4, T, tied=tied)
    formula = 12 * L * C**2 + 13 * L * C + (V + T) * C  # Narayanan et al. 2021, 2104.04473
    count = sum(weight.numel() for weight in model.parameters())
    assert count == formula + 2 * C + (0 if tied else V * C)


def test_tied_weights_are_one_parameter():
    model = small(tied=True)
    embedding, head = model.layers[0], model.layers[-1]
    assert head.projection.weight is embedding.token.weight
    assert {"0.token.weight", "3.projection.weight"} <= set(model.state_dict())
    twin = copy.deepcopy(model)
    assert twin.layers[-1].projection.weight is twin.layers[0].token.weight
    untied = small()
    assert untied.layers[-1].projection.weight is not untied.layers[0].token.weight


def spread(name, weight, tied):
    """The standard deviation that a weight is drawn with."""
    if name == "5.projection.weight":
        return 0.02
    if name.startswith("0."):
        return 64**-0.5 if tied else 1.0
    joins = name.endswith(("attention.output.weight", "perceptron.output.weight"))
    return weight.shape[1] ** -0.5 / (8**0.5 if joins else 1)


@pytest.mark.parametrize("tied", [False, True])
def test_the_weights_are_drawn_for_small_decoders_from_the_global_seed(tied):
    shape = {"vocab_size": 100, "width": 64, "num_layers": 4, "num_heads": 4, "context": 50}
    torch.manual_seed(3)
    model = Decoder(**shape, tied=tied)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            assert not weight.any(), name
        elif "norm" in name:
            assert torch.all(weight == 1), name
        else:
            assert weight.std().item() == pytest.approx(spread(name, weight, tied), rel=0.1), name
    torch.manual_seed(3)
    again = Decoder(**shape, tied=tied)
    assert all(map(torch.equal, model.parameters(), again.parameters()))
    assert not torch.equal(Decoder(**shape)[0].token.weight, again[0].token.weight)


def test_an_untrained_decoder_guesses_blindly():
    torch.manual_seed(0)
    tokens = torch.randint(256, (4, 32))
    logits = Decoder(256, 64, 3, 2, 32)(tokens)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())
    assert loss.item() == pytest.approx(math.log(256), abs=0.1)


def test_dropout_acts_on_the_embedding_and_on_both_branches_in_training_only():
    model, tokens = small(dropout=0.5), some_tokens()
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), small()(tokens))
    embedding, block = model.train().layers[:2]
    embedding.dropout.p = block.dropout.p = 1.0
    x = torch.randn(2, 7, 12)
    assert torch.equal(block(x), x)
    assert not embedding(tokens).any()


def test_without_dropout_training_and_evaluation_agree_and_draw_nothing():
    model, tokens = small(), some_tokens()
    before = torch.get_rng_state()
    trained = model.train()(tokens)
    assert torch.equal(trained, model.eval()(tokens))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32])
def test_tokens_of_any_integer_type_do(kind):
    model, tokens = small(), some_tokens()
    assert torch.equal(model(tokens.to(kind)), model(tokens))


def test_bfloat16_autocast_stays_near():
    model, tokens = small(), some_tokens()
    exact = model(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(tokens)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.02)


def test_it_learns_a_sentence_by_heart():
    model = small()
    tokens = some_tokens(batch=1, positions=9)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(80):
        loss = F.cross_entropy(model(tokens[:, :-1])[0], tokens[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 < math.log(17)


def test_layers_show_their_sizes():
    assert [repr(layer) for layer in small(num_layers=1)] == [
        "Embedding(vocab_size=17, width=12, context=10)",
        "Block(width=12, num_heads=3)",
        "Head(width=12, vocab_size=17)",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 13}, r"width 13 for 3 heads.*multiple of 3, for example 15"),
        ({"width": 2}, r"width 2 for 3 heads.*multiple of 3, for example 3"),
        ({"vocab_size": 0}, r"vocab_size=0.*use at least 1"),
        ({"width": 0}, r"width=0.*use at least 1"),
        ({"num_layers": -1}, r"num_layers=-1.*use at least 1"),
        ({"num_heads": 0}, r"num_heads=0.*use at least 1"),
        ({"context": 0}, r"context=0.*use at least 1"),
        ({"context": 2.5}, r"context=2.5.*whole number"),
        ({"dropout": 1.0}, r"dropout=1.0.*at least 0 and less than 1"),
        ({"dropout": -0.1}, r"dropout=-0.1.*at least 0 and less than 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.zeros(2, 3), r"tokens of type torch.float32.*tokens.long\(\)"),
        (torch.zeros(2, 3, dtype=torch.bool), r"tokens of type torch.bool"),
        (torch.zeros(3, dtype=torch.long), r"shape \(3,\).*2 dimensions.*tokens\[None\]"),
        (torch.zeros(1, 11, dtype=torch.long), r"11 positions for a context of 10.*context=11"),
        (torch.tensor([[3, 17]]), r"ids from 3 to 17 for a vocabulary of 17.*0 to 16"),
        (torch.tensor([[-1, 2]]), r"ids from -1 to 2 for a vocabulary of 17"),
    ],
)
def test_tokens_that_cannot_be_are_refused(tokens, message):
    with pytest.raises(ValueError, match=message):
        small()(tokens)


@pytest.mark.parametrize("tied", [False, True])
def test_on_meta_it_has_shapes_and_no_numbers(tied):
    """140 billion weights take no memory, draw no numbers, and keep what is tied tied."""
    before = torch.get_rng_state()
    with torch.device("meta"):
        model = Decoder(51200, 12288, 77, 96, 2048, tied=tied)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(weight.is_meta for weight in model.parameters())
    assert (model[-1].projection.weight is model[0].token.weight) == tied
    V, C, L, T = 51200, 12288, 77, 2048
    expected = 12 * L * C**2 + 13 * L * C + (V + T) * C + 2 * C + (0 if tied else V * C)
    assert sum(weight.numel() for weight in model.parameters()) == expected
    assert model(torch.zeros(1, 3, dtype=torch.long, device="meta")).shape == (1, 3, V)
