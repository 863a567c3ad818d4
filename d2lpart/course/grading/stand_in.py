"""Stands in for the course and its pictures where a submission runs: it does nothing, harmlessly.

In the child it lies in the place of `d2lpart.course`, `d2lpart.figures` and `d2lpart.explorers`;
the references, the misconceptions and the cases are not there at all.
"""

from collections.abc import Callable, Iterator
from typing import Any


class Nothing:
    """Whatever is done with it gives it again; it is false, has no items, and prints nothing."""

    def __call__(self, *args: Any, **options: Any) -> "Nothing":
        return self

    def __getattr__(self, name: str) -> "Nothing":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return ""


class Unchecked(Nothing):
    """What `check` returns here: it judges nothing."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def or_reference(self) -> Callable[..., Any]:
        """Return the learner's function, right or wrong."""
        return self.function


def check(exercise_id: str, function: Any = None, **options: Any) -> Unchecked:
    """Take a function as the course's `check` does, and judge nothing."""
    return Unchecked(function)


def __getattr__(name: str) -> Any:
    if name.startswith(("_", "pytest")):
        raise AttributeError(name)
    return Nothing()
