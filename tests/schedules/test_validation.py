from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from d2lpart.schedules import validation as module
from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.schedule import Action, Schedule, ScheduleError, dependencies
from d2lpart.schedules.validation import execution_order, validate

GRID = [(p, m) for p in range(1, 7) for m in range(1, 10)]


def legal(orders, stage_to_rank, may_run):
    """Brute force: count every action, then let every rank go on until none can."""
    everything = [action for order in orders for action in order]
    if not everything or set(stage_to_rank) != set(range(len(orders))):
        return False
    num_stages = len(stage_to_rank)
    num_microbatches = 1 + max(k for _, _, k in everything)
    expected = 0
    for stage, rank in enumerate(stage_to_rank):
        for microbatch in range(num_microbatches):
            kinds = [k for s, k, b in orders[rank] if (s, b) == (stage, microbatch)]
            if sorted(kinds) not in (["B", "F"], ["F", "I", "W"]):
                return False
            expected += len(kinds)
    if expected != len(everything):
        return False
    done, left = set(), [list(order) for order in orders]
    while True:
        moved = False
        for order in left:
            if order and may_run(order[0], done, num_stages):
                done.add(order.pop(0))
                moved = True
        if not moved:
            return not any(left)


def refused(orders, stage_to_rank):
    try:
        validate(Schedule(orders, stage_to_rank))
    except ScheduleError:
        return True
    return False


# ---- what is legal


@pytest.mark.parametrize(("p", "m"), GRID)
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_every_named_schedule_is_legal(name, p, m, may_run):
    schedule = build_schedule(name, p, m)
    assert validate(schedule) is schedule
    assert legal(schedule.orders, schedule.stage_to_rank, may_run)


@pytest.mark.parametrize("chunks", [2, 3])
@pytest.mark.parametrize(("p", "m"), [(1, 1), (2, 3), (3, 2), (4, 8)])
@pytest.mark.parametrize("name", ["naive", "gpipe"])
def test_every_named_schedule_is_legal_with_several_stages_a_rank(name, p, m, chunks, may_run):
    schedule = validate(build_schedule(name, p, m, chunks=chunks))
    assert legal(schedule.orders, schedule.stage_to_rank, may_run)


def test_weight_gradients_may_come_as_late_as_one_likes():
    late = Schedule(
        [
            "0F0 0F1 0I0 0I1 0W0 0W1",
            "1F0 1I0 1F1 1I1 1W1 1W0",
        ],
        [0, 1],
    )
    assert validate(late) is late


def test_one_stage_may_split_its_backward_and_another_not():
    mixed = Schedule(
        [
            "0F0 0F1 0B0 0I1 0W1",
            "1F0 1I0 1F1 1B1 1W0",
        ],
        [0, 1],
    )
    assert validate(mixed) is mixed


@given(random=st.randoms(use_true_random=False))
def test_any_legal_schedule_is_accepted(random, random_schedule, may_run):
    schedule = random_schedule(random)
    assert legal(schedule.orders, schedule.stage_to_rank, may_run)
    assert validate(schedule) is schedule


@given(random=st.randoms(use_true_random=False))
def test_the_execution_order_keeps_every_order_and_every_dependency(
    random, random_schedule, may_run
):
    schedule = random_schedule(random)
    done = []
    for action in execution_order(schedule):
        assert may_run(action, set(done), schedule.num_stages)
        done.append(action)
    for rank, order in enumerate(schedule.orders):
        assert tuple(a for a in done if schedule.stage_to_rank[a.stage] == rank) == order
    assert len(done) == len(schedule.position)


def drop(random, orders):
    order = random.choice(orders)
    order.pop(random.randrange(len(order)))


def double(random, orders):
    order = random.choice(orders)
    order.insert(random.randint(0, len(order)), random.choice(order))


