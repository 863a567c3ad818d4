"""Partitions: cases with known answers, what a partition says of itself, and what is refused."""

import math
import pickle
import random
import re
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from d2lpart.common.display import Drawable
from d2lpart.partitions.amounts import exact
from d2lpart.partitions.partitioning import Partition, PartitionError, partition
from d2lpart.partitions.placement import check_placement
from d2lpart.schedules.orders import build_schedule
from d2lpart.schedules.schedule import Schedule


def fewest_stages(costs: list[int], cap: int) -> int:
    """Return how many stages a greedy filling up to `cap` takes."""
    stages, load = 1, 0
    for cost in costs:
        if load + cost > cap:
            stages, load = stages + 1, 0
        load += cost
    return stages


@pytest.mark.parametrize(("num_layers", "num_stages"), [(60, 7), (200, 16), (1000, 64)])
@pytest.mark.parametrize("largest", [1, 100, 10**12])
def test_large_networks(num_layers: int, num_stages: int, largest: int) -> None:
    rng = random.Random(num_layers * largest)
    costs = [rng.randint(1, largest) for _ in range(num_layers)]
    found = partition(costs, num_stages)
    assert found.num_stages == num_stages
    bottleneck = found.bottleneck(costs)
    assert fewest_stages(costs, bottleneck) <= num_stages < fewest_stages(costs, bottleneck - 1)
    assert partition(costs, num_stages, num_microbatches=8).bottleneck(costs) == bottleneck


@pytest.mark.parametrize("num_layers", range(1, 33))
def test_equal_layers_are_dealt_as_evenly_as_counts_allow(num_layers: int) -> None:
    for num_stages in range(1, num_layers + 1):
        share, more = divmod(num_layers, num_stages)
        expected = (share + 1,) * more + (share,) * (num_stages - more)
        for cost in (7, 0.1):
            assert partition([cost] * num_layers, num_stages).sizes == expected
            m4 = partition([cost] * num_layers, num_stages, num_microbatches=4)
            assert m4.sizes == expected


# ---- cases with known answers ----


@pytest.mark.parametrize(
    ("costs", "num_stages", "bottleneck", "sizes"),
    [
        ([4, 4, 4, 4] + [1] * 8, 3, 8, (2, 2, 8)),
        ([1] * 31, 8, 4, (4, 4, 4, 4, 4, 4, 4, 3)),
        ([1] + [10] * 12 + [40], 4, 41, (5, 4, 4, 1)),
        ([1] * 8, 3, 3, (3, 3, 2)),
        ([100, 1, 1, 1, 1, 1, 1], 3, 100, (1, 3, 3)),
    ],
)
def test_known_answers(costs: list, num_stages: int, bottleneck: int, sizes: tuple) -> None:
    found = partition(costs, num_stages)
    assert found.sizes == sizes
    assert found.bottleneck(costs) == bottleneck


def test_equal_counts_are_not_equal_loads() -> None:
    assert Partition((4, 4, 4)).bottleneck([4, 4, 4, 4] + [1] * 8) == 16


def test_published_traffic_of_twelve_layers_on_three_devices() -> None:
    # sequences of 2,048 tokens, 5,120 wide, two bytes a number, forward and backward
    megabytes = 2 * 2048 * 5120 * 2 / 1e6
    in_turn = check_placement([0, 1, 2] * 4)
    assert round(Partition((4, 4, 4)).crossings * megabytes) == 84
    assert round(in_turn.crossings * megabytes) == 461


def test_a_float_counts_as_the_decimal_it_prints_as() -> None:
    # in binary 0.1 + 0.2 > 0.3, and (2, 1, 2) would be a hair better than (2, 2, 1)
    assert partition([0.1, 0.2, 0.3, 0, 0.3], 3).sizes == (2, 2, 1)
    assert partition([0.1, 0.2], 1, memory=[0.1, 0.2], capacity=0.3).sizes == (2,)


def test_micro_batches_trade_the_sum_for_the_bottleneck() -> None:
    # the cut in the middle evens the loads, the cut after layer 0 costs less to transfer
    costs, transfer = [4, 4, 4, 4], [1, 2, 9]
    few = partition(costs, 2, transfer=transfer, num_microbatches=1)
    many = partition(costs, 2, transfer=transfer, num_microbatches=32)
    assert (few.sizes, many.sizes) == ((1, 3), (2, 2))


def test_the_last_layers_transfer_may_be_left_out() -> None:
    assert partition([1, 2, 3], 2, transfer=[5, 1]) == partition([1, 2, 3], 2, transfer=[5, 1, 99])


