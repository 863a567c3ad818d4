"""An exercise: what is asked, the function that answers it, and the wrong ideas it tells apart.

The wrong ideas are code. A learner's outputs that equal those of a wrong function on every case
come from that idea, and the answer is the idea's own sentence.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from d2lpart.course.feedback import Explanation

Cases = Callable[[random.Random], Iterable[tuple[Any, ...]]]
"""Yields argument tuples, smallest first; draws the random ones from the generator given."""


class Misconception(NamedTuple):
    """A wrong function, and the sentence for the learner who wrote it.

    The sentence may be a function of the arguments of the smallest failing case.
    """

    function: Callable[..., Any]
    sentence: Explanation


@dataclass(frozen=True)
class Exercise:
    """One function for the learner to write.

    id: such as "05.1". reference: the right function; the learner's has its name.
    Give exactly one of
      cases: argument tuples on which the learner's function is held against the reference, and
      examine: a function (learner's function, random.Random) -> None, or the sentence that says
        what is wrong; for a check that is no comparison of outputs.
    With cases:
      misconceptions: `Misconception`s, or pairs (wrong function, sentence).
      otherwise: the sentence for any other wrong output; may be a function of the case's arguments.
      example: the arguments of the example in the text; it tells a hard-coded answer.
      tolerance: as in `comparison.difference`.
      judge: (args, output) -> None, or a sentence; replaces the comparison where several outputs
        are right.
      show: args -> the text between the call's brackets, where their repr is no readable call.
    """

    id: str
    title: str
    reference: Callable[..., Any]
    cases: Cases | None = None
    examine: Callable[[Callable[..., Any], random.Random], str | None] | None = None
    misconceptions: Sequence[tuple[Callable[..., Any], Explanation]] = ()
    otherwise: Explanation = ""
    example: tuple[Any, ...] | None = None
    tolerance: float = 1e-6
    judge: Callable[[tuple[Any, ...], Any], str | None] | None = None
    show: Callable[..., str] | None = None

    def __post_init__(self) -> None:
        if (self.cases is None) == (self.examine is None):
            raise ValueError(f"{self.id}: give either cases or examine, not both and not none")
        if self.examine and self.misconceptions:
            raise ValueError(
                f"{self.id}: misconceptions need cases; examine says its own sentences"
            )

    @property
    def name(self) -> str:
        """The name of the function the learner writes."""
        return self.reference.__name__

    def draw_cases(self, seed: int) -> list[tuple[Any, ...]]:
        """Return the cases, the example first; equal seeds give equal cases."""
        assert self.cases is not None
        drawn = list(self.cases(random.Random(f"{self.id}:{seed}")))
        first = [self.example] if self.example is not None else []
        return first + drawn
