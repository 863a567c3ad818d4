"""Judges a learner's function: runs it on the cases and finds the one that tells most."""

import functools
import inspect
import random
from collections.abc import Callable
from typing import Any

from d2lpart.common.words import cut
from d2lpart.course.checks.diagnosis import diagnose, idea_behind, raised, same_function
from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.checks.running import learner_line, run
from d2lpart.course.checks.showing import (
    LONGEST,
    LONGEST_SENTENCE,
    show_call,
    show_error,
    show_pair,
    show_value,
)
from d2lpart.course.checks.shrinking import shrunk, size
from d2lpart.course.checks.trials import Trial, Watch, drawn, run_cases
from d2lpart.course.checks.verdict import RIGHT_KIND, RUNS, Layer, Result


def judge(
    exercise: Exercise, learner: Any, seed: int = 0, *, watch: Watch = lambda *_: None
) -> Result:
    """Return the verdict on the learner's function; never raises for what the learner wrote.

    Equal seeds draw equal cases, so a verdict can be reproduced. The function runs in this thread
    without any limit: `guard.guarded_judge` sets one.
    """
    if not callable(learner):
        got = show_value(learner)
        sentence = f"`check` takes the function `{exercise.name}` itself, not {got}."
        return Result(exercise, learner, "not callable", sentence)
    if exercise.examine:
        return _examined(exercise, learner, seed, watch)
    trials = run_cases(exercise, learner, seed, watch)
    wrong = [trial for trial in trials if trial.wrong]
    if not wrong:
        return _agreeing(exercise, learner, trials, seed)
    failing = _most_telling(exercise, wrong)
    if failing.outcome.kind == "missing":
        return _missing(exercise, learner)
    return _failing(exercise, learner, trials, failing, seed, watch)


def _most_telling(exercise: Exercise, wrong: list[Trial]) -> Trial:
    """Return the trial to show: the example, which the reader has seen, else the smallest.

    Where there are properties, it is one that fails the first of them that does not always hold.
    """
    first = min(trial.layer for trial in wrong)
    those = [trial for trial in wrong if trial.layer == first or not exercise.properties]
    if exercise.example is not None and those[0].number == 0:
        return those[0]
    return min(those, key=lambda trial: size(trial.args))


def _failing(
    exercise: Exercise,
    learner: Any,
    trials: list[Trial],
    failing: Trial,
    seed: int,
    watch: Watch,
) -> Result:
    idea = idea_behind(exercise, trials)
    if exercise.valid and not (exercise.example is not None and failing.number == 0):
        failing = shrunk(
            exercise,
            learner,
            failing,
            lambda trial: not idea or same_function(idea[0], [trial], exercise.tolerance),
            watch,
        )
    outcome = failing.outcome
    expected, got = show_pair(failing.expected, outcome.value)
    if outcome.error is not None:
        got = show_error(outcome.error)
    kind, sentence = diagnose(exercise, learner, trials, failing, idea)
    right = sorted((trial.args for trial in trials if not trial.wrong), key=size)
    right_call = show_call(exercise, right[0]) if right else ""
    return Result(
        exercise,
        learner,
        kind,
        sentence,
        call=show_call(exercise, failing.args, drawn(exercise, seed, failing.number)),
        expected=_shown(exercise, expected),
        got=got,
        printed=_first_lines(outcome.printed),
        layers=_layers(exercise, failing.layer),
        cases=(len(right), len(trials)),
        right_call=right_call if len(right_call) <= 60 else "",
    )


def _shown(exercise: Exercise, expected: str) -> str:
    """Return what was expected; nothing where the properties say it without giving it away."""
    if exercise.properties:
        return ""
    return expected if exercise.has_one_answer else f"for example {expected}"


def _layers(exercise: Exercise, failing: int | None) -> tuple[Layer, ...]:
    """Return the claims up to the one that fails; all of them where none does."""
    own = [rule.claim for rule in exercise.properties if rule.must] or ["the right values"]
    claims = [RUNS, RIGHT_KIND, *own]
    if failing is None:
        return tuple((claim, True) for claim in claims)
    return (*((claim, True) for claim in claims[:failing]), (claims[failing], False))


