from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.schedule import Action, Schedule
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.spans import Link, Span, Transfer
from d2lpart.timelines.timeline import Timeline

EVEN = {"F": 1, "B": 2}


def random_timeline(random, random_schedule):
    """A simulated step whose times are eighths, so that their sums are exact."""
    schedule = random_schedule(random)
    seconds = {action: random.randrange(9) / 8 for action in schedule.position}
    return simulate(schedule, seconds.__getitem__, Link(random.choice([0, 0.125, 1.5])))


def blanks(timeline, rank):
    """The idle time of a rank, from its spans alone."""
    free = timeline.start
    for span in timeline.of_rank(rank):
        if span.start > free:
            yield free, span.start
        free = span.end
    if timeline.end > free:
        yield free, timeline.end


def words(gaps):
    return [(gap.start, gap.end, gap.kind, gap.reason) for gap in gaps]


# ---- gaps


def test_the_reasons_of_a_small_step():
    """The picture that the reasons are about:

    rank 0 |F0F1    B0--  B1--|
    rank 1 |  F0B0--F1B1--    |
    """
    timeline = simulate(build_schedule("1f1b", 2, 2), EVEN)
    assert words(timeline.gaps(0)) == [
        (2, 4, "wait", "waits for 1B0 on rank 1"),
        (6, 7, "wait", "waits for 1B1 on rank 1"),
    ]
    assert words(timeline.gaps(1)) == [
        (0, 1, "fill", "waits for 0F0 on rank 0"),
        (7, 9, "drain", "has nothing left to do until 0B1 on rank 0 ends the step"),
    ]


def test_a_message_under_way_is_a_reason_of_its_own():
    timeline = simulate(build_schedule("1f1b", 2, 2), EVEN, Link(0.5))
    assert words(timeline.gaps(1)) == [
        (0, 1, "fill", "waits for 0F0 on rank 0"),
        (1, 1.5, "transfer", "waits for the transfer of 0F0 from rank 0"),
        (7.5, 10, "drain", "has nothing left to do until 0B1 on rank 0 ends the step"),
    ]
    assert words(timeline.gaps(0)) == [
        (2, 4.5, "wait", "waits for 1B0 on rank 1"),
        (4.5, 5, "transfer", "waits for the transfer of 1B0 from rank 1"),
        (7, 7.5, "wait", "waits for 1B1 on rank 1"),
        (7.5, 8, "transfer", "waits for the transfer of 1B1 from rank 1"),
    ]


def test_without_microbatches_each_rank_waits_for_its_neighbours():
    timeline = simulate(build_schedule("naive", 3, 1), EVEN)
    assert words(timeline.gaps(1)) == [
        (0, 1, "fill", "waits for 0F0 on rank 0"),
        (2, 5, "wait", "waits for 2B0 on rank 2"),
        (7, 9, "drain", "has nothing left to do until 0B0 on rank 0 ends the step"),
    ]


def test_a_lone_rank_has_no_gap():
    assert simulate(build_schedule("1f1b", 1, 5), EVEN).gaps(0) == []


def test_a_split_backward_is_waited_for_by_its_input_half():
    schedule = Schedule(["0F0 0B0", "1F0 1I0 1W0"], [0, 1])
    timeline = simulate(schedule, {"F": 1, "B": 2, "I": 1, "W": 1})
    assert words(timeline.gaps(0)) == [(1, 3, "wait", "waits for 1I0 on rank 1")]


def measured():
    """A step on the wall clock: everything takes 1 s, and every start comes later than it could."""
    schedule = Schedule(["0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1"], [0, 1])
    begin = {
        "0F0": 5.0, "0F1": 6.5, "1F0": 7.5, "1B0": 8.75, "0B0": 10.5,
        "1F1": 10.25, "1B1": 11.25, "0B1": 13.0,
    }  # fmt: skip
    spans = [
        Span(schedule.position[a][0], a, begin[str(a)], begin[str(a)] + 1)
        for a in schedule.position
    ]
    transfers = [
        Transfer(0, 1, 8, 6.0, 6.5, Action(0, "F", 0)),
        Transfer(1, 0, 8, 9.75, 10.0, Action(1, "B", 0)),
        Transfer(0, 1, 8, 7.5, 8.0, Action(0, "F", 1)),
        Transfer(1, 0, 8, 12.25, 12.75, Action(1, "B", 1)),
    ]
    return Timeline(spans, transfers, "wall", schedule)


