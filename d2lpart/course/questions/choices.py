"""Questions: one of several, and a number with its unit; each answer is explained when it is given.

An explanation is a sentence or a function that returns one. Give a function wherever the sentence
has a number in it, and let the package compute that number:

>>> q = Question(
...     "99.q1",
...     "Without micro-batches, what part of the time is a rank of 4 idle?",
...     {
...         "a": Option("1/4", lambda: f"It *works* {1 / 4:.0%} of the time."),
...         "b": Option("3/4", lambda: f"One rank of 4 works at a time: {3 / 4:.0%} is lost."),
...     },
...     answer="b",
... )
>>> q.check("a")
Not yet. It *works* 25% of the time.
>>> q.check("e")
99.q1: answer with one of a, b

A question with several right options out of several; each pick and each omission is explained.

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

import html
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import pairwise
from typing import ClassVar, NamedTuple

from d2lpart.course.progress.store import record
from d2lpart.course.questions import widget
from d2lpart.course.questions.feedback import Explanation, Feedback, explain, inline_html
from d2lpart.course.questions.hints import check_hints, hints_html
from d2lpart.course.questions.reading import letters, number as read_number, one_of


class Option(NamedTuple):
    """One answer to choose, and why it is right or which idea it rests on."""

    text: str
    why: Explanation


@dataclass(frozen=True)
class BaseQuestion(ABC):
    """What every question has: an id ("05.q1"), a stem, a check, and three ways to show itself.

    hints: three, each stronger, or none. worked: the solution of the same question with other
    numbers, for those whom the third hint has not helped. seed: what a variant was asked for with.
    A class names its kind of controls, as the widget has them.
    """

    controls: ClassVar[str]
    id: str
    stem: str
    _: KW_ONLY
    hints: Sequence[Explanation] = ()
    worked: Explanation = ""
    seed: int | str | None = None

    def __post_init__(self) -> None:
        check_hints(self.id, self.hints, self.worked)

    @abstractmethod
    def judge(self, answer: object) -> Feedback:
        """Return the feedback to an answer of any type; never raises."""

    @abstractmethod
    def lines(self) -> list[str]:
        """The answers to choose from, or the form of the answer, as lines of plain text."""

    def given(self) -> list[str]:
        """What stands in the static page under the stem and is not among what it unfolds."""
        return []

    @abstractmethod
    def folded(self) -> list[tuple[str, Feedback]]:
        """Each thing to unfold in the static page: its label, and the feedback underneath."""

    @abstractmethod
    def example(self) -> str:
        """An answer of the right form, as Python text; not always a right one."""

    def reply(self, answer: object) -> Feedback:
        """Judge an answer and write it down in the learner's progress; never raises."""
        feedback = self.judge(answer)
        if feedback.understood:
            kind = "right" if feedback.ok else "wrong"
            record(self.id, "tried", ok=feedback.ok, kind=kind, seed=self.seed)
        return feedback

    def check(self, answer: object) -> Feedback:
        """Reply to an answer. In strict mode (D2LPART_STRICT=1), raise `CheckFailed` if wrong."""
        return self.reply(answer).or_raise()

    @property
    def how(self) -> str:
        """How to answer where there is no widget."""
        seed = "" if self.seed is None else f", seed={self.seed!r}"
        return f'question("{self.id}"{seed}).check({self.example()})'

    def __repr__(self) -> str:
        rows = [f"{self.id}  {self.stem}", *(f"  {line}" for line in self.lines())]
        return "\n".join([*rows, f"Answer with {self.how}"])

    def _repr_html_(self) -> str:
        folds = "".join(
            f"<details><summary>{inline_html(label)}</summary>{feedback._repr_html_()}</details>"
            for label, feedback in self.folded()
        )
        given = "".join(f"<div>{inline_html(line)}</div>" for line in self.given())
        return (
            f'<div role="group" aria-label="Question {self.id}">'
            f"<p><b>{self.id}</b> {inline_html(self.stem)}</p>{given}{folds}"
            f"{hints_html(self)}"
            f"<p><i>Unfold a line, or run</i> <code>{html.escape(self.how)}</code></p></div>"
        )

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, object]:
        bundle: dict[str, object] = {"text/plain": repr(self), "text/html": self._repr_html_()}
        return bundle | widget.view(self)


@dataclass(frozen=True, repr=False)
class Question(BaseQuestion):
    """A choice of one among several.

    `options` maps a letter (or "true" and "false") to an `Option`; `answer` is the letter of the
    right one. Raises `ValueError` for fewer than two options or an answer that is none of them.
    """

    controls = "choice"
    options: Mapping[str, Option]
    answer: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.options) < 2:
            raise ValueError(f"{self.id}: {len(self.options)} options; a choice needs two at least")
        if self.answer not in self.options:
            keys = ", ".join(self.options)
            raise ValueError(f"{self.id}: the answer {self.answer!r} is none of the options {keys}")

    def judge(self, answer: object) -> Feedback:
        key = one_of(answer, {key: option.text for key, option in self.options.items()})
        if key is None:
            keys = ", ".join(self.options)
            return Feedback(self.id, False, f"{self.id}: answer with one of {keys}", False)
        return Feedback(self.id, key == self.answer, explain(self.options[key].why))

    def lines(self) -> list[str]:
        return [f"{key}) {option.text}" for key, option in self.options.items()]

    def folded(self) -> list[tuple[str, Feedback]]:
        return [
            (line, self.judge(key)) for line, key in zip(self.lines(), self.options, strict=True)
        ]

    def example(self) -> str:
        return f'"{next(iter(self.options))}"'


