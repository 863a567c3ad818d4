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
    import ipywidgets

    feedback = ipywidgets.HTML('<div role="status"></div>')

    def answer(given: object) -> None:
        reply: Feedback = question.reply(given)
        feedback.value = reply._repr_html_()

    stem = ipywidgets.HTML(f"<p><b>{question.id}</b> {inline_html(question.stem)}</p>")
    rows = CONTROLS[question.controls](question, answer)
    help_row = [_hints(question)] if levels(question) else []
    return ipywidgets.VBox([stem, *rows, *help_row, feedback])


def _choice(question: Any, answer: Answer) -> list[Any]:
    """A button for each option; a click answers."""
    import ipywidgets

    def row(key: str, text: str) -> Any:
        tooltip = f"Question {question.id}: answer {key}: {text}"
        button = _small_button(key, tooltip)
        button.on_click(lambda _: answer(key))
        return ipywidgets.HBox([button, ipywidgets.HTML(inline_html(text))])

    return [row(key, option.text) for key, option in question.options.items()]


def _several(question: Any, answer: Answer) -> list[Any]:
    """A box to tick for each option, and a button."""
    import ipywidgets

    boxes = {
        key: ipywidgets.Checkbox(
            value=False, description=f"{key}) {option.text}", indent=False, layout=_full_width()
        )
        for key, option in question.options.items()
    }
    button = _check_button(question)
    button.on_click(lambda _: answer([key for key, box in boxes.items() if box.value]))
    return [*boxes.values(), button]


def _order(question: Any, answer: Answer) -> list[Any]:
    """A button for each event, which puts it next; a field that may be edited; a button."""
    import ipywidgets

    entry = ipywidgets.Text(placeholder="letters in order", layout=ipywidgets.Layout(width="16em"))

    def row(key: str, text: str) -> Any:
        button = _small_button(key, f"Question {question.id}: put next: {text}")
        button.on_click(lambda _: setattr(entry, "value", entry.value + key))
        return ipywidgets.HBox([button, ipywidgets.HTML(inline_html(text))])

    button, clear = _check_button(question), ipywidgets.Button(description="Start again")
    button.on_click(lambda _: answer(entry.value))
    clear.on_click(lambda _: setattr(entry, "value", ""))
    rows = [row(key, text) for key, text in question.items.items()]
    return [*rows, ipywidgets.HBox([entry, button, clear])]


def _place(question: Any, answer: Answer) -> list[Any]:
    """A device to choose for each layer, and a button."""
    import ipywidgets

    choosers = [
        ipywidgets.Dropdown(
            options=list(range(question.num_devices)),
            value=0,
            description=f"layer {layer}",
            layout=ipywidgets.Layout(width="11em"),
        )
        for layer in range(question.num_layers)
    ]
    button = _check_button(question)
    button.on_click(lambda _: answer([chooser.value for chooser in choosers]))
    wrap = ipywidgets.Layout(flex_flow="row wrap")
    return [ipywidgets.HBox(choosers, layout=wrap), button]


def _number(question: Any, answer: Answer) -> list[Any]:
    """A field with the unit behind it, and a button; Enter in the field answers as well."""
    import ipywidgets

    entry = ipywidgets.Text(
        placeholder=f"a number {question.unit}".rstrip(),
        continuous_update=False,
        layout=ipywidgets.Layout(width="12em"),
    )
    judged: list[str] = []

    def once(_: object) -> None:
        if judged != [entry.value]:
            judged[:] = [entry.value]
            answer(entry.value)

    button = _check_button(question)
    entry.observe(once, "value")
    button.on_click(once)
    return [ipywidgets.HBox([entry, ipywidgets.HTML(html.escape(question.unit)), button])]


CONTROLS: dict[str, Callable[[Any, Answer], list[Any]]] = {
    "choice": _choice,
    "several": _several,
    "order": _order,
    "place": _place,
    "number": _number,
}
"""The controls of each kind of question, by the name that the kind gives in `controls`."""


def _hints(question: Any) -> Any:
    """A button that shows the next hint below those shown already."""
    import ipywidgets

    shown: list[str] = []
    text = ipywidgets.HTML("")
    button = ipywidgets.Button(description="Hint 1", tooltip=f"Question {question.id}: a hint")

    def more(_: object) -> None:
        hint = get_hint(question, len(shown) + 1)
        record(question.id, "hinted", level=hint.level)
        shown.append(hint._repr_html_())
        text.value = "".join(shown)
        button.disabled = hint.last
        if not hint.last:
            button.description = get_hint(question, len(shown) + 1).title.partition(" of")[0]

    button.on_click(more)
    return ipywidgets.VBox([button, text])


def _check_button(question: Any) -> Any:
    import ipywidgets

    return ipywidgets.Button(description="Check", tooltip=f"Check question {question.id}")


def _small_button(key: str, tooltip: str) -> Any:
    import ipywidgets

    layout = ipywidgets.Layout(width="4em", flex="0 0 auto")
    return ipywidgets.Button(description=key, tooltip=tooltip, layout=layout)


def _full_width() -> Any:
    import ipywidgets

    return ipywidgets.Layout(width="100%")
