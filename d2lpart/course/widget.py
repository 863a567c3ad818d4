"""A question as a widget, where a live kernel and ipywidgets are there; elsewhere nothing.

Only parts that ipywidgets 7 and 8 both have are used. The static page of a question says all
that its widget says, so D2LPART_STATIC=1 may switch the widgets off.
"""

import html
import os
import sys
from collections.abc import Callable
from typing import Any

from d2lpart.course.feedback import inline_html

VIEW = "application/vnd.jupyter.widget-view+json"


def live_kernel() -> bool:
    """Tell whether a notebook kernel runs this code (a terminal's IPython is none)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def view(question: Any) -> dict[str, object]:
    """Return the output entry that shows the question's widget; empty where widgets cannot be."""
    if os.environ.get("D2LPART_STATIC") == "1" or not live_kernel():
        return {}
    try:
        box = build(question)
    except ImportError:
        return {}
    return {VIEW: {"version_major": 2, "version_minor": 0, "model_id": box.model_id}}


def build(question: Any) -> Any:
    """Return the widget: the stem, a button for each option (or one field), and the feedback."""
    import ipywidgets

    feedback = ipywidgets.HTML('<div role="status"></div>')

    def answer(given: object) -> None:
        feedback.value = question.judge(given)._repr_html_()

    stem = ipywidgets.HTML(f"<p><b>{question.id}</b> {inline_html(question.stem)}</p>")
    options = getattr(question, "options", None)
    rows = _choices(question.id, options, answer) if options else [_field(question, answer)]
    return ipywidgets.VBox([stem, *rows, feedback])


def _choices(question_id: str, options: Any, answer: Callable[[object], None]) -> list[Any]:
    import ipywidgets

    def row(key: str, text: str) -> Any:
        button = ipywidgets.Button(
            description=key,
            tooltip=f"Question {question_id}: answer {key}: {text}",
            layout=ipywidgets.Layout(width="4em", flex="0 0 auto"),
        )
        button.on_click(lambda _: answer(key))
        return ipywidgets.HBox([button, ipywidgets.HTML(inline_html(text))])

    return [row(key, option.text) for key, option in options.items()]


def _field(question: Any, answer: Callable[[object], None]) -> Any:
    import ipywidgets

    entry = ipywidgets.Text(
        placeholder=f"a number {question.unit}".rstrip(),
        continuous_update=False,
        layout=ipywidgets.Layout(width="12em"),
    )
    button = ipywidgets.Button(description="Check", tooltip=f"Check question {question.id}")
    button.on_click(lambda _: answer(entry.value))
    return ipywidgets.HBox([entry, ipywidgets.HTML(html.escape(question.unit)), button])
