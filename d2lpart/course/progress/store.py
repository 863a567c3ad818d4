"""The learner's progress on the learner's own disk: one JSON file, and no account or network.

It lies where the variable D2LPART_PROGRESS says ("off" switches recording off), else in
$XDG_DATA_HOME/d2lpart/progress.json, else in ~/.local/share/d2lpart/progress.json. Its form
stands in `entry`.

A write reads the file, changes one entry and replaces the file in one step, all under a lock
between processes. So two notebooks at once lose nothing, and a kernel killed at any moment leaves
a whole file. Without such locks, as on Windows, one of two writes at the same instant may be lost.
A damaged file is never overwritten: it is renamed to progress.json.damaged-1, or the next free
number.
"""

import contextlib
import glob
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from d2lpart.course.progress.entry import (
    VERSION,
    Entry,
    Event,
    ProgressError,
    entry_in,
    parse,
    put,
    render,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Entry", "Progress", "ProgressError", "hints_seen", "load", "place", "read", "record"]

Progress = dict[str, Entry]
"""Maps an item's id ("05.q2", "05.1", "05.p1") to its entry."""

PATIENCE = 1.0
"""Seconds a write waits for other processes' writes; one takes about a millisecond."""

_said: set[str] = set()


def record(item_id: str, event: Event, **details: Any) -> None:
    """Write down what the learner did with an item; see `Entry.after` for events and details.

    Never raises. The first time that something cannot be written, one line on stderr says so.

    >>> record("05.1", "tried", ok=True, kind="right", seed=0)
    """
    try:
        path = place()
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            document = _read_or_set_aside(path)
            put(document, item_id, entry_in(document, item_id).after(event, **details))
            _replace(path, render(document))
    except Exception as error:
        _say_once("written", f"progress is not recorded: {error}")


def load() -> Progress:
    """Return all that is recorded, nothing where recording is off. Never raises.

    A damaged file is set aside, and one line on stderr names it.
    """
    try:
        path = place()
        if path is None:
            return {}
        try:
            document = _read(path)
        except ProgressError:
            with _locked(path):
                document = _read_or_set_aside(path)
        return _entries(document)
    except Exception as error:
        _say_once("read", f"progress cannot be read: {error}")
        return {}


def read(path: Path) -> Progress:
    """Return what a file records. Raises `ProgressError` where it is damaged or not there."""
    try:
        if not path.exists():
            raise ProgressError("there is no such file")
        return _entries(_read(path))
    except (OSError, ProgressError) as error:
        raise ProgressError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def hints_seen(item_id: str) -> int:
    """Return the strongest help seen: 0 none, 1 to 3 a hint, 4 the worked solution."""
    return load().get(item_id, Entry()).hints_seen


def place() -> Path | None:
    """Return the file's place, symbolic links followed; None where recording is off.

    Raises `RuntimeError` where there is no home folder to put it in.
    """
    chosen = os.environ.get("D2LPART_PROGRESS", "").strip()
    if chosen == "off":
        return None
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    if chosen:
        path = Path(chosen).expanduser()
    elif data.is_absolute():
        path = data / "d2lpart" / "progress.json"
    else:
        path = Path.home() / ".local" / "share" / "d2lpart" / "progress.json"
    return Path(os.path.realpath(path))


def _entries(document: dict[str, Any]) -> Progress:
    return {item_id: entry_in(document, item_id) for item_id in document["items"]}


def _read(path: Path) -> dict[str, Any]:
    """Return the file's document, a new one where there is no file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would hang, a device never end
            raise OSError(f"{path} is no regular file")
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return {"version": VERSION, "items": {}}
    except UnicodeDecodeError as error:
        raise ProgressError(f"it is no UTF-8 text: {error}") from None
    return parse(text)


def _read_or_set_aside(path: Path) -> dict[str, Any]:
    """Return the file's document; a damaged file is renamed. Needs the lock."""
    try:
        return _read(path)
    except ProgressError as error:
        number = 1
        while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
            number += 1
        path.rename(aside)
        _say_once("damaged", f"the progress file was damaged, and is kept as {aside}: {error}")
        return _read(path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock beside the file. Raises `TimeoutError` after `PATIENCE` seconds."""
    if fcntl is None:
        yield
        return
    with open(path.with_name(f"{path.name}.lock"), "ab") as lock:
        end = time.monotonic() + PATIENCE
        while not _taken(lock):
            if time.monotonic() > end:
                raise TimeoutError(f"another process holds {lock.name}")
            time.sleep(0.001)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_UN)  # closing alone leaves it to a forked child


def _taken(lock: IO[bytes]) -> bool:
    """Try to take the lock; a file system that has no locks lets everyone pass."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _replace(path: Path, content: bytes) -> None:
    """Put the content in the file's place in one step, and only when it is on the disk.

    What a killed kernel has left half written is cleared away. Needs the lock.
    """
    for half_written in path.parent.glob(f".{glob.escape(path.name)}-*.tmp"):
        half_written.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _say_once(matter: str, text: str) -> None:
    """Print one line for each matter, the first time only."""
    if matter in _said:
        return
    _said.add(matter)
    remedy = "" if matter == "damaged" else " (D2LPART_PROGRESS names another file, or is off)"
    with contextlib.suppress(Exception):
        print(f"d2lpart: {' '.join(text.split())}{remedy}", file=sys.stderr)
