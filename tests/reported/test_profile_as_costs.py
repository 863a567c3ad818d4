"""A profile is a list of costs: `partition` takes it as it is, and says where times are missing."""

import datetime
import re

import pytest
import torch
from torch import nn

from d2lpart import PartitionError, partition, profile
from d2lpart.costs.layer_cost import LayerCost, at_rate

TIMES = [(1.0, 2.0), (0.5, 1.0), (3.0, 5.0), (0.25, 0.5), (1.0, 1.0)]
COSTS = [
    LayerCost(f"L{i}", 1, 4, 0, 8, 1, forward_seconds=forward, backward_seconds=backward)
    for i, (forward, backward) in enumerate(TIMES)
]
SECONDS = [forward + backward for forward, backward in TIMES]


@pytest.mark.parametrize("options", [{}, {"num_microbatches": 4}, {"speed": [1, 2]}])
def test_a_profile_counts_by_its_seconds(options):
    found, wanted = partition(COSTS, 2, **options), partition(SECONDS, 2, **options)
    assert found == wanted
    assert found.costs == wanted.costs
    assert str(found) == str(wanted)


def test_loads_bottleneck_and_imbalance_take_a_profile():
    cut = partition(COSTS, 2)
    assert cut.sizes == (2, 3)
    assert cut.loads(COSTS) == cut.loads(SECONDS) == (4.5, 10.75)
    assert cut.bottleneck(COSTS) == 10.75
    assert cut.imbalance(COSTS) == cut.imbalance(SECONDS)


def test_a_measured_profile_is_cut_as_its_seconds_are():
    costs = profile([nn.Linear(8, 8) for _ in range(5)], torch.randn(2, 8))
    seconds = [cost.forward_seconds + cost.backward_seconds for cost in costs]
    assert partition(costs, 2) == partition(seconds, 2)


def test_without_seconds_a_rate_is_asked_for_and_does():
    costs = profile([nn.Linear(8, 8) for _ in range(5)], torch.randn(2, 8), device="meta")
    with pytest.raises(PartitionError) as caught:
        partition(costs, 2)
    assert str(caught.value) == (
        "costs[0]: the seconds of F of this Linear are not known, since it was costed without "
        "running: profile the layers on a device that computes, or state a rate: "
        "at_rate(costs, flops_per_second)"
    )
    assert partition(at_rate(costs, 1e9), 2).sizes == (3, 2)


def test_something_else_with_seconds_is_no_cost():
    message = "costs[0] is of type timedelta: give a number"
    with pytest.raises(PartitionError, match=f"^{re.escape(message)}$"):
        partition([datetime.timedelta(seconds=1)], 1)