def move_to_another_rank(random, orders):
    order, other = random.choice(orders), random.choice(orders)
    other.insert(random.randint(0, len(other)), order.pop(random.randrange(len(order))))


def swap_on_a_rank(random, orders):
    order = random.choice(orders)
    a, b = random.randrange(len(order)), random.randrange(len(order))
    order[a], order[b] = order[b], order[a]


def move_on_a_rank(random, orders):
    order = random.choice(orders)
    order.insert(random.randrange(len(order)), order.pop(random.randrange(len(order))))


def relabel(random, orders):
    order = random.choice(orders)
    index = random.randrange(len(order))
    stage, kind, microbatch = order[index]
    order[index] = random.choice(
        [
            (stage + random.choice([-1, 1]), kind, microbatch),
            (stage, random.choice("FBIW"), microbatch),
            (stage, kind, microbatch + random.choice([-1, 1])),
        ]
    )


MUTATIONS = [drop, double, move_to_another_rank, swap_on_a_rank, move_on_a_rank, relabel]


@pytest.mark.parametrize("mutation", MUTATIONS)
@settings(max_examples=100)
@given(random=st.randoms(use_true_random=False))
def test_a_damaged_schedule_is_refused_unless_it_really_runs(
    mutation, random, random_schedule, may_run
):
    schedule = random_schedule(random, most_microbatches=3)
    orders = [list(order) for order in schedule.orders]
    mutation(random, orders)
    if not all(orders) and mutation is move_to_another_rank:
        return  # an emptied rank has nothing left to take from
    assert refused(orders, schedule.stage_to_rank) != legal(orders, schedule.stage_to_rank, may_run)


def test_the_mutations_reach_both_verdicts(random_schedule, may_run):
    """Without this, the test above could pass by mutating nothing, or by refusing everything."""
    random, verdicts = Random(0), {mutation: set() for mutation in MUTATIONS}
    for mutation in MUTATIONS:
        for _ in range(100):
            schedule = random_schedule(random)
            orders = [list(order) for order in schedule.orders]
            mutation(random, orders)
            verdicts[mutation].add(legal(orders, schedule.stage_to_rank, may_run))
    assert False in verdicts[drop] & verdicts[double] & verdicts[relabel]
    assert all(
        len(verdicts[m]) == 2 for m in (move_to_another_rank, swap_on_a_rank, move_on_a_rank)
    )


# ---- what is illegal, and what it is told


