import re
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.schedule import Action, Schedule
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.spans import Link, Span, Transfer
from d2lpart.timelines.timeline import Timeline

EVEN = {"F": 1, "I": 1, "W": 1, "B": 2}
GRID = [(p, m) for p in range(1, 7) for m in range(1, 10)]


def simulated(name, p, m, durations=EVEN, link=None, **options):
    return simulate(build_schedule(name, p, m), durations, link or Link(), **options)


def lanes(timeline):
    return re.findall(r"^rank \d+ *\|(.*)\| idle", timeline.describe(), re.MULTILINE)


# ---- what a timeline is


SMALL = Schedule(["0F0 0B0", "1F0 1B0"], [0, 1], name="small")
SPANS = [
    Span(0, Action(0, "F", 0), 10.0, 11.0),
    Span(1, Action(1, "F", 0), 11.5, 12.5),
    Span(1, Action(1, "B", 0), 12.5, 14.5),
    Span(0, Action(0, "B", 0), 15.0, 17.0),
]


def test_spans_are_kept_in_order_of_time():
    timeline = Timeline(reversed(SPANS), [], "wall", SMALL)
    assert timeline.spans == tuple(SPANS)
    assert [str(span.action) for span in timeline.of_rank(1)] == ["1F0", "1B0"]
    assert timeline == Timeline(SPANS, [], "wall", SMALL)


def test_transfers_are_kept_in_order_of_time():
    first = Transfer(0, 1, 8, 11.0, 11.5, Action(0, "F", 0))
    second = Transfer(1, 0, 8, 14.5, 15.0, Action(1, "B", 0))
    assert Timeline(SPANS, [second, first], "wall", SMALL).transfers == (first, second)
    assert (first.seconds, second.seconds) == (0.5, 0.5)


def test_a_step_need_not_start_at_zero():
    timeline = Timeline(SPANS, [], "wall", SMALL)
    assert (timeline.start, timeline.end, timeline.makespan) == (10, 17, 7)
    assert (timeline.busy(0), timeline.idle(0)) == (3, 4)
    assert timeline.idle_fraction(0) == 4 / 7
    assert timeline.idle_fraction() == 8 / 14


@pytest.mark.parametrize("clock", ["", "cpu", "Predicted", None])
def test_a_clock_is_one_of_three(clock):
    with pytest.raises(ValueError, match=r"clock is .*: use one of predicted, virtual, wall"):
        Timeline(SPANS, [], clock, SMALL)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        (SPANS[:3], "spans of 0B0: 0, actions 0B0 in the schedule: 1; a timeline needs one span"),
        ([*SPANS, SPANS[1]], "spans of 1F0: 2, actions 1F0 in the schedule: 1"),
        (
            [*SPANS, Span(0, Action(0, "F", 7), 0, 1)],
            "spans of 0F7: 1, actions 0F7 in the schedule: 0",
        ),
        ([*SPANS[:3], SPANS[2]], "spans of 0B0: 0, actions 0B0 in the schedule: 1"),
        ([], "there are no spans: a timeline needs one for each action, at least one"),
    ],
    ids=["missing", "doubled", "foreign", "swapped", "empty"],
)
def test_there_is_one_span_for_each_action(spans, message):
    with pytest.raises(ValueError, match=message):
        Timeline(spans, [], "wall", SMALL)


def test_a_timeline_does_not_change():
    with pytest.raises(AttributeError):
        Timeline(SPANS, [], "wall", SMALL).clock = "predicted"


@pytest.mark.parametrize("rank", [-1, 2, 9])
@pytest.mark.parametrize(
    "method", ["of_rank", "busy", "idle", "idle_fraction", "peak_in_flight", "gaps"]
)
def test_there_is_no_other_rank(method, rank):
    """And -1 is not the last rank, as Python would count."""
    with pytest.raises(ValueError, match=f"there is no rank {rank}: .* ranks 0 to 1"):
        getattr(simulated("naive", 2, 1), method)(rank)


# ---- busy and idle


