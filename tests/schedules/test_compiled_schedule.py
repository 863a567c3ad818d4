import pytest
from hypothesis import given, settings, strategies as st

from d2lpart.schedules.compiled_schedule import compiled
from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.schedule import KINDS, Action, Schedule, ScheduleError, dependencies
from d2lpart.schedules.validation import validate


def assert_agrees_with_dependencies(schedule):
    program = compiled(schedule)
    count = len(program.actions)
    assert [str(a) for a in program.actions] == [str(a) for o in schedule.orders for a in o]
    place = {number: at for at, number in enumerate(program.order)}
    assert sorted(place) == list(range(count))
    for number, action in enumerate(program.actions):
        rank = schedule.stage_to_rank[action.stage]
        needs = dependencies(action, schedule)
        afar = [need for need in needs if schedule.stage_to_rank[need.stage] != rank]
        maker = program.source[number]
        assert afar == ([program.actions[maker]] if maker < count else [])
        assert program.ranks[program.codes[number]] == rank
        for need in needs:
            assert place[program.actions.index(need)] < place[number]
        before = program.before[number]
        assert before == (count if number == program.first[rank] else number - 1)
        assert before == count or place[before] < place[number]
        alike = program.actions[program.sample[program.codes[number]]]
        assert (alike.stage, alike.kind) == (action.stage, action.kind)


@settings(max_examples=100)
@given(random=st.randoms(use_true_random=False))
def test_a_program_says_what_dependencies_say(random, random_schedule):
    """Any placement, and B or I and W by the toss of a coin for each stage and micro-batch."""
    assert_agrees_with_dependencies(random_schedule(random))


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_programs_of_the_named_schedules(name):
    assert_agrees_with_dependencies(build_schedule(name, 3, 6))


def mutated(random, schedule):
    """The schedule with an action dropped, doubled, changed or moved; legal or not."""
    orders = [list(order) for order in schedule.orders]
    order = random.choice([order for order in orders if order])
    place = random.randrange(len(order))
    action = order[place]
    match random.randrange(5):
        case 0:
            del order[place]
        case 1:
            random.choice(orders).append(action)
        case 2:
            order[place] = Action(action.stage, random.choice([*KINDS, "X"]), action.microbatch)
        case 3:
            step = random.choice([-9, -1, 1, 9])
            stage, k = random.choice([(step, 0), (0, step), (0, 10**9)])
            order[place] = Action(action.stage + stage, action.kind, action.microbatch + k)
        case 4:
            del order[place]
            order.insert(random.randrange(len(order) + 1), action)
    places = list(schedule.stage_to_rank)
    if random.random() < 0.2:
        places[random.randrange(len(places))] = random.randrange(-1, len(orders) + 1)
    return Schedule(orders, places)


@settings(max_examples=300)
@given(random=st.randoms(use_true_random=False))
def test_what_is_illegal_is_refused_as_validate_refuses_it(random, random_schedule):
    schedule = mutated(random, random_schedule(random, most_microbatches=3))
    said = verdict(validate, schedule)
    assert verdict(compiled, schedule) == said
    if not said:
        assert_agrees_with_dependencies(schedule)


def verdict(check, schedule):
    try:
        check(schedule)
    except ScheduleError as error:
        return str(error)
    return ""


def test_micro_batches_alike_in_kind_may_differ_in_order():
    """The second one runs 1F1 before 0F1, which the first one does not."""
    right, wrong = "0F0 1F0 0F1 1F1", "0F0 1F0 1F1 0F1"
    ends = "1B0 0B0 1B1 0B1"
    assert_agrees_with_dependencies(Schedule([f"{right} {ends}"], [0, 0]))
    with pytest.raises(ScheduleError, match="rank 0 runs 1F1 before 0F1, which it needs"):
        compiled(Schedule([f"{wrong} {ends}"], [0, 0]))


@pytest.mark.parametrize("thing", [None, "1f1b", [["0F0", "0B0"]]])
def test_only_a_schedule_has_a_program(thing):
    with pytest.raises(ScheduleError, match="is no Schedule"):
        compiled(thing)


def test_a_program_is_made_once_and_changes_no_schedule():
    schedule = build_schedule("gpipe", 3, 4)
    assert compiled(schedule) is compiled(schedule)
    assert schedule == build_schedule("gpipe", 3, 4)
    assert hash(schedule) == hash(build_schedule("gpipe", 3, 4))


def test_micro_batches_that_are_alike_are_asked_about_once(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "d2lpart.schedules.compiled_schedule.dependencies",
        lambda a, s: asked.append(a) or dependencies(a, s),
    )
    compiled(build_schedule("1f1b", 4, 100))
    assert len(asked) == 8
