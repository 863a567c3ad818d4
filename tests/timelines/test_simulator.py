import math
import re
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.schedule import Action, Schedule, ScheduleError
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.spans import Link, Transfer
from d2lpart.timelines.timeline import Timeline

GRID = [(p, m) for p in range(1, 7) for m in range(1, 10)]
EIGHTHS = st.integers(0, 24).map(lambda n: n / 8)  # sums of these are exact


def needs(action, schedule):
    """What an action waits for, written out again without the package's `dependencies`."""
    stage, kind, microbatch = action
    wanted = {
        "F": [Action(stage - 1, "F", microbatch)],
        "W": [Action(stage, "I", microbatch)],
    }.get(kind, [Action(stage, "F", microbatch), *(Action(stage + 1, b, microbatch) for b in "BI")])
    return [one for one in wanted if one in schedule.position]


def relaxed(schedule, seconds, travel):
    """Starts by another algorithm: begin all at 0, and push what is too early until none is."""
    starts = dict.fromkeys(schedule.position, 0.0)
    moved = True
    while moved:
        moved = False
        for order in schedule.orders:
            for i, action in enumerate(order):
                earliest = starts[order[i - 1]] + seconds(order[i - 1]) if i else 0.0
                for need in needs(action, schedule):
                    places = [schedule.stage_to_rank[a[0]] for a in (need, action)]
                    late = travel(need) if places[0] != places[1] else 0.0
                    earliest = max(earliest, starts[need] + seconds(need) + late)
                if earliest > starts[action]:
                    starts[action] = earliest
                    moved = True
    return starts


def exactly(message):
    return f"^{re.escape(message)}$"


def starts(timeline):
    return {span.action: span.start for span in timeline.spans}


# ---- against the oracle


@settings(max_examples=150)
@given(
    random=st.randoms(use_true_random=False),
    pool=st.lists(EIGHTHS, min_size=8, max_size=8),
    latency=EIGHTHS,
    bandwidth=st.sampled_from([1.0, 4.0, 64.0, math.inf]),
)
def test_starts_agree_with_relaxation_to_a_fixed_point(
    random, pool, latency, bandwidth, random_schedule
):
    schedule = random_schedule(random)
    seconds = {action: random.choice(pool) for action in schedule.position}
    sizes = {action: random.randrange(20) for action in schedule.position}
    timeline = simulate(
        schedule, seconds.__getitem__, Link(latency, bandwidth), boundary_bytes=sizes.__getitem__
    )
    travel = {action: latency + sizes[action] / bandwidth for action in sizes}
    assert starts(timeline) == relaxed(schedule, seconds.__getitem__, travel.__getitem__)
    assert all(span.seconds == seconds[span.action] for span in timeline.spans)
    assert all(t.seconds == travel[t.action] for t in timeline.transfers)
    assert timeline.start == 0


@pytest.mark.parametrize(("p", "m"), GRID)
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_named_schedules_agree_with_relaxation(name, p, m):
    schedule = build_schedule(name, p, m)
    seconds = {"F": 1, "I": 1.5, "W": 1, "B": 2.5}
    timeline = simulate(schedule, seconds, Link(0.25))
    expected = relaxed(schedule, lambda a: seconds[a.kind], lambda a: 0.25)
    assert starts(timeline) == expected


def test_a_simulated_schedule_is_validated():
    """Without this, a doubled action would be run twice and a missing one not at all."""
    with pytest.raises(ScheduleError, match="0F0 is doubled"):
        simulate(Schedule(["0F0 0F0 0B0"], [0]), {"F": 1, "B": 1})
    with pytest.raises(ScheduleError, match="0B0 is missing"):
        simulate(Schedule(["0F0", "1F0 1B0"], [0, 1]), {"F": 1, "B": 1})
    with pytest.raises(ScheduleError, match="rank 1 runs 0F0, but stage 0 is on rank 0"):
        simulate(Schedule(["0B0", "0F0 1F0 1B0"], [0, 1]), {"F": 1, "B": 1})
    with pytest.raises(ScheduleError, match="no action"):
        simulate(Schedule([], []), {"F": 1, "B": 1})


# ---- closed forms


