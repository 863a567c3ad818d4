"""A schedule of one's own among the named ones, under a cap on what a rank may hold."""

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.schedule import Schedule, ScheduleError
from d2lpart.timelines.ranking_table import named, ranking
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.spans import Link

EVEN = {"F": 1, "I": 1, "W": 1}


def own(name="zb-h1", p=4, m=8):
    return Schedule(build_schedule(name, p, m).orders, range(p), "mine")


def names(entries):
    return [entry.name for entry in entries]


def test_the_shortest_step_comes_first_and_what_holds_too_much_apart():
    found = ranking(own(), EVEN, most_held=4)
    assert names(found.within) == ["zb-v", "mine", "zb-h1", "1f1b", "naive"]
    assert names(found.over) == ["zb-h2", "interleaved", "gpipe"]
    assert [entry.held for entry in found.over] == [7, 5.5, 8]
    assert found.par is not None
    assert (found.par.name, found.par.seconds) == ("zb-v", 25.5)
    assert found.mine.seconds == 27


def test_it_says_who_is_mine_and_how_far_from_par():
    lines = str(ranking(own(), EVEN, most_held=4, chunks=1)).splitlines()
    assert [line for line in lines if "<- mine" in line] == [lines[1]]
    assert [line.split()[1] for line in lines if "too much" in line] == ["zb-h2", "gpipe"]
    assert lines[-1] == (
        "par is zb-h1; mine takes 1.000 times as long; no rank may hold more than 4; mine is zb-h1"
    )
    assert len({len(line.split("%")[0]) for line in lines[1:-1]}) == 1
    late = ranking(own("1f1b"), EVEN, most_held=4)
    assert "par is zb-v; mine takes 1.294 times as long" in repr(late)
    assert "keeps to the cap; no rank may hold more than 0" in str(
        ranking(own(), EVEN, most_held=0)
    )


@given(
    p=st.integers(1, 5),
    m=st.integers(1, 8),
    chunks=st.integers(1, 3),
    cap=st.one_of(st.none(), st.integers(1, 9)),
    latency=st.integers(0, 2),
    random=st.randoms(use_true_random=False),
)
def test_each_entry_is_simulated_alike_and_none_is_lost(p, m, chunks, cap, latency, random):
    seconds = {kind: random.randint(1, 9) * 6 for kind in "FIW"}
    found = ranking(own("gpipe", p, m), seconds, Link(latency), most_held=cap, chunks=chunks)
    entries = [*found.within, *found.over]
    wanted = {"naive", "gpipe", "1f1b", "zb-h1", "zb-h2", "mine"}
    wanted |= {"interleaved", "zb-v"} if chunks > 1 else set()
    assert sorted(names(entries)) == sorted(wanted)
    for half in (found.within, found.over):
        assert all(one.seconds <= two.seconds for one, two in pairwise(half))
    for entry in entries:
        stages = entry.timeline.schedule.num_stages // p
        share = {kind: value / stages for kind, value in seconds.items()}
        assert entry.timeline == simulate(entry.timeline.schedule, share, Link(latency))
        assert entry.seconds == entry.timeline.makespan
        assert entry.held == max(map(entry.timeline.peak_in_flight, range(p)))
        assert (cap is None or entry.held <= cap) == (entry in found.within)
        whole = sum(seconds.values()) * m
        assert all(entry.timeline.busy(rank) == pytest.approx(whole) for rank in range(p))


def test_without_halves_no_backward_is_split():
    found = names(named(3, 6, {"F": 1, "B": 2}))
    assert sorted(found) == ["1f1b", "gpipe", "interleaved", "naive"]
    assert set(names(named(3, 6, EVEN))) == set(SCHEDULES)


def test_a_schedule_with_other_stages_is_ranked_too():
    """Two ranks, three stages: each takes two thirds of what a rank's share would."""
    odd = Schedule(["0F0 2F0 2B0 0B0", "1F0 1B0"], [0, 1, 0], "odd")
    found = ranking(odd, {"F": 3, "B": 6})
    assert found.mine.seconds == pytest.approx(18)
    assert "odd is" not in str(found)


@pytest.mark.parametrize(
    ("schedule", "seconds", "kind", "message"),
    [
        (own(), [EVEN] * 4, ValueError, r"give seconds by kind, such as \{'F': 1, 'B': 2\}"),
        (own(), {"F": 1, "B": 2}, ValueError, "no duration for I and W"),
        (own(), {"F": 1, "I": "x", "W": 1}, ValueError, "I of stage 0 is 'x': give seconds"),
        ("zb-h1", EVEN, ScheduleError, "is no Schedule"),
        (Schedule(["0F0"], [0]), EVEN, ScheduleError, "0B0 is missing"),
    ],
)
def test_what_cannot_be_ranked_is_refused(schedule, seconds, kind, message):
    with pytest.raises(kind, match=message):
        ranking(schedule, seconds)