def test_speed_does_not_scale_transfers() -> None:
    # at speed 2 the first stage takes 6/2 + 2 for three layers; were the cut halved too, 6/2 + 1
    assert partition([2] * 4, 2, speed=[2, 1], transfer=[2, 2, 2]).sizes == (3, 1)
    assert partition([2] * 4, 2, speed=[1, 4]).sizes == (1, 3)


def test_numbers_of_any_real_kind_count() -> None:
    numpy = pytest.importorskip("numpy")
    costs = [4, 4, 4, 4] + [1] * 8
    kinds = (numpy.array(costs), numpy.array(costs) / 4, [Fraction(c, 7) for c in costs])
    for kind in (*kinds, (float(c) for c in costs)):
        assert partition(kind, 3).sizes == (2, 2, 8)
    huge = numpy.array([2**62, 2**62, 2**62 + 1])
    assert partition(huge, 2).sizes == (2, 1)
    assert partition(huge, 2, transfer=[0.001, 0.002]).sizes == (2, 1)
    assert exact("cost", numpy.float32(0.5)) == Fraction(1, 2)


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=9), st.data())
def test_any_floats_give_a_partition_of_all_layers(costs: list[float], data: Any) -> None:
    num_stages = data.draw(st.integers(1, len(costs)))
    found = partition(costs, num_stages)
    assert (found.num_layers, found.num_stages) == (len(costs), num_stages)
    assert found == partition(costs, num_stages)


# ---- the value ----


def test_what_a_partition_says() -> None:
    p = Partition((5, 4, 3))
    assert p.sizes == (5, 4, 3)
    assert p.stages == (range(0, 5), range(5, 9), range(9, 12))
    assert p.bounds == (5, 9)
    assert (p.num_layers, p.num_stages, p.crossings) == (12, 3, 2)
    assert [p.stage_of(layer) for layer in range(12)] == [0] * 5 + [1] * 4 + [2] * 3
    assert p.loads(range(12)) == (10, 26, 30)
    assert p.bottleneck(range(12)) == 30
    assert p.imbalance(range(12)) == pytest.approx(30 / 22)
    assert repr(p) == "Partition((5, 4, 3))"
    assert eval(repr(p)) == p
    assert Partition((6, 6)).bounds == (6,)
    assert Partition([1]).bounds == ()


def test_whole_costs_give_whole_loads() -> None:
    loads = Partition((1, 2)).loads([2**60, 1, 2**60])
    assert loads == (2**60, 2**60 + 1)
    assert all(isinstance(load, int) for load in loads)


@pytest.mark.parametrize("cost", [0, 3, 0.1, 1 / 3])
def test_equal_loads_are_in_perfect_balance(cost: float) -> None:
    assert Partition([7] * 6).imbalance([cost] * 42) == 1.0


def test_partitions_are_equal_by_their_sizes_and_never_change() -> None:
    p = Partition([2, 1], costs=[1, 2, 3])
    assert p == Partition((2, 1)) != Partition((1, 2))
    assert hash(p) == hash(Partition((2, 1)))
    assert p.costs == (1, 2, 3)
    assert Partition((2, 1)).costs is None
    with pytest.raises(AttributeError):
        p.sizes = (3,)
    again = pickle.loads(pickle.dumps(p))
    assert (again, again.costs) == (p, p.costs)


def test_partition_keeps_the_costs_it_was_made_for() -> None:
    assert partition(iter([1, 2.5, 3]), 2).costs == (1, 2.5, 3)


def test_description() -> None:
    assert isinstance(Partition((1,)), Drawable)
    assert Partition((4, 4, 4)).describe() == "Partition of 12 layers into 3 stages: 4 + 4 + 4"
    assert str(Partition([1])) == "Partition of 1 layer into 1 stage: 1"
    assert partition([4, 4, 4, 4] + [1] * 8, 2).describe().splitlines() == [
        "Partition of 12 layers into 2 stages: 3 + 9",
        "stage 0  layers 0-2   load 12  50.0%  ████████████████████",
        "stage 1  layers 3-11  load 12  50.0%  ████████████████████",
        "bottleneck 12 on stage 0, imbalance 1.00 (largest load over mean load)",
    ]
    assert Partition((1, 2), costs=[1.5, 2.25, 2.25]).describe().splitlines() == [
        "Partition of 3 layers into 2 stages: 1 + 2",
        "stage 0  layer 0     load 1.5  25.0%  ███████",
        "stage 1  layers 1-2  load 4.5  75.0%  ████████████████████",
        "bottleneck 4.5 on stage 1, imbalance 1.50 (largest load over mean load)",
    ]


def test_description_of_no_cost_and_of_fractions() -> None:
    assert "load 0  0.0%\n" in Partition((1, 1), costs=[0, 0]).describe()
    thirds = Partition((1, 1), costs=[Fraction(1, 3), Fraction(2, 3)]).describe()
    assert "load 0.333333  33.3%  ██████████\n" in thirds


