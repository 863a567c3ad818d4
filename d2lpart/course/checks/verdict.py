"""The verdict of a check: right or not yet, the smallest failing case, the unlocking sentence."""

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.questions.feedback import CheckFailed, inline_html, status_html, strict

KINDS = {
    "right": "the exercise is solved",
    "missing": "the function is still to be written",
    "not callable": "what was handed over is no function",
    "signature": "it takes other arguments than it is asked to",
    "raised": "it raises an error",
    "memory": "it asks for more memory than a check has",
    "died": "it ends or crashes the process it runs in",
    "endless": "it has not ended when the time is up",
    "none": "it returns nothing",
    "type": "its value is of another kind",
    "nan": "its value is not a number",
    "hard-coded": "it knows one answer, and does not look at its arguments",
    "misconception": "it follows a wrong idea that the exercise names",
    "wrong": "its value is wrong in another way",
    "mutated": "its value is right, but an argument is changed",
    "threads": "its value is right, but threads that it has started still run",
}
"""Every kind of verdict, and what it says."""

RUNS, RIGHT_KIND = "it runs", "the right kind of value"

Layer = tuple[str, bool]
"""A claim, and whether it is true."""


@dataclass(frozen=True)
class Result:
    """What a check answers; true when the exercise is solved.

    kind: one of `KINDS`. sentence: the one sentence to go on with. call: the failing call as Python
    text; expected, got: its values as text. printed: what the learner's function printed in that
    call. layers: what is asked, in order, as pairs (claim, whether it is true), up to the first
    that is not. cases: how many cases are right, of how many; (0, 0) where none were counted.
    right_call: one of those that are right.
    """

    exercise: Exercise
    learner: Any
    kind: str
    sentence: str
    call: str = ""
    expected: str = ""
    got: str = ""
    printed: str = ""
    layers: tuple[Layer, ...] = ()
    cases: tuple[int, int] = (0, 0)
    right_call: str = ""

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
            *self._layer_rows(),
            ("call", self.call),
            ("expected", self.expected),
            ("got", self.got),
            ("printed", self.printed),
            ("right in", self._share()),
        ]
        return [(label, text) for label, text in rows if text]

    def _layer_rows(self) -> list[tuple[str, str]]:
        """Return what holds and what does not, where the exercise has properties of its own."""
        if not self.exercise.properties:
            return []
        own = [layer for layer in self.layers if layer not in ((RUNS, True), (RIGHT_KIND, True))]
        holds, lacks = (", ".join(c for c, true in own if true is want) for want in (True, False))
        return [("holds", holds), ("not yet", lacks)]

    def _share(self) -> str:
        right, all_cases = self.cases
        if not 0 < right < all_cases:
            return ""
        such = f"{':' if right == 1 else ', such as'} {self.right_call}" if self.right_call else ""
        return f"{right} of {all_cases} cases{such}"

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
