"""Lesson 02: the facts that its explanations rest on, and that answering disturbs nothing."""

from itertools import pairwise

import pytest
import torch

from d2lpart import course
from d2lpart.course.lessons import lesson_02
from d2lpart.course.lessons.lesson_02 import facts
from d2lpart.course.lessons.lesson_02.variants import (
    barriers_by_outputs,
    decoder_barriers,
    ring_bytes,
)
from d2lpart.models.convnet import NAMES, lenet
from d2lpart.splits.collectives import Group, all_reduce
from d2lpart.splits.tensor_parallel import TensorParallel


@pytest.fixture(autouse=True)
def not_strict(monkeypatch):
    monkeypatch.delenv("D2LPART_STRICT", raising=False)


def test_lenet_is_d2ls():
    assert facts.parameters() == 129_068
    assert facts.share("dense1") == pytest.approx(0.794, abs=5e-4)
    assert facts.share("conv2", "forward_flops") == pytest.approx(0.900, abs=5e-4)
    assert (
        facts.before(facts.POOL2, "forward_flops") > 0.9 > facts.before(facts.POOL2, "parameters")
    )
    assert [facts.numbers(name) for name in ("pool1", "pool2", "dense1")] == [3380, 800, 128]


def test_the_numbers_behind_each_layer_are_those_that_come_out_of_it():
    image = torch.zeros(1, 1, 28, 28)
    for name, layer in zip(NAMES, lenet(), strict=True):
        image = layer(image)
        assert facts.numbers(name) == image.numel(), name


def test_what_the_options_say_is_so():
    assert facts.cut(32) == 2 * facts.cut(16)
    assert facts.replicas(32) == facts.replicas(16) == facts.replicas(16, 4) / 3
    assert facts.held("data parallelism", 4) == 4 * facts.parameters()
    assert facts.held("layer-wise partitioning") < 0.51 * 4 * facts.parameters()
    assert facts.idle(4) == 0.75


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_the_barriers_of_the_question_are_those_that_are_counted(blocks):
    counted = facts.decoder_ways(blocks)["layer-wise partitioning"].traffic.barriers
    assert decoder_barriers(blocks).check(counted).ok
    assert not decoder_barriers(blocks + 1).check(counted).ok


@pytest.mark.parametrize("sizes", [(5, 4), (5, 4, 3), (9, 8, 7, 6, 5)])
def test_so_are_those_of_layers_split_by_outputs(sizes):
    layers = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
    model = TensorParallel(layers, ["cpu"] * 2, pairs=False)
    step = model.step(torch.zeros(3, sizes[0]), torch.zeros(3, dtype=torch.long))
    assert barriers_by_outputs(len(layers)).check(step.barriers).ok


@pytest.mark.parametrize("ranks", [4, 5, 9])
def test_the_ring_of_the_question_moves_what_a_ring_moves(ranks):
    group = Group(["cpu"] * ranks)
    all_reduce(group, [torch.zeros(9000)] * ranks)
    assert ring_bytes(ranks, 9).check(group.traffic().bytes_moved / 1e6).ok


def test_questions_and_checks_leave_the_global_generator_alone():
    for cached in (facts.costs, facts.ways, facts.decoder_ways):
        cached.cache_clear()
    before = torch.get_rng_state()
    for item in lesson_02.QUESTIONS:
        repr(item), item._repr_html_()
    assert course.check("02.3", course.exercise("02.3").reference).ok
    assert torch.equal(torch.get_rng_state(), before)


def test_the_clash_of_names_is_told():
    assert course.question("02.q2").check("abe").ok
    reply = course.question("02.q2").check("abce")
    assert "*inside* each layer" in reply.text
    assert not course.question("02.q1").check("a")
    assert "would be on one GPU" in course.question("02.q1").check("a").text