# ---- what is refused ----


def refused(message: str) -> Any:
    """Expect an error with exactly this message."""
    return pytest.raises(PartitionError, match=f"^{re.escape(message)}$")


WHOLE = "each stage needs a whole number of layers, at least one"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([], "sizes is empty: a partition has at least one stage"),
        ([3, 0], f"the size of stage 1 is 0: {WHOLE}"),
        ([-2, 3], f"the size of stage 0 is -2: {WHOLE}"),
        ([2.0, 3], f"the size of stage 0 is 2.0: {WHOLE}"),
        (["a"], f"the size of stage 0 is 'a': {WHOLE}"),
        (12, "sizes is 12: give a list of numbers"),
    ],
)
def test_bad_sizes(sizes: Any, message: str) -> None:
    with refused(message):
        Partition(sizes)


@pytest.mark.parametrize("ask", ["loads", "bottleneck", "imbalance"])
def test_costs_of_another_number_of_layers(ask: str) -> None:
    with refused("2 costs for 3 layers: give one cost a layer"):
        getattr(Partition((1, 2)), ask)([1, 2])
    with refused("1 cost for 3 layers: give one cost a layer"):
        Partition((1, 2), costs=[1])
    with refused("costs[1] is nan: give a finite number"):
        getattr(Partition((1, 2)), ask)([1, math.nan, 1])


@pytest.mark.parametrize("layer", [-1, 3])
def test_no_such_layer(layer: int) -> None:
    with refused(f"layer {layer} does not exist: the 3 layers are numbered 0 to 2"):
        Partition((1, 2)).stage_of(layer)


COUNT = "give a whole number of stages, at least 1"
MICRO = "give a whole number of micro-batches, at least 1"


@pytest.mark.parametrize(
    ("costs", "num_stages", "options", "message"),
    [
        (
            [1, 2, 3],
            4,
            {},
            "4 stages for 3 layers: each stage needs at least one layer; use at most 3 stages",
        ),
        (
            [1],
            2,
            {},
            "2 stages for 1 layer: each stage needs at least one layer; use at most 1 stage",
        ),
        ([1, 2], 0, {}, f"num_stages is 0: {COUNT}"),
        ([1, 2], -1, {}, f"num_stages is -1: {COUNT}"),
        ([1, 2], 1.5, {}, f"num_stages is 1.5: {COUNT}"),
        ([1, 2], None, {}, f"num_stages is None: {COUNT}"),
        ([], 1, {}, "costs is empty: give one cost a layer"),
        (3.5, 1, {}, "costs is 3.5: give a list of numbers"),
        ([1, -2], 1, {}, "costs[1] is -2: give a number of at least 0"),
        ([1, math.nan], 1, {}, "costs[1] is nan: give a finite number"),
        ([math.inf, 1], 1, {}, "costs[0] is inf: give a finite number"),
        ([1, "2"], 1, {}, "costs[1] is of type str: give a number"),
        ([SimpleNamespace()], 1, {}, "costs[0] is of type SimpleNamespace: give a number"),
        ([1, 2], 1, {"num_microbatches": 0}, f"num_microbatches is 0: {MICRO}"),
        ([1, 2], 1, {"num_microbatches": 2.5}, f"num_microbatches is 2.5: {MICRO}"),
        ([1, 2, 3], 2, {"transfer": [1]}, "transfer has 1 number for 2 cuts: give one a cut"),
        ([1, 2, 3], 2, {"transfer": [1] * 4}, "transfer has 4 numbers for 2 cuts: give one a cut"),
        ([1, 2], 2, {"transfer": 3}, "transfer is 3: give a list of numbers"),
        ([1, 2], 2, {"transfer": [-0.5]}, "transfer[0] is -0.5: give a number of at least 0"),
        ([1, 2], 2, {"speed": [1]}, "speed has 1 number for 2 stages: give one a stage"),
        ([1, 2], 2, {"speed": [1, 0]}, "speed[1] is 0: every device needs a speed above 0"),
        ([1, 2], 2, {"speed": [-1, 1]}, "speed[0] is -1: give a number of at least 0"),
        ([1, 2], 2, {"memory": [1, 2]}, "memory is given without capacity: give both or neither"),
        ([1, 2], 2, {"capacity": 2}, "capacity is given without memory: give both or neither"),
        (
            [1, 2],
            2,
            {"memory": [1], "capacity": 2},
            "memory has 1 number for 2 layers: give one a layer",
        ),
        (
            [1, 2],
            2,
            {"memory": [1, 1], "capacity": [2]},
            "capacity has 1 number for 2 stages: give one a stage",
        ),
        (
            [1, 2],
            2,
            {"memory": [1, -1], "capacity": 2},
            "memory[1] is -1: give a number of at least 0",
        ),
        (
            [1, 2],
            2,
            {"memory": [1, 1], "capacity": [2, math.nan]},
            "capacity[1] is nan: give a finite number",
        ),
        (
            [1, 2, 1],
            2,
            {"memory": [1, 50e9, 1], "capacity": [40e9, 16e9]},
            "layer 1 alone needs 50,000,000,000, the largest capacity of a stage is "
            "40,000,000,000: 10,000,000,000 over; no partition helps, so use devices with more "
            "memory or split inside the layer",
        ),
        (
            [1] * 4,
            2,
            {"memory": [8] * 4, "capacity": [10, 20.5]},
            "the layers do not fit: in the partition that comes closest, stage 1 (layers 1-3) "
            "needs 24, the capacity of stage 1 is 20.5: 3.5 over; use more stages or devices with "
            "more memory",
        ),
    ],
)
def test_refused(costs: Any, num_stages: Any, options: dict, message: str) -> None:
    with refused(message):
        partition(costs, num_stages, **options)


