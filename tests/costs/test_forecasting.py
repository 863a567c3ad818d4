"""A forecast against the simulator on costs made by hand, and as a user meets it."""

import dataclasses

import pytest
import torch
from torch import nn

from d2lpart import Decoder, Partition, Pipeline, partition, profile
from d2lpart.costs.forecasting import forecast, forecast_error
from d2lpart.costs.layer_cost import LayerCost, at_rate
from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.spans import Link

V, C, HEADS, T, B, M = 19, 12, 3, 8, 2, 4


def hand_made(number, **changes):
    """A cost whose numbers all differ, and differ from those of every other layer."""
    seconds = {
        "forward_seconds": 1 + 0.1 * number,
        "backward_seconds": 2 + 0.1 * number,
        "split_forward_seconds": 1.5 + 0.1 * number,
        "input_seconds": 1.1 + 0.01 * number,
        "weight_seconds": 1.2 + 0.01 * number,
    }
    boundary = 100 * (number + 1)
    return LayerCost("Layer", 10, 40, 8, boundary, 7, trainable=10, **(seconds | changes))


COSTS = [hand_made(number) for number in range(8)]
LINK = Link(latency=0.125, bandwidth=1000)


def split_by_hand(schedule):
    """Whether the backward of each stage is split, read off the names of the schedules."""
    return schedule.name.startswith("zb")


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_forecast_is_the_simulation_of_the_sums_over_each_stages_layers(name):
    schedule = build_schedule(name, 2, 5, chunks=2 if name in ("interleaved", "zb-v") else 1)
    sizes = {2: [3, 5], 4: [1, 2, 2, 3]}[schedule.num_stages]
    forward = "split_forward_seconds" if split_by_hand(schedule) else "forward_seconds"
    field = {"F": forward, "B": "backward_seconds", "I": "input_seconds", "W": "weight_seconds"}
    durations, start, sent = [], 0, []
    for size in sizes:
        own = COSTS[start : start + size]
        start += size
        durations.append({k: sum(getattr(c, what) for c in own) for k, what in field.items()})
        sent.append(100 * start)
    by_hand = simulate(schedule, durations, LINK, boundary_bytes=sent[:-1])
    for cut in (sizes, Partition(sizes)):
        predicted = forecast(COSTS, cut, schedule, LINK)
        assert predicted.spans == by_hand.spans
        assert predicted.transfers == by_hand.transfers
        assert predicted.clock == "predicted"


@pytest.mark.parametrize("name", ["1f1b", "zb-h1"])
def test_recompute_adds_a_forward_to_what_needs_the_graph(name):
    schedule = build_schedule(name, 2, 3)
    plain, again = (forecast(COSTS, [3, 5], schedule, recompute=r) for r in (False, True))
    longer = {span.action: span.seconds for span in again.spans}
    for span in plain.spans:
        own = COSTS[:3] if span.action.stage == 0 else COSTS[3:]
        with_graph = sum(
            c.split_forward_seconds if name == "zb-h1" else c.forward_seconds for c in own
        )
        more = with_graph if span.action.kind in "BI" else 0
        if span.action.kind == "F":  # runs without a graph, so nothing lies in boxes
            more = sum(c.forward_seconds for c in own) - with_graph
        assert longer[span.action] == pytest.approx(span.seconds + more)


def test_the_smallest_case_by_hand():
    """Two layers, two ranks: 1 s and 2 s forward, twice that backward, and 0.5 s for a message."""
    costs = [
        LayerCost("A", 1, 4, 0, 100, 0, 1.0, 2.0, trainable=1),
        LayerCost("B", 1, 4, 0, 999, 0, 2.0, 4.0, trainable=1),
    ]
    predicted = forecast(costs, [1, 1], build_schedule("naive", 2, 1), Link(bandwidth=200))
    assert [(str(s.action), s.start, s.end) for s in predicted.spans] == [
        ("0F0", 0.0, 1.0),
        ("1F0", 1.5, 3.5),
        ("1B0", 3.5, 7.5),
        ("0B0", 8.0, 10.0),
    ]


def test_no_gradient_goes_to_stages_of_which_nothing_learns():
    frozen = [dataclasses.replace(cost, trainable=0) for cost in COSTS[:2]]
    predicted = forecast(frozen + COSTS[2:], [2, 2, 4], build_schedule("naive", 3, 1))
    sizes = {(t.source, t.target): t.nbytes for t in predicted.transfers}
    assert sizes == {(0, 1): 200, (1, 2): 400, (2, 1): 400, (1, 0): 0}


