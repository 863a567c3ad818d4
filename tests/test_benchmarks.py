"""The parts of `make bench`: rules of others, statistics, tables, and contestants that fail.

No test here looks at a time; what is fast and what is not stands in tests/benchmarks/RESULTS.md.
"""

import json
import math
import random
from itertools import accumulate, combinations, pairwise
from pathlib import Path

import bench
import claims
import contest
import gpu
import growth
import imports
import lessons
import meter
import nbformat
import prediction
import pytest
import quality
import rules
import simulator
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


ROOT = Path(__file__).parents[1]


def test_the_readme_says_what_the_results_say():
    content = json.loads((ROOT / "tests/benchmarks/results.json").read_text("utf-8"))
    table = claims.lines(content)
    assert f"{claims.BEGIN}{table}{claims.END}" in (ROOT / "README.md").read_text("utf-8")
    assert table.count("](tests/benchmarks/RESULTS.md#") == len(claims.CLAIMS)


def test_each_claim_links_to_a_row_of_the_page():
    found = claims.anchors((ROOT / claims.PAGE).read_text("utf-8"))
    assert {claim.anchor for claim in claims.CLAIMS} <= set(found)
    assert len(found) == len(set(found))


def test_the_pictures_of_the_page_are_there():
    text = (ROOT / claims.PAGE).read_text("utf-8")
    pictures = [part.split(")")[0] for part in text.split("](figures/")[1:]]
    assert len(pictures) == 3
    for name in pictures:
        assert (ROOT / "tests/benchmarks/figures" / name).exists()


def test_a_claim_whose_row_is_missing_is_left_out():
    where = {
        "processor": "x",
        "cores": 2,
        "date": "2026-01-02 03:04 UTC",
        "versions": {"torch": "2"},
        "load_before": 0.1,
    }
    row = {"anchor": "random-DeepSpeed", "missed": 0.0812}
    table = claims.lines({"circumstances": where, "tables": [{"rows": [row]}]})
    assert table.count("\n| ") == 3  # the head, its rule, and one claim
    assert (
        "| the same, DeepSpeed's rule | [8.1%](tests/benchmarks/RESULTS.md#random-DeepSpeed) |"
        in table
    )


def test_a_readme_without_marks_is_not_touched():
    with pytest.raises(ValueError, match="belong once"):
        claims.replaced("no marks\n", "new\n")
    assert claims.speed(1234567.0) == "1,230,000"


def test_some_sections_are_written_to_a_folder_of_their_own(tmp_path, monkeypatch):
    asked = []

    def section(quick):
        asked.append(quick)
        return [Table("T", "W", ("name", "value"), [Row("x", ["2"], {"n": 2}, "x")])]

    monkeypatch.setattr(bench, "SECTIONS", {"one": section, "two": section})
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["bench.py", "--only", "one"])
    bench.main()
    bench.main()
    assert asked == [False, False]
    written = tmp_path / ".build" / "bench"
    assert '<a id="x"></a>x | 2 |' in (written / "RESULTS.md").read_text("utf-8")
    assert json.loads((written / "results.json").read_text("utf-8"))["tables"][0]["title"] == "T"


def test_a_full_run_brings_the_readme_up_to_date(tmp_path, monkeypatch):
    table = Table(
        "T", "W", ("name", "missed"), [Row("x", ["1%"], {"missed": 0.01}, "random-d2lpart")]
    )
    (tmp_path / "README.md").write_text(f"a\n{claims.BEGIN}{claims.END}b\n", "utf-8")
    monkeypatch.setattr(bench, "SECTIONS", {"one": lambda quick: [table]})
    monkeypatch.setattr(bench.steps, "measure", lambda quick, most: [])
    monkeypatch.setattr(bench.steps, "tables", lambda measured: [])
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "HERE", tmp_path)
    monkeypatch.setattr("sys.argv", ["bench.py"])
    bench.main()
    assert (
        "[1.0%](tests/benchmarks/RESULTS.md#random-d2lpart) |\n"
        in (tmp_path / "README.md").read_text()
    )


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
        "shared-ours",
    ]
    assert len(resources.rows) == len(steps.FIELD)
    for table in (one, two, shared, resources):
        table.markdown()
    assert set(steps.raw([measured()])["step seconds at width 128"]) == set(measured().rounds[0])


def test_the_bound_of_two_ranks():
    assert measured().over_bound(steps.OURS[2], 2) == pytest.approx([1 / (9 / 8 / 2)] * 2)


def test_cores_that_share_make_the_bound_longer_while_both_work():
    slow = turns(**{steps.PLAIN: 2.0, steps.CROWD: 2.9, steps.OURS[2]: 2.0})
    found = steps.Measured(128, 8, [slow], {})
    # of 9 slots of the bound both ranks work in 7, and those take 1.45 times as long
    assert found.slowed() == pytest.approx([(7 * 1.45 + 2) / 9])


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


def test_the_parts_of_a_simulation_and_torchs_dry_run_are_timed():
    pieces = simulator.pieces([(2, 4), (3, 5)], 2)
    assert [row.data["actions"] for row in pieces.rows] == [16, 30]
    assert all(row.data[part].low > 0 for row in pieces.rows for part in simulator.PARTS)
    dry = simulator.beside([(2, 4)], 2)
    assert [row.anchor for row in dry.rows] == ["dry-run-2-4"]
    (row,) = dry.rows
    assert row.data["ours"].low > 0 < row.data["torch"].low