def _agreeing(exercise: Exercise, learner: Any, trials: list[Trial], seed: int) -> Result:
    """Every output is right; what is left: whether the arguments were kept, and the qualities."""
    kept = "its arguments are kept"
    layers = _layers(exercise, None)
    touched = [trial for trial in trials if trial.outcome.changed]
    if touched:
        smallest = min(touched, key=lambda trial: size(trial.args))
        sentence = (
            f"The value is right, but the call changes its argument "
            f"`{smallest.outcome.changed[0]}`, which the caller may still need: work on a copy of "
            "it."
        )
        call = show_call(exercise, smallest.args, drawn(exercise, seed, smallest.number))
        layers = (*layers, (kept, False))
        return Result(exercise, learner, "mutated", sentence, call=call, layers=layers)
    if left := trials[-1].outcome.threads:
        call = show_call(exercise, trials[-1].args)
        layers = (*layers, ("its threads end", False))
        return Result(
            exercise, learner, "threads", _threads_sentence(left), call=call, layers=layers
        )
    if exercise.properties:
        return _with_qualities(exercise, learner, trials, layers, seed)
    last = show_call(exercise, trials[-1].args)
    largest = f", the last of them `{last}`" if len(last) <= 60 else ""
    sentence = f"{len(trials)} cases agree with the reference{largest}."
    return Result(exercise, learner, "right", sentence, layers=(*layers, (kept, True)))


def _threads_sentence(left: int) -> str:
    threads = (
        "a thread that it has started still runs"
        if left == 1
        else (f"{left} threads that it has started still run")
    )
    return f"The value is right, but {threads}: `join` each before the `return`."


def _with_qualities(
    exercise: Exercise, learner: Any, trials: list[Trial], layers: tuple[Layer, ...], seed: int
) -> Result:
    """Solved; name the first quality that is missed, and the smallest case that misses it."""
    sentence = f"{len(trials)} cases are right."
    for claim, holds in ((rule.claim, rule.holds) for rule in exercise.properties if not rule.must):
        for trial in sorted(trials, key=lambda trial: size(trial.args)):
            if lacking := holds(trial.args, trial.outcome.value):
                call = show_call(exercise, trial.args, drawn(exercise, seed, trial.number))
                sentence = f"{sentence} But {lacking[:1].lower()}{lacking[1:].rstrip('.')}."
                layers = (*layers, (claim, False))
                return Result(exercise, learner, "right", sentence, call=call, layers=layers)
        layers = (*layers, (claim, True))
    return Result(exercise, learner, "right", sentence, layers=layers)


def _missing(exercise: Exercise, learner: Any) -> Result:
    sentence = (
        f"`{exercise.name}` is still to be written: put your lines in place of "
        "`raise NotImplementedError`, run that cell, then this one."
    )
    return Result(exercise, learner, "missing", sentence)


def _examined(exercise: Exercise, learner: Any, seed: int, watch: Watch) -> Result:
    """Let the exercise's own examination run the function; its errors are told like any others."""
    assert exercise.examine is not None
    examine = exercise.examine
    rng = random.Random(f"{exercise.id}:{seed}")
    announced = _announced(exercise, learner, watch)
    outcome = run(lambda function: examine(function, rng), (announced,))
    if outcome.kind == "missing":
        return _missing(exercise, learner)
    printed = _first_lines(outcome.printed)
    if outcome.error is not None:
        asked = tuple(inspect.signature(exercise.reference).parameters)
        line = learner_line(learner, outcome.error)
        kind, sentence = raised(exercise, learner, outcome.error, line, asked)
        error = show_error(outcome.error)
        layers = ((RUNS, False),)
        return Result(exercise, learner, kind, sentence, got=error, printed=printed, layers=layers)
    if outcome.value is None:
        if outcome.threads:
            return Result(exercise, learner, "threads", _threads_sentence(outcome.threads))
        return Result(exercise, learner, "right", "It passes the examination.")
    sentence = cut(str(outcome.value), LONGEST_SENTENCE)
    return Result(exercise, learner, "wrong", sentence, printed=printed)


def _announced(exercise: Exercise, learner: Any, watch: Watch) -> Callable[..., Any]:
    """Return the learner's function; each call of it is told first."""

    @functools.wraps(learner)
    def call(*args: Any, **named: Any) -> Any:
        watch(show_call(exercise, args), 0, 0)
        return learner(*args, **named)

    return call


def _first_lines(printed: str) -> str:
    lines = printed.splitlines()
    return cut(" / ".join(lines[:3]) + (" / …" if len(lines) > 3 else ""), LONGEST)
