"""Feedback: words, colour after words, and strict mode."""

import pytest

from d2lpart.course.questions.feedback import (
    CheckFailed,
    Feedback,
    explain,
    inline_html,
    status_html,
    strict,
)

RIGHT = Feedback("05.q1", True, "It is 3/4.")
WRONG = Feedback("05.q1", False, "It works `1/4` & waits.")
UNCLEAR = Feedback("05.q1", False, "05.q1: answer with one of a, b", understood=False)


def test_the_verdict_is_said_in_words():
    assert repr(RIGHT) == "Right. It is 3/4."
    assert repr(WRONG) == "Not yet. It works `1/4` & waits."
    assert repr(UNCLEAR) == "05.q1: answer with one of a, b"


def test_truth_is_the_verdict():
    assert RIGHT
    assert not WRONG
    assert not UNCLEAR


def test_the_page_announces_itself_and_escapes_what_it_shows():
    page = WRONG._repr_html_()
    assert 'role="status"' in page
    assert "<b>Not yet.</b> It works <code>1/4</code> &amp; waits." in page
    assert "#D55E00" in page
    assert "#009E73" in RIGHT._repr_html_()
    assert "#0072B2" in UNCLEAR._repr_html_()  # neither right nor wrong


def test_lines_stand_below_each_other():
    assert "<b>05.1 Right.</b> one<br>two</div>" in status_html(True, "05.1 Right.", ["one", "two"])


def test_code_inside_a_sentence_is_escaped_too():
    assert inline_html("`a<b>` and <i>") == "<code>a&lt;b&gt;</code> and &lt;i&gt;"


def test_an_explanation_is_computed_each_time_it_is_asked_for():
    asked = []

    def sentence(n):
        asked.append(n)
        return f"{n} of {len(asked)}"

    assert [explain(sentence, 4), explain(sentence, 4)] == ["4 of 1", "4 of 2"]


@pytest.mark.parametrize(("value", "is_strict"), [("1", True), ("0", False), ("", False)])
def test_strict_mode_raises_for_what_is_not_right(monkeypatch, value, is_strict):
    monkeypatch.setenv("D2LPART_STRICT", value)
    assert strict() is is_strict
    assert RIGHT.or_raise() is RIGHT
    if not is_strict:
        assert WRONG.or_raise() is WRONG
        return
    with pytest.raises(CheckFailed, match=r"Not yet\. It works") as caught:
        WRONG.or_raise()
    assert caught.value.check_id == "05.q1"
    with pytest.raises(CheckFailed, match="answer with one of"):
        UNCLEAR.or_raise()


def test_strict_mode_is_off_where_nothing_is_said(monkeypatch):
    monkeypatch.delenv("D2LPART_STRICT", raising=False)
    assert not strict()
