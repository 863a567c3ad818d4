"""Progress on disk: nothing is lost, whoever writes, edits, damages or forbids the file."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from d2lpart.course.progress import store
from d2lpart.course.progress.entry import VERSION
from d2lpart.course.progress.store import (
    Entry,
    ProgressError,
    hints_seen,
    load,
    place,
    read,
    record,
)

WRITER = """
import sys
from d2lpart.course.progress import store as progress_store
from d2lpart.course.progress.store import record
progress_store.PATIENCE = 60  # on a slow disk the other one holds the lock for long
print("ready", flush=True)
for i in range(int(sys.argv[2])):
    record(sys.argv[1] + str(i), "tried", ok=False, kind="wrong")
    record("05.both", "tried", ok=False, kind="wrong")
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The progress file's place, in a folder that is not there yet."""
    path = tmp_path.resolve() / "new" / "progress.json"
    monkeypatch.setenv("D2LPART_PROGRESS", str(path))
    monkeypatch.setattr(store, "_said", set())
    return path


@pytest.fixture
def existing(file):
    """The file's place, its folder made."""
    file.parent.mkdir()
    return file


def tried(item_id="05.1", ok=False, kind="wrong", **details):
    record(item_id, "tried", ok=ok, kind=kind, **details)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def start(prefix: str, count: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, prefix, str(count)], stdout=subprocess.PIPE, text=True
    )


def test_an_item_s_history(file):
    tried(seed=3)
    record("05.1", "hinted", level=2)
    record("05.1", "hinted", level=1)
    assert hints_seen("05.1") == 2
    record("05.1", "hinted", level=4)
    assert (hints_seen("05.1"), hints_seen("05.2")) == (4, 0)
    tried(ok=True, kind="right", seed=0)
    first = load()["05.1"]
    assert first.passed.endswith("+00:00")
    tried(kind="nan", seed="class 7")
    assert load() == {
        "05.1": Entry(3, 2, first.passed, hints=2, solution=True, kind="nan", seed="class 7")
    }
    text = json.loads(file.read_text())
    assert text["version"] == VERSION
    assert text["items"]["05.1"]["tries_to_pass"] == 2
    assert "guess" not in text["items"]["05.1"]


def test_a_guess_and_its_measurement(file):
    record("05.p1", "guessed", guess=0)
    assert load()["05.p1"] == Entry(guess=0.0)
    record("05.p1", "measured", value=0.75, near=False)
    assert load()["05.p1"] == Entry(guess=0.0, measured=0.75, near=False)
    record("05.p1", "guessed", guess=0.7)
    assert load()["05.p1"] == Entry(guess=0.7)


def test_two_processes_lose_nothing(file):
    writers = [start(prefix, 100) for prefix in ("03.", "04.")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    for writer in writers:
        writer.stdout.close()
    found = load()
    assert found.pop("05.both").tries == 200
    assert {entry.tries for entry in found.values()} == {1}
    assert set(found) == {f"{prefix}{i}" for prefix in ("03.", "04.") for i in range(100)}
    assert names(file.parent) == {"progress.json", "progress.json.lock"}


def test_a_killed_writer_leaves_a_whole_file(file):
    writer = start("05.", 10**6)
    writer.stdout.readline()
    reads = 0
    while reads < 100 or len(read(file)) < 2:
        assert writer.poll() is None
        if file.exists():
            read(file)  # a reader beside it sees whole files only
            reads += 1
        time.sleep(0.001)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    before = read(file)
    assert len(before) > 1
    tried("03.1")
    assert read(file) == before | {"03.1": Entry(1, kind="wrong")}


def test_what_a_killed_writer_left_is_cleared_away(existing):
    half = existing.with_name(f".{existing.name}-x1y2.tmp")
    half.write_text('{"version": 1, "it')
    other = existing.with_name(".other.json-x1y2.tmp")
    other.write_text("{}")
    record("05.1", "tried", ok=True, kind="right")
    assert not half.exists()
    assert other.exists()
    assert load()["05.1"].passed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON"),
        ('{"version": 1, "items": {"05.1": {"tri', "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"version": 1, "items": {"05.1": {"guess": NaN}}}', "no JSON"),
        ("[]", 'no "items"'),
        ('{"version": 1, "items": 3}', 'no "items"'),
        ('{"version": 2, "items": {}}', "version 2, this d2lpart reads 1"),
        ('{"version": 1, "items": {"05.1": 4}}', "item 05.1: 4 stands where"),
        ('{"version": 1, "items": {"05.1": {"tries": "4"}}}', "tries is '4', not a whole number"),
        ('{"version": 1, "items": {"05.1": {"tries": true}}}', "tries is True"),
        ('{"version": 1, "items": {"05.1": {"hints": 7}}}', "hints is 7, not 0, 1, 2 or 3"),
        (b"\xff\xfe\x00", "no UTF-8"),
    ],
)
@pytest.mark.parametrize("touch", [tried, load])
def test_a_damaged_file_is_set_aside(existing, capsys, text, reason, touch):
    content = text if isinstance(text, bytes) else text.encode()
    existing.write_bytes(content)
    (existing.parent / "progress.json.damaged-1").write_text("an older one")
    with pytest.raises(ProgressError, match=reason):
        read(existing)
    touch()
    aside = existing.parent / "progress.json.damaged-2"
    assert aside.read_bytes() == content
    assert (existing.parent / "progress.json.damaged-1").read_text() == "an older one"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(aside) in said
    assert reason in said
    tried("05.2")
    assert load()["05.2"].tries == 1
    assert capsys.readouterr().err == ""


