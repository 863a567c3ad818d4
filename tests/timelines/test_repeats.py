"""One step from several: the shortest time of each action, placed by the rule."""

import pytest
from hypothesis import given, strategies as st

from d2lpart.schedules.orders import build_schedule
from d2lpart.timelines.simulator import simulate, undisturbed
from d2lpart.timelines.spans import Link

FREE = Link()


def virtual(schedule, seconds, link=FREE, nbytes=0):
    return simulate(schedule, seconds, link, boundary_bytes=nbytes, clock="virtual", note="here")


@given(random=st.randoms(use_true_random=False), count=st.integers(1, 4))
def test_each_action_takes_its_shortest_time(random, count, random_schedule):
    schedule, link = random_schedule(random), Link(0.25, 8.0, "bus")
    each = [{a: random.randint(0, 9) / 4 for a in schedule.position} for _ in range(count)]
    size = {action: random.randint(0, 9) for action in schedule.position}.__getitem__
    found = undisturbed((virtual(schedule, s.__getitem__, link, size) for s in each), link)
    shortest = {action: min(s[action] for s in each) for action in schedule.position}
    assert {span.action: span.seconds for span in found.spans} == pytest.approx(shortest)
    placed = virtual(schedule, shortest.__getitem__, link, size)
    for ours, theirs in zip(found.spans, placed.spans, strict=True):
        assert ours.action == theirs.action
        assert ours.start == pytest.approx(theirs.start)
    assert [t.nbytes for t in found.transfers] == [t.nbytes for t in placed.transfers]
    assert found.clock == "virtual"
    assert found.note == f"here; each duration is the shortest of {count} steps"


def test_one_slow_action_in_each_step_leaves_no_trace():
    schedule = build_schedule("1f1b", 3, 4)
    calm = virtual(schedule, {"F": 1, "B": 2})
    steps = [
        virtual(schedule, lambda a, slow=slow: 50 if a == slow else 1 + (a.kind == "B"))
        for slow in schedule.position
    ]
    assert min(step.makespan for step in steps) > 2 * calm.makespan
    assert undisturbed(steps).makespan == calm.makespan


def test_what_does_not_go_together_is_refused():
    one, two = (build_schedule("naive", p, 2) for p in (1, 2))
    even = {"F": 1, "B": 2}
    for wrong in ([], [virtual(one, even), virtual(two, even)]):
        with pytest.raises(ValueError, match="takes timelines of one schedule"):
            undisturbed(wrong)
    with pytest.raises(ValueError, match=r"of clock predicted, virtual: .*clock='virtual'"):
        undisturbed([virtual(one, even), simulate(one, even)])
