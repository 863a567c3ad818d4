"""The help of a lesson: each item gets its own, and what is missing says where it belongs."""

import pytest

from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.lessons.help_table import Help, with_help
from d2lpart.course.questions.choices import NumberQuestion

HELP = Help("One.", "Two.", "Three.", "For 3 it is 9.")


def question(item_id):
    return NumberQuestion(item_id, "4 times 4?", 16, "It is 16.")


def exercise(item_id):
    return Exercise(item_id, "absolute", abs, cases=lambda rng: [(-1,)])


def test_each_item_gets_its_own_help_and_the_order_stays():
    other = HELP._replace(worked="For 2 it is 4.")
    one, two = with_help([question("05.q2"), question("05.q1")], {"05.q1": HELP, "05.q2": other})
    assert (one.id, one.hints, one.worked) == ("05.q2", HELP.hints, "For 2 it is 4.")
    assert (two.id, two.hints, two.worked) == ("05.q1", HELP.hints, "For 3 it is 9.")


@pytest.mark.parametrize(
    ("items", "table", "text"),
    [
        (
            [question("05.q1"), question("05.q2")],
            {"05.q1": HELP},
            '05.q2 has no help: add "05.q2": Help(three hints, worked) to HELP in '
            "d2lpart/course/lessons/lesson_05/help.py",
        ),
        (
            [exercise("04.5")],
            {},
            '04.5 has no help: add "04.5": Help(three hints, worked) to EXERCISE_HELP in '
            "d2lpart/course/lessons/lesson_04/help.py",
        ),
        (
            [],
            {"05.q9": HELP},
            "05.q9 has help and is no item: add it to QUESTIONS of questions.py, or take it out "
            "of HELP in d2lpart/course/lessons/lesson_05/help.py",
        ),
        (
            [exercise("04.1")],
            {"04.1": HELP, "04.5": HELP},
            "04.5 has help and is no item: add it to EXERCISES of exercises.py, or take it out "
            "of EXERCISE_HELP in d2lpart/course/lessons/lesson_04/help.py",
        ),
    ],
)
def test_what_is_missing_is_said_with_the_file_the_table_and_the_entry(items, table, text):
    with pytest.raises(ValueError, match="has") as caught:
        with_help(items, table)
    assert str(caught.value) == text


def test_a_mistyped_id_is_said_on_both_sides():
    with pytest.raises(ValueError, match=r"^05\.q1 has no help: .*; 05\.ql has help and is no"):
        with_help([question("05.q1")], {"05.ql": HELP})
