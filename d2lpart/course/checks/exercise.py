"""An exercise: what is asked, the function that answers it, and the wrong ideas it tells apart.

The wrong ideas are code. A learner's outputs that equal those of a wrong function on every case
come from that idea, and the answer is the idea's own sentence.

An examination whose function takes live objects, such as modules or an optimizer, has a trial that
makes these objects, calls the function, and returns numbers, texts and tensors. A check runs the
trial here; the grader runs it where the submission is, and judges what comes back.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from d2lpart.course.questions.feedback import Explanation
from d2lpart.course.questions.hints import check_hints

Cases = Callable[[random.Random], Iterable[tuple[Any, ...]]]
"""Yields argument tuples, smallest first; draws the random ones from the generator given."""

Holds = Callable[[tuple[Any, ...], Any], str | None]
"""(args, output) -> None where all is well, else the sentence that says what is not."""

USUAL_IMPORTS = (
    *("math", "itertools", "functools", "collections", "random", "statistics", "heapq", "bisect"),
    *("fractions", "operator", "typing", "dataclasses", "torch", "d2lpart"),
)
LONGEST_CHECK = 10.0
"""Seconds that the check of an exercise may ask for, at most."""


class Misconception(NamedTuple):
    """A wrong function, and the sentence for the learner who wrote it.

    The sentence may be a function of the arguments of the smallest failing case.
    """

    function: Callable[..., Any]
    sentence: Explanation

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


def misconception(sentence: Explanation) -> Callable[[Callable[..., Any]], Misconception]:
    """Make the function below a `Misconception`; called, it still returns its wrong value."""
    return lambda function: Misconception(function, sentence)


class Property(NamedTuple):
    """One thing that is asked of every output: a layer of the verdict.

    claim: the words for it where it is true, such as "legal schedule" or "each layer once".
    holds: (args, output) -> None, or the sentence that says what is wrong.
    must: False for a quality. An exercise is solved without it, and its verdict says by how much
      it is missed: "41% idle: stage 2 is the bottleneck".
    """

    claim: str
    holds: Holds
    must: bool = True


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
      properties: `Property`s in the order of the verdict, qualities last; they too replace the
        comparison. The verdict says which of them hold already, and shows no right output.
      show: args -> the text between the call's brackets, where their repr is no readable call.
      valid: args -> whether they are a case. Where it is given, a failing case is made smaller.
    For the learner:
      task: one line that says what is asked.
      hints: none, or three, each stronger than the one before.
      worked: a worked solution of a different instance.
    For the check:
      seconds: its limit where it trains something, at most 10; progress is shown meanwhile.
      uses_gpu: whether its cases use the GPU where there is one; it then runs in this process.
    For the grader:
      allowed_imports: the packages a submission may import. points: a whole number, 1 or more.
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
    judge: Holds | None = None
    show: Callable[..., str] | None = None
    properties: Sequence[Property] = ()
    valid: Callable[..., bool] | None = None
    task: str = ""
    hints: tuple[Explanation, ...] = ()
    worked: Explanation = ""
    seconds: float | None = None
    uses_gpu: bool = False
    allowed_imports: tuple[str, ...] = USUAL_IMPORTS
    points: int = 1

    def __post_init__(self) -> None:
        if (self.cases is None) == (self.examine is None):
            raise ValueError(f"{self.id}: give either cases or examine, not both and not none")
        self._check_rules()
        check_hints(self.id, self.hints, self.worked)
        if self.seconds is not None and not 0 < self.seconds <= LONGEST_CHECK:
            raise ValueError(
                f"{self.id}: seconds={self.seconds}; a check lasts {LONGEST_CHECK:g} s at most: "
                "train less"
            )
        if self.points < 1:
            raise ValueError(f"{self.id}: points={self.points}; give at least 1")

    def _check_rules(self) -> None:
        if self.examine and self.misconceptions:
            raise ValueError(
                f"{self.id}: misconceptions need cases; examine says its own sentences"
            )
        if self.properties and (self.examine or self.judge):
            raise ValueError(
                f"{self.id}: properties need cases and no judge; make the judge one of them"
            )
        must = [rule.must for rule in self.properties]
        if must != sorted(must, reverse=True):
            raise ValueError(f"{self.id}: qualities (must=False) come after all that must hold")

    @property
    def name(self) -> str:
        """The name of the function the learner writes."""
        return self.reference.__name__

    @property
    def has_one_answer(self) -> bool:
        """Whether only what the reference returns is right, so that outputs are compared."""
        return not (self.judge or self.properties)

    def draw_cases(self, seed: int) -> list[tuple[Any, ...]]:
        """Return the cases, the example first; equal seeds give equal cases."""
        assert self.cases is not None
        drawn = list(self.cases(random.Random(f"{self.id}:{seed}")))
        first = [self.example] if self.example is not None else []
        return first + drawn


Trial = Callable[..., Any]
"""trial(learner's function, plain arguments...) -> plain values."""


def observe(trial: Trial, function: Callable[..., Any], *args: Any) -> Any:
    """Run a trial of the function: here, or by the function's own `run_trial` where it has one.

    >>> observe(lambda function, n: [function(k) for k in range(n)], abs, 3)
    [0, 1, 2]
    """
    elsewhere = getattr(function, "run_trial", None)
    return elsewhere(trial, *args) if elsewhere else trial(function, *args)
