"""The command line and its table of progress."""

import argparse
import json
import os
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from d2lpart.commands import cli, doctor
from d2lpart.course.catalog import exercises, progress, questions
from d2lpart.course.progress.store import Entry, record
from d2lpart.course.progress.table import Report, Row, report

ROOT = Path(__file__).resolve().parents[2]

RECORDED = {
    "05.q1": Entry(2, 2, "2025-03-01T12:00:00+00:00", hints=1),
    "05.q2": Entry(1, hints=3, solution=True),
    "05.1": Entry(hints=1),
    "05.p1": Entry(guess=0.5, measured=0.75, near=False),
    "03.p1": Entry(guess=2),
    "99.1": Entry(7),
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "progress.json"
    monkeypatch.setenv("D2LPART_PROGRESS", str(path))
    return path


def command(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "d2lpart", *arguments], capture_output=True, text=True, **options
    )


def row(table, name: str) -> Row:
    return next(row for row in table.rows if row.name == name)


KNOWN = [item.id for item in [*questions(), *exercises()]]


def shown(recorded: dict[str, Entry], lesson: str | None = None) -> Report:
    return report(recorded, KNOWN, lesson)


def test_a_row_a_lesson_and_a_total():
    table = shown(RECORDED)
    size = sum(item_id.startswith("05.") for item_id in KNOWN)
    assert row(table, "05") == Row("05", size, tried=2, passed=1, hints=6, tries=3)
    assert row(table, "03").tried == 0
    assert table.total == Row("total", len(KNOWN), tried=2, passed=1, hints=6, tries=3)
    assert [row.name for row in table.rows] == sorted({item_id[:2] for item_id in KNOWN})


def test_unknown_ids_stand_apart():
    text = repr(shown(RECORDED))
    assert "not in this version of the course: 99.1" in text
    assert "predictions: 05.p1 guessed 0.5, measured 0.75; 03.p1 guessed 2" in text
    assert "not in" not in repr(shown({}))


def test_one_lesson_item_by_item():
    table = shown(RECORDED, "05")
    assert row(table, "05.q2") == Row("05.q2", 1, tried=1, passed=0, hints=4, tries=1)
    assert {row.name[:3] for row in table.rows} == {"05."}
    assert set(table.predictions) == {"05.p1"}
    with pytest.raises(ValueError, match="no lesson '5'; those there are: 00, "):
        shown({}, "5")


@pytest.mark.parametrize(
    ("passed", "tried", "bar"),
    [(0, 0, "." * 20), (3, 3, "#" * 20), (0, 3, "+" * 20), (1, 2, "######+++++++.......")],
)
def test_the_bar(passed, tried, bar):
    assert Row("05", 3, tried, passed, 0, 0).bar() == f"[{bar}]"


def test_the_page_says_in_words_what_its_bars_show():
    class Page(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.labels = [], []

        def handle_starttag(self, tag, attrs):
            self.open.append(tag)
            if dict(attrs).get("role") == "img":
                self.labels.append(dict(attrs)["aria-label"])

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    table = shown(RECORDED | {"<b>": Entry(1)})
    page = Page()
    page.feed(table._repr_html_())
    assert page.open == []
    assert page.labels == [f"{row.name}: {row.words}" for row in [*table.rows, table.total]]
    assert table._repr_html_().count(f"</div>{table.total.words}</td>") == 1
    assert "&lt;b&gt;" in table._repr_html_()


def test_progress_in_the_terminal_as_a_table_and_as_json(file, capsys):
    record("05.1", "tried", ok=True, kind="right")
    assert cli.main(["progress", "05"]) == 0
    assert capsys.readouterr().out == f"{progress('05')!r}\n"
    assert cli.main(["progress", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["passed"] == 1
    other = file.with_name("other.json")
    other.write_text('{"version": 1, "items": {"05.q1": {"tries": 4}}}')
    assert cli.main(["progress", "--json", "--path", str(other)]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["tries"] == 4


@pytest.mark.parametrize(
    ("content", "said"), [(None, "there is no such file"), ("{", "this is no JSON")]
)
def test_a_wrong_input_is_one_line(tmp_path, capsys, content, said):
    path = tmp_path / "mine.json"
    if content:
        path.write_text(content)
    assert cli.main(["progress", "--path", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"d2lpart progress: {path}: {said}")
    assert error.count("\n") == 1
    assert path.exists() == bool(content)  # reading another file moves nothing


def test_ctrl_c_is_quiet(monkeypatch, capsys):
    def run(options: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "run", run)
    assert cli.main(["doctor"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_has_gone_is_quiet():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "d2lpart", "progress"], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_as_a_module_and_as_an_installed_command():
    done = command("--help")
    assert done.returncode == 0
    assert "progress" in done.stdout
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert scripts == {"d2lpart": f"{cli.main.__module__}:{cli.main.__name__}"}
    missing = command()
    assert missing.returncode == 2
    assert "Traceback" not in missing.stderr


def test_no_test_writes_to_the_learner_s_home():
    assert os.environ["D2LPART_PROGRESS"] == "off"
