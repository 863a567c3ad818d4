"""What users may take for an argument and is none: each function says what to give instead."""

import math

import pytest
import torch
from torch import nn

from d2lpart import (
    Action,
    Corpus,
    Decoder,
    DecoderShape,
    Ledger,
    Ledgers,
    Link,
    Partition,
    Pipeline,
    Schedule,
    ScheduleError,
    Timeline,
    at_rate,
    build_schedule,
    check_placement,
    corpus,
    decoder_ledger,
    dependencies,
    forecast,
    forecast_error,
    generate,
    partition,
    predict_memory,
    profile,
    simulate,
    three_ways,
)
from d2lpart.common.arguments import check_kind, check_number, check_whole, listed_of
from d2lpart.costs.layer_cost import LayerCost
from d2lpart.models.convnet import glyphs
from d2lpart.schedules.closed_form import bubble_formula
from d2lpart.schedules.in_flight import peak_held, whole
from d2lpart.schedules.recognition import recognize
from d2lpart.schedules.torch_table import from_torch_csv
from d2lpart.splits.data_parallel import DataParallel
from d2lpart.splits.tensor_parallel import TensorParallel
from d2lpart.timelines.bubble_table import bubbles
from d2lpart.timelines.builder import Building
from d2lpart.timelines.ranking_table import ranking
from d2lpart.timelines.simulator import undisturbed

