"""What a cost says of its seconds: measured, computed, or not known."""

import dataclasses

import pytest

from d2lpart.costs.layer_cost import SPLIT_F, LayerCost, at_rate

BARE = LayerCost("Block", 10, 40, 8, 16, 100, input_flops=60, weight_flops=140)


def test_a_cost_is_a_value():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BARE.name = "other"
    assert dataclasses.replace(BARE) == BARE
    assert BARE.backward_flops == 200


def test_the_public_fields_come_first_and_in_the_order_promised():
    names = [field.name for field in dataclasses.fields(LayerCost)]
    assert names[:8] == [
        "name",
        "parameters",
        "parameter_bytes",
        "activation_bytes",
        "boundary_bytes",
        "forward_flops",
        "forward_seconds",
        "backward_seconds",
    ]


def test_seconds_are_forward_and_backward():
    cost = LayerCost("Linear", 1, 4, 8, 8, 2, 0.25, 0.5)
    assert cost.seconds == 0.75
    assert (cost.seconds_of("F"), cost.seconds_of("B")) == (0.25, 0.5)


@pytest.mark.parametrize("kind", ["F", "B", "I", "W", SPLIT_F])
def test_seconds_that_nobody_measured_are_none_and_using_them_says_what_to_do(kind):
    assert BARE.forward_seconds is BARE.backward_seconds is BARE.forward_spread is None
    with pytest.raises(ValueError, match=rf"seconds of {kind} of this Block.*at_rate\(costs"):
        BARE.seconds_of(kind)
    with pytest.raises(ValueError, match=r"without running"):
        _ = BARE.seconds


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match=r"kind is 'X': use one of F, "):
        BARE.seconds_of("X")


def test_a_rate_gives_seconds_that_are_labelled_as_computed():
    (cost,) = at_rate([BARE], 50)
    assert [cost.seconds_of(kind) for kind in ("F", SPLIT_F, "B", "I", "W")] == [
        *(2.0, 2.0, 4.0, 1.2, 2.8)
    ]
    assert cost.timing == "computed from operations at 50 FLOP/s"
    assert BARE.forward_seconds is None


def test_a_rate_replaces_what_was_measured():
    measured = dataclasses.replace(
        BARE, forward_seconds=9.0, forward_spread=(8.0, 10.0), timing="measured"
    )
    assert at_rate([measured], 50) == at_rate([BARE], 50)


@pytest.mark.parametrize("rate", [0, -1.0, float("inf"), float("nan")])
def test_a_rate_is_above_zero(rate):
    with pytest.raises(ValueError, match=r"flops_per_second is .*above 0"):
        at_rate([BARE], rate)
