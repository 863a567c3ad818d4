"""The explorers and their reports: the figures are the package's own, and each control counts."""

import sys
import types

import pytest

from d2lpart.common import display
from d2lpart.explorers import widgets
from d2lpart.explorers.report_partition import partition_report
from d2lpart.explorers.report_schedule import schedule_report
from d2lpart.partitions.partitioning import Partition, PartitionError, partition
from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.spans import Link
from d2lpart.timelines.svg import lanes_svg

COSTS = [4, 4, 4, 4] + [1] * 8


# ---- the plain functions


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_report_has_the_figures_of_the_simulation(name):
    report = schedule_report(name, 3, 6, forward=1, backward=2, latency=0.5)
    schedule = build_schedule(name, 3, 6)
    share = 3 / schedule.num_stages
    seconds = {"F": share, "I": share, "W": share}
    expected = simulate(schedule, seconds, Link(0.5))
    assert report.timeline == expected
    facts = dict(report.facts())
    assert facts["idle/total"] == f"{expected.idle_fraction():.1%}"
    assert facts["messages"] == str(len(expected.transfers))
    assert facts["step"] == f"{expected.makespan:.4g} s"
    assert facts["step"] in report._repr_html_()


def test_every_gap_can_be_asked():
    report = schedule_report("1f1b", 3, 4)
    gaps = report.gaps
    assert [gap.seconds for _, gap in gaps] == sorted((g.seconds for _, g in gaps), reverse=True)
    for number, (rank, gap) in enumerate(gaps):
        answer = report.why(number)
        assert answer.startswith(f"rank {rank} is idle")
        assert gap.reason in answer


def test_what_a_schedule_cannot_be_is_said():
    report = schedule_report("zb-v", 2, 3, chunks=3)
    assert report.timeline is None
    assert "zb-v runs two stages a rank, not 3" in repr(report)
    assert "not 3" in report._repr_html_()
    assert report.gaps == report.facts() == []


def test_a_partition_report_has_the_figures_of_the_package():
    report = partition_report(
        COSTS, [2, 2, 8], memory=[1] * 12, capacity=7, boundary_bytes=500, num_microbatches=4
    )
    assert report.loads == Partition([2, 2, 8]).loads(COSTS)
    assert report.memory == (2, 2, 8)
    assert report.too_full == [2]
    assert report.crossing_bytes == 2 * 2 * 500
    best = partition(COSTS, 3, memory=[1] * 12, capacity=7)
    assert report.best_bottleneck == best.bottleneck(COSTS)
    assert (
        report.timeline.makespan
        == simulate(build_schedule("1f1b", 3, 4), {"F": 8, "B": 16}).makespan
    )
    assert "stage 2 is too full" in repr(report)
    assert "too full" in report._repr_html_()


@pytest.mark.parametrize("name", sorted({*SCHEDULES} - {"zb-v"}))
def test_a_partition_is_seen_under_every_order_with_one_stage_a_rank(name):
    report = partition_report(COSTS, [2, 2, 8], schedule=name, num_microbatches=6)
    expected = simulate(build_schedule(name, 3, 6), {"F": 8, "I": 8, "W": 8})
    assert report.timeline == expected
    step = f"{name}, 6 micro-batches: {expected.makespan:.4g} s"
    assert step in repr(report)
    assert step in repr(
        widgets.partition_editor(COSTS, 3, sizes=[2, 2, 8], schedule=name, num_microbatches=6)
    )


def test_an_order_with_two_stages_a_rank_and_one_that_is_none_are_refused():
    with pytest.raises(PartitionError, match=r"'zb-v' runs 6 stages on 3 ranks.* such as '1f1b'"):
        widgets.partition_editor(COSTS, 3, schedule="zb-v")
    with pytest.raises(ValueError, match="no schedule is called 'pipedream'"):
        partition_report(COSTS, [4, 4, 4], schedule="pipedream")


def test_an_editor_keeps_its_order_when_a_boundary_moves():
    editor = widgets.partition_editor(COSTS, 3, schedule="gpipe", num_microbatches=2)
    built(editor)["cut 0"].value = 2
    assert editor.report.partition.sizes == (2, 6, 4)
    assert editor.report.timeline.schedule == build_schedule("gpipe", 3, 2)


