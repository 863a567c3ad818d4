"""Files that are written whole or not at all, and what a timeline can be saved as."""

import os
import re
import threading
import xml.etree.ElementTree as ET

import pytest

from d2lpart import build_schedule, simulate
from d2lpart.common import files
from d2lpart.common.files import write_whole

TEXT = "the new text, with µ\n"


def test_text_is_utf_8_and_bytes_stay(tmp_path):
    assert write_whole(tmp_path / "a", TEXT) == tmp_path / "a"
    assert (tmp_path / "a").read_bytes() == TEXT.encode("utf-8")
    assert write_whole(str(tmp_path / "b"), b"\x00\r\n").read_bytes() == b"\x00\r\n"


def test_a_missing_folder_is_an_error_and_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "missing" / "a", TEXT)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError):
        write_whole(tmp_path / "file" / "a", TEXT)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_an_unwritable_folder_is_left_as_it_is(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            write_whole(tmp_path / "a", TEXT)
        assert list(tmp_path.iterdir()) == []
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_in_the_way_is_left_as_it_is(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="a"):
        write_whole(tmp_path / "a", TEXT)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("existing", [None, "older"])
def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch, existing):
    if existing:
        (tmp_path / "a").write_text(existing)

    def fail(draft, target):
        assert os.path.dirname(draft) == os.path.dirname(target)  # else the move is not atomic
        assert draft.read_text(encoding="utf-8") == TEXT
        raise OSError("the disk is gone")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        write_whole(tmp_path / "a", TEXT)
    assert [file.read_text() for file in tmp_path.iterdir()] == ([existing] if existing else [])


def test_a_full_disk_leaves_no_half_of_a_file(tmp_path, monkeypatch):
    def write_half(path, data):
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(files.Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="no space left"):
        write_whole(tmp_path / "a", TEXT)
    assert list(tmp_path.iterdir()) == []


def test_threads_that_write_one_file_leave_one_whole_text(tmp_path):
    texts = [letter * 100_000 for letter in "abcd"]
    threads = [threading.Thread(target=write_whole, args=(tmp_path / "a", t)) for t in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_others_may_read_it_as_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    assert write_whole(tmp_path / "a", TEXT).stat().st_mode == (tmp_path / "plain").stat().st_mode


# ---- Drawable.save


@pytest.fixture
def timeline():
    return simulate(build_schedule("1f1b", 3, 4), {"F": 1, "B": 2})


def test_a_timeline_is_saved_as_an_svg_that_carries_its_text(timeline, tmp_path):
    root = ET.parse(timeline.save(tmp_path / "step.svg", reasons=True)).getroot()
    assert root.tag.endswith("}svg")
    words = [node.text for node in root.iter() if node.tag.endswith(("}title", "}description"))]
    assert timeline.headline() in words
    assert timeline.describe() in words


def test_a_timeline_is_saved_as_a_png(timeline, tmp_path):
    files = [timeline.save(tmp_path / f"{width}.PNG", width=width) for width in (6, 12)]
    narrow, wide = (file.read_bytes() for file in files)
    assert narrow.startswith(b"\x89PNG\r\n\x1a\n")
    assert narrow.endswith(b"IEND\xaeB`\x82")
    assert int.from_bytes(wide[16:20]) > 1.5 * int.from_bytes(narrow[16:20])  # pixels across
    assert timeline.headline().encode("latin-1") in narrow


def test_a_timeline_is_saved_as_text_and_as_a_trace(timeline, tmp_path):
    saved = timeline.save(str(tmp_path / "step.txt"))
    assert saved.read_text(encoding="utf-8") == f"{timeline}\n"
    traced = timeline.save(tmp_path / "step.json").read_bytes()
    assert traced == timeline.to_perfetto(tmp_path / "same.json").read_bytes()


def test_a_comparison_is_saved_but_has_no_trace(timeline, tmp_path):
    both = timeline.compare(simulate(build_schedule("gpipe", 3, 4), {"F": 1, "B": 2}))
    assert both.save(tmp_path / "both.svg").read_bytes().startswith(b"<?xml")
    assert both.save(tmp_path / "both.txt").read_text(encoding="utf-8") == f"{both}\n"
    message = "'both.json' ends in '.json': use a name in .svg, .png, .txt"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        both.save(tmp_path / "both.json")


@pytest.mark.parametrize("name", ["step.pdf", "step", ".svg"])
def test_an_unknown_suffix_is_refused_with_those_that_are_known(timeline, tmp_path, name):
    with pytest.raises(ValueError, match=r"use a name in \.svg, \.png, \.txt, \.json"):
        timeline.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["step.txt", "step.json"])
def test_only_a_figure_has_options(timeline, tmp_path, name):
    with pytest.raises(ValueError, match=r"width: options are for \.svg and \.png, not \."):
        timeline.save(tmp_path / name, width=4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".svg", ".png", ".txt", ".json"])
def test_every_form_is_written_whole_or_not_at_all(timeline, tmp_path, monkeypatch, suffix):
    path = tmp_path / f"step{suffix}"
    path.write_text("older")

    def fail(draft, target):
        raise OSError("the disk is gone")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        timeline.save(path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["older"]