def test_a_dry_run_that_torch_has_moved_is_named(monkeypatch):
    def moved(p, m, repeats):
        raise AttributeError("no such name")

    monkeypatch.setattr(simulator, "beside_torch", moved)
    table = simulator.beside([(2, 4)], 1)
    assert table.rows == []
    assert "not where it was: no such name" in table.words


def test_both_clocks_measure_the_same_step():
    pairs = prediction.makespans(16, 2)
    assert len(pairs) == 2
    assert all(virtual > 0 < wall for virtual, wall in pairs)


def test_on_one_core_the_wall_clock_of_two_ranks_is_not_asked_for(monkeypatch):
    monkeypatch.setattr(prediction, "cores", lambda: 1)
    table = prediction.clocks({16: 1})
    assert table.rows == ()
    assert "Not measured" in table.words


def test_every_forecast_is_a_row_of_its_own(monkeypatch):
    import forecast

    def errors(case, ranks, clock, schedule, repeats):
        assert case in forecast.CASES.values()
        return [-0.1, 0.0, 0.1]

    monkeypatch.setattr(forecast, "errors", errors)
    table = prediction.profiles(quick=False)
    assert len(table.rows) == 3 * len(forecast.CASES) == len({row.anchor for row in table.rows})
    assert all(list(row.cells) == ["+0.0% (-5.0% to +5.0%)"] for row in table.rows)


def test_an_import_takes_some_time_of_the_processor(tmp_path):
    wall, processor = imports.fresh("import json", str(tmp_path))
    assert wall > 0 < processor
    row = imports.row("json", [(1.0, 0.5), (3.0, 1.5)])
    assert row.data["seconds"].middle == 2.0
    assert list(row.cells) == ["2,000 ms (1,500 to 2,500)", "1,000 ms (750 to 1,250)"]


@pytest.fixture
def notebook(tmp_path):
    """A lesson of two cells: a model runs, then a picture is shown."""
    cells = [
        "import torch\nlayer = torch.nn.Linear(200, 200)\nfor _ in range(50):\n"
        "    layer(torch.ones(200, 200)).sum().backward()",
        "from d2lpart import Partition\nPartition([2, 1])",
    ]
    lesson = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(lesson, tmp_path / "42_small.ipynb")
    return tmp_path / "42_small.ipynb"


def test_the_seconds_of_a_lesson_are_shared_out(notebook):
    seconds = lessons.metered(notebook)
    assert set(seconds) == {part for parts in lessons.PARTS.values() for part in parts}
    assert min(seconds.values()) > 0
    (row,) = lessons.lessons([notebook]).rows
    assert row.anchor == "lesson-42"
    assert row.data["seconds"] == pytest.approx(
        sum(row.data[part] for parts in lessons.PARTS.values() for part in parts)
    )
    assert [cell.count("%") for cell in row.cells] == [0, 1, 1, 1, 1]


def test_a_lesson_without_a_picture_is_refused(notebook):
    (row,) = lessons.pictures(notebook, 1).rows
    assert row.data["seconds"].middle > 0
    content = nbformat.read(notebook, as_version=4)
    content.cells = [nbformat.v4.new_code_cell("1 + 1")]
    nbformat.write(content, notebook)
    with pytest.raises(ValueError, match=r"42_small.ipynb shows no picture"):
        lessons.first_picture(notebook)


def test_what_nests_is_charged_to_the_innermost_alone(monkeypatch):
    monkeypatch.setattr(meter, "spent", meter.Counter())
    ticks = iter([0.0, 1.0, 3.0, 6.0])  # of the thread, at each change
    monkeypatch.setattr(meter.time, "thread_time", lambda: next(ticks))

    class Work:
        def inner(self):
            return "done"

        def outer(self):
            return self.again()

        def again(self):
            return self.inner()

    for function, name in (("inner", "b"), ("outer", "a"), ("again", "a")):
        meter.charge(Work, function, name)
    assert Work().outer() == "done"
    assert meter.spent == {"a": 1.0 + 3.0, "b": 2.0}
    assert next(ticks, "none left") == "none left"  # `again` has changed nothing


def test_what_raises_is_charged_no_longer(monkeypatch):
    monkeypatch.setattr(meter, "spent", meter.Counter())

    class Work:
        def fail(self):
            raise KeyError

    meter.charge(Work, "fail", "a")
    with pytest.raises(KeyError):
        Work().fail()
    assert meter._thread.names == []
    assert set(meter.spent) == {"a"}


def test_checks_are_timed_right_and_wrong():
    one, two = lessons.exercises()[:2]
    table = lessons.checks([one, two], 1)
    assert [row.anchor for row in table.rows] == ["check-right", "check-slowest", "check-wrong"]
    assert one.id in table.rows[1].name or two.id in table.rows[1].name
    for row in table.rows:
        assert row.data["seconds"].low > 0 < row.data["processor_seconds"].low
    table.markdown()


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