SCHEDULE = build_schedule("1f1b", 2, 2)
SECONDS = {"F": 1, "B": 2}
STEP = simulate(SCHEDULE, SECONDS)
COSTS = [LayerCost("A", 1, 4, 4, 4, 8, 1.0, 2.0)] * 4
MODEL = Decoder(vocab_size=8, width=4, num_layers=1, num_heads=1, context=4)
TWO = ["cpu"] * 2
BATCH = torch.ones(2, 4), torch.zeros(2).long()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: dependencies("first", SCHEDULE), "'first' is no action: write the stage"),
        (lambda: dependencies(3, SCHEDULE), "3 is no action: give an Action"),
        (lambda: dependencies(Action(0, "F", 0), "1f1b"), "'1f1b' is no Schedule: make one"),
        (lambda: recognize("1f1b"), "'1f1b' is no Schedule: make one"),
        (lambda: Timeline(STEP.spans, [], "wall", "1f1b"), "'1f1b' is no Schedule"),
        (lambda: Timeline([3], [], "wall", SCHEDULE), r"3 is no Span: give a Span\(rank"),
        (lambda: Timeline(3, [], "wall", SCHEDULE), r"3 is no list: give a Span\(rank"),
        (lambda: Timeline(STEP.spans, None, "wall", SCHEDULE), "None is no list: give a Transfer"),
        (lambda: Timeline(STEP.spans, [3], "wall", SCHEDULE), "3 is no Transfer: give a Transfer"),
        (lambda: STEP.busy("0"), "there is no rank '0': this timeline has ranks 0 to 1"),
        (lambda: STEP.gaps(None), "there is no rank None"),
        (lambda: STEP.peak_in_flight(0.5), "there is no rank 0.5"),
        (lambda: STEP.compare(3), r"3 is no Timeline: compare with one, such as simulate"),
        (lambda: peak_held(SCHEDULE, "0", {0: whole(1)}), "there is no rank '0'"),
        (lambda: ranking(SCHEDULE, SECONDS, most_held="4"), "most_held is '4': give a number"),
        (lambda: ranking(SCHEDULE, SECONDS, chunks=0), "chunks is 0: give a whole number"),
        (lambda: Building(2, 1, most_held="1"), "most_held is '1': give a number"),
        (lambda: bubbles(3), "3 is no Timeline: give those of simulate"),
        (lambda: bubbles(STEP).value("idle", STEP), "no definition 'idle': use one of idle/total"),
        (lambda: bubbles(STEP).value("idle/total", 3), "3 is no Timeline: give one of the table's"),
        (lambda: bubble_formula("1f1b", "4", 8), "p is '4': give a number"),
        (lambda: undisturbed(3), "3 is no list: give the timelines of some steps"),
        (lambda: undisturbed([3]), "3 is no Timeline"),
        (lambda: from_torch_csv(3), "3 is no str: give the text of a table"),
        (lambda: Link("10us"), "latency is '10us': give a number"),
        (lambda: Link(bandwidth=None), "bandwidth is None: give a number"),
        (lambda: at_rate(3, 1e12), "3 is no list: give the costs of a profile"),
        (lambda: at_rate([3], 1e12), "3 is no LayerCost: give the costs of a profile"),
        (lambda: COSTS[0].seconds_of(["F"]), r"kind is \['F'\]: use one of F, "),
        (lambda: at_rate(COSTS, "1e12"), "flops_per_second is '1e12': give a number"),
        (lambda: check_placement([0, 1], "2"), "num_devices is '2': give at least 1 device"),
        (lambda: Partition([2, 2]).stage_of("1"), "layer '1' does not exist"),
        (lambda: forecast(COSTS, [2, 2], "1f1b"), "'1f1b' is no Schedule"),
        (lambda: forecast([1, 2], [1, 1], SCHEDULE), "1 is no LayerCost: give the costs of a"),
        (lambda: forecast_error(STEP, 3), "3 is no Timeline: give a forecast"),
        (lambda: predict_memory(3, [2, 2], SCHEDULE), "3 is no Sequence: give the costs of a"),
        (lambda: predict_memory(COSTS, [2, 2], SCHEDULE, recipe="adam"), "is no BytesPerParam"),
        (lambda: predict_memory(COSTS, [2, 2], SCHEDULE, capacity=9), "one capacity a rank"),
        (lambda: decoder_ledger(7e9), "is no DecoderShape: give the sizes"),
        (lambda: decoder_ledger(DecoderShape(4, 8, 2), "1f1b"), "'1f1b' is no Schedule"),
        (lambda: DecoderShape(4, 1.5, 2), "width is 1.5: give a whole number, at least 1"),
        (lambda: Ledger(weights="2GB"), "weights is '2GB': give a number"),
        (lambda: Ledgers([3]), "3 is no Ledger: give one ledger a rank"),
        (lambda: Ledgers([Ledger()], ["2GB"]), "capacity is '2GB': give a number"),
        (lambda: Ledgers([Ledger()]).describe(3), "3 is no list: give one name a rank"),
        (lambda: Ledgers([Ledger()]).describe([3]), "3 is no str: give one name a rank"),
        (lambda: Ledgers([Ledger()]).compare(3), "3 is no Ledgers: compare with those of"),
        (lambda: Decoder(True, 4, 1, 1, 4), "vocab_size=True: every size of a decoder is a whole"),
        (lambda: Decoder(8, 4, 1, 1, 4, dropout=None), "dropout is None: give a number"),
        (lambda: MODEL("text"), "'text' is no Tensor: pass token ids"),
        (lambda: generate(MODEL, "text", 3), r"'text' is no Tensor: .*Corpus.encode\(text\)"),
        (lambda: generate(MODEL, torch.ones(1), "3"), "num_new=3: tokens can only be added"),
        (lambda: corpus("all"), "num_bytes is 'all': give a whole number"),
        (lambda: corpus().batches("2", 4), "batch_size is '2': give a whole number"),
        (lambda: Corpus.encode(3), "3 is no str: give a text"),
        (lambda: Corpus.decode([100]), r"\[100\] is no Tensor: give token ids"),
        (lambda: Corpus.decode(torch.ones(1)), "tokens of type torch.float32.*use int64"),
        (lambda: corpus(float("nan")), "num_bytes is nan: give a whole number, at least 0"),
        (lambda: corpus().batches(2, 4, "5"), "steps is '5': give a whole number, at least 0"),
        (lambda: corpus().batches(2, 4, seed=None), "seed is None: give a whole number"),
        (lambda: Corpus("text", "text"), "'text' is no Tensor: give bytes, as Corpus.encode"),
        (lambda: glyphs("3"), "number is '3': give a number"),
        (lambda: profile(nn.Tanh(), torch.ones(1)), r"Tanh is no list of layers: give layers_of"),
        (lambda: Pipeline(nn.Linear(2, 2)), r"Linear is no list of layers: give layers_of\(model"),
        (lambda: Pipeline(MODEL, [2, 1], 2), "devices is 2: give a list with one device a rank"),
        (lambda: Pipeline(MODEL, [2, 1], TWO)("text"), "'text' is no Tensor: give the inputs"),
        (lambda: Pipeline(MODEL, [2, 1], TWO).count(3), "3 is no Optimizer: give the one that"),
        (
            lambda: Pipeline(MODEL, [2, 1], TWO).after_optimizer(3),
            "3 is no Optimizer: give the one",
        ),
        (lambda: TensorParallel([nn.Tanh()], TWO).step(torch.ones(2), 3), "3 is no Tensor"),
        (lambda: three_ways(3, *BATCH, sizes=[1, 1], devices=TWO), "int is no list of layers"),
        (
            lambda: partition(torch.tensor(1.0), 2),
            r"costs is tensor\(1\.\): give a list of numbers",
        ),
        (lambda: TensorParallel(3, TWO), "int is no list of layers"),
        (lambda: TensorParallel([nn.Tanh()], TWO)(3), "3 is no Tensor: give the inputs"),
        (lambda: Pipeline(torch.tensor(1)), "Tensor is no list of layers"),
        (lambda: Schedule(torch.tensor(1), [0]), r"tensor\(1\) is no list of orders"),
        (lambda: Schedule(["0F0 0B0"], torch.tensor(0)), r"tensor\(0\) is no list of ranks"),
        (lambda: DataParallel(nn.Tanh(), TWO), "Tanh is no list of layers"),
        (lambda: DataParallel([nn.Tanh()], TWO)(3), "3 is no Tensor: give the inputs"),
    ],
)
def test_what_is_no_such_thing_is_refused_with_what_to_give(ask, said):
    with pytest.raises(ValueError, match=said):
        ask()


