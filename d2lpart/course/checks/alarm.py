"""A limit of time within this process, for where no child can be forked.

A timer's signal interrupts the main thread, and the handler raises `TimeUp` there. It is no
`Exception`, but a bare `except:` catches it all the same. So from then on every line that runs
under the limit raises it again, until it has left the `with`.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

AGAIN = 0.01
"""Seconds from one signal to the next, once the time is up."""


class TimeUp(BaseException):
    """The time is up.

    One that was swallowed is deleted at the end of its `except`: that is when it raises the next.
    """

    def __init__(self, again: Callable[[], None]) -> None:
        super().__init__("the time is up")
        self._again = again

    def __del__(self) -> None:
        self._again()


def can_limit() -> bool:
    """Tell whether a limit can be set here: in the main thread, where the system has timers."""
    main = threading.current_thread() is threading.main_thread()
    return main and hasattr(signal, "setitimer")


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeUp` in the body after `seconds`; without a limit where `can_limit()` is false.

    Where the body turns it into something else, it is raised at the body's end.

    It cannot interrupt one call into C that does not return to Python: a long torch operation,
    `list(itertools.count())`, `10**10**9`. Nor does it end threads or processes that the body
    has started. Sleeping, and waiting for a lock or a queue, it does interrupt.
    """
    if not can_limit():
        yield
        return
    limit = _Limit(sys._getframe(2))  # below this function and contextlib's `__enter__`
    _limits.append(limit)
    tracer, handler = sys.gettrace(), signal.signal(signal.SIGALRM, limit.ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
        yield
        limit.over = True
        if limit.rang:
            raise TimeUp(limit.arm)
    finally:
        limit.over = True
        _limits.remove(limit)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        sys.settrace(tracer)


def time_is_up() -> bool:
    """Tell whether a limit that is still in force here has run out."""
    return any(limit.rang for limit in _limits)


class _Limit:
    """Raises `TimeUp` in the frames that run above `base`, again and again, until it is over."""

    def __init__(self, base: FrameType) -> None:
        self.base = base
        self.over = self.rang = False

    def ring(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal: raise here, and at the next line if that is swallowed."""
        if not self.over:
            self.rang = True
            self.arm()
            raise TimeUp(self.arm)

    def arm(self) -> None:
        """Trace the frames under the limit; a tracer that raises is taken off by Python."""
        if self.over:
            return
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame is not self.base:
            if frame.f_code.co_filename != __file__:
                frame.f_trace = self.trace
            frame = frame.f_back
        sys.settrace(self.trace)

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        """Raise at the next line, but in no code of this module or of `contextlib`."""
        if self.over or frame.f_code.co_filename in (__file__, contextlib.__file__):
            return None
        if event == "line":
            raise TimeUp(self.arm)
        return self.trace


_limits: list[_Limit] = []