@pytest.mark.parametrize(
    ("orders", "stage_to_rank", "message"),
    [
        ([], [], "the schedule has no action: give each rank at least one"),
        ([[], []], [0, 1], "the schedule has no action: give each rank at least one"),
        (
            ["0F0 0B0", "1F0 1B0"],
            [0, 2],
            "stage 1 is on rank 2, but the orders end with rank 1: use ranks 0 to 1",
        ),
        (
            ["0F0 0B0"],
            [-1],
            "stage 0 is on rank -1, but the orders end with rank 0: use ranks 0 to 0",
        ),
        (
            ["0F0 1F0 1B0 0B0", ""],
            [0, 0],
            "rank 1 has no stage: give it one, or leave the rank out",
        ),
        (
            ["0F0 0B0", "1F0 2F0 1B0"],
            [0, 1],
            "2F0 is impossible: stages go from 0 to 1, micro-batches from 0",
        ),
        (
            ["0F0 0B0 1F0", "1B0"],
            [0, 1],
            "rank 0 runs 1F0, but stage 1 is on rank 1: move the action there",
        ),
        (
            ["0F0 0B0", "1F0 1B0 1F0"],
            [0, 1],
            "1F0 is doubled: rank 1 runs it twice; once is enough",
        ),
        (
            ["0F0 0B0", "1F0"],
            [0, 1],
            "1B0 is missing from the order of rank 1: a stage runs F and B (or I and W) of each "
            "micro-batch, 0 to 0",
        ),
        (
            ["0F0 0B0 0F2 0B2", "1F0 1B0 1F2 1B2"],
            [0, 1],
            "0F1 is missing from the order of rank 0: a stage runs F and B (or I and W) of each "
            "micro-batch, 0 to 2",
        ),
        (["0F0 0B0", "1B0"], [0, 1], "1F0 is missing from the order of rank 1"),
        (["0F0 0B0", "1F0 1I0"], [0, 1], "1W0 is missing from the order of rank 1"),
        (["0F0 0B0", "1F0 1W0"], [0, 1], "1I0 is missing from the order of rank 1"),
        (
            ["0F0 0B0", "1F0 1B0 1W0"],
            [0, 1],
            "stage 1 runs the backward of micro-batch 0 twice, as B and as W: take either B, or "
            "I and W",
        ),
        (
            ["0F0 0B0", "1F0 1B0 1I0 1W0"],
            [0, 1],
            "stage 1 runs the backward of micro-batch 0 twice, as B and as I and W: take either "
            "B, or I and W",
        ),
        (["0B0 0F0"], [0], "rank 0 runs 0B0 before 0F0, which it needs: run 0F0 first"),
        (
            ["0F0 0I0 0W0", "1F0 1W0 1I0"],
            [0, 1],
            "rank 1 runs 1W0 before 1I0, which it needs: run 1I0 first",
        ),
        (
            # Stage 2 comes back to rank 0, and stands before what it needs two ranks away.
            ["0F0 2B0 2F0 0B0", "1F0 1B0"],
            [0, 1, 0],
            "rank 0 runs 2B0 before 2F0, which it needs: run 2F0 first",
        ),
    ],
)
def test_what_is_wrong_is_named(orders, stage_to_rank, message):
    with pytest.raises(ScheduleError) as error:
        validate(Schedule(orders, stage_to_rank))
    assert message in str(error.value)


@pytest.mark.parametrize("microbatch", [-1, -5])
def test_a_negative_microbatch_is_impossible(microbatch):
    """And not, although the highest number is below 0, a schedule without actions."""
    with pytest.raises(
        ScheduleError, match=f"0F{microbatch} is impossible: .*micro-batches from 0"
    ):
        validate(Schedule([[Action(0, "F", microbatch), Action(0, "B", microbatch)]], [0]))


def test_a_negative_stage_is_impossible():
    """And not the last stage, as Python would count."""
    with pytest.raises(ScheduleError, match="-1F0 is impossible: stages go from 0 to 0"):
        validate(Schedule([[Action(-1, "F", 0), Action(-1, "B", 0)]], [0]))


def test_an_unknown_kind_is_named():
    with pytest.raises(ScheduleError, match="0X0 is of kind 'X': use F, B, I, W"):
        validate(Schedule([[Action(0, "F", 0), Action(0, "X", 0)]], [0]))


def test_every_schedule_error_is_a_value_error():
    with pytest.raises(ValueError, match="no action"):
        validate(Schedule([], []))


# ---- deadlocks


def test_a_deadlock_of_two_ranks_is_named_as_a_circle():
    """Rank 0 wants a backward before it sends 0F1; rank 1 wants 0F1 before that backward."""
    schedule = Schedule(["0F0 0B0 0F1 0B1", "1F0 1F1 1B0 1B1"], [0, 1])
    with pytest.raises(ScheduleError) as error:
        validate(schedule)
    assert str(error.value) == (
        "deadlock: rank 0 waits for 1B0 on rank 1, which waits for 0F1 on rank 0; "
        "let one of these ranks run earlier what another one waits for"
    )


def test_a_rank_that_waits_for_the_circle_is_not_part_of_it():
    """Rank 0 waits for rank 1, but no one waits for rank 0: the circle is ranks 1 and 2."""
    schedule = Schedule(
        [
            "0F0 0F1 0B0 0B1",
            "1F0 1B0 1F1 1B1",
            "2F0 2F1 2B0 2B1",
        ],
        [0, 1, 2],
    )
    with pytest.raises(
        ScheduleError, match=r"^deadlock: rank 1 waits for 2B0 on rank 2, which"
    ) as e:
        validate(schedule)
    assert "rank 0" not in str(e.value)