def test_an_action_may_be_written():
    assert dependencies("1B0", SCHEDULE) == dependencies(Action(1, "B", 0), SCHEDULE)


def test_an_error_of_a_family_stays_in_it():
    with pytest.raises(ScheduleError, match="'x' is no int: y"):
        check_kind("x", int, "y", ScheduleError)


@pytest.mark.parametrize("value", [True, 0, 1.0, "1", None])
def test_a_whole_number_is_at_least_what_it_has_to_be(value):
    check_whole("n", 1)
    check_whole("n", 0, least=0)
    with pytest.raises(ValueError, match=r"n is .*: give a whole number, at least 1"):
        check_whole("n", value)


@pytest.mark.parametrize("value", [True, "1", None, [1]])
def test_a_number_is_any_real_one(value):
    for number in (0, -1.5, math.inf, torch.ones(1).numpy()[0]):
        check_number("x", number)
    with pytest.raises(ValueError, match=r"x is .*: give a number"):
        check_number("x", value)


def test_a_long_value_is_shortened():
    with pytest.raises(ValueError, match=r"^\[0, 1, 2, 3, 4, 5, \.\.\.\] is no str: z$"):
        check_kind(list(range(1000)), str, "z")


@pytest.mark.parametrize("values", [[1, 2], (1, 2), {1: 3, 2: 4}, iter([1, 2]), range(1, 3)])
def test_whatever_can_be_gone_through_is_a_list(values):
    assert listed_of(int, values, "z") == [1, 2]


@pytest.mark.parametrize("values", [None, 3, torch.tensor(1), len])
def test_what_cannot_be_gone_through_is_no_list(values):
    with pytest.raises(ValueError, match="is no list: z"):
        listed_of(int, values, "z")


def test_an_error_of_what_is_gone_through_is_its_own():
    with pytest.raises(TypeError, match="unsupported operand"):
        listed_of(int, (1 + number for number in "a"), "z")