def test_what_is_not_known_here_stays(existing):
    existing.write_text(
        '\ufeff{"version": 1, "name": "Zoë", "items": {"05.1": {"tries": 2, "kind": null,'
        ' "note": "ask again \\ud800"}, "99.z9": {"stars": [1, 2]}}}',
        encoding="utf-8",
    )
    tried("05.1", ok=True, kind="right")
    written = existing.read_text(encoding="utf-8")
    document = json.loads(written)
    assert document["name"] == "Zoë"
    assert "Zoë" in written
    assert document["items"]["99.z9"] == {"stars": [1, 2]}
    assert document["items"]["05.1"]["note"] == "ask again \ud800"
    assert document["items"]["05.1"]["tries"] == 3
    assert "seed" not in document["items"]["05.1"]
    assert load()["99.z9"] == Entry()


def test_off_records_nothing(file, monkeypatch):
    monkeypatch.setenv("D2LPART_PROGRESS", "off")
    tried()
    assert place() is None
    assert load() == {}
    assert not file.parent.exists()


def test_the_place(monkeypatch, tmp_path):
    home = tmp_path.resolve()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("D2LPART_PROGRESS", "~/mine.json")
    assert place() == home / "mine.json"
    monkeypatch.delenv("D2LPART_PROGRESS")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    assert place() == home / "data" / "d2lpart" / "progress.json"
    for not_absolute in ("", "data"):
        monkeypatch.setenv("XDG_DATA_HOME", not_absolute)
        assert place() == home / ".local" / "share" / "d2lpart" / "progress.json"


def test_a_symbolic_link_stays_one(existing, tmp_path):
    target = tmp_path / "elsewhere.json"
    existing.symlink_to(target)
    tried()
    tried()
    assert existing.is_symlink()
    assert read(target)["05.1"].tries == 2


def says_one_line(capsys, *parts: str) -> None:
    """Record twice: one line on stderr that has these parts, and no exception."""
    tried()
    tried("05.2")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "progress is not recorded" in said.err
    assert [part for part in parts if part not in said.err] == []


def test_a_place_that_is_a_folder(existing, capsys):
    existing.mkdir()
    says_one_line(capsys, str(existing), "no regular file")
    assert load() == {}


def test_a_pipe_is_not_waited_for_and_a_device_not_renamed(existing, capsys):
    os.mkfifo(existing)
    says_one_line(capsys, "no regular file")
    assert names(existing.parent) == {"progress.json", "progress.json.lock"}


def test_a_folder_that_cannot_be_made(file, capsys):
    file.parent.write_text("a file where the folder should be")
    says_one_line(capsys, "D2LPART_PROGRESS")
    assert load() == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only(existing, capsys):
    existing.parent.chmod(0o500)
    says_one_line(capsys, "Permission denied")
    existing.parent.chmod(0o700)


def test_a_full_disk_leaves_the_old_file(existing, capsys, monkeypatch):
    tried("03.1")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    says_one_line(capsys, "No space left")
    assert set(load()) == {"03.1"}
    assert names(existing.parent) == {"progress.json", "progress.json.lock"}


def test_no_home(monkeypatch, capsys, file):
    monkeypatch.delenv("D2LPART_PROGRESS")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    says_one_line(capsys, "home directory")


def test_a_lock_that_is_held_is_not_waited_for_long(existing, capsys, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE", 0.01)
    with open(f"{existing}.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        says_one_line(capsys, "another process holds")
    tried()
    assert load()["05.1"].tries == 1


def test_a_forked_child_does_not_keep_the_lock(existing, capsys, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE", 0.01)
    with store._locked(existing):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    tried()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert capsys.readouterr().err == ""
    assert load()["05.1"].tries == 1


def test_where_there_are_no_locks_progress_is_kept_too(existing, capsys, monkeypatch):
    def no_locks(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    tried()
    monkeypatch.setattr(store, "fcntl", None)
    tried()
    assert load()["05.1"].tries == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("event", "details", "said"),
    [
        ("eaten", {}, "no event 'eaten'; those there are: tried, hinted, guessed, measured"),
        ("hinted", {"level": 5}, "hint 5"),
        ("guessed", {"guess": float("nan")}, "nan is no finite number"),
        ("guessed", {"guess": "a"}, "could not convert"),
        ("tried", {}, "ok"),
    ],
)
def test_a_wrong_event_is_said_and_changes_nothing(file, capsys, event, details, said):
    record("05.1", event, **details)
    assert said in capsys.readouterr().err
    assert load() == {}
