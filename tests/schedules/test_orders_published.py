"""The named schedules against published figures, and each claim of a docstring over many sizes."""

import pytest
from hypothesis import given, strategies as st

from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.schedule import Schedule, ScheduleError
from d2lpart.schedules.validation import validate
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.spans import Link

# Zero Bubble Pipeline Parallelism (arXiv 2401.10241): p, m, measured F, I, W and latency in µs, and
# the bubble rates of 1F1B, ZB-H1, ZB-H2: (cost − m(F+I+W))/cost, cost being a rank's longest span.
ZERO_BUBBLE = [
    (8, 24, 18522, 18086, 9337, 601, (0.2431, 0.1585, 0.1083)),
    (8, 32, 18513, 18086, 9331, 626, (0.1985, 0.1242, 0.0837)),
    (8, 64, 18546, 18097, 9321, 762, (0.1240, 0.0674, 0.0444)),
    (8, 24, 29718, 29444, 19927, 527, (0.2347, 0.1323, 0.0698)),
    (8, 32, 29802, 29428, 19530, 577, (0.1898, 0.1045, 0.0559)),
    (8, 64, 29935, 29621, 19388, 535, (0.1091, 0.0554, 0.0294)),
]
# Interleaved, three chunks, at the first three rows. The paper's own column is lower: it leaves out
# some of the dependencies from a rank's last chunk to its first.
INTERLEAVED = [0.1090, 0.0847, 0.0461]


@pytest.mark.parametrize(("p", "m", "f", "i", "w", "latency", "rates"), ZERO_BUBBLE)
def test_the_bubble_rates_of_the_zero_bubble_paper(p, m, f, i, w, latency, rates):
    for name, rate in zip(("1f1b", "zb-h1", "zb-h2"), rates, strict=True):
        step = simulate(build_schedule(name, p, m), {"F": f, "I": i, "W": w}, Link(latency))
        assert round(step.bubble_rate(), 4) == rate


@pytest.mark.parametrize(("row", "rate"), zip(ZERO_BUBBLE, INTERLEAVED, strict=False))
def test_interleaving_with_every_dependency_kept(row, rate):
    p, m, f, i, w, latency, _ = row
    schedule = build_schedule("interleaved", p, m, chunks=3)
    step = simulate(schedule, {"F": f / 3, "I": i / 3, "W": w / 3}, Link(latency))
    assert round(step.bubble_rate(), 4) == rate


def test_h2_leaves_the_stagger_of_the_ranks():
    step = simulate(build_schedule("zb-h2", 8, 24), {"F": 1, "I": 1, "W": 1})
    assert step.bubble_rate() == 0
    assert round(step.idle_fraction(), 3) == 0.089


@pytest.mark.parametrize(("m", "idle"), [(4, 0.429), (16, 0.158)])
@pytest.mark.parametrize("name", ["gpipe", "1f1b"])
def test_idle_time_of_four_ranks(name, m, idle):
    step = simulate(build_schedule(name, 4, m), {"F": 1, "B": 2})
    assert round(step.idle_fraction(), 3) == idle


@pytest.mark.parametrize(("ranks", "bound"), [(2, 1.94), (4, 3.66), (8, 6.56)])
def test_the_bound_of_gpipes_speedup(ranks, bound):
    """K·M/(M+K−1) at M = 32 (arXiv 1811.06965)."""
    one = simulate(build_schedule("gpipe", 1, 32), {"F": ranks, "B": 2 * ranks})
    many = simulate(build_schedule("gpipe", ranks, 32), {"F": 1, "B": 2})
    assert round(one.makespan / many.makespan, 2) == bound


# ---- what a rank holds


@given(p=st.integers(1, 8), m=st.integers(1, 24), v=st.integers(1, 4))
def test_what_interleaving_holds(p, m, v):
    schedule = build_schedule("interleaved", p, m, chunks=v)
    step = simulate(schedule, {"F": 1, "B": 2})
    for rank in range(p):
        formula = ((v - 1) * p + 2 * (p - 1 - rank) + 1) / v if v > 1 else p - rank
        assert step.peak_in_flight(rank) <= min(m, formula) + 1e-9
        if m % p == 0:
            assert step.peak_in_flight(rank) == pytest.approx(min(m, formula))


# ---- zero bubble


@given(p=st.integers(1, 8), more=st.integers(0, 12), seconds=st.integers(1, 9))
def test_zb_v_has_no_bubble_where_all_three_take_as_long(p, more, seconds):
    step = simulate(build_schedule("zb-v", p, 2 * p - 1 + more), dict.fromkeys("FIW", seconds))
    assert step.bubble_rate() == 0


@given(p=st.integers(1, 8), m=st.integers(1, 24))
def test_zb_v_holds_no_more_than_1f1bs_first_rank(p, m):
    step = simulate(build_schedule("zb-v", p, m), dict.fromkeys("FIW", 1))
    assert max(map(step.peak_in_flight, range(p))) <= min(m, p)


@given(p=st.integers(1, 7), m=st.integers(1, 16), name=st.sampled_from(["zb-h1", "zb-h2", "zb-v"]))
def test_a_split_backward_is_put_off_and_never_dropped(p, m, name):
    schedule = build_schedule(name, p, m)
    for order in schedule.orders:
        place = {action: number for number, action in enumerate(order)}
        for action in order:
            if action.kind == "I":
                assert place[action] < place[action._replace(kind="W")]


# ---- any sizes


def sizes():
    """Any named schedule of up to 6 ranks, 9 micro-batches and 3 stages a rank."""
    one = {"1f1b", "zb-h1", "zb-h2", "zb-v"}
    return st.builds(
        lambda name, p, m, v: build_schedule(name, p, m, chunks=None if name in one else v),
        st.sampled_from(sorted(SCHEDULES)),
        st.integers(1, 6),
        st.integers(1, 9),
        st.integers(1, 3),
    )


@given(schedule=sizes(), random=st.randoms(use_true_random=False))
def test_no_schedule_deadlocks_and_each_step_is_as_long_as_its_bounds(schedule, random):
    seconds = {action: random.randint(1, 16) / 8 for action in validate(schedule).position}
    step = simulate(schedule, seconds.__getitem__, Link(random.randint(0, 8) / 8))
    alone = max(
        sum(s for action, s in seconds.items() if action.microbatch == k and action.kind != "W")
        for k in range(schedule.num_microbatches)
    )
    assert step.makespan >= max(alone, *map(step.busy, range(schedule.num_ranks)))


@given(schedule=sizes(), random=st.randoms(use_true_random=False))
def test_a_broken_order_is_refused(schedule, random):
    """An action that is dropped, doubled, moved to a wrong rank, or put before its forward."""
    orders = [list(order) for order in schedule.orders]
    rank = random.randrange(len(orders))
    place = random.randrange(len(orders[rank]))
    action = orders[rank][place]
    break_ = random.choice(["drop", "double", "early", "kind"])
    if break_ == "drop":
        del orders[rank][place]
    elif break_ == "double":
        orders[rank].append(action)
    elif break_ == "early":
        late = next(a for a in reversed(orders[rank]) if a.kind != "F")
        orders[rank].remove(late)
        orders[rank].insert(0, late)
    else:
        orders[rank][place] = action._replace(kind="X")
    with pytest.raises(ScheduleError):
        validate(Schedule(orders, schedule.stage_to_rank))
