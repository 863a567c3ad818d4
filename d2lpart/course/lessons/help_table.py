"""Help for the items of a lesson: hints and worked solutions, kept beside them in one table."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeVar

from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.questions.choices import BaseQuestion
from d2lpart.course.questions.feedback import Explanation

Item = TypeVar("Item", BaseQuestion, Exercise)


class Help(NamedTuple):
    """Three hints, each stronger, and the worked solution of a different instance."""

    weak: Explanation
    stronger: Explanation
    strongest: Explanation
    worked: Explanation

    @property
    def hints(self) -> tuple[Explanation, ...]:
        """The three, the weakest first."""
        return self[:3]


def with_help(items: Iterable[Item], table: Mapping[str, Help]) -> list[Item]:
    """Return the items, each with the help that the table has under its id.

    Raises `ValueError` for an item without help, and for help without an item.
    """
    helped = list(items)
    ids = {item.id for item in helped}
    wrong = [_without_help(item_id) for item_id in sorted(ids - set(table))]
    wrong += [_without_item(item_id) for item_id in sorted(set(table) - ids)]
    if wrong:
        raise ValueError("; ".join(wrong))
    return [
        replace(item, hints=table[item.id].hints, worked=table[item.id].worked) for item in helped
    ]


def _without_help(item_id: str) -> str:
    return f'{item_id} has no help: add "{item_id}": Help(three hints, worked) to {_at(item_id)}'


def _without_item(item_id: str) -> str:
    items = "QUESTIONS of questions.py" if _asks(item_id) else "EXERCISES of exercises.py"
    return f"{item_id} has help and is no item: add it to {items}, or take it out of {_at(item_id)}"


def _at(item_id: str) -> str:
    """The table that an item's help belongs to, and the file it stands in."""
    lesson = item_id.partition(".")[0]
    table = "HELP" if _asks(item_id) else "EXERCISE_HELP"
    return f"{table} in d2lpart/course/lessons/lesson_{lesson}/help.py"


def _asks(item_id: str) -> bool:
    """Whether the id is that of a question; else it is an exercise's."""
    return ".q" in item_id
