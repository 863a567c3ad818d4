"""The ledger: what it adds up and shows, the published figures by formula, and a profile's."""

import math

import pytest
from hypothesis import given, strategies as st
from matplotlib.colors import to_rgba

from d2lpart import figures
from d2lpart.common.display import VERMILLION
from d2lpart.costs.layer_cost import LayerCost
from d2lpart.costs.memory_forecast import predict_memory
from d2lpart.figures.ledger_bars import LOOKS
from d2lpart.memory.formulas import (
    ADAM_FP32,
    ADAM_MIXED,
    ADAM_MIXED_FP32_GRADIENTS,
    MOMENTUM_FP32,
    SGD_FP32,
    DecoderShape,
    decoder_ledger,
    layer_activations,
)
from d2lpart.memory.ledger import ITEMS, Ledger, Ledgers
from d2lpart.schedules.in_flight import StageBytes, peak_held, whole
from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.schedule import Schedule
from d2lpart.timelines.simulator import simulate

GIB = 2**30
MB = 10**6

# ---- one ledger --------------------------------------------------------------------------------


def test_the_total_is_the_sum_of_the_items():
    ledger = Ledger(1, 20, 300, 4000)
    assert ledger.total == 4321
    assert ledger.state == 321
    assert ledger.items() == [
        ("weights", 1),
        ("gradients", 20),
        ("optimizer", 300),
        ("activations", 4000),
    ]


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("nbytes", [-1, math.inf, math.nan])
def test_an_item_is_a_number_of_bytes(item, nbytes):
    with pytest.raises(ValueError, match=f"{item} is {nbytes}: give bytes"):
        Ledger(**{item: nbytes})


def test_a_source_is_one_of_two():
    with pytest.raises(ValueError, match="source is 'guessed': use one of computed, measured"):
        Ledger(source="guessed")


@pytest.mark.parametrize(
    ("nbytes", "units"),
    [(0, ["kB", "KiB"]), (5 * 10**5, ["kB", "KiB"]), (MB, ["MB", "MiB"]), (10**9, ["GB", "GiB"])],
)
def test_a_table_says_its_units(nbytes, units):
    assert Ledger(nbytes).describe().splitlines()[1].split() == units


def test_both_units_are_right():
    rows = [line.split() for line in str(Ledger(3 * GIB, source="measured")).splitlines()]
    assert rows[2] == ["weights", "3.22", "3.00"]
    assert rows[-1] == ["total", "3.22", "3.00"]


def test_the_most_at_once_is_shown_where_it_was_measured():
    assert "most at once" not in str(Ledger(MB))
    assert "most at once      2.00" in str(Ledger(MB, MB, MB, source="measured", at_once=2 * MB))


# ---- the ledgers of all ranks ------------------------------------------------------------------


def ledgers(*totals, source="computed", capacity=None):
    return Ledgers([Ledger(total, source=source) for total in totals], capacity)


def test_ledgers_are_a_sequence():
    both = ledgers(MB, 3 * MB)
    assert len(both) == 2
    assert both[1].total == both.largest == 3 * MB
    assert [ledger.total for ledger in both] == [MB, 3 * MB]
    assert both.source == "computed"


def test_a_rank_over_its_capacity_is_named():
    both = ledgers(MB, 3 * MB, capacity=[2 * MB, 2 * MB])
    assert both.too_full == [1]
    assert str(both).splitlines()[-1].endswith("2.00  1 MB too much")
    assert ledgers(MB, 3 * MB, capacity=[math.inf, 3 * MB]).too_full == []
    assert "none" in str(ledgers(MB, 3 * MB, capacity=[math.inf, 3 * MB]))
    assert "capacity" not in str(ledgers(MB, capacity=[math.inf]))


