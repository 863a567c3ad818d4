"""Every question, prediction and exercise of the course, found by its id.

A lesson is one folder, `lessons/lesson_NN`, with two lists, QUESTIONS and EXERCISES, and where it
has them PREDICTIONS, and VARIANTS: for the id of a question, a function from a random generator to
the same question with other numbers. The ids begin with the lesson's number: questions are "05.q1",
exercises "05.1", predictions "05.p1".
"""

import os
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.checks.guard import guarded_judge
from d2lpart.course.checks.verdict import Result
from d2lpart.course.progress.store import hints_seen, load, read, record
from d2lpart.course.progress.table import Report, report
from d2lpart.course.questions.choices import BaseQuestion, NumberQuestion
from d2lpart.course.questions.hints import Hint, Hints, get_hint, levels
from d2lpart.course.questions.prediction import Guess, Prediction

LESSONS: tuple[ModuleType, ...] = (
    import_module("d2lpart.course.lessons.lesson_00"),
    import_module("d2lpart.course.lessons.lesson_01"),
    import_module("d2lpart.course.lessons.lesson_02"),
    import_module("d2lpart.course.lessons.lesson_03"),
    import_module("d2lpart.course.lessons.lesson_04"),
    import_module("d2lpart.course.lessons.lesson_05"),
    import_module("d2lpart.course.lessons.lesson_06"),
)
"""The lessons in their order; a new one joins by a line here."""

NOT_TRIED = ("missing", "not callable")
"""Verdicts on what is no attempt."""

Item = TypeVar("Item", BaseQuestion, Exercise, Prediction)
Variant = Callable[[random.Random], NumberQuestion]

REDRAWS = 200
"""How often a variant is drawn, until no wrong number is that of another idea, or the right one."""


def questions() -> list[BaseQuestion]:
    """All questions, in the order of the lessons."""
    return [item for lesson in LESSONS for item in lesson.QUESTIONS]


def exercises() -> list[Exercise]:
    """All exercises, in the order of the lessons."""
    return [item for lesson in LESSONS for item in getattr(lesson, "EXERCISES", ())]


def predictions() -> list[Prediction]:
    """All predictions, in the order of the lessons."""
    return [item for lesson in LESSONS for item in getattr(lesson, "PREDICTIONS", ())]


def variants() -> dict[str, Variant]:
    """Return, for the id of each question that has variants, the function that draws one."""
    return {
        key: draw for lesson in LESSONS for key, draw in getattr(lesson, "VARIANTS", {}).items()
    }


def question(question_id: str, *, seed: int | str | None = None) -> BaseQuestion:
    """Return a question; as the last line of a cell it shows itself.

    With a seed (a number, or a text such as a learner's name) it has other numbers, equal for
    equal seeds. Where none is given, the variable D2LPART_SEED gives a whole class its seed.
    Raises `ValueError` for an unknown id, and for a seed where the question has no variants.
    """
    found = _find("question", question_id, questions())
    draw, asked = variants().get(question_id), seed
    if seed is None and draw is not None:
        seed = os.environ.get("D2LPART_SEED") or None
    if seed is None:
        return found
    if draw is None:
        raise ValueError(
            f"{question_id} has no variants; those that have: {', '.join(variants()) or 'none'}"
        )
    rng = random.Random(f"{question_id}:{seed}")
    drawn = next(one for one in (draw(rng) for _ in range(REDRAWS)) if one.tells_apart)
    return replace(drawn, hints=found.hints, seed=asked)


def predict(prediction_id: str, guess: float | None = None) -> Guess:
    """Note a guess, before the cell that measures; `against` then answers it.

    With None, as in a notebook that nobody has filled in yet, it asks for the number.
    """
    return Guess(_find("prediction", prediction_id, predictions()), guess)


def hint(item_id: str, level: int | None = None) -> Hint:
    """Return a hint to a question or an exercise: the next one not seen yet, or that of a level.

    1 to 3 are hints, each stronger; 4 is a worked solution of a different instance, if there is
    one. What was seen is written down in the learner's progress.
    """
    item = _hinted(item_id)
    if level is None:
        level = max(1, min(hints_seen(item_id) + 1, levels(item)))
    found = get_hint(item, level)
    record(item_id, "hinted", level=level)
    return found


def hints(item_id: str) -> Hints:
    """Return all hints to a question or an exercise; a notebook shows them folded."""
    return Hints(_hinted(item_id))


def _hinted(item_id: str) -> BaseQuestion | Exercise:
    items: list[BaseQuestion | Exercise] = [*questions(), *exercises()]
    both = {item.id: item for item in items}
    if item_id not in both:
        raise ValueError(f"no question or exercise {item_id!r}; those there are: {', '.join(both)}")
    return both[item_id]


def exercise(exercise_id: str) -> Exercise:
    """Return an exercise, with its reference and its misconceptions."""
    return _find("exercise", exercise_id, exercises())


def check(exercise_id: str, learner: Any, *, seed: int = 0) -> Result:
    """Check the learner's function; `seed` draws other cases.

    It ends in bounded time whatever the function does, and writes the verdict down in the learner's
    progress. Never raises for what the learner wrote, unless D2LPART_STRICT is 1: then a function
    that is not right raises `CheckFailed`.
    """
    result = guarded_judge(exercise(exercise_id), learner, seed)
    if result.kind not in NOT_TRIED:
        record(exercise_id, "tried", ok=result.ok, kind=result.kind, seed=seed)
    return result.or_raise()


def progress(lesson: str | None = None, path: Path | None = None) -> Report:
    """Return the table of what was tried and passed: all lessons, or one ("05") item by item.

    It is read from the learner's own progress, or from another file of that kind, `path`. Raises
    `ValueError` for a lesson that the course does not have.
    """
    known = [item.id for item in questions()] + [item.id for item in exercises()]
    return report(load() if path is None else read(path), known, lesson)


def _find(what: str, wanted: str, items: Iterable[Item]) -> Item:
    found = {item.id: item for item in items}
    if wanted not in found:
        known = ", ".join(found) or "none so far"
        raise ValueError(f"no {what} {wanted!r}; those there are: {known}")
    return found[wanted]
