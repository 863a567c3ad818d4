"""The parts of `make bench`: rules of others, statistics, tables, and contestants that fail.

No test here looks at a time; what is fast and what is not stands in tests/benchmarks/RESULTS.md.
"""

import json
import math
import random
from itertools import accumulate, combinations, pairwise

import contest
import gpu
import growth
import pytest
import quality
import rules
import steps
import torch
from contestants import WAYS, Setup, build, squares, timed
from report import Row, Table, as_json, circumstances, page
from spread import Spread, ratios


def all_partitions(layers, num_stages):
    for cuts in combinations(range(1, layers), num_stages - 1):
        yield [end - start for start, end in pairwise((0, *cuts, layers))]


def test_the_rule_from_a_description_is_the_best_of_its_kind_on_two_stages():
    draw = random.Random(0)
    for _ in range(50):
        costs = [draw.randint(1, 20) for _ in range(draw.randint(3, 9))]
        narrowest = rules.narrowest(costs, 2)

        def gap(sizes, costs=costs):
            ends = list(accumulate(sizes, initial=0))
            loads = [sum(costs[a:b]) for a, b in pairwise(ends)]
            return max(loads) - min(loads)

        assert gap(narrowest) == min(map(gap, all_partitions(len(costs), 2)))


def test_the_rule_from_a_description_can_miss_the_best():
    cases = quality.random_cases(200)
    found = [rules.bottleneck(costs, rules.narrowest(costs, p)) for costs, p in cases]
    best = [quality.least(costs, p) for costs, p in cases]
    assert all(x >= y for x, y in zip(found, best, strict=True))
    assert any(x > y for x, y in zip(found, best, strict=True))


def test_few_layers_are_dealt_out_by_count():
    assert rules.narrowest([5, 1], 2) == [1, 1]


def test_the_least_bottleneck_is_that_of_brute_force():
    draw = random.Random(1)
    for _ in range(100):
        costs = [draw.randint(1, 20) for _ in range(draw.randint(1, 9))]
        num_stages = draw.randint(1, len(costs))
        every = [rules.bottleneck(costs, x) for x in all_partitions(len(costs), num_stages)]
        assert quality.least(costs, num_stages) == min(every)


def test_our_rule_never_misses():
    cases = quality.random_cases(60)
    judged = quality.judge(rules.optimal, cases, [quality.least(*case) for case in cases])
    assert judged.missed == []
    assert len(judged.seconds) == 60


def test_a_rule_that_is_better_than_the_best_is_an_error():
    with pytest.raises(RuntimeError, match="against 3"):
        quality.judge(lambda costs, p: [2, 0], [([1, 1], 2)], [3])


def test_a_layer_left_out_is_an_error():
    with pytest.raises(ValueError, match="1 layers are placed, of 2"):
        rules.bottleneck([1, 1], [1, 0])


def test_the_cases_are_the_same_in_every_run():
    assert quality.random_cases(30) == quality.random_cases(30)


def test_the_tables_of_partitions_name_rules_that_are_not_installed(monkeypatch):
    def missing(costs, num_stages):
        raise ImportError

    monkeypatch.setattr(
        quality, "RULES", {"ours": rules.optimal, "counts": rules.equal_counts, "theirs": missing}
    )
    known, at_random = quality.tables(quick=True)
    assert "Not installed: theirs." in known.words
    assert [row.cells for row in known.rows][:2] == [["8", "8", "16"], ["4", "4", "4"]]
    assert [row.name for row in at_random.rows] == ["ours", "counts"]
    assert at_random.rows[0].data["missed"] == 0 < at_random.rows[1].data["missed"]


def test_a_spread_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one value"):
        Spread.of([])
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0, 1)


def test_ratios_are_taken_within_a_round():
    assert Spread.of(ratios([1, 10, 100], [1, 10, 100])) == Spread(1, 1, 1, 3)
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])


def test_a_table_is_markdown_with_an_anchor_a_row():
    rows = [Row("a|b", ["1"], {"n": 1}, "here"), Row("plain", ["2"])]
    assert Table("Title", "Words.", ("name", "value"), rows).markdown() == (
        "## Title\n\nWords.\n\n"
        "| name | value |\n| --- | --- |\n"
        '| <a id="here"></a>a\\|b | 1 |\n| plain | 2 |\n'
    )


