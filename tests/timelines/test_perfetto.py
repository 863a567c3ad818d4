import json

import pytest
from hypothesis import given, strategies as st

from d2lpart.common import files
from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.schedule import Schedule
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.spans import Link

EVEN = {"F": 1, "I": 1, "W": 1, "B": 2}


@pytest.fixture
def timeline():
    return simulate(build_schedule("1f1b", 2, 2), EVEN, Link(0.5), boundary_bytes=64)


def events(timeline, path, phase):
    content = json.loads(timeline.to_perfetto(path).read_text(encoding="utf-8"))
    return [event for event in content["traceEvents"] if event["ph"] == phase]


def test_the_path_comes_back_and_holds_json(timeline, tmp_path):
    path = timeline.to_perfetto(tmp_path / "step.json")
    assert path == tmp_path / "step.json"
    assert list(json.loads(path.read_text())) == ["traceEvents"]
    assert timeline.to_perfetto(str(tmp_path / "text.json")) == tmp_path / "text.json"


def test_every_span_is_a_slice_in_the_lane_of_its_rank(timeline, tmp_path):
    slices = events(timeline, tmp_path / "step.json", "X")
    assert [
        (s["name"], s["tid"] - 1, s["ts"] / 1e6, (s["ts"] + s["dur"]) / 1e6) for s in slices
    ] == [(str(span.action), span.rank, span.start, span.end) for span in timeline.spans]
    assert slices[0]["args"] == {"stage": 0, "micro-batch": 0}
    assert {s["cat"] for s in slices} == {"forward", "backward"}


def test_lanes_are_named(tmp_path):
    timeline = simulate(build_schedule("gpipe", 2, 1, chunks=2), EVEN)
    process, *threads = events(timeline, tmp_path / "step.json", "M")
    assert (process["name"], process["args"]) == ("process_name", {"name": timeline.headline()})
    assert [(t["name"], t["tid"], t["args"]["name"]) for t in threads] == [
        ("thread_name", 1, "rank 0 (stage 0, 2)"),
        ("thread_name", 2, "rank 1 (stage 1, 3)"),
    ]


def test_no_number_is_that_of_the_idle_process(timeline, tmp_path):
    for phase in "MXsf":
        for event in events(timeline, tmp_path / "step.json", phase):
            assert event["pid"] == 1
            assert event.get("tid", 1) >= 1


def assert_arrows(timeline, path):
    slices = {s["name"]: s for s in events(timeline, path, "X")}
    leave = {s["id"]: s for s in events(timeline, path, "s")}
    arrive = {f["id"]: f for f in events(timeline, path, "f")}
    assert leave.keys() == arrive.keys() == set(range(len(timeline.transfers)))
    for number, message in enumerate(timeline.transfers):
        s, f = leave[number], arrive[number]
        sender = slices[str(message.action)]
        receiver = slices[str(timeline.schedule.consumer(message.action))]
        assert (s["tid"], f["tid"]) == (sender["tid"], receiver["tid"])
        assert (s["tid"], f["tid"]) == (message.source + 1, message.target + 1)
        assert sender["ts"] <= s["ts"] < sender["ts"] + (sender["dur"] or 1)
        assert f["ts"] == receiver["ts"]
        assert s["ts"] <= f["ts"]
        assert f["bp"] == "e"
        assert (s["name"], s["cat"]) == (f["name"], f["cat"])
        assert s["args"] == {"bytes": message.nbytes, "seconds": message.seconds}


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize(("p", "m"), [(1, 1), (2, 3), (4, 2)])
def test_arrows_leave_inside_a_slice_and_end_at_one(name, p, m, tmp_path):
    assert_arrows(simulate(build_schedule(name, p, m), EVEN, Link(0.25)), tmp_path / "step.json")


@given(random=st.randoms(use_true_random=False))
def test_arrows_of_any_schedule(random, random_schedule, tmp_path_factory):
    timeline = simulate(random_schedule(random), lambda action: random.randrange(3), Link(0.5))
    assert_arrows(timeline, tmp_path_factory.getbasetemp() / "any.json")


def test_split_backwards_have_names_of_their_own(tmp_path):
    schedule = Schedule(["0F0 0I0 0W0", "1F0 1I0 1W0"], [0, 1])
    timeline = simulate(schedule, {"F": 1, "I": 1, "W": 1})
    categories = {s["name"]: s["cat"] for s in events(timeline, tmp_path / "step.json", "X")}
    assert categories["1I0"] == "input gradient"
    assert categories["1W0"] == "weight gradient"
    assert_arrows(timeline, tmp_path / "step.json")


def test_a_trace_is_written_whole_or_not_at_all(timeline, tmp_path, monkeypatch):
    def fail(draft, target):
        assert json.loads(draft.read_text())
        raise OSError("the disk is gone")

    (tmp_path / "step.json").write_text("an older trace")
    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        timeline.to_perfetto(tmp_path / "step.json")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["an older trace"]


# ---- against the format


REQUIRED = {
    "M": {"name", "pid", "args"},
    "X": {"name", "cat", "pid", "tid", "ts", "dur"},
    "s": {"name", "cat", "pid", "tid", "ts", "id"},
    "f": {"name", "cat", "pid", "tid", "ts", "id", "bp"},
}


@given(random=st.randoms(use_true_random=False), shared=st.sampled_from([None, "pair", "bus"]))
def test_every_event_has_what_the_format_requires(
    random, shared, random_schedule, tmp_path_factory
):
    link = Link(0.5, shared=shared)
    timeline = simulate(random_schedule(random), lambda action: random.randrange(3), link)
    path = timeline.to_perfetto(tmp_path_factory.getbasetemp() / "format.json")
    lanes, arrows = {}, {}
    for event in json.loads(path.read_text(encoding="utf-8"))["traceEvents"]:
        assert REQUIRED[event["ph"]] <= event.keys()
        assert min(event.get("ts", 0), event.get("dur", 0)) >= 0
        if event["ph"] == "X":
            assert event["ts"] >= lanes.get(event["tid"], 0)
            lanes[event["tid"]] = event["ts"] + event["dur"]
        elif event["ph"] in "sf":
            arrows.setdefault(event["id"], []).append(event)
    assert lanes.keys() == set(range(1, timeline.num_ranks + 1))
    for start, finish in arrows.values():
        assert (start["ph"], finish["ph"]) == ("s", "f")
        assert start["ts"] <= finish["ts"]
        assert start["tid"] != finish["tid"]
