"""The table of three ways, D2L's LeNet, and the images it learns from."""

import importlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2lpart.costs.profiler import profile
from d2lpart.models.convnet import NAMES, _digits, glyphs, lenet
from d2lpart.models.decoder import Decoder
from d2lpart.splits.comparison import three_ways
from d2lpart.timelines.spans import Link

POOL2 = NAMES.index("pool2") + 1


def of_lenet(samples, ranks=2, sizes=(POOL2, 10 - POOL2), **options):
    torch.manual_seed(0)
    images, digits = glyphs(samples)
    return three_ways(lenet(), images, digits, sizes=sizes, devices=["cpu"] * ranks, **options)


# ---- the table -----------------------------------------------------------------------------------


def test_all_ways_have_the_same_loss():
    table = of_lenet(6, ranks=3, sizes=[3, 3, 4])
    losses = [way.loss for way in table.ways]
    assert losses == pytest.approx([losses[0]] * 3, rel=2e-5)
    torch.manual_seed(0)
    images, digits = glyphs(6)
    assert losses[0] == pytest.approx(F.cross_entropy(lenet()(images), digits).item(), rel=2e-5)


@pytest.mark.parametrize("samples", [2, 161, 162])
def test_where_data_parallelism_and_the_pool2_cut_cost_the_same(samples):
    table = of_lenet(samples)
    cut = table["network partitioning"].traffic.bytes_moved
    replicas = table["data parallelism"].traffic.bytes_moved
    assert cut == 2 * 800 * 4 * samples
    assert replicas == 2 * 129_068 * 4
    assert (cut < replicas) == (samples < 129_068 / 800)


@pytest.mark.parametrize(("pairs", "barriers"), [(True, 3), (False, 7)])
def test_barriers(pairs, barriers):
    table = of_lenet(4, pairs=pairs)
    assert [way.traffic.barriers for way in table.ways] == [0, barriers, 1]
    assert [way.traffic.messages for way in table.ways][::2] == [2, 4]


def test_a_decoder_on_three_ranks():
    torch.manual_seed(0)
    decoder = Decoder(vocab_size=20, width=12, num_layers=4, num_heads=3, context=8)
    batch = torch.randint(20, (6, 8)), torch.randint(20, (6, 8))
    table = three_ways(decoder.layers, *batch, sizes=[2, 2, 2], devices=["cpu"] * 3)
    whole = 4 * sum(weight.numel() for weight in decoder.parameters())
    cut, split, replicas = table.ways
    assert sum(cut.parameter_bytes) == whole
    assert sum(split.parameter_bytes) > whole
    assert replicas.parameter_bytes == (whole,) * 3
    assert cut.traffic.bytes_moved == 2 * 2 * 6 * 8 * 12 * 4
    assert cut.traffic.sent == cut.traffic.received[::-1]
    assert split.traffic.barriers == 4 * 4 + 2
    assert all(weight.grad is None for weight in decoder.parameters())


def test_the_text_of_the_table():
    link = Link(latency=1e-5, bandwidth=16e9)
    lines = str(of_lenet(4, link=link)).splitlines()
    assert len(lines) == 5
    assert lines[0].split()[-3:] == ["on", "the", "link"]
    assert lines[3].startswith("data parallelism")
    assert "516 kB" in lines[3]
    assert lines[4] == "link: 1e-05 s and 16 GB/s, modelled"
    assert repr(of_lenet(2)) == str(of_lenet(2))
    assert "on the link" not in str(of_lenet(2))


def test_the_time_on_a_link_by_hand():
    link = Link(latency=1.0, bandwidth=1000.0)
    table = of_lenet(5, link=link)
    assert table["network partitioning"].traffic.seconds(link) == 2 * (1 + 800 * 4 * 5 / 1000)
    half = 129_068 * 4 / 2
    assert table["data parallelism"].traffic.seconds(link) == 2 * (1 + half / 1000)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch.distributed.tensor.parallel", "parallelize_module"),
        ("torch.distributed.tensor.parallel", "ColwiseParallel"),
        ("torch.distributed.tensor.parallel", "RowwiseParallel"),
        ("torch.nn.parallel", "DistributedDataParallel"),
        ("torch.distributed.fsdp", "fully_shard"),
        ("torch.distributed", "pipelining"),
    ],
)
def test_what_to_use_in_earnest_is_there(module, name):
    importlib.import_module(module if name != "pipelining" else f"{module}.{name}")
    assert hasattr(importlib.import_module(module), name)


# ---- LeNet ---------------------------------------------------------------------------------------


def test_the_balance_of_lenet():
    """Memory lies in the first dense layer, compute in the second convolution."""
    costs = dict(zip(NAMES, profile(lenet(), torch.zeros(2, 1, 28, 28)), strict=True))
    parameters = {name: cost.parameters for name, cost in costs.items()}
    assert parameters["conv1"], parameters["conv2"] == (20 * 9 + 20, 50 * 20 * 25 + 50)
    assert sum(parameters.values()) == 129_068
    assert round(parameters["dense1"] / 129_068, 2) == 0.79
    work = {name: cost.forward_flops for name, cost in costs.items()}
    assert work["conv2"] == 2 * 2 * (9 * 9 * 50) * (20 * 25)
    assert round(work["conv2"] / sum(work.values()), 2) == 0.90
    assert costs["pool2"].boundary_bytes == 2 * 800 * 4


# ---- the images ----------------------------------------------------------------------------------


def test_digits_differ_and_fill_their_box():
    shapes = _digits()
    assert shapes.shape == (10, 21, 15)
    assert set(shapes.unique().tolist()) == {0.0, 1.0}
    for one in range(10):
        assert shapes[one].sum(0).gt(0).float().mean() >= 0.6
        for other in range(one):
            assert (shapes[one] != shapes[other]).float().mean() > 0.05


def test_images_are_digits_somewhere():
    images, digits = glyphs(60, noise=0.0)
    shapes = _digits()
    places = set()
    for image, digit in zip(images[:, 0], digits, strict=True):
        rows, columns = image.sum(1).nonzero().flatten(), image.sum(0).nonzero().flatten()
        places.add((rows[0].item(), columns[0].item()))
        ink = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        own = shapes[digit][:, shapes[digit].sum(0) > 0]
        assert torch.equal(ink > 0, own > 0)
        assert 0.6 <= ink.max() <= 1.0
    assert len(places) > 15
    assert set(digits.tolist()) == set(range(10))


def test_equal_seeds_give_equal_images_and_leave_the_generator_alone():
    before = torch.get_rng_state()
    one, other, third = glyphs(5, seed=3), glyphs(5, seed=3), glyphs(5, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[0], third[0])


@pytest.mark.parametrize("wrong", [{"number": 0}, {"number": 3, "noise": -1.0}])
def test_what_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(ValueError, match="use at least 1 image"):
        glyphs(**wrong)


def test_lenet_learns_to_read_them():
    torch.manual_seed(0)
    network = lenet()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    images, digits = glyphs(960)
    for x, y in zip(images.split(32), digits.split(32), strict=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    images, digits = glyphs(300, seed=1)
    with torch.no_grad():
        right = (network(images).argmax(1) == digits).float().mean()
    assert right > 0.7