def test_a_table_with_a_cell_too_few_is_refused():
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Table("T", "", ("name", "value"), [Row("x", [])]).markdown()


def test_the_page_and_the_json_say_where_and_when():
    where = circumstances() | {"load_after": 1.0}
    table = Table("T", "W", ("name", "value"), [Row("x", ["2"], {"s": Spread(1, 2, 3, 4)}, "x")])
    text = page(where, [table], "make bench")
    for part in (
        where["date"],
        where["processor"],
        f"torch {torch.__version__}",
        '<a id="x"></a>x',
    ):
        assert part in text
    content = json.loads(as_json(where, [table], {"single": [1.5]}))
    assert content["circumstances"]["cores"] == where["cores"]
    spread = {"low": 1, "middle": 2, "high": 3, "number": 4}
    row = {"anchor": "x", "name": "x", "text": ["2"], "s": spread}
    assert content["tables"] == [{"title": "T", "rows": [row]}]
    assert content["measurements"] == {"single": [1.5]}
    with pytest.raises(TypeError, match="object cannot be written"):
        as_json(where, [], {"odd": object()})


SMALL = Setup(2, 0, 1, width=8, blocks=2, samples=4, context=4, microbatches=2)


def test_the_layers_are_shared_out_evenly():
    assert SMALL.sizes() == [2, 2]
    assert Setup(2, 0, 1, 8, 3, 4, 4, 2).sizes() == [3, 2]


@pytest.mark.parametrize("name", ["ours 1f1b", "ours gpipe", "plain"])
def test_contestants_of_this_process_do_the_same_work(name):
    plain, other = (build(who, SMALL, "") for who in ("plain", name))
    losses = [timed(work)["loss"] for work in (plain, other, other)]
    assert losses[1] == losses[2] == pytest.approx(losses[0])
    assert squares(other.parameters) == pytest.approx(squares(plain.parameters))


def test_two_loops_on_threads_are_two_models():
    one, two = build("plain", SMALL, ""), build("threads", SMALL, "")
    assert timed(two)["loss"] == pytest.approx(2 * timed(one)["loss"])
    assert squares(two.parameters) == pytest.approx(2 * squares(one.parameters))


def test_everyone_in_the_field_has_a_way_to_work():
    ways = {name.split()[0] for name, _, _ in steps.FIELD}
    assert {steps.PLAIN, steps.CROWD, steps.THREADS, *steps.OURS.values()} <= {
        contest.key(Player(*who[:2])) for who in steps.FIELD
    }
    assert ways == {*WAYS, "ours", "torch"}


SETUP = {"width": 8, "blocks": 2, "samples": 4, "context": 4, "microbatches": 2}


def test_contestants_work_in_processes_of_their_own():
    pair = [contest.Contestant("plain kept", 1), contest.Contestant("torch 1f1b", 2, 2)]
    try:
        measured = steps.at_width(pair, 8, 2, {k: SETUP[k] for k in SETUP if k != "width"})
    finally:
        for contestant in pair:
            contestant.close()
    assert measured.failures == {}
    assert [sorted(turns) for turns in measured.rounds] == [
        ["plain kept, 1 rank", "torch 1f1b, 2 ranks"]
    ] * 2
    assert len({round(turn.loss, 4) for turns in measured.rounds for turn in turns.values()}) == 1


def test_a_contestant_that_cannot_run_says_why():
    nobody = contest.Contestant("nobody", 1)
    try:
        nobody.build(SETUP)
        assert not nobody.ready()
        assert nobody.step() is None
        assert nobody.error == "KeyError: 'nobody'"
    finally:
        nobody.close()


class Player:
    """A contestant whose steps are given: seconds, or None for a failure."""

    def __init__(self, name, ranks, *results):
        self.name, self.ranks, self.error = name, ranks, ""
        self.results = list(results)

    def step(self):
        seconds = self.results.pop(0)
        return None if seconds is None else contest.Turn(seconds, seconds, 0, 1.0)


def test_rounds_leave_out_who_failed_once_and_warm_short_steps_up():
    slow, short, fails = (
        Player("a", 1, 3, 4),
        Player("b", 2, 0.1, 0.2, 0.1, 0.3),
        Player("c", 1, 1, None),
    )
    found = contest.rounds([slow, short, fails], 2)
    assert [{name: turn.seconds for name, turn in turns.items()} for turns in found] == [
        {"a, 1 rank": 3, "b, 2 ranks": 0.2},
        {"a, 1 rank": 4, "b, 2 ranks": 0.3},
    ]


