"""The trials of a learner's function: each case, what its call did, and what is wrong with that."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from d2lpart.common.words import cut
from d2lpart.course.checks.comparison import Difference, difference, type_words
from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.checks.running import Outcome, ran_out_of_memory, run
from d2lpart.course.checks.showing import LONGEST_SENTENCE, show_call

Watch = Callable[[str, int, int], None]
"""Is told each call before it is made: its text, the cases done, and all cases (0: not known)."""

HUGE = 1_000_000
"""A wrong output of so many entries is looked at alone: several may be more than memory holds."""


@dataclass(frozen=True)
class Trial:
    """One case: its arguments, what the learner's call did, and why that is not right (or None).

    layer: how far it came; 0 where the call fails, 1 where its value is of the wrong kind, then 2,
    or 2 + i where the exercise's property i does not hold. number: its place among the cases,
    None for one that was made smaller.
    """

    args: tuple[Any, ...]
    outcome: Outcome
    expected: Any
    wrong: Difference | None
    layer: int = 2
    number: int | None = None


def run_cases(exercise: Exercise, learner: Any, seed: int, watch: Watch) -> list[Trial]:
    """Run the learner's function on the cases, and no further than they teach something."""
    cases = exercise.draw_cases(seed)
    trials = []
    for number, args in enumerate(cases):
        expected = run(exercise.reference, args)
        assert expected.kind == "returned", f"{exercise.id}: the reference fails on {args}"
        watch(show_call(exercise, args, drawn(exercise, seed, number)), number, len(cases))
        trials.append(tried(exercise, args, run(learner, args), expected.value, number))
        last = trials[-1]
        if _is_enough(last):
            break
    return trials


def drawn(exercise: Exercise, seed: int, number: int | None) -> str:
    """Return the text that draws case `number` again; "" for a case that was made smaller."""
    if number is None:
        return ""
    return f"exercise({exercise.id!r}).draw_cases({seed})[{number}]"


def _is_enough(trial: Trial) -> bool:
    """Tell whether other cases would teach nothing, or take too much."""
    outcome = trial.outcome
    if outcome.kind == "missing" or outcome.threads:  # more of them would slow all that follows
        return True
    if outcome.error and ran_out_of_memory(outcome.error):
        return True
    return trial.wrong is not None and _entries(outcome.value) > HUGE


def _entries(value: Any) -> int:
    try:
        return int(value.numel()) if hasattr(value, "numel") else len(value)
    except Exception:
        return 0


def tried(
    exercise: Exercise, args: tuple[Any, ...], outcome: Outcome, expected: Any, number: int | None
) -> Trial:
    """Judge one outcome: say what is wrong with it, and in which layer."""
    if outcome.kind != "returned":
        return Trial(args, outcome, expected, Difference(outcome.kind, ""), 0, number)
    value = outcome.value
    layer, found = 2, None
    if sentence := unfinished_sentence(value, expected):
        found = Difference("type", sentence)
    elif exercise.has_one_answer:
        found = difference(value, expected, exercise.tolerance)
    else:
        found, layer = _ruled(exercise, args, value, expected)
    if found and value is None:
        found = Difference("none", "")
    if found and found.kind in ("none", "type"):
        layer = 1
    return Trial(args, outcome, expected, found, layer, number)


def _ruled(
    exercise: Exercise, args: tuple[Any, ...], value: Any, expected: Any
) -> tuple[Difference | None, int]:
    """Apply an exercise's own rules; an output they cannot even read is of the wrong type."""
    properties = [rule.holds for rule in exercise.properties if rule.must]
    rules = [exercise.judge] if exercise.judge else properties
    layer = 2
    for layer, rule in enumerate(rules, start=2):
        try:
            sentence = rule(args, value)
        except Exception:
            found = difference(value, expected)
            return found if found and found.kind == "type" else Difference("type", ""), 1
        if sentence:
            found = difference(value, expected)
            told = Difference("value", cut(sentence, LONGEST_SENTENCE))
            return found if found and found.kind == "nan" else told, layer
    return None, layer


def unfinished_sentence(value: Any, expected: Any) -> str | None:
    """Return what to do with a value that is still to be worked out, None where it is finished."""
    if isinstance(value, type(expected)):
        return None
    kind = type(value).__name__
    if inspect.isgenerator(value):
        return "It returns a generator: make a list of it, `list(...)`."
    if inspect.iscoroutine(value):
        return "It returns a coroutine: write `def` instead of `async def`."
    if inspect.isroutine(value):
        return f"It returns the function `{value.__name__}` itself: call it, with brackets."
    if isinstance(value, type):
        return f"It returns the type `{kind if value is type else value.__name__}`, no value of it."
    if isinstance(value, Iterator):
        return f"It returns an iterator, {type_words(value)}: make a list of it, `list(...)`."
    return None