@pytest.mark.parametrize(
    "order", [[0, 1, 2], [2, 0, 1], [1, 0, 2]], ids=["straight", "turned", "swapped"]
)
def test_a_deadlock_of_three_ranks_is_named_as_a_circle(order):
    """One rank runs 3F1 before 0F1, and 3F1 hangs on 0F1 by way of the two other ranks."""
    a, b, c = order
    stage_to_rank = [a, b, c, a, b, c]
    orders = [None] * 3
    orders[a] = "0F0 3F0 3F1 0F1 3B0 0B0 3B1 0B1"
    orders[b] = "1F0 4F0 1F1 4F1 4B0 1B0 4B1 1B1"
    orders[c] = "2F0 5F0 2F1 5F1 5B0 2B0 5B1 2B1"
    with pytest.raises(ScheduleError) as error:
        validate(Schedule(orders, stage_to_rank))
    waits = {a: f"2F1 on rank {c}", c: f"1F1 on rank {b}", b: f"0F1 on rank {a}"}
    chain = [waits[0]]
    for _ in range(2):
        chain.append(waits[int(chain[-1][-1])])
    assert f"deadlock: rank 0 waits for {', which waits for '.join(chain)};" in str(error.value)


def test_execution_goes_as_far_as_it_can_before_it_reports_a_deadlock():
    schedule = Schedule(["0F0 0B0 0F1 0B1", "1F0 1F1 1B0 1B1"], [0, 1])
    actions = execution_order(schedule)
    assert [str(next(actions)), str(next(actions))] == ["0F0", "1F0"]
    with pytest.raises(ScheduleError, match="deadlock"):
        next(actions)


def test_execution_names_a_missing_action_even_unvalidated():
    schedule = Schedule([["0F0", "0B0"], ["1F0"]], [0, 1])
    with pytest.raises(
        ScheduleError, match="1B0 is missing: rank 0 waits for it, and no rank runs it"
    ):
        list(execution_order(schedule))


# ---- the price


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_validation_takes_time_in_proportion_to_the_actions(name, count_calls):
    small, large = build_schedule(name, 16, 64), build_schedule(name, 16, 512)
    ratio = count_calls(lambda: validate(large)) / count_calls(lambda: validate(small))
    assert ratio < 8 * 1.1


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_waiting_rank_is_woken_by_what_it_waits_for_and_by_nothing_else(name, monkeypatch):
    """An action is asked for its needs when its turn comes, and once more for each it waits for."""
    schedule, asked = build_schedule(name, 16, 32), []

    def counted(action, schedule):
        asked.append(action)
        return dependencies(action, schedule)

    monkeypatch.setattr(module, "dependencies", counted)
    assert len(list(execution_order(schedule))) == len(schedule.position)
    assert max(Counter(asked).values()) <= 3


def test_what_is_no_schedule_is_refused():
    with pytest.raises(ScheduleError, match=r"'1f1b' is no Schedule: make one, such as build_sch"):
        validate("1f1b")


def test_a_deadlock_is_found_in_proportion_to_the_actions(count_calls):
    def circle(m):
        first = [f"0F{k}" for k in range(m - 1)] + ["0B0", f"0F{m - 1}"]
        second = [f"1F{k}" for k in range(m)] + [f"1B{k}" for k in range(m)]
        return Schedule([first + [f"0B{k}" for k in range(1, m)], second], [0, 1])

    def diagnose(m):
        with pytest.raises(ScheduleError, match="deadlock"):
            validate(circle(m))

    assert count_calls(lambda: diagnose(800)) < 8 * 1.1 * count_calls(lambda: diagnose(100))
