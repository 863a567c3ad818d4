"""The widget of a question: where it appears, and what its buttons do."""

import builtins
import sys
import types

import ipywidgets
import pytest

from d2lpart.common import display
from d2lpart.course.questions import widget
from d2lpart.course.questions.choices import NumberQuestion, Option, Question

CHOICE = Question(
    "99.q1", "Which is `it`?", {"a": Option("x < 1", "1."), "b": Option("y", "2.")}, answer="b"
)
NUMBER = NumberQuestion("99.q2", "How many?", answer=3, explain="3.", unit="MB")


@pytest.fixture
def kernel(monkeypatch):
    """A live kernel, as far as the widget code can see."""
    monkeypatch.delenv("D2LPART_STATIC", raising=False)
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell)


def parts(box, kind):
    found = [box] if isinstance(box, kind) else []
    return found + [part for child in getattr(box, "children", ()) for part in parts(child, kind)]


def feedback(box) -> str:
    return parts(box, ipywidgets.HTML)[-1].value


def test_a_button_for_each_option_answers_at_once():
    box = widget.build(CHOICE)
    buttons = parts(box, ipywidgets.Button)
    assert [button.description for button in buttons] == ["a", "b"]
    assert buttons[0].tooltip == "Question 99.q1: answer a: x < 1"
    assert feedback(box) == '<div role="status"></div>'
    buttons[0].click()
    assert "<b>Not yet.</b> 1." in feedback(box)
    buttons[1].click()
    assert "<b>Right.</b> 2." in feedback(box)


def test_the_texts_are_escaped():
    texts = [part.value for part in parts(widget.build(CHOICE), ipywidgets.HTML)]
    assert "<p><b>99.q1</b> Which is <code>it</code>?</p>" in texts
    assert "x &lt; 1" in texts


def test_a_number_is_written_into_a_field():
    box = widget.build(NUMBER)
    (entry,), (button,) = parts(box, ipywidgets.Text), parts(box, ipywidgets.Button)
    button.click()
    assert "answer with one number in MB" in feedback(box)
    entry.value = "3 MB"
    button.click()
    assert "<b>Right.</b> 3." in feedback(box)


def test_enter_in_the_field_answers_and_the_button_does_not_answer_twice():
    given = []
    (field, button) = widget.CONTROLS["number"](ipywidgets, NUMBER, given.append)[0].children[::2]
    field.value = "4"  # as Enter sets it
    button.click()
    field.value = "5"
    assert given == ["4", "5"]


def test_a_click_never_raises_in_strict_mode(monkeypatch):
    monkeypatch.setenv("D2LPART_STRICT", "1")
    box = widget.build(CHOICE)
    parts(box, ipywidgets.Button)[0].click()
    assert "Not yet." in feedback(box)


def test_a_live_kernel_gets_a_view(kernel):
    assert display.live_kernel()
    view = widget.view(CHOICE)[display.VIEW]
    assert sorted(view) == ["model_id", "version_major", "version_minor"]


def test_no_view_when_widgets_are_switched_off(kernel, monkeypatch):
    monkeypatch.setenv("D2LPART_STATIC", "1")
    assert widget.view(CHOICE) == {}


def test_no_view_without_a_kernel(monkeypatch):
    monkeypatch.delenv("D2LPART_STATIC", raising=False)
    assert widget.view(CHOICE) == {}
    terminal = types.SimpleNamespace()
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: terminal)
    assert not display.live_kernel()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not display.live_kernel()


def test_no_view_without_ipywidgets(kernel, monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *args, **options):
        if name == "ipywidgets":
            raise ImportError(name)
        return real_import(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert widget.view(CHOICE) == {}
