"""A prediction: a number the learner writes down before a cell runs, and the answer after it.

>>> p = Prediction("99.p1", "What part of the step is idle?", unit="%", tolerance=3,
...     ideas=[(25, "That is the part in which a rank works.")])
>>> guess = Guess(p, 25)
>>> guess
99.p1 Noted: 25 %. Run on; the measurement answers it.
>>> guess.against(75.2)
You said 25 %; it is 75.2 %, 50.2 points more. That is the part in which a rank works.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from d2lpart.course.progress.store import record
from d2lpart.course.questions.feedback import Explanation, Feedback, explain, inline_html
from d2lpart.course.questions.reading import number


@dataclass(frozen=True)
class Prediction:
    """A number to be guessed before it is measured or computed.

    tolerance: how far off a guess still counts as near, in the unit. ideas: pairs of a number and
    the sentence for a guess near it that turns out wrong. lesson: the sentence that follows any
    answer.
    """

    id: str
    stem: str
    unit: str
    tolerance: float
    ideas: Sequence[tuple[float, Explanation]] = ()
    lesson: Explanation = ""

    def amount(self, number: float) -> str:
        """Write a number with its unit."""
        return f"{number:.4g} {self.unit}".rstrip()


class Guess:
    """What the learner said, or None; written down in the learner's progress.

    Raises `ValueError` for a guess that is no finite number.
    """

    def __init__(self, prediction: Prediction, guess: float | str | None) -> None:
        self.prediction = prediction
        self.value = number(guess, prediction.unit)
        if guess is None:
            return
        if self.value is None:
            raise ValueError(
                f"{prediction.id}: your guess is {guess!r}; write one number"
                + (f" in {prediction.unit}" if prediction.unit else "")
            )
        record(prediction.id, "guessed", guess=self.value)

    def __repr__(self) -> str:
        if self.value is None:
            unit = f", in {self.prediction.unit}," if self.prediction.unit else ""
            return (
                f"{self.prediction.id} {self.prediction.stem} Write your number{unit} in place of "
                f"None and run this cell again; or run on."
            )
        noted = self.prediction.amount(self.value)
        if self.prediction.unit == "%" and 0 < self.value < 1:
            noted += f" (a part of {self.value:g} would be {100 * self.value:g} %)"
        return f"{self.prediction.id} Noted: {noted}. Run on; the measurement answers it."

    def _repr_html_(self) -> str:
        return f'<div role="status">{inline_html(repr(self))}</div>'

    def against(self, value: float) -> Feedback:
        """Hold the guess against the value: what it is off, which idea it rests on, what follows.

        The feedback is true when the guess was near. A wrong guess is no failure: strict mode does
        not mind it.
        """
        found, what = float(value), self.prediction
        after = explain(what.lesson)
        if self.value is None:
            text = f"It is {what.amount(found)}. You had noted no guess. {after}".rstrip()
            return Feedback(what.id, False, text, understood=False)
        off = self.value - found
        near = abs(off) <= what.tolerance
        record(what.id, "measured", value=found, near=near)
        said = f"You said {what.amount(self.value)}; it is {what.amount(found)}"
        if near:
            return Feedback(what.id, True, f"{said}. {after}".rstrip())
        amount = f"{abs(off):.4g} points" if what.unit == "%" else what.amount(abs(off))
        gap = f"{amount} {'less' if off > 0 else 'more'}"
        idea = self._idea()
        text = " ".join(part for part in (f"{said}, {gap}.", idea, after) if part)
        return Feedback(what.id, False, text, understood=False)

    def _idea(self) -> str:
        assert self.value is not None
        for wrong, sentence in self.prediction.ideas:
            if abs(self.value - wrong) <= self.prediction.tolerance:
                return explain(sentence)
        return ""