@pytest.mark.parametrize(("p", "m"), GRID)
@pytest.mark.parametrize("name", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("f", "b"), [(1, 2), (3, 1), (2, 5)])
def test_the_step_of_an_even_pipeline(name, p, m, f, b):
    timeline = simulate(build_schedule(name, p, m), {"F": f, "B": b})
    assert timeline.makespan == (m + p - 1) * (f + b)
    assert timeline.idle_fraction() == pytest.approx((p - 1) / (m + p - 1), abs=1e-15)
    assert timeline.bubble_overhead() == pytest.approx((p - 1) / m)
    assert all(timeline.idle(rank) == (p - 1) * (f + b) for rank in range(p))


@pytest.mark.parametrize(("p", "m"), GRID)
def test_naive_keeps_one_rank_of_p_at_work(p, m):
    timeline = simulate(build_schedule("naive", p, m), {"F": 1, "B": 2})
    assert timeline.makespan == 3 * p * m
    assert timeline.idle_fraction() == pytest.approx((p - 1) / p)
    assert timeline.bubble_overhead() == pytest.approx(p - 1)


@pytest.mark.parametrize("chunks", [1, 2, 3])
@pytest.mark.parametrize(("p", "m"), GRID)
def test_gpipe_with_chunks_has_a_smaller_bubble_if_it_has_enough_microbatches(p, m, chunks):
    f, b = 6, 12  # of a rank's whole share
    schedule = build_schedule("gpipe", p, m, chunks=chunks)
    timeline = simulate(schedule, {"F": f // chunks, "B": b // chunks})
    stalls = (chunks - 1) * max(0, p - m)  # micro-batches come round too late for the next stage
    assert timeline.makespan - m * (f + b) == (p - 1 + stalls) * (f + b) // chunks
    if m >= p or chunks == 1:
        assert timeline.idle_fraction() == pytest.approx((p - 1) / (chunks * m + p - 1))


@pytest.mark.parametrize("p", range(1, 7))
def test_naive_with_chunks_still_works_in_one_place_at_a_time(p):
    timeline = simulate(build_schedule("naive", p, 2, chunks=3), {"F": 1, "B": 2})
    assert timeline.idle_fraction() == pytest.approx((p - 1) / p)


def test_numbers_of_the_card():
    even = {"F": 1, "B": 2}
    for name in ("gpipe", "1f1b"):
        assert f"{simulate(build_schedule(name, 4, 4), even).idle_fraction():.1%}" == "42.9%"
        assert f"{simulate(build_schedule(name, 4, 16), even).idle_fraction():.1%}" == "15.8%"
    three = simulate(build_schedule("naive", 3, 1), even)
    assert three.idle_fraction() == pytest.approx(2 / 3)
    assert all(three.idle_fraction(rank) == pytest.approx(2 / 3) for rank in range(3))


def test_one_pass_over_four_ranks_takes_no_less_than_on_one():
    """1 s of forward over 4 ranks, 0.03 s a hop: 1.09 s, for there are 3 hops in a row.

    A step goes the way back too. With backwards that cost nothing it takes 3 more hops.
    """
    naive = build_schedule("naive", 4, 1)
    timeline = simulate(naive, {"F": 0.25, "B": 0}, Link(0.03))
    forward = max(span.end for span in timeline.spans if span.action.kind == "F")
    assert forward == pytest.approx(1.09)
    assert timeline.makespan == pytest.approx(1.18)
    assert simulate(build_schedule("naive", 1, 1), {"F": 1, "B": 0}, Link(0.03)).makespan == 1


@pytest.mark.parametrize("p", range(2, 7))
def test_latency_is_paid_at_each_crossing_of_a_naive_step(p):
    timeline = simulate(build_schedule("naive", p, 3), {"F": 1, "B": 2}, Link(0.5))
    assert timeline.makespan == 3 * (3 * p + 2 * (p - 1) * 0.5)


def test_an_uneven_pipeline_runs_at_the_pace_of_its_slowest_stage():
    durations = [{"F": 1, "B": 2}, {"F": 3, "B": 6}, {"F": 1, "B": 2}]
    timeline = simulate(build_schedule("gpipe", 3, 50), durations)
    assert timeline.makespan == sum([3, 9, 3]) + 49 * 9


# ---- messages


@pytest.mark.parametrize(("p", "m"), GRID)
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_microbatch_sends_two_messages_over_each_cut(name, p, m):
    schedule = build_schedule(name, p, m)
    timeline = simulate(schedule, {"F": 1, "I": 1, "W": 1}, Link(0.5), boundary_bytes=8)
    ranks = schedule.stage_to_rank
    cuts = [(a, b) for a, b in pairwise(ranks) if a != b]
    assert len(cuts) == (2 * (p - 1) if name == "zb-v" else p - 1)
    assert len(timeline.transfers) == 2 * len(cuts) * m
    for k in range(m):
        own = [t for t in timeline.transfers if t.action.microbatch == k]
        forward = [(t.source, t.target) for t in own if t.action.kind == "F"]
        backward = [(t.target, t.source) for t in own if t.action.kind in "BI"]
        assert sorted(forward) == sorted(backward) == sorted(cuts)


def test_stages_on_one_rank_send_no_message():
    schedule = Schedule(["0F0 1F0 1B0 0B0", "2F0 2B0"], [0, 0, 1])
    timeline = simulate(schedule, {"F": 1, "B": 2}, Link(5.0))
    assert [str(t.action) for t in timeline.transfers] == ["1F0", "2B0"]
    assert timeline.makespan == 9 + 2 * 5


def test_a_message_leaves_when_it_is_made_and_does_not_hold_the_sender():
    timeline = simulate(
        build_schedule("gpipe", 2, 2), {"F": 1, "B": 2}, Link(0.5, 100), boundary_bytes=50
    )
    assert timeline.transfers[0] == Transfer(0, 1, 50, 1.0, 2.0, Action(0, "F", 0))
    assert [span.start for span in timeline.of_rank(0)][:2] == [0, 1]


def test_an_input_gradient_is_sent_and_a_weight_gradient_is_not():
    schedule = Schedule(["0F0 0I0 0W0", "1F0 1I0 1W0"], [0, 1])
    timeline = simulate(schedule, {"F": 1, "I": 2, "W": 3}, Link(0.5))
    assert [str(t.action) for t in timeline.transfers] == ["0F0", "1I0"]
    assert starts(timeline)[Action(0, "I", 0)] == 1 + 0.5 + 1 + 2 + 0.5


@pytest.mark.parametrize(
    "sizes",
    [7, 7.0, [7, 7], (7, 7), lambda action: 7],
    ids=["int", "float", "list", "tuple", "call"],
)
def test_boundary_bytes_in_each_form(sizes):
    timeline = simulate(
        build_schedule("1f1b", 3, 2), {"F": 1, "B": 2}, Link(bandwidth=7), boundary_bytes=sizes
    )
    assert {t.nbytes for t in timeline.transfers} == {7}
    assert {type(t.nbytes) for t in timeline.transfers} == {int}
    assert {t.seconds for t in timeline.transfers} == {1.0}


def test_each_cut_has_its_size_in_both_directions():
    timeline = simulate(build_schedule("naive", 3, 1), {"F": 1, "B": 2}, boundary_bytes=[10, 20])
    sizes = {str(t.action): t.nbytes for t in timeline.transfers}
    assert sizes == {"0F0": 10, "1F0": 20, "2B0": 20, "1B0": 10}


def test_a_size_may_depend_on_the_action_that_sends():
    timeline = simulate(
        build_schedule("naive", 2, 2),
        {"F": 1, "B": 2},
        boundary_bytes=lambda action: 100 * (action.kind == "F") + action.microbatch,
    )
    sizes = {str(t.action): t.nbytes for t in timeline.transfers}
    assert sizes == {"0F0": 100, "1B0": 0, "0F1": 101, "1B1": 1}


@pytest.mark.parametrize("size", [-1, 0.5, math.nan, math.inf, None, "7"])
def test_a_size_is_a_whole_number_of_bytes(size):
    schedule, even = build_schedule("naive", 2, 1), {"F": 1, "B": 2}
    rule = f"has {size!r} bytes: give a whole number, 0 or more"
    for sizes, what in (([size], "the message over cut 0"), (lambda a: size, "the message of 0F0")):
        with pytest.raises(ValueError, match=exactly(f"{what} {rule}")):
            simulate(schedule, even, boundary_bytes=sizes)


@pytest.mark.parametrize(
    ("sizes", "told"), [([], "0 sizes"), ([1], "1 size"), ([1, 2, 3], "3 sizes")]
)
def test_there_is_one_size_for_each_cut(sizes, told):
    message = f"{told} in boundary_bytes, but the schedule has 2 cuts: give one size for each"
    with pytest.raises(ValueError, match=message):
        simulate(build_schedule("naive", 3, 1), {"F": 1, "B": 2}, boundary_bytes=sizes)


# ---- links


def test_a_link_takes_latency_and_bytes_over_bandwidth():
    assert Link().seconds(10**12) == 0
    assert Link(latency=0.5).seconds(10**12) == 0.5
    assert Link(bandwidth=16e9).seconds(160e6) == pytest.approx(0.01)
    assert Link(0.5, 2.0).seconds(3) == 2.0


def test_a_link_says_what_it_is():
    assert str(Link(1e-5, 25e9)) == "1e-05 s and 25 GB/s"
    assert str(Link()) == "0 s and no limit"


@pytest.mark.parametrize("latency", [-1e-9, math.nan, math.inf])
def test_latency_is_a_finite_time(latency):
    with pytest.raises(ValueError, match=f"latency is {latency}: give seconds, 0 or more"):
        Link(latency=latency)


@pytest.mark.parametrize("bandwidth", [0, -5.0, math.nan])
def test_bandwidth_is_more_than_nothing(bandwidth):
    message = f"bandwidth is {bandwidth}: give bytes per second, more than 0"
    with pytest.raises(ValueError, match=message):
        Link(bandwidth=bandwidth)


# ---- durations


EVEN = {"F": 1, "B": 2}


@pytest.mark.parametrize(
    "durations",
    [
        EVEN,
        [EVEN, EVEN],
        (EVEN, EVEN),
        lambda action: EVEN[action.kind],
        {"F": 1, "I": 0.5, "W": 1.5},
    ],
    ids=["one for all", "list", "tuple", "function", "B from I and W"],
)
def test_durations_in_each_form(durations):
    schedule = build_schedule("1f1b", 2, 3)
    assert simulate(schedule, durations) == simulate(schedule, {"F": 1, "B": 2})


def test_a_given_b_is_not_the_sum_of_its_halves():
    schedule = build_schedule("naive", 1, 1)
    assert simulate(schedule, {"F": 1, "B": 9, "I": 1, "W": 1}).makespan == 10


def test_each_stage_has_its_own_durations():
    schedule = build_schedule("naive", 2, 1)
    assert simulate(schedule, [{"F": 1, "B": 10}, {"F": 100, "B": 1000}]).makespan == 1111


def test_durations_given_are_left_as_they_are():
    durations = {"F": 1, "I": 2, "W": 3}
    simulate(build_schedule("naive", 2, 1), durations)
    assert durations == {"F": 1, "I": 2, "W": 3}


def test_a_function_is_asked_once_for_each_action():
    schedule, asked = build_schedule("1f1b", 3, 4), []
    simulate(schedule, lambda action: asked.append(action) or 1)
    assert sorted(asked) == sorted(schedule.position)


def test_numbers_of_numpy_become_plain_ones():
    numpy = pytest.importorskip("numpy")
    timeline = simulate(
        build_schedule("naive", 2, 1),
        {"F": numpy.float32(0.5), "B": numpy.int64(2)},
        Link(bandwidth=1.0),
        boundary_bytes=numpy.array([3]),
    )
    assert {type(span.end) for span in timeline.spans} == {float}
    assert {type(t.nbytes) for t in timeline.transfers} == {int}


@pytest.mark.parametrize(
    ("durations", "message"),
    [
        (
            {"F": 1},
            "stage 0 has no duration for B: the schedule runs F, B; give the seconds of each",
        ),
        ({}, "stage 0 has no duration for F and B: the schedule runs F, B"),
        ({"F": 1, "I": 1}, "stage 0 has no duration for B"),
        ([EVEN, {"B": 2}], "stage 1 has no duration for F"),
        ([EVEN], "durations for 1 stage, but the schedule has 2: give one mapping for each"),
        ([EVEN] * 3, "durations for 3 stages, but the schedule has 2"),
        (1.5, "durations is 1.5: give seconds by kind, such as {'F': 1, 'B': 2}"),
        (None, "durations is None: give seconds by kind"),
        ([1, 2], "durations is [1, 2]: give seconds by kind"),
        ("FB", "durations is 'FB': give seconds by kind"),
    ],
)
def test_durations_that_are_incomplete(durations, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        simulate(build_schedule("naive", 2, 1), durations)


def test_a_split_schedule_wants_both_halves():
    schedule = Schedule(["0F0 0I0 0W0"], [0])
    with pytest.raises(ValueError, match="no duration for I and W: the schedule runs F, I, W"):
        simulate(schedule, {"F": 1, "B": 2})


@pytest.mark.parametrize("seconds", [-1, -1e-12, math.nan, math.inf, None, "fast", [1]])
def test_a_duration_is_a_finite_time(seconds):
    schedule = build_schedule("naive", 2, 1)
    rule = f"is {seconds!r}: give seconds, 0 or more"
    forms = {
        "F of stage 0": {"F": seconds, "B": 1},
        "B of stage 1": [EVEN, {"F": 1, "B": seconds}],
        "I of stage 0": {"F": 1, "I": seconds, "W": 1},
        "1F0": lambda action: seconds if action == (1, "F", 0) else 1,
    }
    for what, durations in forms.items():
        with pytest.raises(ValueError, match=exactly(f"the duration of {what} {rule}")):
            simulate(schedule, durations)


def test_nothing_may_take_any_time():
    timeline = simulate(build_schedule("1f1b", 3, 3), {"F": 0, "B": 0})
    assert timeline.makespan == 0
    assert timeline.idle_fraction() == timeline.bubble_overhead() == 0
    assert [timeline.gaps(rank) for rank in range(3)] == [[], [], []]


# ---- labels


def test_a_simulation_is_a_prediction_unless_told_otherwise():
    schedule = build_schedule("naive", 2, 1)
    assert simulate(schedule, EVEN).clock == "predicted"
    virtual = simulate(schedule, EVEN, clock="virtual", note="one CPU, transfers modelled")
    assert (virtual.clock, virtual.note) == ("virtual", "one CPU, transfers modelled")
    assert virtual.schedule is schedule


# ---- the price


def test_simulation_and_its_reading_take_time_in_proportion_to_the_actions(count_calls):
    def use(m):
        timeline = simulate(build_schedule("1f1b", 16, m), EVEN, Link(0.1))
        for rank in range(16):
            timeline.gaps(rank), timeline.peak_in_flight(rank)
        timeline.critical_path(), timeline.describe()

    assert count_calls(lambda: use(512)) < 8 * 1.1 * count_calls(lambda: use(64))


def test_simulation_takes_memory_in_proportion_to_the_actions():
    def peak(m):
        schedule = build_schedule("1f1b", 8, m)
        tracemalloc.start()
        timeline = simulate(schedule, EVEN, Link(0.1, shared="bus"))
        most = len(timeline.spans) and tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(2048) < 4 * 1.1 * peak(512)  # sizes at which tables are about equally full


# ---- bounds


@given(random=st.randoms(use_true_random=False))
def test_no_step_is_shorter_than_its_bounds(random, random_schedule):
    """The work of the busiest rank, and the longest chain of needs, messages included."""
    schedule = random_schedule(random)
    seconds = {action: random.randrange(9) / 8 for action in schedule.position}
    timeline = simulate(schedule, seconds.__getitem__, Link(0.25))

    def chain(action):
        if action not in ends:
            rank = schedule.stage_to_rank[action.stage]
            arrive = [
                chain(need) + 0.25 * (schedule.stage_to_rank[need.stage] != rank)
                for need in needs(action, schedule)
            ]
            ends[action] = max(arrive, default=0) + seconds[action]
        return ends[action]

    ends = {}
    assert timeline.makespan >= max(map(chain, schedule.position))
    assert timeline.makespan >= max(map(timeline.busy, range(schedule.num_ranks)))
    assert timeline.makespan >= timeline.longest_rank_span()


def test_times_can_be_read_before_any_span_is_made():
    schedule = build_schedule("1f1b", 3, 4)
    timeline = simulate(schedule, EVEN, Link(0.5))
    read = timeline.makespan, timeline.idle_fraction(), timeline.bubble_overhead()
    assert "spans" not in vars(timeline)
    again = Timeline(timeline.spans, timeline.transfers, "predicted", schedule)
    assert (again.makespan, again.idle_fraction(), again.bubble_overhead()) == read
    assert again == timeline
    assert hash(again) == hash(timeline)
    assert again != simulate(schedule, EVEN)
    assert [again.of_rank(r) for r in range(3)] == [timeline.of_rank(r) for r in range(3)]
