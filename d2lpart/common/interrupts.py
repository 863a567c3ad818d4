"""Interrupts: what Ctrl-C may not cut in two, and threads that it ends though they go on."""

import ctypes
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = [
    getattr(signal, name) for name in ("SIGALRM", "SIGINT", "SIGTERM") if hasattr(signal, name)
]
GRACE = 0.5
"""Seconds that an interrupted step waits for its threads to end by themselves."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let signals wait until the context ends; then their handlers run.

    Only the main thread is interrupted by them, so elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[tuple[int, FrameType | None]] = []
    found = {number: signal.getsignal(number) for number in SIGNALS}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    try:
        for number in handlers:
            signal.signal(number, lambda *caught: waiting.append(caught))
        yield
    finally:
        _restore(handlers)
        for number, frame in waiting:
            handlers[number](number, frame)


def _restore(handlers: dict[int, Any]) -> None:
    """Set all handlers, even where the first one to be set is called and raises at once."""
    try:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    except BaseException:
        _restore(handlers)
        raise


class OneAtATime:
    """Lets one thread in; another one, or the same again, is refused, not kept waiting.

    Args:
        error: what is raised.
        refusal: its text.
    """

    def __init__(self, error: type[Exception], refusal: str) -> None:
        self.error, self.refusal = error, refusal
        self._lock = threading.Lock()

    def entered(self) -> threading.Lock:
        """Return the lock for a `with`, which no interrupt cuts in two; raise if it is taken."""
        if self._lock.locked():
            raise self.error(self.refusal)
        return self._lock

    def __reduce__(self) -> tuple[type["OneAtATime"], tuple[type[Exception], str]]:
        return OneAtATime, (self.error, self.refusal)  # a copy is entered by nobody


def end(workers: Sequence[threading.Thread], error: type[BaseException]) -> list[threading.Thread]:
    """Wait for threads, raise `error` in those that are late, and return those that go on for now.

    A thread notices the error when it runs Python code again, so not within a long operation.
    """
    limit = time.monotonic() + GRACE
    while any(worker.is_alive() for worker in workers) and time.monotonic() < limit:
        time.sleep(0.001)
    late = [worker for worker in workers if worker.is_alive()]
    for worker in late:
        assert worker.ident is not None, "it is alive"
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(worker.ident), ctypes.py_object(error)
        )
    limit = time.monotonic() + GRACE / 5
    while any(worker.is_alive() for worker in late) and time.monotonic() < limit:
        time.sleep(0.001)
    return [worker for worker in late if worker.is_alive()]
