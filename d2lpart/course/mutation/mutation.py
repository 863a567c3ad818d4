"""Tests the checks: each mutant of a reference must fail its check, or be explained.

A mutant that a check takes for right has survived. Either the check's cases are too weak, or the
mutant is right as well; then `EQUIVALENT` says why.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from d2lpart.course.catalog import exercise, exercises
from d2lpart.course.checks.checker import judge
from d2lpart.course.checks.child import Say, forked
from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.mutation.mutants import Mutant, mutants_of

EQUIVALENT: dict[str, dict[str, str]] = {
    "02.1": {
        "if parts - {0, 1}: -> if {0, 1} - parts:": (
            "parts of layers are neither 0 nor 1, so both differences are empty, or neither is"
        ),
    },
    "01.3": {
        "held = min(batch // size, ahead) -> held = min(ahead, batch // size)": (
            "min does not mind the order"
        ),
    },
    "06.2": {
        "most = max(most, held) -> most = max(held, most)": "max does not mind the order",
    },
    "06.3": {
        "stages = [list(range(s * each, (s + 1) * each)) for s in range(p * v)] -> "
        "stages = [list(range(s * each, (s + 1) * each)) for s in range(p * v + 1)]": (
            "the stage too many is looked up by no rank"
        ),
    },
    "06.4": {
        "for k in range(r + 1 - p, m + r): -> for k in range(r + 1 - p, m + r + 1):": (
            "behind the last W a turn more has nothing to do"
        ),
    },
}


EACH = 2.0
"""How long a single mutant may take, in a child of its own."""


@dataclass(frozen=True)
class Survey:
    """How the mutants of one exercise fared: how many there are, and which survived."""

    exercise: Exercise
    count: int
    survivors: list[Mutant]

    @property
    def unexplained(self) -> list[Mutant]:
        """The survivors that no sentence explains."""
        known = EQUIVALENT.get(self.exercise.id, {})
        return [mutant for mutant in self.survivors if mutant.text not in known]

    @property
    def stale(self) -> list[str]:
        """Explanations of what does not survive, or is no mutant."""
        texts = {mutant.text for mutant in self.survivors}
        return [text for text in EQUIVALENT.get(self.exercise.id, {}) if text not in texts]

    def __str__(self) -> str:
        lines = [
            f"{self.exercise.id} {self.exercise.name}: {self.count} mutants, "
            f"{len(self.survivors)} survive, {len(self.unexplained)} of them unexplained"
        ]
        lines += [f"  line {m.line}: {m.text}" for m in self.unexplained]
        return "\n".join([*lines, *(f"  explained, but does not survive: {t}" for t in self.stale)])


def survey(one: Exercise, function: Callable[..., Any] | None = None) -> Survey:
    """Run the check on every mutant of the exercise's reference, or of another right function."""
    found = list(mutants_of(function or one.reference))
    return Survey(one, len(found), [found[number] for number in _survivors(one, found)])


def _survivors(one: Exercise, found: Sequence[Mutant]) -> Iterator[int]:
    """Yield the numbers of the mutants that the check takes for right.

    They run in a child; where one of them ends it or does not end, the next child goes on behind.
    """
    start = 0
    while start < len(found):
        verdicts: dict[int, bool] = {}

        def work(say: Say, first: int = start) -> None:
            for number in range(first, len(found)):
                say(begun=number)
                say(number=number, ok=judge(one, found[number].function).ok)

        def hear(message: dict[str, int], verdicts: dict[int, bool] = verdicts) -> None:
            if "begun" in message:
                verdicts[message["begun"]] = False
            elif "number" in message:
                verdicts[message["number"]] = bool(message["ok"])

        forked(work, EACH + 0.02 * (len(found) - start), hear)
        yield from (number for number, ok in verdicts.items() if ok)
        start = max(verdicts, default=start) + 1


def main(ids: Sequence[str]) -> int:
    """Print the survey of the exercises named, or of all; 1 if anything is unexplained or stale."""
    bad = False
    for one in [exercise(id_) for id_ in ids] or exercises():
        found = survey(one)
        print(found, flush=True)
        bad = bad or bool(found.unexplained or found.stale)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