@given(random=st.randoms(use_true_random=False))
def test_busy_and_idle_make_the_step(random, random_schedule):
    schedule = random_schedule(random)
    seconds = {action: random.randrange(9) / 8 for action in schedule.position}
    timeline = simulate(schedule, seconds.__getitem__, Link(random.randrange(9) / 8))
    for rank in range(schedule.num_ranks):
        own = sum(seconds[a] for a in schedule.position if schedule.stage_to_rank[a.stage] == rank)
        assert timeline.busy(rank) == own
        assert timeline.busy(rank) + timeline.idle(rank) == timeline.makespan
    busy = sum(seconds.values())
    total = timeline.makespan * schedule.num_ranks
    assert timeline.idle_fraction() == pytest.approx((total - busy) / total if total else 0)
    assert timeline.bubble_overhead() == pytest.approx((total - busy) / busy if busy else 0)


def test_rounding_makes_no_negative_idle_time():
    """On these moments of a clock, the sum of the actions is longer than the step by one bit."""
    moments = [0.0378648, 0.0694103, 0.0701825, 0.5193051, 0.5202132, 1.4040884, 1.7300322]
    schedule = build_schedule("naive", 1, 3)
    for nudge in range(200):
        ticks = [moment + nudge * 1e-9 / 7 for moment in moments]
        pairs = zip(schedule.orders[0], pairwise(ticks), strict=True)
        spans = [Span(0, action, *pair) for action, pair in pairs]
        timeline = Timeline(spans, [], "wall", schedule)
        assert timeline.idle(0) >= 0
        assert "idle 0.0%" in timeline.headline()
        assert timeline.gaps(0) == []


def test_the_two_bubbles_have_two_denominators():
    timeline = simulated("gpipe", 4, 8)
    assert timeline.idle_fraction() == pytest.approx(3 / 11)
    assert timeline.bubble_overhead() == pytest.approx(3 / 8)


def test_the_idle_fraction_of_all_ranks_is_the_mean_of_theirs():
    timeline = simulated("1f1b", 3, 4, [EVEN, {"F": 2, "B": 5}, EVEN], Link(0.25))
    each = [timeline.idle_fraction(rank) for rank in range(3)]
    assert timeline.idle_fraction() == pytest.approx(sum(each) / 3)
    assert len(set(each)) > 1


# ---- what is held


@pytest.mark.parametrize(("p", "m"), GRID)
def test_the_most_that_each_schedule_holds(p, m):
    peaks = {
        name: [simulated(name, p, m).peak_in_flight(rank) for rank in range(p)]
        for name in SCHEDULES
    }
    twice = min(m, 2 * p - 1)
    assert peaks["naive"] == [1] * p
    assert peaks["gpipe"] == [m] * p
    assert peaks["1f1b"] == peaks["interleaved"] == [min(m, p - rank) for rank in range(p)]
    assert peaks["zb-h1"] == [min(m, p)] * p
    assert peaks["zb-h2"] == [twice] * p
    assert max(peaks["zb-v"]) <= min(m, p)
    assert m < 2 * p - 1 or peaks["zb-v"] == [p] * p


@pytest.mark.parametrize("chunks", [2, 3])
def test_a_stage_counts_for_its_share_of_the_rank(chunks):
    naive = simulate(build_schedule("naive", 2, 4, chunks=chunks), EVEN)
    gpipe = simulate(build_schedule("gpipe", 2, 4, chunks=chunks), EVEN)
    assert [naive.peak_in_flight(rank) for rank in range(2)] == [1, 1]
    assert [gpipe.peak_in_flight(rank) for rank in range(2)] == [4, 4]
    half = Schedule(["0F0 2F0 2B0 0B0", "1F0 1B0"], [0, 1, 0])
    lone = Schedule(["0F0 2F0 2B0 0F1 2F1 2B1 0B0 0B1", "1F0 1F1 1B0 1B1"], [0, 1, 0])
    assert simulate(half, EVEN).peak_in_flight(0) == 1
    assert simulate(lone, EVEN).peak_in_flight(0) == 1.5


def test_a_split_backward_holds_until_its_weight_gradient():
    early = Schedule(["0F0 0I0 0W0 0F1 0I1 0W1"], [0])
    late = Schedule(["0F0 0I0 0F1 0I1 0W0 0W1"], [0])
    times = {"F": 1, "I": 1, "W": 1}
    assert simulate(early, times).peak_in_flight(0) == 1
    assert simulate(late, times).peak_in_flight(0) == 2


