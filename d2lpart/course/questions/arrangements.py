"""Questions about arrangements: events to put in order, and layers to put on devices.

>>> q = Ordering("99.q4", "One step on two ranks: in which order?",
...     {"a": "1F0", "b": "0B0", "c": "0F0", "d": "1B0"}, answer="cadb",
...     because={("d", "b"): "The loss is behind stage 1, so its backward comes first."},
...     explain="Forward through the stages, and back.")
>>> q.check("cabd")
Not yet. b) 0B0 stands before d) 1B0. The loss is behind stage 1, so its backward comes first.
>>> q.check("c, a, d, b"), q.check("0F0 1F0 1B0 0B0")
(Right. Forward through the stages, and back., Right. Forward through the stages, and back.)

>>> q = Placing("99.q5", "Place 4 layers on 2 devices, in groups.", 4, 2,
...     judge_placement=lambda given: None if given == (0, 0, 1, 1) else "Keep neighbours.",
...     answer=(0, 0, 1, 1), explain="One crossing.")
>>> q.check([0, 1, 0, 1])
Not yet. Keep neighbours.
>>> q.check("0 0 1 1"), q.check("0011")
(Right. One crossing., Right. One crossing.)
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from d2lpart.course.questions.choices import BaseQuestion
from d2lpart.course.questions.feedback import Explanation, Feedback, explain
from d2lpart.course.questions.reading import letters


@dataclass(frozen=True, repr=False)
class Ordering(BaseQuestion):
    """Events to be put in order.

    items: a letter for each event, in the order shown. answer: the letters in one right order.
    explain: the sentence for a right answer. before: pairs of letters (first, second) that must
    stand so; every other order is free. Not given: only the order of `answer` is right.
    because: for a pair (first, second), the sentence for an answer that has them the other way
    round; it is looked up in the order it is written, so put the most telling pair first.
    Raises `ValueError` where answer, before or because do not fit the items.
    """

    controls = "order"
    items: Mapping[str, str]
    answer: Sequence[str]
    explain: Explanation
    before: Sequence[tuple[str, str]] | None = None
    because: Mapping[tuple[str, str], Explanation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        keys = ", ".join(self.items)
        if len(self.items) < 2 or any(len(key) != 1 for key in self.items):
            raise ValueError(f"{self.id}: items {keys}; give two at least, each with one letter")
        if sorted(self.answer) != sorted(self.items):
            raise ValueError(f"{self.id}: the answer {self.answer!r} does not order {keys}")
        if wrong := [pair for pair in self._rules() if not self._stands(pair, self.answer)]:
            raise ValueError(
                f"{self.id}: the answer {self.answer!r} breaks its own rule {wrong[0]}"
            )
        if strange := [pair for pair in self.because if not set(pair) <= set(self.items)]:
            raise ValueError(f"{self.id}: {strange[0]} in because are no items of {keys}")

    def _rules(self) -> list[tuple[str, str]]:
        if self.before is not None:
            return list(self.before)
        return list(combinations(self.answer, 2))

    @staticmethod
    def _stands(pair: tuple[str, str], order: Sequence[str]) -> bool:
        places = list(order)
        return places.index(pair[0]) < places.index(pair[1])

    def judge(self, answer: object) -> Feedback:
        """Return the feedback to an answer of any type; never raises."""
        order = self._read(answer)
        if order is None:
            text = f"{self.id}: answer with all of {', '.join(self.items)}, each once, in order"
            return Feedback(self.id, False, text, False)
        broken = [pair for pair in self._rules() if not self._stands(pair, order)]
        if not broken:
            return Feedback(self.id, True, explain(self.explain))
        known = [pair for pair in self.because if pair in broken]
        first, second = known[0] if known else broken[0]
        why = explain(self.because[first, second]) if known else ""
        fact = f"{second}) {self.items[second]} stands before {first}) {self.items[first]}."
        return Feedback(self.id, False, f"{fact} {why}".rstrip())

    def _read(self, answer: object) -> list[str] | None:
        order = letters(answer, self.items) or self._by_name(answer)
        return order if order and sorted(order) == sorted(self.items) else None

    def _by_name(self, answer: object) -> list[str] | None:
        """Return the letters of events that are named themselves; None if another is named."""
        keys = {text.casefold(): key for key, text in self.items.items()}
        words = re.split(r"[\s,;>→-]+", answer) if isinstance(answer, str) else answer
        if not isinstance(words, Iterable):
            return None
        named = [keys.get(str(word).strip().casefold(), "") for word in words if word != ""]
        return named if all(named) else None

    def lines(self) -> list[str]:
        """Return what is given, as lines of plain text."""
        return [*self.given(), "(put them in order)"]

    def given(self) -> list[str]:
        """Return the events with their letters."""
        return [f"{key}) {text}" for key, text in self.items.items()]

    def folded(self) -> list[tuple[str, Feedback]]:
        """Return what the static page unfolds."""
        shown = ", ".join(f"{key}) {self.items[key]}" for key in self.answer)
        right = Feedback(self.id, True, f"{shown}. {explain(self.explain)}")
        return [("Show a right order", right)]

    def example(self) -> str:
        """Return an answer of the right form that gives nothing away."""
        order = "".join(self.items)
        return f'"{order[::-1] if self.judge(order).ok else order}"'


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