def test_time_that_nothing_explains_is_overhead():
    """0F1 waits for nothing, 1F0's message is there at 6.5, and 1F1's was there long ago."""
    assert words(measured().gaps(0)) == [
        (6.0, 6.5, "overhead", "overhead before 0F1"),
        (7.5, 9.75, "wait", "waits for 1B0 on rank 1"),
        (9.75, 10.0, "transfer", "waits for the transfer of 1B0 from rank 1"),
        (10.0, 10.5, "overhead", "overhead before 0B0"),
        (11.5, 12.25, "wait", "waits for 1B1 on rank 1"),
        (12.25, 12.75, "transfer", "waits for the transfer of 1B1 from rank 1"),
        (12.75, 13.0, "overhead", "overhead before 0B1"),
    ]
    assert words(measured().gaps(1)) == [
        (5.0, 6.0, "fill", "waits for 0F0 on rank 0"),
        (6.0, 6.5, "transfer", "waits for the transfer of 0F0 from rank 0"),
        (6.5, 7.5, "overhead", "overhead before 1F0"),
        (8.5, 8.75, "overhead", "overhead before 1B0"),
        (9.75, 10.25, "overhead", "overhead before 1F1"),
        (12.25, 14.0, "drain", "has nothing left to do until 0B1 on rank 0 ends the step"),
    ]


def test_a_measured_start_before_the_message_is_not_denied():
    """Two clocks may disagree a little: a gap ends where the span starts, whatever it needs."""
    schedule = Schedule(["0F0 0B0", "1F0 1B0"], [0, 1])
    spans = [
        Span(0, Action(0, "F", 0), 0.0, 1.0),
        Span(1, Action(1, "F", 0), 0.875, 2.0),
        Span(1, Action(1, "B", 0), 2.0, 3.0),
        Span(0, Action(0, "B", 0), 3.0, 4.0),
    ]
    timeline = Timeline(spans, [Transfer(0, 1, 8, 1.0, 1.5, Action(0, "F", 0))], "wall", schedule)
    assert words(timeline.gaps(1))[0] == (0, 0.875, "fill", "waits for 0F0 on rank 0")


def test_after_an_action_without_length_a_rank_waits_and_does_not_fill():
    timeline = simulate(build_schedule("naive", 2, 1), [{"F": 0, "B": 1}, {"F": 1, "B": 1}])
    assert [gap.kind for gap in timeline.gaps(0)] == ["wait"]


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize(("p", "m"), [(2, 3), (3, 5), (4, 4), (4, 16)])
def test_rounding_makes_no_gaps(name, p, m):
    """Tenths have no exact sums, and 0.9 and 0.8999999999999999 are one moment."""
    whole = simulate(build_schedule(name, p, m), {"F": 1, "I": 1, "W": 1})
    tenth = simulate(build_schedule(name, p, m), {"F": 0.1, "I": 0.1, "W": 0.1})
    for rank in range(p):
        assert [g.kind for g in tenth.gaps(rank)] == [g.kind for g in whole.gaps(rank)]
        assert [g.seconds for g in tenth.gaps(rank)] == pytest.approx(
            [g.seconds / 10 for g in whole.gaps(rank)]
        )


