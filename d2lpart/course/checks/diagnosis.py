"""From the trials of a wrong function to the one sentence that unlocks it."""

import bdb
import inspect
from collections.abc import Callable
from typing import Any

from d2lpart.course.checks.comparison import difference
from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.checks.running import NoInput, Outcome, ran_out_of_memory, run, same_outcome
from d2lpart.course.checks.trials import Trial
from d2lpart.course.questions.feedback import Explanation, explain

Idea = tuple[Callable[..., Any], Explanation]
"""A wrong function and its sentence."""


def idea_behind(exercise: Exercise, trials: list[Trial]) -> Idea | None:
    """Return the misconception that explains the learner's function: it does the same each time."""
    for function, sentence in exercise.misconceptions:
        if same_function(function, trials, exercise.tolerance):
            return function, sentence
    return None


def diagnose(
    exercise: Exercise,
    learner: Callable[..., Any],
    trials: list[Trial],
    failing: Trial,
    idea: Idea | None,
) -> tuple[str, str]:
    """Return the kind of failure and its sentence; the most telling explanation comes first."""
    if idea:
        return "misconception", explain(idea[1], *failing.args)
    assert failing.wrong is not None
    kind, outcome = failing.wrong.kind, failing.outcome
    if outcome.error is not None:
        return raised(exercise, learner, outcome.error, outcome.where, failing.args)
    if _right_on_the_example_alone(exercise, trials):
        start = "Right on the example in the text, but not on these arguments."
        return "hard-coded", " ".join([start, *_value_sentences(exercise, failing)])
    if kind == "none":
        return kind, _none_sentence(outcome)
    if kind in ("nan", "type"):
        return kind, " ".join(_value_sentences(exercise, failing))
    if _constant(trials):
        text = "It returns the same value for every case: compute it from the arguments."
        rules = [] if exercise.has_one_answer else _value_sentences(exercise, failing)
        return "hard-coded", " ".join([text, *rules])
    return "wrong", " ".join(_value_sentences(exercise, failing))


def raised(
    exercise: Exercise,
    learner: Callable[..., Any],
    error: BaseException,
    where: str,
    args: tuple[Any, ...],
) -> tuple[str, str]:
    """Return the kind and the sentence for what the learner's function raised.

    where: the line that raised, empty where it is not known. args: what it was called with.
    """
    if isinstance(error, TypeError) and not _takes(learner, args):
        return "signature", _signature_sentence(exercise, learner)
    if ran_out_of_memory(error):
        return "memory", "It needs more memory than there is: which list or tensor grows so large?"
    if isinstance(error, SystemExit):
        return "raised", "It ends the program: return the value instead of calling `exit`."
    if isinstance(error, NoInput):
        return "raised", "It asks for input: take all it needs from its arguments."
    if isinstance(error, bdb.BdbQuit):
        return "raised", (
            "It stops at a `breakpoint()`: take it out, or set the environment variable "
            "`D2LPART_CHECK_INLINE` to 1 to step through the check."
        )
    if isinstance(error, RecursionError):
        return "raised", f"`{exercise.name}` calls itself without end: which case stops it?"
    place = f" in {where}" if where else ""
    return "raised", f"Your function raises {type(error).__name__}{place}."


def same_function(function: Callable[..., Any], trials: list[Trial], tolerance: float) -> bool:
    """Tell whether a function does on every trial what the learner's does."""
    return all(
        same_outcome(trial.outcome, run(function, trial.args), tolerance) for trial in trials
    )


def _takes(function: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    """Tell whether a function can be called with these arguments; true where none can say."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*args)
    except TypeError:
        return False
    return True


def _signature_sentence(exercise: Exercise, learner: Callable[..., Any]) -> str:
    asked, there = (
        ", ".join(str(p).split(":")[0] for p in inspect.signature(function).parameters.values())
        for function in (exercise.reference, learner)
    )
    return f"`{exercise.name}` is asked for with the arguments `({asked})`; yours has `({there})`."


def _constant(trials: list[Trial]) -> bool:
    """Tell whether the outputs, three at least, are all alike though the right ones are not."""
    if len(trials) < 3:
        return False
    first = trials[0]
    alike = all(same_outcome(trial.outcome, first.outcome, 0.0) for trial in trials)
    return alike and any(difference(trial.expected, first.expected, 0.0) for trial in trials)


def _right_on_the_example_alone(exercise: Exercise, trials: list[Trial]) -> bool:
    wrong = [trial.wrong is not None for trial in trials]
    return exercise.example is not None and len(wrong) > 2 and not wrong[0] and all(wrong[1:])


def _value_sentences(exercise: Exercise, failing: Trial) -> list[str]:
    """Say what is wrong with the value that was returned; no empty sentences."""
    assert failing.wrong is not None
    kind, detail = failing.wrong
    if kind == "none":
        return [_none_sentence(failing.outcome)]
    if kind == "nan":
        return ["NaN is not a number: look for 0/0, ∞ − ∞, or the mean of nothing."]
    if kind == "type":
        return [_sentence(detail or "the output is of another kind")]
    parts = [_sentence(detail), explain(exercise.otherwise, *failing.args)]
    return [part for part in parts if part]


def _none_sentence(outcome: Outcome) -> str:
    if outcome.printed:
        return "It prints its value and returns nothing: end it with `return` and the value."
    if outcome.changed:
        return f"It changes `{outcome.changed[0]}` and returns nothing: `return` the value."
    return "It returns nothing: does every way through the function end in a `return`?"


def _sentence(clause: str) -> str:
    """Make a clause a sentence: a capital in front, one full stop (or its own mark) at the end."""
    if not clause:
        return ""
    text = clause[:1].upper() + clause[1:].rstrip(".")
    return text if text.endswith(("?", "!")) else text + "."