@given(random=st.randoms(use_true_random=False))
def test_the_peak_agrees_with_a_count_at_every_moment(random, random_schedule):
    schedule = random_schedule(random)
    timeline = simulate(schedule, lambda action: random.randint(1, 9))
    for rank in range(schedule.num_ranks):
        held = [
            (forward.start, ends.end)
            for forward in timeline.of_rank(rank)
            for ends in timeline.of_rank(rank)
            if forward.action.kind == "F"
            and ends.action.kind in "BW"
            and forward.action.stage == ends.action.stage
            and forward.action.microbatch == ends.action.microbatch
        ]
        most = max(sum(a <= moment < b for a, b in held) for moment, _ in held)
        assert timeline.peak_in_flight(rank) == most / len(schedule.stages_of(rank))


# ---- in words


def test_the_headline_names_schedule_sizes_clock_and_definition():
    assert simulated("1f1b", 4, 4).headline() == (
        "1f1b, 4 ranks, 4 micro-batches, predicted clock: step 21 s, idle 42.9% (idle/total)"
    )
    assert simulated("naive", 1, 1, {"F": 1e-3, "B": 2e-3}).headline() == (
        "naive, 1 rank, 1 micro-batch, predicted clock: step 3 ms, idle 0.0% (idle/total)"
    )
    assert repr(simulated("gpipe", 2, 2)).startswith("<Timeline gpipe, 2 ranks")


def test_a_timeline_prints_as_its_picture():
    assert str(simulated("1f1b", 3, 4, note="made up")).splitlines() == [
        "1f1b, 3 ranks, 4 micro-batches, predicted clock: step 18 s, idle 33.3% (idle/total)",
        "rank 0 |F0F1F2        B0--F3B1--  B2--  B3--| idle 33.3%",
        "rank 1 |  F0F1    B0--F2B1--F3B2--  B3--    | idle 33.3%",
        "rank 2 |    F0B0--F1B1--F2B2--F3B3--        | idle 33.3%",
        "made up",
    ]


def test_the_picture_does_not_depend_on_the_unit():
    for scale in (1e-6, 1 / 3, 0.1, 7e5):
        durations = {"F": scale, "B": 2 * scale}
        assert lanes(simulated("1f1b", 3, 4, durations)) == lanes(simulated("1f1b", 3, 4))


def test_a_measured_step_is_drawn_from_its_own_start():
    assert lanes(Timeline(SPANS, [], "wall", SMALL)) == ["F0        B0--", "   F0B0--     "]


def test_two_digit_microbatches_are_written_whole():
    text = lanes(simulated("naive", 1, 12, {"F": 1, "B": 1}))[0]
    assert text == "".join(f"{kind}{k}".ljust(3, "-") for k in range(12) for kind in "FB")


def test_a_number_that_does_not_fit_is_left_out_and_not_cut_short():
    """F10 in two columns is F-, for F1 would be another micro-batch."""
    first, _ = lanes(simulated("1f1b", 2, 12))
    assert first == (
        "F0F1    B0--F2B1--F3B2--F4B3--F5B4--F6B5--F7B6--F8B7--F9B8--F-B9--F-B10-  B11-"
    )


def test_a_long_step_has_a_letter_a_column_and_says_how_long_a_column_is():
    assert simulated("gpipe", 3, 20).describe().splitlines() == [
        "gpipe, 3 ranks, 20 micro-batches, predicted clock: step 66 s, idle 9.1% (idle/total)",
        "rank 0 |FFFFFFFFFFFFFFFFFFFF      " + "B" * 40 + "| idle 9.1%",
        "rank 1 | FFFFFFFFFFFFFFFFFFFF   " + "B" * 40 + "  | idle 9.1%",
        "rank 2 |  FFFFFFFFFFFFFFFFFFFF" + "B" * 40 + "    | idle 9.1%",
        "one column is 1 s, and shows what takes most of it",
    ]
    assert "one column" not in simulated("gpipe", 3, 2).describe()


def test_a_very_long_step_still_fits_on_a_line():
    timeline = simulated("1f1b", 4, 512)
    assert {len(lane) for lane in lanes(timeline)} == {96}
    assert "one column is 16.1 s, and shows" in timeline.describe()
    assert all(set(lane) <= set("FB ") for lane in lanes(timeline))


