"""A child process as its parent sees it: started, asked, and ended whole."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

from d2lpart.course.grading.child import TOKEN_BYTES
from d2lpart.course.grading.library import GRADING, Library
from d2lpart.course.grading.wire import Wire, WireError

START_SECONDS = 60.0


@dataclass(frozen=True)
class Limits:
    """What a submission may use: seconds for its cells, seconds an exercise, bytes of memory."""

    load_seconds: float = 30.0
    exercise_seconds: float = 10.0
    memory: int = 2**31

    def as_numbers(self) -> dict[str, float]:
        """Return the limits by their names."""
        return asdict(self)


class ChildFailed(Exception):
    """The child cannot go on; the text says more.

    kind: "timeout", "crashed", "garbled", or "failed" where the fault is the grader's own.
    """

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


class Child:
    """One process that runs one submission; use it as a context, and it is gone at the end.

    prevented: what the confinement was found to prevent in this process, by trying.
    """

    def __init__(self, library: Library, limits: Limits) -> None:
        ours, theirs = socket.socketpair()
        settings = {
            "fd": theirs.fileno(),
            "path": library.path,
            "readable": library.readable,
            "memory": limits.memory,
            "cpu_seconds": int(START_SECONDS + limits.load_seconds + 20 * limits.exercise_seconds),
            "secret": str(GRADING.parent / "checks/exercise.py"),
        }
        command = [sys.executable, "-I", "-S", "-B", str(library.start), json.dumps(settings)]
        with theirs:
            self.process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                cwd=library.folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        token = secrets.token_bytes(TOKEN_BYTES)
        self.wire = Wire(ours, token)
        self.prevented: dict[str, bool] = {}
        try:
            ours.sendall(token)
            self.prevented = self._receive(START_SECONDS)["prevented"]
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def ask(self, request: dict[str, Any], seconds: float) -> Any:
        """Send a request and return the reply. Raises `ChildFailed` where none comes in time."""
        try:
            self.wire.send(request, max(seconds, 0.01))
        except TimeoutError:
            raise ChildFailed("timeout", "The process reads no request any more.") from None
        except OSError:
            raise ChildFailed("crashed", self._last_words()) from None
        except WireError as error:
            raise ChildFailed("failed", f"The grader cannot ask this: {error}.") from None
        return self._receive(seconds)

    def _receive(self, seconds: float) -> Any:
        try:
            reply = self.wire.receive(max(seconds, 0.01))
        except TimeoutError:
            raise ChildFailed("timeout", "It is still running") from None
        except (EOFError, OSError):
            raise ChildFailed("crashed", self._last_words()) from None
        except WireError:
            raise ChildFailed("garbled", GARBLED) from None
        if not isinstance(reply, dict):
            raise ChildFailed("garbled", GARBLED)
        return reply

    def _last_words(self) -> str:
        """Say how the process ended, if it has ended; a hung-up one is as good as that."""
        try:
            status = self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "The process closed its connection to the grader before it answered."
        if status < 0:
            names = {number.value: number.name for number in signal.Signals}
            return f"The process was ended by {names.get(-status, -status)} before it answered."
        return f"The process ended with status {status} before it answered."

    def end(self) -> None:
        """Kill the process and all of its group, and wait until it is gone."""
        self.wire.end.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


GARBLED = "What came back is no answer: does the code write where it should not?"


def _environment() -> dict[str, str]:
    """Return the child's variables: nothing of the parent's but where shared libraries lie."""
    own = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LANG": "C.UTF-8", "MPLBACKEND": "agg"}
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return own | kept | {"HOME": "/nonexistent", "PATH": "/nonexistent"}
