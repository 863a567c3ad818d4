"""One call of a learner's function: on copies of the arguments, with its prints and errors kept."""

import bdb
import builtins
import contextlib
import copy
import inspect
import io
import linecache
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn, TextIO

from d2lpart.course.checks.alarm import TimeUp, time_is_up
from d2lpart.course.checks.comparison import difference

PRINTS_KEPT = 10_000
"""Characters; what a function prints after them is dropped."""

GRACE = 0.2
"""Seconds that threads have to end once the function has returned."""


@dataclass(frozen=True)
class Outcome:
    """What one call did.

    kind: "returned", "raised", or "missing" for a function that is still to be written.
    changed: the names of the arguments the call changed. where: the learner's line that raised.
    threads: how many that the call has started still run.
    """

    kind: str
    value: Any = None
    printed: str = ""
    changed: tuple[str, ...] = ()
    error: BaseException | None = None
    where: str = ""
    threads: int = 0


class NoInput(EOFError):
    """A function that is being checked asks for input, and nobody is there to type."""


def inline() -> bool:
    """Tell whether D2LPART_CHECK_INLINE=1 asks for checks that a debugger can step through."""
    return os.environ.get("D2LPART_CHECK_INLINE") == "1"


def run(function: Callable[..., Any], args: tuple[Any, ...]) -> Outcome:
    """Call the function on deep copies of `args`; whatever it raises is part of the outcome.

    Only Ctrl-C and the end of a time limit go through.

    >>> run(lambda costs: costs.sort(), ([2, 1],)).changed
    ('costs',)
    """
    given = copy.deepcopy(args)
    there = threading.enumerate()
    try:
        with _alone() as out:
            value = function(*given)
    except (KeyboardInterrupt, TimeUp):
        raise
    except BaseException as error:
        if time_is_up():  # it arose while `TimeUp` was on its way, as in a lock that is let go
            raise TimeUp(lambda: None) from None
        if isinstance(error, MemoryError):
            traceback.clear_frames(error.__traceback__)  # they hold what has filled the memory
        stub = isinstance(error, NotImplementedError) and not error.args  # torch's have a message
        kind, where = "missing" if stub else "raised", learner_line(function, error)
        left = _started_since(there)
        return Outcome(kind, printed=out.getvalue(), error=error, where=where, threads=left)
    changed, left = _changed(function, args, given), _started_since(there)
    return Outcome("returned", value, out.getvalue(), changed, threads=left)


def _started_since(there: list[threading.Thread]) -> int:
    """Count the new threads that do not end within a moment; those of libraries do not count."""
    new = [one for one in threading.enumerate() if one not in there]
    until = time.monotonic() + GRACE
    left = [one for one in new if type(one) is threading.Thread]
    for one in left:
        one.join(max(0.0, until - time.monotonic()))
    return sum(one.is_alive() for one in left)


class _Kept(io.StringIO):
    """Keeps the first characters that are written, and passes all on to `echo`, if any."""

    def __init__(self, echo: TextIO | None) -> None:
        super().__init__()
        self.echo = echo

    def write(self, text: str) -> int:
        room = PRINTS_KEPT - self.tell()
        super().write(text[: max(0, room)])
        if self.echo:
            self.echo.write(text)
        return len(text)


@contextlib.contextmanager
def _alone() -> Iterator[_Kept]:
    """Keep what is printed, drop what goes to standard error, and let nothing ask for input."""
    if inline():
        with contextlib.redirect_stdout(_Kept(sys.stdout)) as out:
            yield out
        return
    with (
        contextlib.redirect_stdout(_Kept(None)) as out,
        contextlib.redirect_stderr(_Kept(None)),
        _replaced(sys, "stdin", io.StringIO()),
        _replaced(sys, "breakpointhook", _no_debugger),
        _replaced(builtins, "input", _no_input),
    ):
        yield out


@contextlib.contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def _no_input(*prompt: object) -> NoReturn:
    raise NoInput("there is nobody to type")


def _no_debugger(*args: object, **options: object) -> NoReturn:
    raise bdb.BdbQuit


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether Python or torch could not get the memory that was asked for."""
    if isinstance(error, RuntimeError):
        return any(isinstance(arg, str) and "can't allocate memory" in arg for arg in error.args)
    return isinstance(error, MemoryError)


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
    """Return the deepest line of the learner's own code in the traceback, as words.

    An error that comes from another process brings the words along, as `learner_line`.
    """
    told = getattr(error, "learner_line", None)
    if isinstance(told, str):
        return told
    code = getattr(inspect.unwrap(function), "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if code and frame.filename == code.co_filename]
    if not own or own[-1].lineno is None:
        return ""
    frame = own[-1]
    text = linecache.getline(frame.filename, frame.lineno or 0).strip()
    return f"line {frame.lineno}" + (f": `{text}`" if text else f" of `{frame.name}`")
