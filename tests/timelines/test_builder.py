"""Schedules made by hand: what may be placed next, what is said of the rest, and the result."""

import re

import pytest
from hypothesis import given, strategies as st

from d2lpart.explorers.widgets import schedule_builder
from d2lpart.schedules.orders import build_schedule
from d2lpart.schedules.schedule import Action, ScheduleError
from d2lpart.schedules.validation import validate
from d2lpart.timelines.builder import Building, Move
from d2lpart.timelines.simulator import simulate


@given(
    p=st.integers(1, 4),
    m=st.integers(1, 4),
    split=st.booleans(),
    random=st.randoms(use_true_random=False),
)
def test_whatever_is_ready_leads_to_a_legal_schedule(p, m, split, random):
    building = Building(p, m, split=split)
    while not building.done:
        building.place(random.choice(building.ready()))
    schedule = validate(building.schedule())
    timeline = building.timeline()
    assert timeline == simulate(schedule, building.seconds)
    assert {span.action: span.start for span in timeline.spans} == {
        action: span.start for action, span in building._spans.items()
    }
    assert building.ready() == []


def test_an_illegal_move_is_explained_and_changes_nothing():
    building = Building(2, 2, most_held=1).place("0F0")
    for move, reason in [
        ("1B0", "needs 1F0 on rank 1"),
        ("0F0", "0F0 is placed already"),
        ("0I0", "it has F and B of stages 0 to 1"),
        ("5F0", "it has F and B of stages 0 to 1"),
        ("0F1", "rank 0 may hold 1 at once, and holds 1"),
    ]:
        with pytest.raises(Move, match=reason):
            building.place(move)
    with pytest.raises(ScheduleError, match="no action"):
        building.place("hello")
    assert building.placed == [Action(0, "F", 0)]
    with pytest.raises(Move, match="7 actions are not placed yet: 1F0 can"):
        building.timeline()


def test_the_picture_grows_with_each_move():
    building = Building(2, 2)
    with pytest.raises(Move, match="nothing is placed yet: 0F0, 0F1 can"):
        building.so_far()
    assert "<svg" not in building._repr_html_()
    for move in ["0F0", "0F1", "1F0", "1B0"]:
        building.place(move)
        timeline = building.so_far()
        assert [span.action for span in sorted(timeline.spans)] == sorted(building.placed)
        drawn = re.findall(r">([FB])(\d)<", building._repr_html_())
        assert sorted(drawn) == sorted((a.kind, str(a.microbatch)) for a in building.placed)
        assert ">9 s</text>" in building._repr_html_()  # the axis is as long as par from the start
    assert building.so_far().gaps(1)[0].reason == "waits for 0F0 on rank 0"
    assert "rank 0 |F0F1    |" in repr(building)
    assert "rank 1 |  F0B0--|" in repr(building)
    assert "4 of 8 placed; next: 0B0, 1F1; par is 9 s" in repr(building)


def test_seconds_are_checked_before_the_first_move():
    assert Building(2, 2, seconds={"F": 1, "I": 2, "W": 3}).seconds["B"] == 5
    for seconds, message in [
        ({"F": 1}, "no duration for B"),
        ({"F": 1, "B": -1}, "B of stage 0 is -1: give seconds"),
    ]:
        with pytest.raises(ValueError, match=message):
            Building(2, 2, seconds=seconds)
    with pytest.raises(ValueError, match="no duration for I and W"):
        Building(2, 2, split=True, seconds={"F": 1, "B": 2})


def test_taking_back():
    building = Building(2, 1).place("0F0").place("1F0").undo()
    assert building.placed == [Action(0, "F", 0)]
    assert building.undo().undo().placed == []


def test_par_is_the_best_named_schedule_within_the_memory():
    assert Building(4, 8).par() == (33, "1f1b")
    assert Building(4, 8, most_held=3).par()[1] == "naive"
    assert Building(4, 8, split=True, most_held=4).par() == (27, "zb-h1")
    assert Building(2, 1, most_held=0).par()[1] == ""
    building = Building(2, 2)
    assert "par is 9 s (gpipe)" in repr(building)
    for action in build_schedule("gpipe", 2, 2).orders[0]:
        while action not in building.placed:
            building.place(next(iter(sorted(building.ready(), key=lambda a: (a.kind == "B", a)))))
    while not building.done:
        building.place(building.ready()[0])
    assert "step 9 s" in repr(building)
    assert "You have made gpipe" in repr(building)
    assert "<svg" in building._repr_html_()


def test_the_builder_offers_what_is_ready_and_says_why_the_rest_is_not():
    builder = schedule_builder(2, 1)
    builder.build()

    def buttons():
        return {button.description: button for button in builder._ready.children}

    assert list(buttons()) == ["0F0"]
    first = buttons()["0F0"]
    first.click()
    assert list(buttons()) == ["1F0"]
    assert buttons()["1F0"] is first  # so it keeps the keyboard's focus
    assert first.tooltip == "Place 1F0"
    builder._entry.value = "0B0"
    assert "0B0 cannot run yet: it needs 1B0" in builder._said.value
    builder._entry.value = "1F0"
    assert "cannot" not in builder._said.value
    builder._act(None)
    assert list(buttons()) == ["1F0"]
    for _ in range(3):
        next(iter(buttons().values())).click()
    assert "step 6 s" in builder._page.value
    assert set(builder._repr_mimebundle_()) == {"text/plain", "text/html"}