def test_contestants_that_disagree_are_an_error():
    class Other(Player):
        def norm(self):
            return self.ranks * 1.0

    same, other = Other("plain kept", 1, 1), Other("ours 1f1b", 2, 1)
    with pytest.raises(RuntimeError, match="do not do the same work"):
        steps.check_alike([same, other])


def turns(**seconds):
    return {name: contest.Turn(time, 2 * time, 10, 1.0) for name, time in seconds.items()}


def measured():
    """Two rounds in which everyone takes as long as the plain loop, but one who failed."""
    every = {contest.key(Player(*who[:2])): 1.0 for who in steps.FIELD if who[0] != "torchgpipe"}
    found = [turns(**every), turns(**every)]
    failed = {f"torchgpipe, {p} rank{'s' * (p > 1)}": "it is old" for p in (1, 2)}
    return steps.Measured(128, 8, found, failed)


def test_the_tables_of_steps_hold_everyone_or_the_reason():
    one, two, shared, resources = steps.tables([measured()])
    cells = {row.anchor: list(row.cells) for table in (one, two) for row in table.rows}
    assert cells["step-plain-kept-1"] == ["1,000.0 ms (1,000.0 to 1,000.0)"]
    assert cells["step-ours-1f1b-1"] == ["1.000 (1.000 to 1.000)"]
    assert cells["step-ours-1f1b-2"] == ["1.778 (1.778 to 1.778)"]  # two ranks as slow as one
    assert cells["step-torchgpipe-2"] == ["did not run: it is old"]
    assert [row.anchor for row in shared.rows] == [
        "shared-processes",
        "shared-threads",
        "shared-gil",
    ]
    assert len(resources.rows) == len(steps.FIELD)
    for table in (one, two, shared, resources):
        table.markdown()
    assert set(steps.raw([measured()])["step seconds at width 128"]) == set(measured().rounds[0])


def test_the_bound_of_two_ranks():
    assert measured().over_bound(steps.OURS[2], 2).middle == pytest.approx(1 / (9 / 8 / 2))


def test_a_power_law_is_read_off_the_last_two_points():
    assert growth.slope({1: 9.0, 10: 1.0, 100: 1000.0}) == pytest.approx(3.0)


def test_a_picture_is_drawn_of_measured_curves(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "FIGURES", tmp_path)
    simulator, *_ = growth.pictures(quick=True)
    curves = growth.measure(simulator.curves, 2)
    assert {name: list(sizes) for name, sizes in curves.items()} == {
        f"{p} ranks": [64, 128] for p in (4, 16, 64)
    }
    growth.draw(simulator, curves)
    assert (tmp_path / "growth_simulator.png").read_bytes().startswith(b"\x89PNG")


def test_each_curve_prepares_what_it_names():
    for picture in growth.pictures(quick=True):
        for curve in picture.curves:
            curve.prepare(curve.sizes[0])()


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_without_a_cuda_device_the_page_says_so():
    (table,) = gpu.tables(quick=True)
    assert "no CUDA device" in table.words
    table.markdown()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_cuda_device_all_is_measured():
    copies, overlap, waits = gpu.tables(quick=True)
    assert all(row.data["ratio"].middle > 0 for row in copies.rows)
    assert 0 <= overlap.rows[0].data["share"].middle <= 1
    assert all(row.data["times"] >= 0 for row in waits.rows)


def test_waits_are_counted_by_place():
    rows = gpu.by_place([("x/b.py", 2), ("x/a.py", 1), ("x/a.py", 1)])
    assert [(row.name, row.cells) for row in rows] == [
        ("a.py, line 1", ["2"]),
        ("b.py, line 2", ["1"]),
    ]
    assert gpu.by_place([])[0].name == "nowhere"
    assert gpu.is_wait("called a synchronizing CUDA operation (Triggered internally)")
    assert not gpu.is_wait("something else")


def test_what_a_span_covers_of_a_part():
    assert gpu.covered((0, 1), []) == 0
    assert math.isclose(gpu.covered((0, 10), [(-1, 1), (2, 3), (9, 20)]), 3)
