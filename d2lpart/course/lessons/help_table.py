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

    hints: tuple[Explanation, Explanation, Explanation]
    worked: Explanation


def with_help(items: Iterable[Item], table: Mapping[str, Help]) -> list[Item]:
    """Return the items, each with the help that the table has under its id.

    Raises `ValueError` for an item without help, and for help without an item.
    """
    helped = list(items)
    ids = {item.id for item in helped}
    if ids != set(table):
        missing, strange = sorted(ids - set(table)), sorted(set(table) - ids)
        raise ValueError(f"items without help: {missing}; help without an item: {strange}")
    return [replace(item, **table[item.id]._asdict()) for item in helped]