@given(random=st.randoms(use_true_random=False))
def test_gaps_are_the_idle_time_to_the_last_bit(random, random_schedule):
    timeline = random_timeline(random, random_schedule)
    for rank in range(timeline.num_ranks):
        gaps = timeline.gaps(rank)
        assert sum(gap.seconds for gap in gaps) == timeline.idle(rank)
        assert all(gap.start < gap.end for gap in gaps)
        assert all(a.end <= b.start for a, b in pairwise(gaps))
        joined = []
        for gap in gaps:
            if joined and joined[-1][1] == gap.start:
                joined[-1][1] = gap.end
            else:
                joined.append([gap.start, gap.end])
        assert [tuple(pair) for pair in joined] == list(join(blanks(timeline, rank)))


def join(pairs):
    """Blanks on both sides of an action without length touch; as idle time they are one."""
    last = None
    for start, end in pairs:
        if last and last[1] == start:
            last = (last[0], end)
            continue
        if last:
            yield last
        last = (start, end)
    if last:
        yield last


@given(random=st.randoms(use_true_random=False))
def test_every_reason_is_true(random, random_schedule):
    timeline = random_timeline(random, random_schedule)
    ends = {str(span.action): (span.rank, span.end) for span in timeline.spans}
    arrives = {str(t.action): (t.source, t.target, t.end) for t in timeline.transfers}
    for rank in range(timeline.num_ranks):
        own = timeline.of_rank(rank)
        for gap in timeline.gaps(rank):
            if gap.kind == "drain":
                what, where = (
                    gap.reason.split(" until ")[1].removesuffix(" ends the step").split(" on rank ")
                )
                assert ends[what] == (int(where), timeline.end) == (int(where), gap.end)
                assert own[-1].end == gap.start
            elif gap.kind == "transfer":
                what, source = gap.reason.split("the transfer of ")[1].split(" from rank ")
                assert arrives[what] == (int(source), rank, gap.end)
                assert gap.end in [span.start for span in own]
            else:
                assert gap.kind == ("fill" if gap.start == 0 and own[0].start > 0 else "wait")
                what, where = gap.reason.removeprefix("waits for ").split(" on rank ")
                assert ends[what] == (int(where), gap.end)
                assert int(where) != rank


# ---- the critical path


def test_the_path_of_a_small_step():
    timeline = simulate(build_schedule("1f1b", 2, 2), EVEN, Link(0.5))
    path = [str(link.action) for link in timeline.critical_path()]
    kinds = [
        "transfer" if isinstance(link, Transfer) else "span" for link in timeline.critical_path()
    ]
    assert path == ["0F0", "0F0", "1F0", "1B0", "1F1", "1B1", "1B1", "0B1"]
    assert kinds == ["span", "transfer", "span", "span", "span", "span", "transfer", "span"]


def test_the_path_goes_through_the_slowest_stage():
    uneven = [EVEN, {"F": 5, "B": 10}, EVEN]
    path = simulate(build_schedule("gpipe", 3, 4), uneven).critical_path()
    assert [str(link.action) for link in path if link.seconds > 3] == [
        *(f"1F{k}" for k in range(4)),
        *(f"1B{k}" for k in range(4)),
    ]


@given(random=st.randoms(use_true_random=False))
def test_the_path_leads_from_start_to_end_without_a_hole(random, random_schedule):
    timeline = random_timeline(random, random_schedule)
    path = timeline.critical_path()
    assert path[0].start == timeline.start
    assert path[-1].end == timeline.end
    assert all(a.end == b.start for a, b in pairwise(path))
    assert sum(link.seconds for link in path) == timeline.makespan
    assert all(
        link in (timeline.transfers if hasattr(link, "nbytes") else timeline.spans) for link in path
    )


@given(random=st.randoms(use_true_random=False))
def test_what_is_slower_on_the_path_makes_the_step_longer(random, random_schedule):
    schedule = random_schedule(random)
    seconds = {action: random.randrange(9) / 8 for action in schedule.position}
    timeline = simulate(schedule, seconds.__getitem__, Link(0.25))
    slow = random.choice([link for link in timeline.critical_path() if isinstance(link, Span)])
    seconds[slow.action] += 0.5
    assert simulate(schedule, seconds.__getitem__, Link(0.25)).makespan == timeline.makespan + 0.5


