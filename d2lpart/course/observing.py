"""Trials: the course calls the learner's function, and says in plain values what came.

An examination whose function takes live objects, such as modules or an optimizer, has a trial that
makes these objects, calls the function, and returns numbers, texts and tensors. A check runs the
trial here; the grader runs it where the submission is, and judges what comes back.
"""

from collections.abc import Callable
from typing import Any

Trial = Callable[..., Any]
"""trial(learner's function, plain arguments...) -> plain values."""


def observe(trial: Trial, function: Callable[..., Any], *args: Any) -> Any:
    """Run a trial of the function: here, or by the function's own `run_trial` where it has one.

    >>> observe(lambda function, n: [function(k) for k in range(n)], abs, 3)
    [0, 1, 2]
    """
    elsewhere = getattr(function, "run_trial", None)
    return elsewhere(trial, *args) if elsewhere else trial(function, *args)
