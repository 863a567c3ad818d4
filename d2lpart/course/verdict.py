"""The verdict of a check: right or not yet, the smallest failing case, the unlocking sentence."""

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from d2lpart.course.exercise import Exercise
from d2lpart.course.feedback import CheckFailed, inline_html, status_html, strict

LONGEST = 300


@dataclass(frozen=True)
class Result:
    """What a check answers; true when the exercise is solved.

    kind: "right", or what went wrong: "missing", "not callable", "raised", "none", "type", "nan",
    "mutated", "hard-coded", "misconception", "wrong". call: the failing call as Python text;
    expected, got: its values as text. sentence: the one sentence to go on with. printed: what the
    learner's function printed in that call.
    """

    exercise: Exercise
    learner: Any
    kind: str
    sentence: str
    call: str = ""
    expected: str = ""
    got: str = ""
    printed: str = ""

    @property
    def ok(self) -> bool:
        """Whether the exercise is solved."""
        return self.kind == "right"

    def __bool__(self) -> bool:
        return self.ok

    @property
    def headline(self) -> str:
        """The exercise and the verdict in words."""
        return f"{self.exercise.id} {'Right.' if self.ok else 'Not yet.'}"

    def facts(self) -> list[tuple[str, str]]:
        """The failing case, as pairs of a label and its text; no empty ones."""
        rows = [
            ("call", self.call),
            ("expected", self.expected),
            ("got", self.got),
            ("printed", self.printed),
        ]
        return [(label, text) for label, text in rows if text]

    def __repr__(self) -> str:
        facts = [f"  {label:<9} {text}" for label, text in self.facts()]
        if facts:
            return "\n".join([self.headline, *facts, self.sentence])
        return f"{self.headline} {self.sentence}"

    def _repr_html_(self) -> str:
        facts = [f"{label} <code>{html.escape(text)}</code>" for label, text in self.facts()]
        head = [""] if facts else []
        return status_html(self.ok, self.headline, [*head, *facts, inline_html(self.sentence)])

    def or_raise(self) -> "Result":
        """Return itself, or raise `CheckFailed` in strict mode when the exercise is not solved."""
        if strict() and not self.ok:
            raise CheckFailed(self.exercise.id, repr(self))
        return self

    def or_reference(self) -> Callable[..., Any]:
        """Return the learner's function if it is right, else the reference, and say so.

        So a notebook with an unsolved exercise runs on.
        """
        if self.ok:
            return self.learner
        print(f"{self.exercise.id}: the course's `{self.exercise.name}` stands in for yours.")
        return self.exercise.reference


def show_value(value: Any) -> str:
    """Write a value so that it can be compared by eye: short floats, tensors with their shape.

    >>> show_value(2 / 3), show_value([0.5, 1]), show_value(torch.zeros(2))
    ('0.666667', '[0.5, 1]', 'tensor of shape (2,): [0, 0]')
    """
    text = _shown(_in_words, value)
    return text if len(text) <= LONGEST else text[: LONGEST - 2] + " …"


def _shown(write: Callable[[Any], str], value: Any) -> str:
    """Return `write(value)`; what cannot be written, such as 10**5000, goes by its type."""
    try:
        return write(value)
    except Exception:
        return f"a value of type {type(value).__name__} that cannot be shown"


def _in_words(value: Any) -> str:
    if isinstance(value, torch.Tensor) and value.ndim > 0:
        entries = f": {_short(value.tolist())}" if value.numel() <= 16 else ""
        return f"tensor of shape {tuple(value.shape)}{entries}"
    return _short(value)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if type(value) is list:
        return "[" + ", ".join(_short(item) for item in value) + "]"
    return repr(value)


def show_pair(expected: Any, got: Any) -> tuple[str, str]:
    """Write two values; in full where their short forms would look alike."""
    short = show_value(expected), show_value(got)
    full = _shown(repr, expected), _shown(repr, got)
    return full if short[0] == short[1] and max(map(len, full)) <= LONGEST else short


def show_call(exercise: Exercise, args: tuple[Any, ...]) -> str:
    """Write the call that reproduces a case, such as `idle_fraction(2, 3)`."""
    text = exercise.show(*args) if exercise.show else ", ".join(_literal(arg) for arg in args)
    return f"{exercise.name}({text})"


def _literal(value: Any) -> str:
    if isinstance(value, torch.Tensor) and value.numel() <= 64:
        return f"torch.tensor({value.tolist()})"
    return repr(value)