def test_ledgers_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="0 ledgers from 0 sources"):
        Ledgers([])
    with pytest.raises(ValueError, match="2 ledgers from 2 sources"):
        Ledgers([Ledger(1), Ledger(1, source="measured")])
    with pytest.raises(ValueError, match="3 capacities for 1 rank: "):
        ledgers(1, capacity=[1, 2, 3])
    with pytest.raises(ValueError, match="1 rank and 2"):
        ledgers(1).compare(ledgers(1, 2))
    with pytest.raises(ValueError, match="1 names for 2 ledgers"):
        ledgers(1, 2).plot(names=["one"])


def test_a_comparison_shows_the_largest_difference_with_its_sign():
    computed = ledgers(100 * MB, 100 * MB)
    measured = ledgers(101 * MB, 97 * MB, source="measured")
    comparison = computed.compare(measured)
    assert comparison.difference == pytest.approx(-0.03)
    text = str(comparison)
    assert text.startswith("computed against measured, in MB; largest difference -3.0%")
    assert " ".join(text.splitlines()[-1].split()) == "1 0.000 0.000 +0.0% 100.000 97.000 -3.0%"
    assert computed.compare(ledgers(MB, MB)).names == ("first", "second")
    assert ledgers(0).compare(ledgers(1)).difference == math.inf


# ---- the figures -------------------------------------------------------------------------------


def bars(picture):
    """(row, item, left, right) of every box."""
    faces = {to_rgba(LOOKS[item][0]): item for item in ITEMS}
    found = []
    for collection in picture.axes[0].collections:
        if collection.get_zorder() == 2:
            item = faces[tuple(collection.get_facecolor()[0])]
            (box,) = (path.vertices for path in collection.get_paths())
            ends = float(box[:, 0].min()), float(box[:, 0].max())
            found.append((round(box[:, 1].mean()), item, *ends))
    return found


def test_a_bar_is_made_of_its_items():
    picture = Ledgers([Ledger(MB, 2 * MB, 0, 3 * MB)]).plot()
    assert bars(picture) == [
        (0, "weights", 0, 1),
        (0, "gradients", 1, 3),
        (0, "activations", 3, 6),
    ]
    assert bars(Ledger(MB).plot()) == [(0, "weights", 0, 1)]


def test_what_is_too_much_is_marked_in_words_and_by_a_line():
    picture = ledgers(MB, 3 * MB, capacity=[2 * MB, 4 * MB]).plot(names=["split", "whole"])
    (axes,) = picture.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["split", "whole"]
    words = [text.get_text() for text in axes.texts]
    assert words == ["total, MB", "1.00", "3.00"]
    lines = [line for line in axes.get_lines() if len(line.get_xdata())]
    assert [set(line.get_xdata()) for line in lines] == [{2.0}, {4.0}]
    picture = ledgers(MB, 3 * MB, capacity=[2 * MB, 2 * MB]).plot()
    assert picture.axes[0].texts[-1].get_text() == "3.00  too much"
    full = [line for line in picture.axes[0].get_lines() if line.get_color() == VERMILLION]
    assert [set(line.get_xdata()) for line in full] == [{2.0}]
    assert "rank 1" in picture.description


def test_a_comparison_has_two_bars_a_rank():
    comparison = ledgers(MB, 2 * MB).compare(ledgers(MB, 3 * MB, source="measured"))
    picture = figures.plot(comparison, title="Both")
    labels = [label.get_text() for label in picture.axes[0].get_yticklabels()]
    assert labels == ["rank 0, computed", "measured", "rank 1, computed", "measured"]
    assert picture.description == str(comparison)


# ---- held by a rank as it goes through its order -----------------------------------------------


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize(("p", "m"), [(1, 1), (2, 3), (4, 4), (4, 16), (3, 7)])
def test_the_peak_is_that_of_the_timeline(name, p, m):
    chunks = {"interleaved": 2, "zb-v": 2}.get(name, 1)
    schedule = build_schedule(name, p, m, **({} if name == "zb-v" else {"chunks": chunks}))
    timeline = simulate(schedule, {"F": 1, "I": 1, "W": 1})
    for rank in range(p):
        stages = dict.fromkeys(schedule.stages_of(rank), whole(1))
        assert peak_held(schedule, rank, stages) == chunks * timeline.peak_in_flight(rank)


