"""One call of a learner's function: on copies of the arguments, with its prints and errors kept."""

import contextlib
import copy
import inspect
import io
import linecache
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from d2lpart.course.comparison import difference


@dataclass(frozen=True)
class Outcome:
    """What one call did.

    kind: "returned", "raised", or "missing" for a function that is still to be written.
    changed: the names of the arguments the call changed. where: the learner's line that raised.
    """

    kind: str
    value: Any = None
    printed: str = ""
    changed: tuple[str, ...] = ()
    error: BaseException | None = None
    where: str = ""


def run(function: Callable[..., Any], args: tuple[Any, ...]) -> Outcome:
    """Call the function on deep copies of `args`; whatever it raises is part of the outcome.

    >>> run(lambda costs: costs.sort(), ([2, 1],)).changed
    ('costs',)
    """
    given = copy.deepcopy(args)
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            value = function(*given)
    except (Exception, SystemExit) as error:
        stub = isinstance(error, NotImplementedError) and not error.args  # torch's have a message
        kind, where = "missing" if stub else "raised", learner_line(function, error)
        return Outcome(kind, printed=out.getvalue(), error=error, where=where)
    changed = _changed(function, args, given)
    return Outcome("returned", value, out.getvalue(), changed)


def same_outcome(a: Outcome, b: Outcome, tolerance: float) -> bool:
    """Tell whether two calls did the same: an equal value, or an error of the same type."""
    if a.kind != b.kind:
        return False
    if a.kind == "raised":
        return type(a.error) is type(b.error)
    return a.kind == "returned" and difference(a.value, b.value, tolerance) is None


def _changed(
    function: Callable[..., Any], before: tuple[Any, ...], after: tuple[Any, ...]
) -> tuple[str, ...]:
    """Name the arguments made of plain data (lists, dicts, tensors) that are not as they were."""
    touched = [
        index
        for index, (a, b) in enumerate(zip(before, after, strict=True))
        if _is_data(a) and difference(b, a, 0.0) is not None
    ]
    return tuple(_argument_name(function, index) for index in touched)


def _is_data(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_data(item) for item in value)
    if isinstance(value, dict):
        return all(_is_data(item) for item in value.values())
    return isinstance(value, str | int | float | set) or hasattr(value, "tolist")


def _argument_name(function: Callable[..., Any], index: int) -> str:
    with contextlib.suppress(TypeError, ValueError):
        names = list(inspect.signature(function).parameters)
        if index < len(names):
            return names[index]
    return f"number {index + 1}"


def learner_line(function: Callable[..., Any], error: BaseException) -> str:
    """Return the deepest line of the learner's own code in the traceback, as words."""
    code = getattr(function, "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if code and frame.filename == code.co_filename]
    if not own or own[-1].lineno is None:
        return ""
    frame = own[-1]
    text = linecache.getline(frame.filename, frame.lineno or 0).strip()
    return f"line {frame.lineno}" + (f": `{text}`" if text else f" of `{frame.name}`")
