"""All modules inside layers: those that torch's own walk finds."""

from torch import nn

from d2lpart import Decoder
from d2lpart.stages.layer_parts import parts


def test_they_are_those_of_torch():
    decoder = Decoder(vocab_size=8, width=4, num_layers=3, num_heads=2, context=4)
    expected = {part for layer in decoder.layers for part in layer.modules()}
    found = parts(decoder.layers)
    assert len(found) == len(expected)
    assert set(found) == expected
    assert found[: len(decoder.layers)] == decoder.layers


def test_a_module_that_is_there_twice_counts_once():
    shared = nn.Tanh()
    left, right = nn.Sequential(shared, shared), nn.Sequential(shared)
    assert parts([left, right, left]) == [left, right, shared]


def test_modules_in_a_circle_and_modules_taken_away_do_no_harm():
    inner = nn.Sequential(nn.Linear(2, 2))
    outer = nn.Sequential(inner)
    inner.add_module("back", outer)
    inner.register_module("none", None)
    assert set(parts([outer])) == {outer, inner, inner[0]}


def test_of_no_layers_there_are_no_parts():
    assert parts([]) == []
