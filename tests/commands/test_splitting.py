"""Splitting on paper: the report holds what its parts say, and what a real pipeline does."""

import importlib.util
import json

import pytest
import torch

from d2lpart import Decoder, Link, Pipeline, build_schedule, partition
from d2lpart.commands import splitting
from d2lpart.commands.splitting import split_model
from d2lpart.costs.forecasting import forecast
from d2lpart.machine.hardware import devices, threads
from d2lpart.models.by_name import Choice, choose_model

SMALL = "decoder:width=32,layers=6,heads=2,vocab=64,context=16"


@pytest.fixture(autouse=True)
def one_thread():
    """A rank has the threads that there are, divided by the ranks; here that is one in any case."""
    with threads(1):
        yield


def split(model=SMALL, ranks=3, **options):
    options = {"num_microbatches": 4, "rate": 1e9} | options
    return split_model(choose_model(model), devices(ranks), **options)


def test_the_parts_fit_together():
    link = Link(1e-5, 1e9)
    report = split(link=link, samples=2)
    seconds = [cost.seconds for cost in report.costs]
    best = partition(
        seconds, 3, num_microbatches=4,
        transfer=[2 * link.seconds(cost.boundary_bytes) for cost in report.costs],
    )  # fmt: skip
    assert report.partition == best
    order = build_schedule("1f1b", 3, 4)
    expected = forecast(report.costs, best, order, link)
    assert report.timeline.spans == expected.spans
    assert report.cut_bytes == [2 * 16 * 32 * 2] * 2  # 16 bits
    assert report.step_bytes == 2 * sum(report.cut_bytes) * 4


def test_computed_seconds_are_operations_over_the_rate():
    slow, fast = split(), split(rate=2e9)
    assert slow.timeline.makespan == pytest.approx(2 * fast.timeline.makespan)
    assert slow.timeline.idle_fraction() == pytest.approx(fast.timeline.idle_fraction())
    flops = sum(cost.forward_flops + cost.backward_flops for cost in slow.costs)
    alone = split(ranks=1, num_microbatches=1)
    assert alone.timeline.makespan == pytest.approx(flops / 1e9)
    assert alone.timeline.idle_fraction() == pytest.approx(0)
    assert slow.precision == "mixed"
    assert slow.source == "computed from operations at 1e+09 FLOP/s"


def test_a_link_makes_the_step_longer():
    assert split(link=Link(1e-3)).timeline.makespan > split().timeline.makespan


def test_a_small_model_is_measured_and_a_large_one_computed(monkeypatch):
    small = split(rate=None)
    assert "measured on " in small.source
    assert small.precision == "fp32"
    monkeypatch.setattr(splitting, "MEASURABLE", {})
    large = split(rate=None)
    assert large.source.startswith("computed from operations at 1.56e+14 FLOP/s (nothing was run")
    assert "no rate was given" in large.source
    asked = split(rate=None, measure=True, precision="mixed")
    assert "measured on " in asked.source
    assert asked.precision == "mixed"