def test_lanes_stay_in_line_with_ranks_of_two_digits():
    rows = simulated("1f1b", 12, 4).describe().splitlines()[1:]
    assert len({row.index("|") for row in rows}) == len({row.rindex("|") for row in rows}) == 1
    assert rows[1].startswith("rank 1  |  F0F1F2F3")
    assert rows[11].startswith("rank 11 |")


def test_a_rank_with_several_stages_names_them():
    timeline = simulate(build_schedule("gpipe", 2, 2, chunks=2), {"F": 1, "B": 1})
    assert lanes(timeline) == [
        "0F0-0F1-2F0-2F1-        2B0-2B1-0B0-0B1-",
        "    1F0-1F1-3F0-3F1-3B0-3B1-1B0-1B1-    ",
    ]


def test_a_step_of_no_length_has_no_picture():
    assert lanes(simulated("naive", 2, 1, {"F": 0, "B": 0})) == ["", ""]


def test_actions_without_length_take_no_room():
    assert lanes(simulated("naive", 2, 2, {"F": 1, "B": 0})) == ["F0  F1  ", "  F0  F1"]


@given(random=st.randoms(use_true_random=False), spread=st.sampled_from([0, 1, 3, 6]))
def test_every_number_in_a_picture_is_a_microbatch_in_its_place(random, spread, random_schedule):
    """Durations over six powers of ten, as a measured step may have them."""
    schedule = random_schedule(random, most_microbatches=15)
    timeline = simulate(schedule, lambda action: 10 ** random.uniform(-spread, 0))
    drawn = lanes(timeline)
    assert len({len(lane) for lane in drawn}) == 1
    assert len(drawn[0]) <= 96
    several = schedule.num_stages > schedule.num_ranks
    for rank, lane in enumerate(drawn):
        own = iter(str(a) if several else str(a)[1:] for a in schedule.orders[rank])
        assert all(label in own for label in re.findall(r"\d*[FBIW]\d+", lane))


# ---- beside another


def test_two_timelines_side_by_side():
    naive, gpipe = simulated("naive", 2, 4), simulated("gpipe", 2, 4)
    both = naive.compare(gpipe)
    assert (both.first, both.second) == (naive, gpipe)
    assert both.ratio == 15 / 24
    assert str(both).splitlines() == [
        "second step / first step = 0.625",
        "             naive (predicted)  gpipe (predicted)",
        "step                      24 s               15 s",
        "idle/total               50.0%              20.0%",
        "idle/ideal              100.0%              25.0%",
        "peak held                    1                  4",
        "rank 0 idle              50.0%              20.0%",
        "rank 1 idle              50.0%              20.0%",
    ]
    assert repr(both) == str(both)


def test_the_lanes_of_two_timelines_have_one_axis():
    """Beside a step twice as long, a step is drawn half as wide."""
    slow = simulated("1f1b", 2, 2, {"F": 2, "B": 4})
    assert slow.compare(simulated("gpipe", 2, 2)).lanes().splitlines() == [
        slow.headline(),
        "rank 0  |F0--F1--        B0------    B1------|",
        "rank 1  |    F0--B0------F1--B1------        |",
        simulated("gpipe", 2, 2).headline(),
        "rank 0  |F0F1      B0--B1--                  |",
        "rank 1  |  F0F1B0--B1--                      |",
    ]


def test_a_span_is_on_the_rank_of_its_stage():
    with pytest.raises(
        ValueError, match="the span of 1F0 is on rank 0, but its stage is on rank 1"
    ):
        Timeline([SPANS[0], SPANS[1]._replace(rank=0), *SPANS[2:]], [], "wall", SMALL)


def test_timelines_of_different_sizes_can_be_compared():
    table = simulated("1f1b", 1, 2).compare(simulated("1f1b", 12, 2)).describe().splitlines()
    assert table[-1].startswith("rank 11 idle ")
    assert len({len(line) for line in table[1:]}) == 1


def test_steps_of_no_length_can_be_compared():
    nothing, something = simulated("naive", 1, 1, {"F": 0, "B": 0}), simulated("naive", 1, 1)
    assert nothing.compare(nothing).ratio == 1
    assert nothing.compare(something).ratio == float("inf")
    assert something.compare(nothing).ratio == 0
