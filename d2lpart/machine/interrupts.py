"""Interrupts: what Ctrl-C may not cut in two, and threads that it ends though they go on."""

import ctypes
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
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
    handlers: dict[int, Any] = {}
    try:
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, lambda *caught: waiting.append(caught))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number, frame in waiting:
            handlers[number](number, frame)


class OneAtATime:
    """A context that one thread may be in; another one, or the same again, is refused, not kept."""

    def __init__(self, error: type[Exception], refusal: str) -> None:
        self.error, self.refusal = error, refusal
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise self.error(self.refusal)

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._lock.release()

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
