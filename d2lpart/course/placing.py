"""A question that asks which layer goes to which device.

>>> q = Placing("99.q5", "Place 4 layers on 2 devices, in groups.", 4, 2,
...     judge_placement=lambda given: None if given == (0, 0, 1, 1) else "Keep neighbours.",
...     answer=(0, 0, 1, 1), explain="One crossing.")
>>> q.check([0, 1, 0, 1])
Not yet. Keep neighbours.
>>> q.check("0 0 1 1"), q.check("0011")
(Right. One crossing., Right. One crossing.)
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from d2lpart.course.feedback import Explanation, Feedback, explain
from d2lpart.course.questions import BaseQuestion


@dataclass(frozen=True, repr=False)
class Placing(BaseQuestion):
    """A device for each layer.

    judge_placement: takes the placement, one device for each layer, and returns None if it is
    right, else the sentence that says why not; so several placements may be right, and the
    package (`check_placement`, `partition`) can be the judge. answer: one that is right.
    explain: the sentence for a right answer. Raises `ValueError` where the answer is not right.
    """

    controls = "place"
    num_layers: int
    num_devices: int
    judge_placement: Callable[[tuple[int, ...]], str | None]
    answer: Sequence[int]
    explain: Explanation

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._read(self.answer) is None or self.judge_placement(tuple(self.answer)) is not None:
            raise ValueError(f"{self.id}: the answer {self.answer!r} is not right by its own rule")

    def judge(self, answer: object) -> Feedback:
        """Return the feedback to an answer of any type; never raises."""
        placement = self._read(answer)
        if placement is None:
            text = (
                f"{self.id}: answer with {self.num_layers} device numbers, one for each layer, "
                f"each from 0 to {self.num_devices - 1}, such as {self.example()}"
            )
            return Feedback(self.id, False, text, False)
        wrong = self.judge_placement(placement)
        return Feedback(self.id, wrong is None, wrong or explain(self.explain))

    def _read(self, answer: object) -> tuple[int, ...] | None:
        if isinstance(answer, str):
            answer = self._numbers(answer)
        if not isinstance(answer, Iterable):
            return None
        try:
            placement = tuple(int(device) for device in answer)
        except (TypeError, ValueError, OverflowError):
            return None
        fits = all(0 <= device < self.num_devices for device in placement)
        return placement if fits and len(placement) == self.num_layers else None

    def _numbers(self, text: str) -> list[str]:
        """Return the numbers in a text; nothing but digits is one number a digit."""
        if self.num_devices <= 10 and text.strip().isdecimal():
            return list(text.strip())
        return re.findall(r"-?\d+", text)

    def lines(self) -> list[str]:
        """Return what is given, as lines of plain text."""
        last = self.num_devices - 1
        return [f"(a device, 0 to {last}, for each of the {self.num_layers} layers)"]

    def folded(self) -> list[tuple[str, Feedback]]:
        """Return what the static page unfolds."""
        shown = " ".join(map(str, self.answer))
        return [
            ("Show a right placement", Feedback(self.id, True, f"{shown}. {explain(self.explain)}"))
        ]

    def example(self) -> str:
        """Return an answer of the right form that gives nothing away."""
        return f'"{" ".join(["0"] * self.num_layers)}"'