def test_the_bytes_foretold_are_those_that_a_pipeline_moves():
    torch.manual_seed(0)
    model = Decoder(V, C, 3, HEADS, T)
    model[0].requires_grad_(False)
    tokens = torch.randint(V, (M * B, T))
    costs = profile(model, tokens[:B], targets=tokens[:B], passes=1)
    pipeline = Pipeline(model, [1, 2, 2], ["cpu"] * 3, num_microbatches=M, clock="virtual")
    measured = pipeline.step(tokens, tokens)
    predicted = forecast(costs, pipeline.partition, pipeline.schedule)
    assert sum(t.nbytes for t in predicted.transfers) == measured.bytes_moved
    assert {span.action for span in predicted.spans} == {
        span.action for span in measured.timeline.spans
    }
    assert predicted.compare(measured.timeline).ratio > 0
    error = forecast_error(predicted, measured.timeline)
    assert error.measured == measured.timeline.makespan
    assert error.clock == "virtual"


@pytest.mark.parametrize("name", ["gpipe", "zb-h1"])
def test_a_decoder_that_nobody_can_hold_is_forecast_from_a_rate(name):
    """The step of 1F1B and GPipe with equal stages: (m + p − 1) times a stage's F and B."""
    with torch.device("meta"):
        blocks = Decoder(51200, 8192, 8, 64, 2048).layers[1:-1]
        sample = torch.empty(1, 2048, 8192)
    costs = at_rate(profile(blocks, sample), 1e14)
    predicted = forecast(
        costs, partition([c.seconds for c in costs], 4), build_schedule(name, 4, 8)
    )
    assert "computed from operations at 1e+14 FLOP/s" in predicted.note
    stage = 2 * costs[1].seconds
    if name == "gpipe":
        early = costs[1].seconds - costs[0].seconds  # no layer before the first one learns
        assert predicted.makespan == pytest.approx((8 + 3) * stage, rel=early / stage)
    else:
        assert predicted.makespan < (8 + 3) * stage


def test_the_note_says_where_the_seconds_come_from():
    measured = [dataclasses.replace(cost, timing="measured here") for cost in COSTS]
    schedule = build_schedule("1f1b", 2, 2)
    assert forecast(COSTS, [4, 4], schedule).note.endswith("each stage, given")
    assert forecast(measured, [4, 4], schedule).note.endswith("each stage, measured here")
    both = forecast(measured[:4] + at_rate(COSTS[4:], 7), [4, 4], schedule).note
    assert both.endswith("measured here; computed from operations at 7 FLOP/s")


@pytest.mark.parametrize(
    ("costs", "sizes", "ranks", "message"),
    [
        (COSTS, [4, 3], 2, r"8 costs, a partition of 7 layers into 2 stages.*schedule of 2 stages"),
        (COSTS, [4, 4], 3, r"8 costs.*8 layers into 2 stages.*schedule of 3 stages.*as many"),
        ([LayerCost("A", 1, 4, 0, 8, 5)] * 2, [1, 1], 2, r"seconds of F of this A.*at_rate"),
    ],
)
def test_what_does_not_fit_is_refused(costs, sizes, ranks, message):
    with pytest.raises(ValueError, match=message):
        forecast(costs, sizes, build_schedule("1f1b", ranks, 2))


def test_costs_made_by_hand_need_halves_only_where_the_backward_is_split():
    costs = [LayerCost("A", 1, 4, 0, 8, 5, 1.0, 2.0)] * 2
    assert forecast(costs, [1, 1], build_schedule("1f1b", 2, 2)).makespan == 9
    with pytest.raises(ValueError, match=r"seconds of F, split of this A are not known"):
        forecast(costs, [1, 1], build_schedule("zb-h1", 2, 2))


def test_the_error_is_that_of_the_median_step():
    schedule = build_schedule("naive", 1, 1)
    steps = [simulate(schedule, {"F": 0, "B": length}) for length in (30, 5, 4)]
    predicted = simulate(schedule, {"F": 1, "B": 3})
    error = forecast_error(predicted, *steps)
    assert (error.predicted, error.measured, error.steps) == (4, 5, 3)
    assert error.relative == pytest.approx(-0.2)
    assert str(error) == (
        "predicted 4 s, measured 5 s (predicted clock, median of 3 steps): error -20.0%"
    )
    assert str(forecast_error(predicted, steps[2])).endswith("(predicted clock): error +0.0%")


def test_an_error_needs_steps_of_one_clock():
    schedule = build_schedule("naive", 1, 1)
    one = simulate(schedule, {"F": 1, "B": 1})
    other = simulate(schedule, {"F": 1, "B": 1}, clock="virtual")
    with pytest.raises(ValueError, match=r"0 measured timelines.*at least one"):
        forecast_error(one)
    with pytest.raises(ValueError, match=r"2 measured.*predicted, virtual.*all on the same"):
        forecast_error(one, one, other)
    with pytest.raises(ValueError, match=r"longer than 0 s"):
        forecast_error(one, simulate(schedule, {"F": 0, "B": 0}))


def test_the_loss_is_in_the_last_stage_alone():
    layers = [nn.Linear(4, 4), nn.Linear(4, 4)]
    costs = profile(layers, torch.ones(2, 4), passes=1)
    slow = [costs[0], dataclasses.replace(costs[1], forward_seconds=5.0)]
    predicted = forecast(slow, [1, 1], build_schedule("1f1b", 2, 2))
    assert predicted.busy(1) > 10 > predicted.busy(0)
