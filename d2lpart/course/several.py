"""A question with several right options out of several; each pick and each omission is explained.

>>> q = Several("99.q3", "Which of these cross a cut between two stages?", {
...     "a": Option("activations", "The next stage computes with them."),
...     "b": Option("gradients of activations", "The stage before needs them."),
...     "c": Option("weights", "Each stage keeps its own."),
... }, answer="ab")
>>> q.check("bc")
Not yet. c) Each stage keeps its own. One more is to be found.
>>> q.check(["a", "b"])
Right. a) The next stage computes with them. b) The stage before needs them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from d2lpart.course.feedback import Feedback, explain
from d2lpart.course.questions import BaseQuestion, Option
from d2lpart.course.reading import letters


@dataclass(frozen=True, repr=False)
class Several(BaseQuestion):
    """A choice of several among several.

    `options` maps one letter to an `Option`, whose explanation says why it belongs or does not.
    `answer` holds the letters of all right ones: a text such as "ac", or a collection. Raises
    `ValueError` for fewer than two options, a key that is no single letter, or an answer that
    names none or an unknown one.
    """

    controls = "several"
    options: Mapping[str, Option]
    answer: Collection[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        keys = ", ".join(self.options)
        if len(self.options) < 2:
            raise ValueError(f"{self.id}: {len(self.options)} options; a choice needs two at least")
        if any(len(key) != 1 for key in self.options):
            raise ValueError(f"{self.id}: the keys {keys} are not all single letters")
        if not self.answer or not set(self.answer) <= set(self.options):
            raise ValueError(f"{self.id}: the answer {self.answer!r} is no choice of {keys}")

    def judge(self, answer: object) -> Feedback:
        """Return the feedback to an answer of any type; never raises."""
        picked = self._read(answer)
        if picked is None:
            keys = ", ".join(self.options)
            text = f"{self.id}: answer with the letters of all that are right, of {keys}"
            return Feedback(self.id, False, text, False)
        right = set(self.answer)
        if picked == right:
            return Feedback(self.id, True, self._why(right))
        parts = [self._why(picked - right)] if picked - right else []
        missing = len(right - picked)
        if missing:
            parts.append(
                "One more is to be found." if missing == 1 else f"{missing} more are to be found."
            )
        return Feedback(self.id, False, " ".join(parts))

    def _read(self, answer: object) -> set[str] | None:
        picked = letters(answer, self.options)
        return None if picked is None else set(picked)

    def _why(self, keys: Collection[str]) -> str:
        return " ".join(
            f"{key}) {explain(option.why)}" for key, option in self.options.items() if key in keys
        )

    def lines(self) -> list[str]:
        """Return what is given, as lines of plain text."""
        rows = [f"{key}) {option.text}" for key, option in self.options.items()]
        return [*rows, "(all that are right)"]

    def folded(self) -> list[tuple[str, Feedback]]:
        """Return what the static page unfolds."""
        return [(f"{key}) {option.text}", self._alone(key)) for key, option in self.options.items()]

    def _alone(self, key: str) -> Feedback:
        right = key in self.answer
        word = "It is one of them." if right else "It is not one of them."
        return Feedback(self.id, right, f"{word} {explain(self.options[key].why)}")

    def example(self) -> str:
        """Return an answer of the right form that gives nothing away."""
        keys = "".join(self.options)
        wrong = next(
            some for some in (keys[:2], keys[-2:], keys[:1]) if set(some) != set(self.answer)
        )
        return f'"{wrong}"'