def true_or_false(
    question_id: str, stem: str, *, answer: bool, when_true: Explanation, when_false: Explanation
) -> Question:
    """Return a choice between true and false; `check` then takes True, False, "true" or "false".

    >>> q = true_or_false("99.q2", "More ranks, less idle?", answer=False,
    ...     when_true="The idle part grows.", when_false="It grows: 1/2, 2/3, 3/4.")
    >>> q.check(False)
    Right. It grows: 1/2, 2/3, 3/4.
    """
    options = {"true": Option("True", when_true), "false": Option("False", when_false)}
    return Question(question_id, stem, options, answer=str(answer).lower())


@dataclass(frozen=True, repr=False)
class NumberQuestion(BaseQuestion):
    """A number, with its unit and the tolerance of the check.

    answer: the number, or a function that computes it. tolerance: how far off an answer may be, in
    the same unit; 1% of the answer if not given. explain: the sentence for a right answer.
    misconceptions: pairs of a wrong number (or a function that computes it) and its sentence.
    otherwise: the sentence for any other wrong number; a function gets the number given.
    """

    controls = "number"
    answer: float | Callable[[], float]
    explain: Explanation
    unit: str = ""
    tolerance: float | None = None
    misconceptions: Sequence[tuple[float | Callable[[], float], Explanation]] = field(default=())
    otherwise: Explanation = ""

    def value(self) -> float:
        """The right number, computed now."""
        return float(self.answer() if callable(self.answer) else self.answer)

    @property
    def tells_apart(self) -> bool:
        """Whether the right number and all wrong ones are far enough from each other."""
        wrong = [float(w() if callable(w) else w) for w, _ in self.misconceptions]
        numbers = sorted([self.value(), *wrong])
        return all(b - a > self._room() for a, b in pairwise(numbers))

    def judge(self, answer: object) -> Feedback:
        number = read_number(answer, self.unit)
        if number is None:
            return Feedback(self.id, False, f"{self.id}: answer with {self._form()}", False)
        if self._near(number, self.value()):
            return Feedback(self.id, True, explain(self.explain))
        return Feedback(self.id, False, self._why_wrong(number))

    def _why_wrong(self, number: float) -> str:
        if self.unit == "%" and 0 < abs(number) < 1:  # a fraction, as it seems
            percent, idea = 100 * number, self._idea(100 * number)
            if idea or self._near(percent, self.value()):
                return f"Give it in %: {number:g} is {percent:g} %. {idea}".rstrip()
        if idea := self._idea(number):
            return idea
        side = "small" if number < self.value() else "large"
        amount = f"{number:g} {self.unit}".rstrip()
        more = explain(self.otherwise, number) if callable(self.otherwise) else self.otherwise
        return f"{amount} is too {side}. {more}".rstrip()

    def _idea(self, number: float) -> str:
        for wrong, sentence in self.misconceptions:
            if self._near(number, wrong() if callable(wrong) else wrong):
                return explain(sentence)
        return ""

    def _near(self, number: float, target: float) -> bool:
        return abs(number - target) <= self._room() + 1e-9 * abs(target)

    def _room(self) -> float:
        return self.tolerance if self.tolerance is not None else 0.01 * abs(self.value())

    def _form(self) -> str:
        unit = f" in {self.unit}" if self.unit else ""
        return f"one number{unit}, such as {self.example()}"

    def lines(self) -> list[str]:
        return [f"(one number{f' in {self.unit}' if self.unit else ''})"]

    def folded(self) -> list[tuple[str, Feedback]]:
        amount = f"{self.value():.4g} {self.unit}".rstrip()
        right = Feedback(self.id, True, f"{amount}. {explain(self.explain)}")
        return [("Show the answer", right)]

    def example(self) -> str:
        return "12.5" if not self.judge(12.5).ok else "30"  # gives nothing away


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
        rows = [f"{key}) {option.text}" for key, option in self.options.items()]
        return [*rows, "(all that are right)"]

    def folded(self) -> list[tuple[str, Feedback]]:
        return [(f"{key}) {option.text}", self._alone(key)) for key, option in self.options.items()]

    def _alone(self, key: str) -> Feedback:
        right = key in self.answer
        word = "It is one of them." if right else "It is not one of them."
        return Feedback(self.id, right, f"{word} {explain(self.options[key].why)}")

    def example(self) -> str:
        keys = "".join(self.options)
        wrong = next(
            some for some in (keys[:2], keys[-2:], keys[:1]) if set(some) != set(self.answer)
        )
        return f'"{wrong}"'
