"""Layers on meta: costed without numbers, and with the result that a CPU would give."""

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2lpart import Decoder, at_rate, profile

V, C, HEADS, B, T = 19, 12, 3, 2, 8


def facts(costs):
    """All but what the clock says."""
    fields = [field.name for field in dataclasses.fields(costs[0])]
    chosen = [name for name in fields if "seconds" not in name and "spread" not in name]
    return [{name: getattr(cost, name) for name in chosen if name != "timing"} for cost in costs]


def decoder(**options):
    torch.manual_seed(0)
    return Decoder(V, C, 2, HEADS, context=10, **options)


class Masked(nn.Module):
    """Attention with a mask that is a buffer, and one that is made on the spot."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(C, C)
        self.register_buffer("mask", torch.ones(T, T, dtype=torch.bool).tril())

    def forward(self, x):
        x = self.map(x).view(B, T, HEADS, C // HEADS).transpose(1, 2)
        x = F.scaled_dot_product_attention(x, x, x, attn_mask=self.mask)
        hidden = torch.arange(T, device=x.device)[None] > torch.arange(T, device=x.device)[:, None]
        x = F.scaled_dot_product_attention(x, x, x, attn_mask=~hidden)
        return x.transpose(1, 2).reshape(B, T, C)


CASES = {
    "plain": lambda: decoder(),
    "tied": lambda: decoder(tied=True),
    "dropout": lambda: decoder(dropout=0.1),
    "evaluation": lambda: decoder(dropout=0.1).eval(),
    "frozen": lambda: decoder().requires_grad_(False),
    "partly frozen": lambda: nn.Sequential(*decoder()[:2].requires_grad_(False), decoder()[2]),
    "bfloat16": lambda: decoder().bfloat16(),
    "masks": lambda: nn.Sequential(nn.Embedding(V, C), Masked(), nn.LayerNorm(C)),
    "in place": lambda: nn.Sequential(nn.Embedding(V, C), nn.ReLU(inplace=True), nn.Linear(C, C)),
    "buffers": lambda: nn.Sequential(nn.Embedding(V, C), nn.BatchNorm1d(T), nn.Linear(C, C)),
}


@pytest.mark.parametrize("case", CASES)
def test_every_fact_is_that_of_a_cpu(case):
    here = CASES[case]()
    tokens = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))
    with torch.device("meta"):  # not here.to("meta"), which unties what is tied
        there = CASES[case]()
    measured = profile(here, tokens, passes=1)
    costed = profile(there, tokens.to("meta"))
    assert facts(costed) == facts(measured)
    assert facts(profile(here, tokens, "meta")) == facts(measured)
    assert {cost.timing for cost in costed} == {""}
    for cost in costed:
        assert cost.forward_seconds is cost.backward_seconds is cost.split_forward_seconds is None
        assert cost.input_seconds is cost.weight_seconds is cost.forward_spread is None


def test_nothing_is_changed_and_nothing_is_drawn():
    model = decoder(dropout=0.1)
    model[1].weight_of_none = None
    tokens = torch.zeros(B, T, dtype=torch.long)
    model(tokens).sum().backward()
    state, modes = torch.get_rng_state(), [part.training for part in model.modules()]
    weights, names = list(model.parameters()), list(model.state_dict())
    gradients, values = [w.grad for w in weights], [w.detach().clone() for w in weights]
    assert len(profile(model, tokens, "meta")) == 4
    assert all(a is b for a, b in zip(model.parameters(), weights, strict=True))
    assert [w.grad for w in weights] == gradients
    assert all(map(torch.equal, weights, values))
    assert list(model.state_dict()) == names
    assert [part.training for part in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_come_back_after_a_failure():
    layers = [nn.Linear(4, 4), nn.Linear(5, 5)]
    weights = [layer.weight for layer in layers]
    with pytest.raises(ValueError, match=r"layer 1 \(Linear\) on an input of shape \(2, 4\)"):
        profile(layers, torch.ones(2, 4), "meta")
    assert [layer.weight for layer in layers] == weights


def test_a_layer_that_looks_at_numbers_is_named():
    class Choosy(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"layer 0 \(Choosy\)"):
        profile([Choosy()], torch.ones(2, device="meta"))


def test_one_tensor_on_meta_is_enough():
    tokens = torch.zeros(B, T, dtype=torch.long)
    mixed = decoder()
    mixed[2].to("meta")
    for model, sample in ((decoder(), tokens.to("meta")), (mixed, tokens)):
        assert profile(model, sample)[1].forward_seconds is None


# A decoder of 70 billion weights, which takes 140 GB in two bytes each.

L, h, a, s, VOCABULARY = 80, 8192, 64, 2048, 51200


@pytest.fixture(scope="module")
def large():
    with torch.device("meta"):
        model = Decoder(VOCABULARY, h, L, a, s).bfloat16()
        return model, profile(model, torch.zeros(1, s, dtype=torch.long))


def test_a_decoder_of_70_billion_weights_is_costed_without_its_memory(large):
    """12·L·h²·(1 + 13/(12h) + (V+s)/(12·L·h)), the last norm, and the head that is not tied.

    The formula is Megatron-LM's (Narayanan et al., 2104.04473).
    """
    model, costs = large
    assert all(weight.is_meta for weight in model.parameters())
    formula = 12 * L * h**2 * (1 + 13 / (12 * h) + (VOCABULARY + s) / (12 * L * h))
    count = sum(cost.parameters for cost in costs)
    assert count == round(formula) + 2 * h + VOCABULARY * h
    assert count == sum(weight.numel() for weight in model.parameters())
    assert sum(cost.parameter_bytes for cost in costs) == 2 * count


def test_its_operations_are_those_of_the_formula(large):
    """24·b·s·h² + 4·b·s²·h for a block and 2·b·s·h·V for the head, backward about twice that."""
    _, costs = large
    assert len(costs) == L + 2
    assert len({dataclasses.replace(cost) for cost in costs[2:-1]}) == 1
    assert costs[1].forward_flops == 24 * s * h**2 + 4 * s**2 * h
    assert costs[-1].forward_flops == 2 * s * h * VOCABULARY
    assert costs[1].backward_flops == 48 * s * h**2 + 10 * s**2 * h  # five products for two


def test_its_activations_are_those_of_korthikanti_but_for_masks_and_scores(large):
    """Their layer holds s·b·h·(34 + 5·a·s/h) bytes (2205.05198), in two bytes a number.

    Of the 34, 2 are masks of dropout, which this decoder is without; 2 are the layer's input, which
    counts as the boundary of the layer before. The 5·a·s/h are scores, their softmax and its
    dropout, which fused attention does not keep. In their place it has a number of four bytes for
    each head and position; and each of the two norms has a mean and a deviation.
    """
    _, costs = large
    norms, attention = 2 * 2 * 2 * s, 4 * a * s
    assert costs[1].activation_bytes == s * h * (34 - 2 - 2) + norms + attention
    theirs = s * h * (34 + 5 * a * s / h)
    assert costs[1].activation_bytes / theirs == pytest.approx(30 / (34 + 5 * a * s / h), rel=0.01)
    assert costs[0].boundary_bytes == 2 * s * h


def test_its_step_is_forecast_from_a_rate(large):
    """Three times the operations of a forward, a little more for attention's backward."""
    _, costs = large
    timed = at_rate(costs, 1e15)
    forward = L * (24 * s * h**2 + 4 * s**2 * h) + 2 * s * h * VOCABULARY
    assert math.fsum(cost.seconds for cost in timed) * 1e15 == pytest.approx(3 * forward, rel=0.01)
