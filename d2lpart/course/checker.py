"""Judges a learner's function: runs it on the cases and finds the smallest that fails."""

import random
from collections.abc import Callable
from typing import Any

from d2lpart.course.comparison import Difference, difference
from d2lpart.course.diagnosis import Trial, diagnose, raised_sentence
from d2lpart.course.exercise import Exercise
from d2lpart.course.running import Outcome, learner_line, run
from d2lpart.course.verdict import Result, show_call, show_pair, show_value


def judge(exercise: Exercise, learner: Any, seed: int = 0) -> Result:
    """Return the verdict on the learner's function; never raises for what the learner wrote.

    Equal seeds draw equal cases, so a verdict can be reproduced.
    """
    if not callable(learner):
        got = show_value(learner)
        sentence = f"`check` takes the function `{exercise.name}` itself, not {got}."
        return Result(exercise, learner, "not callable", sentence)
    if exercise.examine:
        return _examined(exercise, learner, seed)
    trials = _trials(exercise, learner, seed)
    failing = next((trial for trial in trials if trial.wrong), None)
    if failing is None:
        return _agreeing(exercise, learner, trials)
    if failing.outcome.kind == "missing":
        return _missing(exercise, learner)
    return _failing(exercise, learner, trials, failing)


def _trials(exercise: Exercise, learner: Callable[..., Any], seed: int) -> list[Trial]:
    """Run the learner's function on every case; on the first only, if it is still to be written."""
    trials = []
    for args in exercise.draw_cases(seed):
        outcome = run(learner, args)
        expected = run(exercise.reference, args)
        assert expected.kind == "returned", f"{exercise.id}: the reference fails on {args}"
        wrong = _wrong(exercise, args, outcome, expected.value)
        trials.append(Trial(args, outcome, expected.value, wrong))
        if outcome.kind == "missing":
            break
    return trials


def _wrong(
    exercise: Exercise, args: tuple[Any, ...], outcome: Outcome, expected: Any
) -> Difference | None:
    if outcome.kind != "returned":
        return Difference(outcome.kind, "")
    if exercise.judge is None:
        found = difference(outcome.value, expected, exercise.tolerance)
    else:
        found = _judged(exercise.judge, args, outcome.value, expected)
    return Difference("none", "") if found and outcome.value is None else found


def _judged(
    rule: Callable[..., str | None], args: tuple[Any, ...], value: Any, expected: Any
) -> Difference | None:
    """Apply an exercise's own rule; an output it cannot even read is of the wrong type."""
    try:
        sentence = rule(args, value)
    except Exception:
        found = difference(value, expected)
        return found if found and found.kind == "type" else Difference("type", "")
    return Difference("value", sentence) if sentence else None


def _failing(exercise: Exercise, learner: Any, trials: list[Trial], failing: Trial) -> Result:
    outcome = failing.outcome
    expected, got = show_pair(failing.expected, outcome.value)
    if outcome.kind == "raised":
        got = f"{type(outcome.error).__name__}: {outcome.error}".removesuffix(": ")
    kind, sentence = diagnose(exercise, trials, failing)
    return Result(
        exercise,
        learner,
        kind,
        sentence,
        call=show_call(exercise, failing.args),
        expected=expected if exercise.judge is None else f"for example {expected}",
        got=got,
        printed=_first_lines(outcome.printed),
    )


def _agreeing(exercise: Exercise, learner: Any, trials: list[Trial]) -> Result:
    """Every output is right; what is left to look at is whether the arguments were kept."""
    touched = next((trial for trial in trials if trial.outcome.changed), None)
    if touched is None:
        last = show_call(exercise, trials[-1].args)
        largest = f", the last of them `{last}`" if len(last) <= 60 else ""
        sentence = f"{len(trials)} cases agree with the reference{largest}."
        return Result(exercise, learner, "right", sentence)
    name = touched.outcome.changed[0]
    sentence = (
        f"The value is right, but the call changes its argument `{name}`, "
        "which the caller may still need: work on a copy of it."
    )
    call = show_call(exercise, touched.args)
    return Result(exercise, learner, "mutated", sentence, call=call)


def _missing(exercise: Exercise, learner: Any) -> Result:
    sentence = (
        f"`{exercise.name}` is still to be written: put your lines in place of "
        "`raise NotImplementedError`, run that cell, then this one."
    )
    return Result(exercise, learner, "missing", sentence)


def _examined(exercise: Exercise, learner: Any, seed: int) -> Result:
    """Let the exercise's own examination run the function; its errors are told like any others."""
    assert exercise.examine is not None
    examine = exercise.examine
    rng = random.Random(f"{exercise.id}:{seed}")
    outcome = run(lambda function: examine(function, rng), (learner,))
    if outcome.kind == "missing":
        return _missing(exercise, learner)
    printed = _first_lines(outcome.printed)
    if outcome.error is not None:
        error = f"{type(outcome.error).__name__}: {outcome.error}".removesuffix(": ")
        sentence = raised_sentence(exercise, outcome.error, learner_line(learner, outcome.error))
        return Result(exercise, learner, "raised", sentence, got=error, printed=printed)
    if outcome.value is None:
        return Result(exercise, learner, "right", "It passes the examination.")
    return Result(exercise, learner, "wrong", str(outcome.value), printed=printed)


def _first_lines(printed: str) -> str:
    lines = printed.splitlines()
    return " / ".join(lines[:3]) + (" / …" if len(lines) > 3 else "")