@given(st.lists(st.integers(0, 9), min_size=3, max_size=3), st.integers(0, 9))
def test_a_split_backward_holds_three_amounts_one_after_another(amounts, more):
    forward, backward, waiting = amounts
    schedule = Schedule(["0F0 0F1 0I0 0W0 0I1 0W1"], [0])
    peak = peak_held(schedule, 0, {0: StageBytes(forward, backward + more, waiting)})
    while_running = forward + max(backward + more, waiting, forward)
    assert peak == max(while_running, backward + more, waiting)


def test_there_is_no_such_rank():
    with pytest.raises(ValueError, match="no rank 2: the ranks are 0 to 1"):
        peak_held(build_schedule("1f1b", 2, 2), 2, {})


# ---- published figures -------------------------------------------------------------------------

SMALL = DecoderShape(48, 6144, 64)  # 22B, b = 4, p = 1
LARGE = DecoderShape(96, 12288, 96)  # 175B, b = 1, p = 8, v = 3
LIGHT = {"sequence_parallel": True, "recompute": "selective"}


@pytest.mark.parametrize(
    ("shape", "b", "schedule", "options", "gib"),
    [
        (SMALL, 4, None, {}, 59.25),
        (SMALL, 4, None, LIGHT, 9.5625),
        (LARGE, 1, ("interleaved", 8, 64, 3), {}, 66.84375),
        (LARGE, 1, ("interleaved", 8, 64, 3), LIGHT, 12.3515625),
    ],
)
def test_figure_1_of_korthikanti_to_the_last_digit(shape, b, schedule, options, gib):
    if schedule:
        name, p, m, v = schedule
        schedule = build_schedule(name, p, m, chunks=v)
    ledger = decoder_ledger(
        shape,
        schedule,
        microbatch=b,
        tensor=8,
        recipe=ADAM_MIXED_FP32_GRADIENTS,
        parameters=shape.matrices,
        **options,
    )
    assert ledger.activations / GIB == gib
    assert ledger.state / GIB == 45.5625
    assert ledger.source == "computed"


def test_without_interleaving_the_first_rank_holds_all_layers_worth():
    """(1 + (p−1)/(p·v)) is for v > 1; under 1F1B it is L layers' worth, whatever p."""
    one = layer_activations(LARGE, 1, tensor=8)
    for p in (1, 2, 4, 8, 16):
        ledger = decoder_ledger(LARGE, build_schedule("1f1b", p, 64), microbatch=1, tensor=8)
        assert ledger.activations == 96 * one


@pytest.mark.parametrize(
    ("L", "h", "billions"),
    [(24, 2304, 1.7), (30, 3072, 3.6), (36, 4096, 7.5), (40, 6144, 18.4), (48, 8192, 39.1)],
)
def test_parameters_of_megatron(L, h, billions):
    shape = DecoderShape(L, h, 16)
    assert round(shape.parameters / 1e9, 1) == billions
    V, s = shape.vocab_size, shape.context
    formula = 12 * L * h * h * (1 + 13 / (12 * h) + (V + s) / (12 * L * h))
    assert shape.parameters == pytest.approx(formula)


def test_bytes_a_parameter():
    assert ADAM_MIXED == (2, 2, 12)
    recipes = (ADAM_MIXED, ADAM_MIXED_FP32_GRADIENTS, ADAM_FP32, MOMENTUM_FP32, SGD_FP32)
    assert [r.total for r in recipes] == [16, 18, 16, 12, 8]


def test_zero_shards_what_its_figure_shows():
    """ZeRO, figure 1: 7.5B over 64 replicas takes 120, 31.4, 16.6 and 1.9 GB."""
    found = [7.5 * ADAM_MIXED.sharded(zero, 64).total for zero in range(4)]
    assert [round(gb, 1) for gb in found] == [120, 31.4, 16.6, 1.9]
    with pytest.raises(ValueError, match="zero=4, 2 replicas"):
        ADAM_MIXED.sharded(4, 2)


