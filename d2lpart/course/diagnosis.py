"""From the trials of a wrong function to the one sentence that unlocks it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from d2lpart.course.comparison import Difference, difference
from d2lpart.course.exercise import Exercise
from d2lpart.course.feedback import explain
from d2lpart.course.running import Outcome, run, same_outcome


@dataclass(frozen=True)
class Trial:
    """One case: its arguments, what the learner's call did, and why that is not right (or None)."""

    args: tuple[Any, ...]
    outcome: Outcome
    expected: Any
    wrong: Difference | None


def diagnose(exercise: Exercise, trials: list[Trial], failing: Trial) -> tuple[str, str]:
    """Return the kind of failure and its sentence; the most telling explanation comes first.

    A misconception explains the learner's function when it does the same on every trial.
    """
    for function, sentence in exercise.misconceptions:
        if _same_function(function, trials, exercise.tolerance):
            return "misconception", explain(sentence, *failing.args)
    assert failing.wrong is not None
    kind, outcome = failing.wrong.kind, failing.outcome
    if outcome.error is not None:
        return kind, raised_sentence(exercise, outcome.error, outcome.where)
    if kind == "none":
        return kind, _none_sentence(outcome)
    if kind == "nan":
        return kind, "NaN is not a number: look for 0/0, ∞ − ∞, or the mean of nothing."
    if kind == "type":
        return kind, _sentence(failing.wrong.detail or "the output is of another kind")
    if exercise.judge is None and _constant(trials):
        text = "It returns the same value for every case: compute it from the arguments."
        return "hard-coded", text
    return _wrong_value(exercise, trials, failing)


def raised_sentence(exercise: Exercise, error: BaseException, where: str) -> str:
    """Say what the learner's function raised, and in which line (empty where it is not known)."""
    if isinstance(error, SystemExit):
        return "It ends the program: return the value instead of calling `exit`."
    if isinstance(error, RecursionError):
        return f"`{exercise.name}` calls itself without end: which case stops it?"
    return f"Your function raises {type(error).__name__}{f' in {where}' if where else ''}."


def _same_function(function: Callable[..., Any], trials: list[Trial], tolerance: float) -> bool:
    return all(
        same_outcome(trial.outcome, run(function, trial.args), tolerance) for trial in trials
    )


def _constant(trials: list[Trial]) -> bool:
    """Tell whether the outputs, three at least, are all alike though the right ones are not."""
    if len(trials) < 3:
        return False
    first = trials[0]
    alike = all(same_outcome(trial.outcome, first.outcome, 0.0) for trial in trials)
    return alike and any(difference(trial.expected, first.expected, 0.0) for trial in trials)


def _wrong_value(exercise: Exercise, trials: list[Trial], failing: Trial) -> tuple[str, str]:
    assert failing.wrong is not None
    kind = "wrong"
    parts = [_sentence(failing.wrong.detail), explain(exercise.otherwise, *failing.args)]
    if exercise.example is not None and not trials[0].wrong:
        kind = "hard-coded"
        parts.insert(0, "Right on the example in the text, but not on these arguments.")
    return kind, " ".join(part for part in parts if part)


def _none_sentence(outcome: Outcome) -> str:
    if outcome.printed:
        return "It prints its value and returns nothing: end it with `return` and the value."
    if outcome.changed:
        return f"It changes `{outcome.changed[0]}` and returns nothing: `return` the value."
    return "It returns nothing: does every way through the function end in a `return`?"


def _sentence(clause: str) -> str:
    """Make a clause a sentence: a capital in front, one full stop at the end."""
    return clause[:1].upper() + clause[1:].rstrip(".") + "." if clause else ""