def test_errors_are_value_errors() -> None:
    assert issubclass(PartitionError, ValueError)


def test_the_layer_that_needs_more_than_its_own_stage_has_may_move() -> None:
    # layer 0 fits no first stage, whatever the cuts: not the largest capacity, but stage 0's fails
    with pytest.raises(PartitionError, match=r"stage 0 \(layer 0\) needs 5, .* is 3: 2 over"):
        partition([1, 1], 2, memory=[5, 1], capacity=[3, 9])
    assert partition([1, 1, 1], 2, memory=[1, 5, 1], capacity=[3, 9]).sizes == (1, 2)


ASKED = {"activations": [1] * 4, "capacity": 9}
HELD = {**ASKED, "schedule": "1f1b", "num_microbatches": 6}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ASKED, "activations is given without schedule: give both or neither"),
        (
            {"schedule": "1f1b", "num_microbatches": 2},
            "schedule is given without activations: give both or neither",
        ),
        (
            {"activations": [1] * 4, "schedule": "1f1b", "num_microbatches": 2},
            "activations is given without capacity: give both or neither",
        ),
        (
            {**ASKED, "schedule": "1f1b"},
            "schedule is '1f1b' and num_microbatches is not given: what a stage holds depends on "
            "it, so give both",
        ),
        (
            {**HELD, "schedule": "1F1B"},
            "schedule is unusable: no schedule is called '1F1B': choose from 1f1b, gpipe, "
            "interleaved, naive, zb-h1, zb-h2, zb-v",
        ),
        (
            {**HELD, "schedule": "zb-v"},
            "'zb-v' has 4 stages on 2 ranks, num_stages is 2: give the schedule itself, as "
            "build_schedule makes it",
        ),
        (
            {**HELD, "schedule": build_schedule("gpipe", 3, 6)},
            "num_stages is 2, in the schedule 'gpipe' it is 3: give the same",
        ),
        (
            {**HELD, "schedule": build_schedule("gpipe", 2, 5)},
            "num_microbatches is 6, in the schedule 'gpipe' it is 5: give the same",
        ),
        (
            {**HELD, "schedule": Schedule(["0F0 0B0", "1B0 1F0"], [0, 1])},
            "the schedule cannot run: rank 1 runs 1B0 before 1F0, which it needs: run 1F0 first",
        ),
        (
            {**HELD, "activations": [1] * 3},
            "activations has 3 numbers for 4 layers: give one a layer",
        ),
        (
            {**HELD, "activations": [1, 1, -1, 1]},
            "activations[2] is -1: give a number of at least 0",
        ),
        (
            {**HELD, "memory": [4, 1, 1, 1], "activations": [3, 1, 1, 1], "capacity": [7, 6]},
            "layer 0 alone needs 7 in stage 1 with 1 micro-batch held, the capacity there is 6: 1 "
            "over; no partition helps, so use devices with more memory or split inside the layer, "
            "or a schedule that holds fewer micro-batches",
        ),
        (
            {**HELD, "capacity": [3, 2]},
            "the layers do not fit: in the partition that comes closest, stage 1 (layers 1-3) "
            "needs 3 with 1 micro-batch held, the capacity of stage 1 is 2: 1 over; use more "
            "stages or devices with more memory, or a schedule that holds fewer micro-batches",
        ),
    ],
)
def test_memory_under_a_schedule_refused(options: dict, message: str) -> None:
    with refused(message):
        partition([1] * 4, 2, **options)
