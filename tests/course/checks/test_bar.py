"""The line of a check that takes its time: where it shows, and that it goes away."""

import io
import sys
from types import SimpleNamespace

import pytest

from d2lpart.course.checks import bar as module, guard
from d2lpart.course.checks.bar import bar_shown
from d2lpart.course.checks.exercise import Exercise


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """`terminal()` makes standard output a terminal, and returns it."""

    def start():
        monkeypatch.setattr(sys, "stdout", Terminal())  # pytest's own would replace an earlier one
        return sys.stdout

    monkeypatch.delenv("D2LPART_STATIC", raising=False)
    monkeypatch.setattr(module, "live_kernel", lambda: False)
    return start


@pytest.fixture
def notebook(monkeypatch):
    """Return the texts that are displayed, in order."""
    IPython = pytest.importorskip("IPython.display")
    shown = []

    def display(data, raw, display_id):
        shown.append(data["text/plain"])
        return SimpleNamespace(update=lambda data, raw: shown.append(data["text/plain"]))

    monkeypatch.delenv("D2LPART_STATIC", raising=False)
    monkeypatch.setattr(module, "live_kernel", lambda: True)
    monkeypatch.setattr(IPython, "display", display)
    return shown


def test_a_terminal_has_a_line_that_is_wiped(terminal):
    out = terminal()
    with bar_shown("05.1", 10) as show:
        show(1, 4, 2.0)
        show(4, 4, 3.0)
    lines = out.getvalue().split("\r")
    assert [line[:7] for line in lines[1:3]] == ["05.1 [#", "05.1 [#"]
    assert "4 of 4 cases, 3 of 10 s" in lines[2]
    assert lines[3].strip() == ""
    assert len(lines[3]) >= len(lines[2].rstrip())


def test_a_notebook_has_an_output_that_is_emptied(notebook):
    with bar_shown("05.1", 10) as show:
        show(0, 0, 5.0)
        show(0, 0, 6.0)
    assert notebook == [
        "05.1 [##########··········] 5 of 10 s",
        "05.1 [############········] 6 of 10 s",
        "",
    ]


def test_nothing_is_left_where_nothing_was_shown(notebook):
    with bar_shown("05.1", 10):
        pass
    assert notebook == []


def test_a_terminal_is_left_alone_where_nothing_was_shown(terminal):
    out = terminal()
    with bar_shown("05.1", 10):
        pass
    assert out.getvalue() == ""


def test_a_file_or_a_static_page_has_none(terminal, monkeypatch):
    out = terminal()
    monkeypatch.setenv("D2LPART_STATIC", "1")
    with bar_shown("05.1", 10) as show:
        show(1, 4, 2.0)
    assert out.getvalue() == ""
    monkeypatch.delenv("D2LPART_STATIC")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with bar_shown("05.1", 10) as show:
        show(1, 4, 2.0)
    assert sys.stdout.getvalue() == ""


@pytest.mark.parametrize("seconds", [None, 5.0])
def test_a_check_that_trains_shows_at_once_others_after_a_while(terminal, seconds):
    out = terminal()
    one = Exercise("99.1", "t", abs, examine=lambda function, rng: None, seconds=seconds)
    with guard._shown(one, 5.0) as show:
        show(0, 0, 0.0)
        assert (out.getvalue() == "") is (seconds is None)
        show(0, 0, guard.PATIENCE)
        assert "99.1" in out.getvalue()
