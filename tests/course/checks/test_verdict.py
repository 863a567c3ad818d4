"""The verdict: as text, as a page, and what lets an unsolved notebook run on."""

import pytest
import torch

from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.checks.showing import show_call, show_pair, show_value
from d2lpart.course.checks.verdict import Result
from d2lpart.course.questions.feedback import CheckFailed


def twice(n: int) -> int:
    return 2 * n


def mine(n: int) -> int:
    return n + n


EXERCISE = Exercise("99.1", "Twice", twice, cases=lambda rng: [(1,)])
RIGHT = Result(EXERCISE, mine, "right", "3 cases agree.")
WRONG = Result(EXERCISE, mine, "wrong", "Add `n`.", "twice(1)", "2", "<1>")
MISSING = Result(EXERCISE, mine, "missing", "Still to be written.")


def test_as_text():
    assert repr(RIGHT) == "99.1 Right. 3 cases agree."
    assert repr(MISSING) == "99.1 Not yet. Still to be written."
    assert repr(WRONG).splitlines() == [
        "99.1 Not yet.",
        "  call      twice(1)",
        "  expected  2",
        "  got       <1>",
        "Add `n`.",
    ]
    printed = Result(EXERCISE, mine, "none", "Return it.", "twice(1)", "2", "None", "2")
    assert "  printed   2" in repr(printed)


def test_as_a_page():
    page = WRONG._repr_html_()
    assert 'role="status"' in page
    assert "<b>99.1 Not yet.</b>" in page
    assert "got <code>&lt;1&gt;</code>" in page
    assert "Add <code>n</code>." in page
    assert "<b>99.1 Right.</b> 3 cases agree." in RIGHT._repr_html_()


def test_truth_is_the_verdict():
    assert RIGHT
    assert RIGHT.ok
    assert not WRONG
    assert not MISSING.ok


def test_the_reference_stands_in_for_what_is_not_right_and_says_so(capsys):
    assert WRONG.or_reference() is twice
    assert capsys.readouterr().out == "99.1: the course's `twice` stands in for yours.\n"
    assert RIGHT.or_reference() is mine
    assert capsys.readouterr().out == ""


def test_strict_mode(monkeypatch):
    monkeypatch.setenv("D2LPART_STRICT", "0")
    assert WRONG.or_raise() is WRONG
    monkeypatch.setenv("D2LPART_STRICT", "1")
    assert RIGHT.or_raise() is RIGHT
    with pytest.raises(CheckFailed, match=r"99\.1 Not yet"):
        WRONG.or_raise()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.75, "0.75"),
        (2 / 3, "0.666667"),
        (3, "3"),
        ("a", "'a'"),
        (None, "None"),
        ([1, 1 / 3, [0.1 + 0.2]], "[1, 0.333333, [0.3]]"),
        ((1, 2), "(1, 2)"),
        (torch.arange(3), "tensor of shape (3,): [0, 1, 2]"),
        (torch.zeros(4, 5), "tensor of shape (4, 5)"),
        (torch.tensor(2), "tensor(2)"),
    ],
)
def test_values_are_written_short(value, text):
    assert show_value(value) == text


def test_a_long_value_is_cut():
    text = show_value(list(range(1000)))
    assert len(text) == 300
    assert text.endswith(" …")


def test_what_cannot_be_written_goes_by_its_type():
    endless = []
    endless.append(endless)
    assert show_value(10**5000) == "a value of type int that cannot be shown"
    assert show_value(endless) == "a value of type list that cannot be shown"
    assert show_pair(1, 10**5000) == ("1", "a value of type int that cannot be shown")


def test_values_that_look_alike_are_written_in_full():
    assert show_pair(0.5, 0.6) == ("0.5", "0.6")
    assert show_pair(0.5, 0.5000001) == ("0.5", "0.5000001")
    assert show_pair(0.3, 0.1 + 0.2)[1] == "0.30000000000000004"


def test_the_call_reproduces_the_case():
    text = show_call(EXERCISE, ([1, 2], "naive", torch.tensor([1, 2])))
    assert text == "twice([1, 2], 'naive', torch.tensor([1, 2]))"
    assert show_call(EXERCISE, ()) == "twice()"
    named = Exercise("99.2", "t", twice, cases=lambda rng: [], show=lambda a, b: f"a={a}, b={b}")
    assert show_call(named, (1, 2)) == "twice(a=1, b=2)"
