"""How far a long check has come: one line that renews itself, where somebody looks at it.

Nothing is shown before the first call of the function that shows it.
In a notebook it is an output that IPython updates, on a terminal a line that is written over.
Where output is not interactive, or D2LPART_STATIC is 1, nothing is shown.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from d2lpart.common.display import live_kernel

Show = Callable[[int, int, float], None]
"""show(cases done, of all cases or 0, seconds since the start)."""

WIDTH = 20


def line(title: str, done: int, total: int, elapsed: float, limit: float) -> str:
    """Return the line: a bar of the cases done, or of the time where cases are not counted.

    >>> line("05.1", 5, 10, 2.0, 10.0)
    '05.1 [##########··········] 5 of 10 cases, 2 of 10 s'
    >>> line("05.1", 0, 0, 2.0, 10.0)
    '05.1 [####················] 2 of 10 s'
    """
    share = done / total if total else min(1.0, elapsed / limit)
    full = round(WIDTH * share)
    cases = f"{done} of {total} cases, " if total else ""
    return f"{title} [{'#' * full}{'·' * (WIDTH - full)}] {cases}{elapsed:.0f} of {limit:g} s"


def bar_shown(title: str, limit: float) -> contextlib.AbstractContextManager[Show]:
    """Return a context with the function that shows the line; it is taken away at the end."""
    silent = os.environ.get("D2LPART_STATIC") == "1"
    if not silent and live_kernel():
        return _in_notebook(title, limit)
    if not silent and sys.stdout.isatty():
        return _on_terminal(title, limit)
    return contextlib.nullcontext(lambda done, total, elapsed: None)


@contextlib.contextmanager
def _on_terminal(title: str, limit: float) -> Iterator[Show]:
    terminal = sys.stdout  # a check keeps what is printed while it runs, so hold on to this one
    longest = 0

    def show(done: int, total: int, elapsed: float) -> None:
        nonlocal longest
        text = line(title, done, total, elapsed, limit)
        longest = max(longest, len(text))
        terminal.write(f"\r{text:<{longest}}")
        terminal.flush()

    try:
        yield show
    finally:
        if longest:
            terminal.write(f"\r{'':<{longest}}\r")
            terminal.flush()


@contextlib.contextmanager
def _in_notebook(title: str, limit: float) -> Iterator[Show]:
    from IPython.display import display

    handle: Any = None

    def show(done: int, total: int, elapsed: float) -> None:
        nonlocal handle
        text = {"text/plain": line(title, done, total, elapsed, limit)}
        if handle is None:
            handle = display(text, raw=True, display_id=True)
        else:
            handle.update(text, raw=True)

    try:
        yield show
    finally:
        if handle is not None:
            handle.update({"text/plain": ""}, raw=True)
