"""A question as a widget, where a live kernel and ipywidgets are there; elsewhere nothing.

Only parts that ipywidgets 7 and 8 both have are used, each of them a native control of the
browser, so that a keyboard reaches all. The static page of a question says all that its widget
says, so D2LPART_STATIC=1 may switch the widgets off.
"""

import html
from collections.abc import Callable
from typing import Any

from d2lpart.common.display import widget_output
from d2lpart.course.progress.store import record
from d2lpart.course.questions.feedback import Feedback, inline_html
from d2lpart.course.questions.hints import get_hint, levels

Answer = Callable[[object], None]


def view(question: Any) -> dict[str, object]:
    """Return the output entry that shows the question's widget; empty where widgets cannot be."""
    return widget_output(lambda: build(question))


def build(question: Any) -> Any:
    """Return the widget: the stem, the controls of the question's kind, hints and the feedback."""
    import ipywidgets as w

    feedback = w.HTML('<div role="status"></div>')

    def answer(given: object) -> None:
        reply: Feedback = question.reply(given)
        feedback.value = reply._repr_html_()

    stem = w.HTML(f"<p><b>{question.id}</b> {inline_html(question.stem)}</p>")
    rows = CONTROLS[question.controls](w, question, answer)
    help_row = [_hints(w, question)] if levels(question) else []
    return w.VBox([stem, *rows, *help_row, feedback])


def _choice(w: Any, question: Any, answer: Answer) -> list[Any]:
    """A button for each option; a click answers."""
    does = f"Question {question.id}: answer"
    options = [(key, option.text) for key, option in question.options.items()]
    return [_row(w, key, text, f"{does} {key}: {text}", answer) for key, text in options]


def _several(w: Any, question: Any, answer: Answer) -> list[Any]:
    """A box to tick for each option, and a button."""
    boxes = {
        key: w.Checkbox(
            value=False,
            description=f"{key}) {option.text}",
            indent=False,
            layout=w.Layout(width="100%"),
        )
        for key, option in question.options.items()
    }
    button = _check_button(w, question)
    button.on_click(lambda _: answer([key for key, box in boxes.items() if box.value]))
    return [*boxes.values(), button]


def _order(w: Any, question: Any, answer: Answer) -> list[Any]:
    """A button for each event, which puts it next; a field that may be edited; a button."""
    entry = w.Text(placeholder="letters in order", layout=w.Layout(width="16em"))

    def put(key: object) -> None:
        entry.value = f"{entry.value}{key}"

    button, clear = _check_button(w, question), w.Button(description="Start again")
    button.on_click(lambda _: answer(entry.value))
    clear.on_click(lambda _: setattr(entry, "value", ""))
    does = f"Question {question.id}: put next:"
    rows = [_row(w, key, text, f"{does} {text}", put) for key, text in question.items.items()]
    return [*rows, w.HBox([entry, button, clear])]


def _place(w: Any, question: Any, answer: Answer) -> list[Any]:
    """A device to choose for each layer, and a button."""
    choosers = [
        w.Dropdown(
            options=list(range(question.num_devices)),
            value=0,
            description=f"layer {layer}",
            layout=w.Layout(width="11em"),
        )
        for layer in range(question.num_layers)
    ]
    button = _check_button(w, question)
    button.on_click(lambda _: answer([chooser.value for chooser in choosers]))
    wrap = w.Layout(flex_flow="row wrap")
    return [w.HBox(choosers, layout=wrap), button]


def _number(w: Any, question: Any, answer: Answer) -> list[Any]:
    """A field with the unit behind it, and a button; Enter in the field answers as well."""
    entry = w.Text(
        placeholder=f"a number {question.unit}".rstrip(),
        continuous_update=False,
        layout=w.Layout(width="12em"),
    )
    judged: list[str] = []

    def once(_: object) -> None:
        if judged != [entry.value]:
            judged[:] = [entry.value]
            answer(entry.value)

    button = _check_button(w, question)
    entry.observe(once, "value")
    button.on_click(once)
    return [w.HBox([entry, w.HTML(html.escape(question.unit)), button])]


CONTROLS: dict[str, Callable[[Any, Any, Answer], list[Any]]] = {
    "choice": _choice,
    "several": _several,
    "order": _order,
    "place": _place,
    "number": _number,
}
"""The controls of each kind of question, by the name that the kind gives in `controls`.

Each gets the module ipywidgets, which is loaded when a widget is made, the question, and `answer`.
"""


def _hints(w: Any, question: Any) -> Any:
    """A button that shows the next hint below those shown already."""
    shown: list[str] = []
    text = w.HTML("")
    button = w.Button(description="Hint 1", tooltip=f"Question {question.id}: a hint")

    def more(_: object) -> None:
        hint = get_hint(question, len(shown) + 1)
        record(question.id, "hinted", level=hint.level)
        shown.append(hint._repr_html_())
        text.value = "".join(shown)
        button.disabled = hint.last
        if not hint.last:
            button.description = get_hint(question, len(shown) + 1).title.partition(" of")[0]

    button.on_click(more)
    return w.VBox([button, text])


def _check_button(w: Any, question: Any) -> Any:
    return w.Button(description="Check", tooltip=f"Check question {question.id}")


def _row(w: Any, key: str, text: str, tooltip: str, pressed: Answer) -> Any:
    """A button with a letter on it, which `pressed` is told, and a text beside it."""
    layout = w.Layout(width="4em", flex="0 0 auto")
    button = w.Button(description=key, tooltip=tooltip, layout=layout)
    button.on_click(lambda _: pressed(key))
    return w.HBox([button, w.HTML(inline_html(text))])