def test_activations_of_a_layer_by_table_2():
    s, b, h, a, t = 2048, 4, 6144, 64, 8
    assert layer_activations(SMALL, b) == s * b * h * 34 + 5 * a * b * s * s
    assert layer_activations(SMALL, b, recompute="selective") == 34 * s * b * h
    found = layer_activations(SMALL, b, tensor=t, recompute="selective")
    assert found == s * b * h * (10 + 24 // t)
    parallel = layer_activations(SMALL, b, tensor=t, sequence_parallel=True)
    assert parallel == -(-layer_activations(SMALL, b) // t)
    assert layer_activations(SMALL, b, tensor=t, recompute="full") == 2 * s * b * h


def test_full_recompute_holds_inputs_and_one_layer():
    schedule = build_schedule("gpipe", 4, 8)
    ledger = decoder_ledger(SMALL, schedule, recompute="full")
    inputs = 12 * layer_activations(SMALL, recompute="full")
    assert ledger.activations == 8 * inputs + layer_activations(SMALL)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DecoderShape(0, 8, 1), "num_layers is 0"),
        (lambda: layer_activations(SMALL, recompute="some"), "recompute is 'some'"),
        (lambda: layer_activations(SMALL, 0), "0 sequences over 1 ranks"),
        (lambda: decoder_ledger(SMALL, build_schedule("1f1b", 5, 5)), "48 layers for 5 stages"),
    ],
)
def test_sizes_that_cannot_be(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- from a profile ----------------------------------------------------------------------------


def cost(parameters=10, activation=100, boundary=7, waiting=60, gradient=50):
    return LayerCost(
        "Layer", parameters, 4 * parameters, activation, boundary, 0,
        waiting_bytes=waiting, gradient_bytes=gradient, trainable=parameters,
    )  # fmt: skip


def test_a_stage_holds_its_input_its_layers_and_the_loss():
    found = predict_memory([cost()] * 4, [2, 2], build_schedule("gpipe", 2, 3), loss_bytes=1000)
    first = 100 + 7 + 100  # the second layer's input; the mini-batch is not counted here
    assert [ledger.activations for ledger in found] == [3 * first, 3 * (7 + first + 1000)]
    assert [ledger.state for ledger in found] == [2 * 10 * 16] * 2


def test_the_minibatch_lies_on_the_first_rank():
    schedule = build_schedule("1f1b", 2, 4)
    plain, fed = (predict_memory([cost()] * 2, [1, 1], schedule, input_bytes=n) for n in (0, 5000))
    assert fed[0].activations - plain[0].activations == 5000
    assert fed[1] == plain[1]


def test_recompute_holds_inputs_and_one_stage():
    schedule = build_schedule("gpipe", 2, 3)
    found = predict_memory([cost()] * 4, [2, 2], schedule, recompute=True, loss_bytes=0)
    assert found[1].activations == 2 * 7 + (7 + 100 + 7 + 100)


def test_a_split_backward_holds_gradients_until_w():
    schedule = Schedule(["0F0 0F1 0I0 0I1 0W0 0W1", "1F0 1F1 1I0 1I1 1W0 1W1"], [0, 1])
    found = predict_memory([cost()] * 2, [1, 1], schedule, loss_bytes=0)
    assert found[0].activations == max(2 * 100, 100 + 150, 60 + 150, 2 * 60)


def test_bytes_a_parameter_are_the_users():
    schedule = build_schedule("1f1b", 1, 1)
    found = predict_memory([cost()], [1], schedule, recipe=ADAM_MIXED, capacity=[100])
    assert found[0].items()[:3] == [("weights", 20), ("gradients", 20), ("optimizer", 120)]
    assert found.too_full == [0]


def test_costs_partition_and_schedule_must_fit():
    schedule = build_schedule("1f1b", 2, 2)
    for sizes, layers in (([1, 1], 3), ([3], 3)):
        with pytest.raises(ValueError, match="give one cost a layer, and a schedule"):
            predict_memory([cost()] * layers, sizes, schedule)
