"""A submission's function as the judge sees it: each call of it runs in the child.

What comes back is decoded from plain data; errors are raised again under their own name, prints are
printed, and arguments that were changed are changed here, too. So the judge sees no difference.
"""

import builtins
import contextlib
import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from d2lpart.course.grading.child import TRIALS
from d2lpart.course.grading.child_process import GARBLED, Child, ChildFailed
from d2lpart.course.grading.plain_values import decode, encode, overwrite


@dataclass
class Proxy:
    """The function `name` of a submission, for at most `seconds` from now on.

    parameters: as `submitted_code.Cell.signatures` has them; None where they are not known.
    failure: what ended the child, if anything did; later calls then fail at once.
    """

    child: Child
    name: str
    seconds: float
    parameters: Sequence[tuple[str, int, bool]] | None = None
    failure: ChildFailed | None = None
    until: float = field(init=False)

    def __post_init__(self) -> None:
        self.until = time.monotonic() + self.seconds

    def function(self) -> Callable[..., Any]:
        """Return the function to be judged; `observe` finds its `run_trial`."""

        def submitted(*args: Any) -> Any:
            return self._call("", args)

        def run_trial(trial: Callable[..., Any], *args: Any) -> Any:
            module = trial.__module__.removeprefix(TRIALS)
            return self._call(f"{module}.{trial.__name__}", args)

        submitted.__name__ = submitted.__qualname__ = self.name
        submitted.run_trial = run_trial  # type: ignore[attr-defined]
        with contextlib.suppress(TypeError, ValueError):  # names twice: the cell is no Python
            submitted.__signature__ = signature_of(self.parameters)  # type: ignore[attr-defined]
        return submitted

    def _call(self, trial: str, args: tuple[Any, ...]) -> Any:
        if self.failure:
            raise self.failure
        request = {"function": self.name, "trial": trial, "args": encode(args)}
        try:
            reply = self.child.ask(request, self.until - time.monotonic())
        except ChildFailed as failure:
            self.failure = failure
            raise
        try:
            value, error = _taken(reply, args)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError):
            self.failure = ChildFailed("garbled", GARBLED)
            raise self.failure from None
        if error is not None:
            raise error
        return value


def signature_of(parameters: Sequence[tuple[str, int, bool]] | None) -> inspect.Signature:
    """Return a signature from its parameters: (name, kind as in `inspect`, has a default).

    Raises `TypeError` where there are none to tell, `ValueError` where they are no signature.

    >>> str(signature_of([("a", 1, False), ("b", 1, True)]))
    '(a, b=None)'
    """
    if parameters is None:
        raise TypeError("the parameters are not known")
    kinds = list(inspect._ParameterKind)
    return inspect.Signature(
        [
            inspect.Parameter(
                name, kinds[kind], default=None if has_default else inspect.Parameter.empty
            )
            for name, kind, has_default in parameters
        ]
    )


def _taken(reply: dict[str, Any], args: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    """Do here what the call did there: print, change arguments; return its value or its error."""
    if reply["printed"]:
        print(str(reply["printed"]), end="")
    for index, code in reply["changed"]:
        overwrite(args[index], decode(code))
    if "raised" in reply:
        return None, _error(reply["raised"])
    return decode(reply["value"]), None


def _error(told: dict[str, Any]) -> BaseException:
    """Return the error that was told, of the type with that name where Python has one."""
    name, message = str(told["type"])[:80], str(told["message"])
    known = getattr(builtins, name, None)
    base: type[BaseException] = Exception
    if isinstance(known, type) and issubclass(known, Exception | SystemExit):
        base = known
    if issubclass(base, BaseExceptionGroup | UnicodeError):  # these take more than a message
        base = Exception
    kind = (
        base
        if base.__name__ == name
        else type(name if name.isidentifier() else "Error", (base,), {})
    )
    error = kind(message) if message else kind()
    error.learner_line = _place(told["place"])
    return error


def _place(place: Any) -> str:
    """Return the submission's own line that raised, as words; "" where it is not known."""
    if not place:
        return ""
    cell, line, _ = place
    return f"line {int(line)} of cell {int(cell)}"
