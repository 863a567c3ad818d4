import pickle

import pytest
from hypothesis import given, strategies as st

from d2lpart.schedules.orders import build_schedule
from d2lpart.schedules.schedule import Action, Schedule, ScheduleError, dependencies

# ---- Action


@pytest.mark.parametrize("stage", [0, 1, 7, 12])
@pytest.mark.parametrize("kind", "FBIW")
@pytest.mark.parametrize("microbatch", [0, 3, 10, 511])
def test_an_action_is_read_as_it_is_written(stage, kind, microbatch):
    action = Action(stage, kind, microbatch)
    assert str(action) == f"{stage}{kind}{microbatch}"
    assert Action.parse(str(action)) == action
    assert Action.parse(f"  {action} ") == action


@pytest.mark.parametrize("text", ["", "F0", "2F", "2X0", "2f0", "-1F0", "1F-1", "1F0 1B0", None, 7])
def test_what_is_no_action_is_refused_with_an_example(text):
    with pytest.raises(ScheduleError, match=r"is no action: .*F, B, I, W.*'2F0'"):
        Action.parse(text)


# ---- Schedule


def test_orders_may_hold_actions_text_or_plain_tuples():
    written = Schedule([["0F0", "0B0"]], [0])
    assert written == Schedule(["0F0 0B0"], [0])
    assert written == Schedule([[Action(0, "F", 0), (0, "B", 0)]], (0,))
    assert written == Schedule((a for a in [("0F0", "0B0")]), [0], name="another name")
    assert all(isinstance(action, Action) for action in written.orders[0])


@pytest.mark.parametrize(
    "item", [7, None, ("0", "F", 0), (0, "F", 0.0), (0, "F"), Action(0, "F", "0")]
)
def test_anything_else_in_an_order_is_refused(item):
    with pytest.raises(ScheduleError, match="is no action"):
        Schedule([[item]], [0])


@pytest.mark.parametrize(
    ("orders", "places", "message"),
    [
        (None, [0], "None is no list of orders: give one for each rank"),
        (3, [0], "3 is no list of orders"),
        (["0F0 0B0", None], [0, 1], "None is no order: give the actions of a rank, such as '0F0"),
        (["0F0 0B0"], None, "None is no list of ranks: give one for each stage"),
        (["0F0 0B0"], 1, "1 is no list of ranks"),
    ],
)
def test_what_a_function_without_a_return_gives_is_refused(orders, places, message):
    with pytest.raises(ScheduleError, match=message):
        Schedule(orders, places)


@pytest.mark.parametrize("place", ["0", None, 0.0])
def test_a_rank_is_a_whole_number(place):
    with pytest.raises(ScheduleError, match="is no rank: give each stage a whole number"):
        Schedule([["0F0", "0B0"]], [place])


def test_the_sizes_of_a_schedule():
    schedule = build_schedule("gpipe", 2, 3, chunks=2)
    assert (schedule.num_ranks, schedule.num_stages, schedule.num_microbatches) == (2, 4, 3)
    assert schedule.stages_of(0) == (0, 2)
    assert schedule.stages_of(1) == (1, 3)
    assert schedule.position[Action(2, "F", 1)] == (0, 4)


def test_a_schedule_prints_its_orders():
    assert str(build_schedule("1f1b", 2, 2)).splitlines() == [
        "1f1b: 2 ranks, 2 stages, 2 micro-batches",
        "rank 0: 0F0 0F1 0B0 0B1",
        "rank 1: 1F0 1B0 1F1 1B1",
    ]
    assert str(build_schedule("naive", 1, 1)).startswith("naive: 1 rank, 1 stage, 1 micro-batch\n")
    assert repr(build_schedule("1f1b", 2, 3)) == (
        "Schedule(name='1f1b', num_ranks=2, num_stages=2, num_microbatches=3)"
    )


@given(random=st.randoms(use_true_random=False))
def test_a_schedule_is_read_back_from_what_it_prints(random, random_schedule):
    schedule = random_schedule(random)
    lines = [line.split(": ", 1)[1] for line in str(schedule).splitlines()[1:]]
    assert Schedule(lines, schedule.stage_to_rank) == schedule


def test_a_schedule_is_a_value():
    schedule = build_schedule("1f1b", 3, 4)
    assert hash(schedule) == hash(build_schedule("1f1b", 3, 4))
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    with pytest.raises(AttributeError):
        schedule.name = "mine"


# ---- dependencies


def test_what_waits_for_what_in_three_stages():
    schedule = build_schedule("gpipe", 3, 2)
    table = {
        "0F1": "", "1F1": "0F1", "2F1": "1F1",
        "2B1": "2F1", "1B1": "1F1 2B1", "0B1": "0F1 1B1",
    }  # fmt: skip
    for action, needs in table.items():
        assert " ".join(map(str, dependencies(Action.parse(action), schedule))) == needs


def test_a_split_backward_passes_its_message_on_with_the_input_half():
    schedule = Schedule([["0F0", "0B0"], ["1F0", "1I0", "1W0"], ["2F0", "2B0"]], [0, 1, 2])
    table = {"2B0": "2F0", "1I0": "1F0 2B0", "1W0": "1I0", "0B0": "0F0 1I0"}
    for action, needs in table.items():
        assert " ".join(map(str, dependencies(Action.parse(action), schedule))) == needs


@given(random=st.randoms(use_true_random=False))
def test_the_consumer_of_a_message_is_the_one_on_another_stage_that_needs_it(
    random, random_schedule
):
    schedule = random_schedule(random)
    consumers = {
        need: action
        for action in schedule.position
        for need in dependencies(action, schedule)
        if need.stage != action.stage
    }
    for action in schedule.position:
        assert schedule.consumer(action) == consumers.get(action)
