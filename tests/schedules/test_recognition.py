"""Named schedules found again under other names and numbers, and nothing else taken for one."""

import pytest
from hypothesis import given, strategies as st

from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.recognition import recognize
from d2lpart.schedules.schedule import Schedule

CHUNKS = {"1f1b": 1, "zb-h1": 1, "zb-h2": 1}


def renumbered(schedule, ranks, microbatches):
    """The same schedule: rank r is called ranks[r], micro-batch k is called microbatches[k]."""
    orders = [None] * schedule.num_ranks
    for rank, order in enumerate(schedule.orders):
        orders[ranks[rank]] = [a._replace(microbatch=microbatches[a.microbatch]) for a in order]
    return Schedule(orders, [ranks[rank] for rank in schedule.stage_to_rank], "mine")


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    p=st.integers(2, 5),
    m=st.integers(2, 9),
    random=st.randoms(use_true_random=False),
)
def test_a_named_schedule_is_recognized_however_it_is_numbered(name, p, m, random):
    named = build_schedule(name, p, m, chunks=CHUNKS.get(name, 2))
    ranks, microbatches = list(range(p)), list(range(m))
    random.shuffle(ranks)
    random.shuffle(microbatches)
    found = recognize(renumbered(named, ranks, microbatches))
    assert found == name or build_schedule(found, p, m, chunks=CHUNKS.get(found, 2)) == named


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize(("p", "m"), [(2, 3), (3, 6), (4, 4)])
def test_one_swap_is_another_schedule(name, p, m):
    named = build_schedule(name, p, m)
    found = recognize(Schedule(named.orders, named.stage_to_rank, "mine"))
    assert found == ("1f1b" if name == "interleaved" else name)
    orders = [list(order) for order in named.orders]
    orders[0][0], orders[0][1] = orders[0][1], orders[0][0]
    assert recognize(Schedule(orders, named.stage_to_rank)) != name


@pytest.mark.parametrize(
    ("orders", "places"),
    [
        (["0F0 0B0 2F0 2B0", "1F0 1B0"], [0, 1, 0]),  # three stages on two ranks
        (["0F0 0F1 0B1 0B0", "1F0 1F1 1B1 1B0"], [0, 1]),  # the last micro-batch goes back first
        (["0F0 0F1 0B0 0B1", "1F1 1F0 1B0 1B1"], [0, 1]),  # the ranks disagree on the numbers
        (["0F0 0B0", "1F0 1B0"], [0, 0]),  # a rank without a stage
        (["0F0 0B0"], [2]),
        (["0B1"], [0]),
        ([], []),
        ([[]], [0]),
    ],
)
def test_what_is_no_named_schedule_is_not_recognized(orders, places):
    assert recognize(Schedule(orders, places)) is None
