"""Every question and exercise of the course, found by its id.

A lesson is one module, lesson_NN.py, with two lists: QUESTIONS and EXERCISES. The ids begin with
the lesson's number: questions are "05.q1", "05.q2", exercises "05.1", "05.2".
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from d2lpart.course import lesson_00, lesson_03, lesson_04, lesson_05
from d2lpart.course.checker import judge
from d2lpart.course.exercise import Exercise
from d2lpart.course.questions import BaseQuestion
from d2lpart.course.verdict import Result

LESSONS = (lesson_00, lesson_03, lesson_04, lesson_05)

Item = TypeVar("Item", BaseQuestion, Exercise)


def questions() -> list[BaseQuestion]:
    """All questions, in the order of the lessons."""
    return [item for lesson in LESSONS for item in lesson.QUESTIONS]


def exercises() -> list[Exercise]:
    """All exercises, in the order of the lessons."""
    return [item for lesson in LESSONS for item in lesson.EXERCISES]


def question(question_id: str) -> BaseQuestion:
    """Return a question; as the last line of a cell it shows itself."""
    return _find("question", question_id, questions())


def exercise(exercise_id: str) -> Exercise:
    """Return an exercise, with its reference and its misconceptions."""
    return _find("exercise", exercise_id, exercises())


def check(exercise_id: str, learner: Any, *, seed: int = 0) -> Result:
    """Check the learner's function; `seed` draws other cases.

    Never raises for what the learner wrote, unless D2LPART_STRICT is 1: then a function that is
    not right raises `CheckFailed`.
    """
    return judge(exercise(exercise_id), learner, seed).or_raise()


def _find(what: str, wanted: str, items: Iterable[Item]) -> Item:
    found = {item.id: item for item in items}
    if wanted not in found:
        known = ", ".join(found) or "none so far"
        raise ValueError(f"no {what} {wanted!r}; those there are: {known}")
    return found[wanted]