@pytest.mark.parametrize("tied", [False, True])
def test_memory_and_bytes_are_those_of_a_real_step(tied):
    """A tied weight has a shadow on the last rank, and its gradient is there at its peak."""
    choice = Choice("small", 64, 16, lambda: Decoder(64, 32, 6, 2, 16, tied=tied))
    report = split_model(
        choice, devices(3), num_microbatches=4, samples=2, measure=True, precision="fp32"
    )
    pipeline = Pipeline(choice.layers("cpu"), report.partition, ["cpu"] * 3, num_microbatches=4)
    ids = choice.sample(8, 16, "cpu")
    optimizer = torch.optim.Adam(pipeline.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        step = pipeline.step(ids, ids, memory=True)
        optimizer.step()
    assert step.bytes_moved == report.step_bytes
    for computed, measured in zip(report.memory, step.memory, strict=True):
        assert computed.total == pytest.approx(measured.total, rel=0.05)
        assert computed.weights == pytest.approx(measured.weights, rel=0.01)


def test_gpt2_has_its_tied_weight_on_the_first_and_on_the_last_rank():
    memory = split("gpt2", ranks=2, context=8).memory
    table = 50257 * 768 * 2  # bytes in 16 bits
    assert memory[0].weights > table
    assert memory[1].weights > table
    assert memory[1].optimizer < memory[0].optimizer / 2


@pytest.mark.parametrize(
    ("schedule", "chunks", "stages"),
    [("gpipe", None, 2), ("zb-v", None, 4), ("zb-h1", None, 2), ("interleaved", 3, 6)],
)
def test_any_schedule(schedule, chunks, stages):
    report = split(ranks=2, schedule=schedule, chunks=chunks)
    assert report.partition.num_stages == stages
    assert len(report.memory) == 2
    assert report.schedule.name == schedule


def test_without_micro_batches_all_ranks_but_one_wait():
    report = split(schedule="naive", model="decoder:width=32,layers=6,heads=2,vocab=2,context=16")
    loads = report.partition.loads([cost.seconds for cost in report.costs])
    assert report.timeline.makespan == pytest.approx(4 * sum(loads))
    assert report.timeline.idle_fraction() == pytest.approx(2 / 3)


def test_the_whole_page(capsys):
    report = split(link=Link(1e-5, 25e9), capacity=1e9)
    text = str(report)
    assert f"{SMALL}: 8 layers, {report.parameters:,} parameters, mixed\n" in text
    assert "1f1b on 3 ranks, 4 micro-batches of 1 x 16 tokens\n" in text
    assert str(report.partition) in text
    assert str(report.memory) in text
    assert "crossings: 2, 1.02 kB a micro-batch each way; 16.4 kB a step\n" in text
    assert "link: 1e-05 s and 25 GB/s\n" in text
    assert f"{report.timeline.idle_fraction():.1%} (idle/total)" in text
    assert f"{report.timeline.bubble_overhead():.1%} (idle/ideal)" in text
    assert "crossings: 0; 0 B a step" in str(split(ranks=1))


@pytest.mark.parametrize("options", [{}, {"capacity": 1e9, "link": Link(0, 1e9)}])
def test_plain_values_hold_all_of_it(options):
    report = split(**options)
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["partition"] == list(report.partition.sizes)
    assert [tuple(stage["layers"]) for stage in plain["stages"]] == [
        (layers.start, layers.stop - 1) for layers in report.partition.stages
    ]
    assert sum(stage["parameters"] for stage in plain["stages"]) == report.parameters
    assert [own["total"] for own in plain["memory"]] == [own.total for own in report.memory]
    assert plain["memory"][0]["capacity"] == options.get("capacity")
    assert plain["link"]["bandwidth"] == (1e9 if options else None)
    assert plain["step_seconds"] == report.timeline.makespan
    assert plain["idle_over_total"] == report.timeline.idle_fraction()
    assert plain["fits"] is True


def test_too_little_memory_is_said_with_the_numbers():
    need = split().memory.largest
    assert split(capacity=2 * need).fits
    with pytest.raises(ValueError, match=r"the capacity of .*over; "):
        split(capacity=need / 2)
    with pytest.raises(ValueError, match=r"needs [\d.]+ kB in .* is 100 kB: [\d.]+ kB over; "):
        split(capacity=1e5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ranks": 9}, "9 stages for 8 layers: each stage needs at least one layer"),
        ({"measure": True}, "both a rate and a measurement"),
        ({"precision": "int8"}, "precision is 'int8': use one of fp32, mixed"),
        ({"schedule": "2f2b"}, "no schedule is called '2f2b'"),
        ({"context": 17}, r"a context of 17 for .*at most 16"),
        ({"num_microbatches": 0}, "num_microbatches is 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        split(**options)


def test_devices_of_two_kinds_are_refused():
    places = [torch.device("cpu"), torch.device("cuda:0")]
    with pytest.raises(ValueError, match=r"devices of several kinds \(cpu, cuda\)"):
        split_model(choose_model(SMALL), places, num_microbatches=2)


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs transformers")
def test_a_config_of_hugging_face_is_split_too(tmp_path):
    path = tmp_path / "config.json"
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    small = {"vocab_size": 64, "max_position_embeddings": 16, "model_type": "mistral"}
    path.write_text(json.dumps(sizes | heads | small | {"sliding_window": 8}))
    for options in ({}, {"rate": None}):
        report = split(str(path), ranks=2, **options)
        assert [cost.name for cost in report.costs] == ["Embedding", *["HFBlock"] * 4, "HFHead"]
        assert report.cut_bytes == [16 * 32 * (4 if options else 2)]
        assert report.fits
