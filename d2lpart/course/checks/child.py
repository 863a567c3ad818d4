"""Work in a forked child: it speaks to its parent in lines of JSON, and never outlives its time.

The child works in a fresh thread. The threads of the parent are not there after a fork, and
torch's OpenMP would wait for them for ever in the thread that started them; a new thread starts a
pool of its own.
"""

import contextlib
import faulthandler
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

import torch

if sys.platform != "win32":
    import resource

Say = Callable[..., None]
"""say(key=value, ...): the child's message; strings, numbers and lists of them."""

Hear = Callable[[dict[str, Any]], None]
"""Is given each message, and an empty one now and then while there is none."""

ROOM = 2 * 2**30
"""Bytes of memory that the child may take beyond what the parent has."""

ROOM_OF_A_THREAD = 2**27
TICK = 0.2


class Ending(NamedTuple):
    """How a child ended. kind: "done", "late", "died". code: its exit code, or minus a signal."""

    kind: str
    code: int = 0


class ChildFault(AssertionError):
    """The work itself failed; the text is the child's traceback."""


def can_fork() -> bool:
    """Tell whether forking is safe here: on Linux, and not on macOS, whose libraries forbid it."""
    return sys.platform == "linux"


def forked(work: Callable[[Say], None], seconds: float, hear: Hear) -> Ending:
    """Run `work(say)` in a child for at most `seconds`, and `hear` each message here.

    The child and what it has started in its process group are gone when this returns or raises.
    Raises `ChildFault` where `work` raises. It is a limit for mistakes, not a sandbox: the child
    has the rights of the parent.
    """
    until = time.monotonic() + seconds
    read_end, write_end = os.pipe()
    child = 0
    try:
        with warnings.catch_warnings():  # the child touches none of the parent's threads
            warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
            child = os.fork()
        if child == 0:
            _live(work, write_end)
        os.close(write_end)
        return _listen(read_end, until, child, hear)
    finally:
        os.close(read_end)
        _end(child)


def _listen(read_end: int, until: float, child: int, hear: Hear) -> Ending:
    for message in _messages(read_end, until):
        if "done" in message:
            return Ending("done")
        if "fault" in message:
            raise ChildFault(message["fault"])
        hear(message)
    while time.monotonic() < until:  # the pipe is closed: the child ends, or has ended
        peek = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if peek:
            return Ending("died", peek.si_status * (1 if peek.si_code == os.CLD_EXITED else -1))
        time.sleep(0.002)
    return Ending("late")


def _messages(read_end: int, until: float) -> Iterator[dict[str, Any]]:
    """Yield the messages until the pipe is closed or the time is up; empty ones in between."""
    poll = select.poll()
    poll.register(read_end, select.POLLIN)
    text = b""
    while (left := until - time.monotonic()) > 0:
        if not poll.poll(1000 * min(left, TICK)):
            yield {}
            continue
        got = os.read(read_end, 1 << 16)
        if not got:
            return
        *lines, text = (text + got).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                yield dict(json.loads(line))


def _end(child: int) -> None:
    """Kill the child's group, and the child in case it has no group yet; wait for its end."""
    if child <= 0:
        return
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)


def _live(work: Callable[[Say], None], write_end: int) -> NoReturn:
    """Be the child: do the work in a fresh thread, then end without any clearing up."""
    try:
        os.setsid()  # Ctrl-C is for the parent
        faulthandler.disable()  # a crash is told by the parent
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        thread = threading.Thread(target=_speak, args=(work, write_end, os.getpid()))
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_AS, _present_bytes() + _room())
        thread.start()
        thread.join()
    finally:
        os._exit(0)


def _speak(work: Callable[[Say], None], write_end: int, own: int) -> None:
    def say(**message: Any) -> None:
        if os.getpid() != own:
            os._exit(0)  # the learner's function has forked
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(write_end, line) :]

    try:
        work(say)
        say(done=True)
    except BaseException as error:
        _limit(resource.RLIMIT_AS, -1)
        traceback.clear_frames(error.__traceback__)
        say(fault="".join(traceback.format_exception(error)))


def _limit(what: int, amount: int) -> None:
    """Set the soft limit, which may be raised again; -1 lifts it as far as the system allows."""
    hard = resource.getrlimit(what)[1]
    bounded = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
    resource.setrlimit(what, (hard if amount < 0 else bounded, hard))


def _present_bytes() -> int:
    with open("/proc/self/statm") as sizes:
        return int(sizes.read().split()[0]) * resource.getpagesize()


def _room() -> int:
    """Return the bytes that may be added; each of torch's threads reserves some that it leaves."""
    return ROOM + torch.get_num_threads() * ROOM_OF_A_THREAD