def test_where_nothing_fits_the_report_says_so():
    report = partition_report(COSTS, [4, 4, 4], memory=[5] * 12, capacity=4)
    assert report.best is None
    assert "no partition fits" in repr(report)


def test_sizes_of_another_length_are_refused():
    with pytest.raises(PartitionError):
        partition_report(COSTS, [4, 4])


def test_the_picture_has_a_box_for_each_action_and_says_what_it_shows():
    timeline = schedule_report("zb-h1", 3, 5).timeline
    picture = lanes_svg(timeline)
    assert picture.count("<rect") == 3 + len(timeline.spans)
    assert 'role="img"' in picture
    assert "3 ranks, 5 micro-batches" in picture
    assert picture.count("W0") <= 3
    assert 'style="max-width:100%;height:auto"' in picture  # a narrow cell cuts nothing off


# ---- the explorers


@pytest.fixture
def kernel(monkeypatch):
    """A live kernel, as far as the widgets can see."""
    monkeypatch.delenv("D2LPART_STATIC", raising=False)
    pytest.importorskip("ipywidgets")
    ipython = pytest.importorskip("IPython")
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr(ipython, "get_ipython", lambda: shell)


def built(explorer):
    """Build the widgets, and return the control by name."""
    explorer.build()
    return explorer.controls


CHANGES = {
    "schedule": "gpipe",
    "num_ranks": 6,
    "num_microbatches": 3,
    "forward": 2.0,
    "backward": 5.0,
    "latency": 0.5,
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_control_changes_the_report(name):
    explorer = widgets.schedule_explorer()
    controls, before = built(explorer), repr(explorer)
    controls[name].value = CHANGES[name]
    assert repr(explorer) != before
    assert repr(explorer) == repr(schedule_report(**({"schedule": "1f1b"} | {name: CHANGES[name]})))


def test_chunks_count_for_the_interleaved_order():
    explorer = widgets.schedule_explorer("interleaved")
    controls = built(explorer)
    controls["chunks"].value = 3
    assert explorer.report.timeline.schedule.num_stages == 12
    controls["schedule"].value = "zb-v"
    assert explorer.report.timeline.schedule.num_stages == 8


def test_a_gap_answers_when_it_is_chosen():
    explorer = widgets.schedule_explorer(num_ranks=3, num_microbatches=4)
    built(explorer)
    assert len(explorer._gap.options) == 1 + len(explorer.report.gaps)
    explorer._gap.value = 0
    assert "is idle from" in explorer._answer.value
    explorer.controls["num_microbatches"].value = 5
    assert explorer._gap.value == -1
    assert "is idle from" not in explorer._answer.value


def test_a_boundary_moves_and_pushes():
    editor = widgets.partition_editor(COSTS, 4)
    controls = built(editor)
    assert editor.report.partition.sizes == (3, 3, 3, 3)
    controls["cut 0"].value = 1
    assert editor.report.partition.sizes == (1, 5, 3, 3)
    controls["cut 0"].value = 9
    assert editor.report.partition.sizes == (9, 1, 1, 1)
    controls["cut 2"].value = 3
    assert editor.report.partition.sizes == (1, 1, 1, 9)
    assert [control.value for control in controls.values()] == [1, 2, 3]


def test_an_editor_begins_where_it_is_told():
    assert widgets.partition_editor(COSTS, 3, sizes=[2, 2, 8]).report.best_bottleneck == 8
    with pytest.raises(PartitionError):
        widgets.partition_editor(COSTS, 13)


def test_every_control_has_words():
    for explorer in (widgets.schedule_explorer(), widgets.partition_editor(COSTS, 3)):
        assert all(control.description for control in built(explorer).values())


def test_a_live_kernel_gets_a_view(kernel):
    bundle = widgets.schedule_explorer()._repr_mimebundle_()
    assert bundle[display.VIEW]["model_id"]


def test_elsewhere_the_report_of_the_start_is_shown(kernel, monkeypatch):
    monkeypatch.setenv("D2LPART_STATIC", "1")
    for explorer in (widgets.schedule_explorer(), widgets.partition_editor(COSTS, 3)):
        bundle = explorer._repr_mimebundle_()
        assert set(bundle) == {"text/plain", "text/html"}
        assert bundle["text/plain"] == repr(explorer.report)
        assert "<svg" in bundle["text/html"]