def test_a_measured_path_goes_back_to_the_first_span():
    """On the wall clock there is overhead between the links, but no link starts before the last."""
    path = measured().critical_path()
    assert [str(link.action) for link in path] == [
        "0F0", "0F0", "1F0", "1B0", "1F1", "1B1", "1B1", "0B1",
    ]  # fmt: skip
    assert (path[0].start, path[-1].end) == (5.0, 14.0)
    assert all(a.end <= b.start for a, b in pairwise(path))


# ---- the chain behind a gap


def test_the_chain_behind_a_gap_in_words():
    timeline = simulate(build_schedule("1f1b", 3, 3), EVEN, Link(0.5))
    assert str(timeline.why(0, 0)).splitlines() == [
        "rank 0 is idle from 3 s to 8.5 s: waits for 1B0 on rank 1",
        "  rank 1 computes 1B0 from 6.5 s to 8.5 s, once 2B0 has arrived",
        "  2B0 travels from rank 2 to rank 1 from 6 s to 6.5 s, once it is made",
        "  rank 2 computes 2B0 from 4 s to 6 s, once it has done 2F0",
        "  rank 2 computes 2F0 from 3 s to 4 s",
    ]
    assert timeline.why(0, timeline.gaps(0)[0]) == timeline.why(0, 0)
    assert repr(timeline.why(0, 0)) == str(timeline.why(0, 0))


def test_messages_without_length_are_left_out_of_a_chain():
    naive = simulate(build_schedule("naive", 3, 1), EVEN)
    assert str(naive.why(0, 0)).splitlines()[1] == (
        "  rank 1 computes 1B0 from 5 s to 7 s, once 2B0 has arrived"
    )
    assert [str(link.action) for link in naive.why(0, 0).chain] == ["1F0", "2F0", "2B0", "1B0"]


def test_overhead_has_no_chain():
    overhead = measured().why(0, 0)
    assert (overhead.gap.kind, overhead.chain) == ("overhead", ())
    assert str(overhead) == "rank 0 is idle from 6 s to 6.5 s: overhead before 0F1"


@given(random=st.randoms(use_true_random=False))
def test_a_chain_covers_its_gap_without_a_hole(random, random_schedule):
    timeline = random_timeline(random, random_schedule)
    for rank in range(timeline.num_ranks):
        for gap in timeline.gaps(rank):
            chain = timeline.why(rank, gap).chain
            assert chain[0].start <= gap.start < chain[0].end
            assert all(a.end == b.start for a, b in pairwise(chain))
            assert chain[-1].end == gap.end
            assert chain[-1] == gap.cause


@pytest.mark.parametrize("gap", [-1, 2, 9])
def test_there_is_no_other_gap(gap):
    timeline = simulate(build_schedule("1f1b", 2, 2), EVEN)
    with pytest.raises(ValueError, match=f"rank 0 has 2 gaps, and none is number {gap}"):
        timeline.why(0, gap)
    with pytest.raises(ValueError, match="rank 0 has no such gap"):
        timeline.why(0, timeline.gaps(1)[0])


@pytest.mark.parametrize("shared", [None, "pair", "bus"])
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_every_gap_of_a_named_schedule_has_a_reason_and_its_chain(name, shared):
    seconds = {"F": 1, "B": 2, "I": 1, "W": 1}
    timeline = simulate(build_schedule(name, 3, 6), seconds, Link(0.5, shared=shared))
    assert sum(len(timeline.gaps(rank)) for rank in range(3)) >= 3
    for rank in range(3):
        for place, gap in enumerate(timeline.gaps(rank)):
            chain = timeline.why(rank, place).chain
            assert gap.kind != "overhead"
            assert gap.cause == chain[-1]
            assert chain[0].start <= gap.start < chain[0].end
            assert all(a.end == b.start for a, b in pairwise(chain))
            assert chain[-1].end == gap.end
