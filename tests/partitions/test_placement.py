"""Verdicts on placements: each sentence, the crossings, and a second way to tell ok from not."""

import itertools
import random
from typing import Any

import pytest
from hypothesis import given, strategies as st

from d2lpart.partitions.partitioning import Partition, PartitionError
from d2lpart.partitions.placement import Verdict, check_placement

CONTIGUOUS = "Each of the {} devices holds one group of consecutive layers: "


@pytest.mark.parametrize(
    ("num_layers", "num_devices", "consecutive", "in_turn"), [(24, 4, 3, 23), (12, 3, 2, 11)]
)
def test_published_crossings(
    num_layers: int, num_devices: int, consecutive: int, in_turn: int
) -> None:
    each = num_layers // num_devices
    groups = check_placement([layer // each for layer in range(num_layers)], num_devices)
    assert (groups.ok, groups.crossings) == (True, consecutive)
    dealt = check_placement([layer % num_devices for layer in range(num_layers)], num_devices)
    assert (dealt.ok, dealt.crossings) == (False, in_turn)
    assert dealt.counts == groups.counts == dict.fromkeys(range(num_devices), each)
    assert "dealt out in turn" in dealt.reason
    assert f"{in_turn} crossings where consecutive groups make {consecutive}" in dealt.reason


RIGHT = [
    (
        [0, 0, 0, 1, 1, 1],
        None,
        CONTIGUOUS.format(2) + "1 crossing, the fewest there can be.",
    ),
    ([2, 2, 0, 0, 1, 1], 3, CONTIGUOUS.format(3) + "2 crossings, the fewest there can be."),
    ((0, 0, 1), 2, CONTIGUOUS.format(2) + "1 crossing, the fewest there can be."),
    ({1: "b", 0: "a"}, 2, CONTIGUOUS.format(2) + "1 crossing, the fewest there can be."),
    (
        ["cuda:0", "cuda:0", "cpu"],
        2,
        CONTIGUOUS.format(2) + "1 crossing, the fewest there can be.",
    ),
    (
        [0] * 9 + [1, 2, 3],
        4,
        CONTIGUOUS.format(4) + "3 crossings, the fewest there can be; with stage sizes 9, 1, 1 and "
        "1, device 0 carries by count 3.0x the even share.",
    ),
    (
        ["GPU1", "CPU", "CPU", "CPU"],
        None,
        CONTIGUOUS.format(2) + "1 crossing, the fewest there can be; with stage sizes 1 and 3, "
        "device CPU carries by count 1.5x the even share.",
    ),
    ([0] * 12, None, "The whole network, 12 layers, is on device 0: 0 crossings."),
    ([0], 1, "The whole network, 1 layer, is on device 0: 0 crossings."),
    ([[0], (0,), {1}], None, CONTIGUOUS.format(2) + "1 crossing, the fewest there can be."),
]

ONE_DEVICE = (
    "network partitioning puts each layer whole on one device, while data parallelism copies "
    "layers and D2L's layer-wise partitioning cuts inside them."
)
EACH_NEEDS = "the data runs through every layer, so each needs one."
IN_TURN = (
    "The layers are dealt out in turn: however equal the counts, no two neighbours share a "
    "device, which makes {} where consecutive groups make {}."
)
ONE_RUN = "a stage is one run of consecutive layers, and this placement makes"
EACH_HOLDS = "a partition over {} devices gives each of them a group of layers."

WRONG = [
    ([], None, 0, "The placement is empty: give every layer a device."),
    ({}, 3, 0, "The placement is empty: give every layer a device."),
    (
        [(0, 1, 2)] * 12,
        3,
        0,
        "12 of 12 layers are on several devices at once (layer 0 on devices 0, 1 and 2): "
        + ONE_DEVICE,
    ),
    (
        [0, 0, {"b", "e", "a", "d", "c"}, 1, 2],
        None,
        1,
        "1 of 5 layers is on several devices at once (layer 2 on devices a, b, c, d and e): "
        + ONE_DEVICE,
    ),
    (
        {0: 0, 1: 0, 3: 1, 5: 2},
        3,
        0,
        "2 of 6 layers are without a device (layers 2 and 4): " + EACH_NEEDS,
    ),
    (
        [0, None, 1, 2],
        None,
        1,
        "1 of 4 layers is without a device (layer 1): " + EACH_NEEDS,
    ),
    (
        [0, *[None] * 6, 1],
        None,
        0,
        "6 of 8 layers are without a device (layers 1, 2, 3, 4, 5 and 6): " + EACH_NEEDS,
    ),
    (
        [0, *[None] * 9, 1],
        None,
        0,
        "9 of 11 layers are without a device (layers 1, 2, 3, 4, 5, 6 and 3 more): " + EACH_NEEDS,
    ),
    (
        [1, 1, 2, 2, 3, 3],
        3,
        2,
        "Device 3 does not exist: the 3 devices are numbered 0 to 2.",
    ),
    ([-1, 0, 5], 3, 2, "Devices -1 and 5 do not exist: the 3 devices are numbered 0 to 2."),
    ([0, 1, 2, 0], 2, 3, "Device 2 does not exist: the 2 devices are numbered 0 to 1."),
    ([0, 1, 0], 3, 2, IN_TURN.format("2 crossings", 1)),
    ([0, 1], 1, 1, "Device 1 does not exist: the only device is number 0."),
    (["a", "b", "c"], 2, 2, "3 devices hold layers, but there are only 2."),
    ([0, 1, 0], None, 2, IN_TURN.format("2 crossings", 1)),
    (["b", "a", "b", "a"], None, 3, IN_TURN.format("3 crossings", 1)),
    (
        [0, 0, 1, 1, 0, 0],
        None,
        2,
        f"Device 0 holds 2 separate groups (layers 0-1 and layers 4-5): {ONE_RUN} 2 crossings "
        "where consecutive groups make 1.",
    ),
    (
        ["A", "B", "C", "B", "C"],
        3,
        4,
        f"Device B holds 2 separate groups (layer 1 and layer 3): {ONE_RUN} 4 crossings where "
        "consecutive groups make 2.",
    ),
    (
        [0, 0, 1, 1] * 8,
        2,
        15,
        "Device 0 holds 8 separate groups (layers 0-1, layers 4-5, layers 8-9, layers 12-13, "
        f"layers 16-17, layers 20-21 and 2 more): {ONE_RUN} 15 crossings where consecutive groups "
        "make 1.",
    ),
    ([0, 0, 1, 1], 4, 1, "Devices 2 and 3 hold no layer: " + EACH_HOLDS.format(4)),
    ([0, 0, 2], 3, 1, "Device 1 holds no layer: " + EACH_HOLDS.format(3)),
    (["a", "b"], 3, 1, "1 of the 3 devices holds no layer: " + EACH_HOLDS.format(3)),
    (["a"], 3, 0, "2 of the 3 devices hold no layer: " + EACH_HOLDS.format(3)),
]


@pytest.mark.parametrize(("placement", "num_devices", "reason"), RIGHT)
def test_right(placement: Any, num_devices: int | None, reason: str) -> None:
    verdict = check_placement(placement, num_devices)
    assert verdict
    assert verdict.ok
    assert verdict.reason == reason
    assert verdict.crossings == len(verdict.counts) - 1


@pytest.mark.parametrize(("placement", "num_devices", "crossings", "reason"), WRONG)
def test_wrong(placement: Any, num_devices: int | None, crossings: int, reason: str) -> None:
    verdict = check_placement(placement, num_devices)
    assert not verdict
    assert verdict.ok is False
    assert verdict.reason == reason
    assert verdict.crossings == crossings


@pytest.mark.parametrize("reason", [case[-1] for case in (*RIGHT, *WRONG)])
def test_a_reason_is_one_sentence(reason: str) -> None:
    assert reason[0].isalnum()
    assert reason.endswith(".")
    assert ". " not in reason


@pytest.mark.parametrize("num_layers", range(1, 8))
def test_ok_is_what_a_partition_gives(num_layers: int) -> None:
    """Of all placements on up to 3 devices, the partitions of the layers are ok, no others."""
    for placement in itertools.product(range(3), repeat=num_layers):
        used = sorted(set(placement), key=placement.index)
        sizes = [placement.count(device) for device in used]
        partition = Partition(sizes)
        expected = tuple(used[partition.stage_of(layer)] for layer in range(num_layers))
        verdict = check_placement(placement)
        assert verdict.ok == (placement == expected), placement
        assert bool(check_placement(placement, 3)) == (verdict.ok and len(used) == 3), placement
        assert verdict.counts == dict(zip(used, sizes, strict=True))
        if verdict:
            assert verdict.crossings == partition.crossings
        else:
            assert verdict.crossings > partition.crossings


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_the_names_of_devices_do_not_matter(placement: list[int]) -> None:
    names = ["cpu", "cuda:0", "cuda:1", "cuda:2"]
    plain = check_placement(placement)
    named = check_placement([names[device] for device in placement])
    assert (named.ok, named.crossings) == (plain.ok, plain.crossings)
    assert named.counts == {names[device]: number for device, number in plain.counts.items()}


def test_a_dict_may_stand_in_any_order() -> None:
    placement = list(range(10))
    items = list(enumerate(placement))
    random.Random(0).shuffle(items)
    assert check_placement(dict(items)) == check_placement(placement)


def test_arrays_are_placements() -> None:
    numpy = pytest.importorskip("numpy")
    placement = numpy.repeat(numpy.arange(4), 6)
    assert check_placement(placement, 4) == check_placement(placement.tolist(), 4)


def test_a_verdict_is_a_readable_value() -> None:
    verdict = Verdict(False, 3, "Because.", {0: 2})
    assert repr(verdict) == "Verdict(ok=False, crossings=3, reason='Because.', counts={0: 2})"
    assert hash(verdict) == hash(Verdict(False, 3, "Because.", {0: 2}))
    assert Verdict(True, 0, "").counts == {}
    with pytest.raises(AttributeError):
        verdict.ok = True


@pytest.mark.parametrize(
    ("placement", "num_devices", "message"),
    [
        ("0011", None, "a placement of type str: give a list with the device of each layer"),
        (None, None, "a placement of type NoneType: give a list"),
        ({0, 1}, None, "a placement of type set: give a list"),
        ({"0": 1}, None, "'0' is no layer: the keys of a placement are the layers 0, 1, 2"),
        ({-1: 1}, None, "-1 is no layer: the keys"),
        ([0], 0, "num_devices is 0: give at least 1 device"),
    ],
)
def test_no_placement_at_all(placement: Any, num_devices: int | None, message: str) -> None:
    with pytest.raises(PartitionError, match=f"^{message}"):
        check_placement(placement, num_devices)
