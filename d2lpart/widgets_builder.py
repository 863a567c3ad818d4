"""`schedule_builder`: make a schedule by hand, one action from the ready set after another.

A button for each action that can be placed next, a field for any other, which says why it cannot,
and a button that takes the last one back. `building.Building` is the same without widgets.
"""

import html
from typing import Any

from d2lpart.schedules.schedule import ScheduleError
from d2lpart.timelines.builder import Building, Move
from d2lpart.widgets import Explorer


class ScheduleBuilder(Explorer):
    """The buttons, and the building that they work on, as `report`."""

    report: Building

    def __init__(self, building: Building) -> None:
        super().__init__(lambda _: building)

    def build(self) -> Any:
        """Return the widget box."""
        import ipywidgets

        self._buttons: list[Any] = []
        self._ready = ipywidgets.HBox(layout=ipywidgets.Layout(flex_flow="row wrap"))
        self._said = ipywidgets.HTML()
        self._entry = ipywidgets.Text(placeholder="such as 1F0", description="place")
        self._entry.continuous_update = False
        self._entry.observe(self._typed, "value")
        undo = ipywidgets.Button(description="Take back", tooltip="Take the last action back")
        undo.on_click(lambda _: self._act(None))
        row = ipywidgets.HBox([self._entry, undo])
        return self._box({}, [self._ready, row, self._said])

    def refresh(self) -> None:
        """Show the building, and a button for each action that is ready.

        Buttons are named anew, not made anew: the one that was pressed keeps the keyboard's focus.
        """
        super().refresh()
        if self._page is not None:
            names = [str(action) for action in self.report.ready()]
            self._buttons += [self._button() for _ in names[len(self._buttons) :]]
            for button, name in zip(self._buttons, names, strict=False):
                button.description, button.tooltip = name, f"Place {name}"
            self._ready.children = self._buttons[: len(names)]

    def _button(self) -> Any:
        import ipywidgets

        button = ipywidgets.Button(layout=ipywidgets.Layout(width="5em"))
        button.on_click(lambda pressed: self._act(pressed.description))
        return button

    def _typed(self, change: Any) -> None:
        if change["new"].strip():
            self._act(change["new"].strip())
            self._entry.value = ""

    def _act(self, name: str | None) -> None:
        """Place an action, or take the last one back for None; say what stands in the way."""
        said = ""
        try:
            if name is None:
                self.report.undo()
            else:
                self.report.place(name)
        except (Move, ScheduleError) as trouble:
            said = str(trouble)
        self._said.value = f'<p role="status">{html.escape(said)}</p>'
        self.refresh()


def schedule_builder(
    num_ranks: int = 3,
    num_microbatches: int = 3,
    *,
    split: bool = False,
    most_held: int | None = None,
) -> ScheduleBuilder:
    """Return a builder; the arguments are those of `Building`."""
    return ScheduleBuilder(Building(num_ranks, num_microbatches, split=split, most_held=most_held))
