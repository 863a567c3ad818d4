"""Explorers to touch: `schedule_explorer`, `partition_editor` and `schedule_builder`.

Each shows a report that follows its controls, all of them native controls of the browser, so that
a keyboard reaches them. Without a live kernel, or with D2LPART_STATIC=1, the report of the start is
shown; `schedule_report` and `partition_report` give it for any other values, and a
`timelines.builder.Building` is the builder without widgets.
"""

import html
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

from d2lpart.common.display import widget_output
from d2lpart.explorers.report_partition import PartitionReport, partition_report
from d2lpart.explorers.report_schedule import ScheduleReport, schedule_report
from d2lpart.partitions.partitioning import partition
from d2lpart.schedules.orders import SCHEDULES
from d2lpart.schedules.schedule import ScheduleError
from d2lpart.timelines.builder import Building, Move

MOST_GAPS = 60


class Explorer:
    """Controls and the report that follows them; as the last line of a cell it shows itself.

    controls: the widgets by name, to be set from code as well. report: of their present values.
    """

    def __init__(self, make: Callable[["Explorer"], Any]) -> None:
        self.controls: dict[str, Any] = {}
        self.extra: list[Any] = []
        self._make = make
        self.report: Any = make(self)
        self._page: Any = None

    def value(self, name: str, default: Any) -> Any:
        """Return a control's value; the default while there are no controls."""
        return self.controls[name].value if name in self.controls else default

    def build(self) -> Any:
        """Return the widget box; raises `ImportError` without ipywidgets."""
        raise NotImplementedError

    def _box(self, controls: dict[str, Any], extra: Sequence[Any] = ()) -> Any:
        """Put controls above the report, and let it follow them."""
        import ipywidgets

        self.controls = controls
        self._page = ipywidgets.HTML()
        for control in controls.values():
            control.observe(lambda _: self.refresh(), "value")
        self.refresh()
        row = ipywidgets.HBox(
            list(controls.values()), layout=ipywidgets.Layout(flex_flow="row wrap")
        )
        return ipywidgets.VBox([row, self._page, *extra])

    def refresh(self) -> None:
        """Make the report of the present values, and show it."""
        self.report = self._make(self)
        if self._page is not None:
            self._page.value = self.report._repr_html_()

    def __repr__(self) -> str:
        return repr(self.report)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle = {"text/plain": repr(self.report), "text/html": self.report._repr_html_()}
        return bundle | widget_output(self.build)


class ScheduleExplorer(Explorer):
    """Choose ranks, micro-batches, schedule, F, B and latency; ask any gap why it is there."""

    report: ScheduleReport

    def __init__(self, start: dict[str, Any]) -> None:
        self._start = start
        super().__init__(_schedule_of(start))

    def build(self) -> Any:
        """Return the widget box."""
        import ipywidgets as w

        wide = {"style": {"description_width": "initial"}}
        s = self._start
        self._gap = w.Dropdown(description="Why idle?", options=[("choose a gap", -1)], **wide)
        self._answer = w.HTML('<pre role="status"></pre>')
        self._gap.observe(self._ask, "value")
        controls = {
            "schedule": w.Dropdown(
                options=list(SCHEDULES), value=s["schedule"], description="schedule", **wide
            ),
            "num_ranks": w.IntSlider(s["num_ranks"], 1, 12, description="ranks p", **wide),
            "num_microbatches": w.IntSlider(
                s["num_microbatches"], 1, 32, description="micro-batches m", **wide
            ),
            "chunks": w.IntSlider(
                s["chunks"] or 1, 1, 4, description="stages a rank (interleaved)", **wide
            ),
            "forward": w.FloatSlider(s["forward"], min=0.25, max=4, step=0.25, description="F (s)"),
            "backward": w.FloatSlider(
                s["backward"], min=0.25, max=8, step=0.25, description="B (s)"
            ),
            "latency": w.FloatSlider(
                s["latency"], min=0, max=2, step=0.05, description="message (s)", **wide
            ),
        }
        return self._box(controls, [self._gap, self._answer])

    def refresh(self) -> None:
        """Show the report, and offer its gaps."""
        super().refresh()
        if self._page is not None:
            gaps = self.report.gaps[:MOST_GAPS]
            self._gap.options = [("choose a gap", -1)] + [
                (f"rank {rank}: {gap.start:.4g} to {gap.end:.4g} s", number)
                for number, (rank, gap) in enumerate(gaps)
            ]
            self._gap.value = -1

    def _ask(self, change: Any) -> None:
        number = change["new"]
        text = "" if number is None or number < 0 else self.report.why(number)
        self._answer.value = f'<pre role="status">{html.escape(text)}</pre>'


def _schedule_of(start: dict[str, Any]) -> Callable[[Explorer], ScheduleReport]:
    def make(explorer: Explorer) -> ScheduleReport:
        values = {name: explorer.value(name, value) for name, value in start.items()}
        if values["schedule"] != "interleaved":
            values["chunks"] = None
        return schedule_report(**values)

    return make


def schedule_explorer(
    schedule: str = "1f1b",
    num_ranks: int = 4,
    num_microbatches: int = 8,
    *,
    chunks: int | None = None,
    forward: float = 1.0,
    backward: float = 2.0,
    latency: float = 0.0,
) -> ScheduleExplorer:
    """Return an explorer of the named schedules; the arguments are those of `schedule_report`."""
    return ScheduleExplorer(
        {
            "schedule": schedule,
            "num_ranks": num_ranks,
            "num_microbatches": num_microbatches,
            "chunks": chunks,
            "forward": forward,
            "backward": backward,
            "latency": latency,
        }
    )


class PartitionEditor(Explorer):
    """One slider for each boundary; a boundary pushes those that it would pass."""

    report: PartitionReport

    def __init__(self, costs: Sequence[float], sizes: Sequence[int], options: Any) -> None:
        self._count, self._pushing = len(costs), False
        self._bounds = list(accumulate(sizes[:-1]))

        def make(explorer: Explorer) -> PartitionReport:
            bounds = [explorer.value(f"cut {k}", b) for k, b in enumerate(self._bounds)]
            ends = [0, *bounds, self._count]
            sizes = [b - a for a, b in pairwise(ends)]
            return partition_report(costs, sizes, **options)

        super().__init__(make)

    def build(self) -> Any:
        """Return the widget box."""
        import ipywidgets

        cuts = len(self._bounds)
        return self._box(
            {
                f"cut {k}": ipywidgets.IntSlider(
                    bound,
                    k + 1,
                    self._count - cuts + k,
                    description=f"stage {k + 1} from layer",
                    style={"description_width": "initial"},
                )
                for k, bound in enumerate(self._bounds)
            }
        )

    def refresh(self) -> None:
        """Push the boundaries that another one has passed, then show the report."""
        if self._pushing:
            return
        bounds = [control.value for control in self.controls.values()]
        pairs = zip(bounds, self._bounds, strict=False)
        moved = next((k for k, (new, old) in enumerate(pairs) if new != old), None)
        if moved is not None:
            for k in range(moved + 1, len(bounds)):
                bounds[k] = max(bounds[k], bounds[k - 1] + 1)
            for k in range(moved - 1, -1, -1):
                bounds[k] = min(bounds[k], bounds[k + 1] - 1)
            self._bounds, self._pushing = bounds, True
            for control, bound in zip(self.controls.values(), bounds, strict=True):
                control.value = bound
            self._pushing = False
        super().refresh()


def partition_editor(
    costs: Sequence[float],
    num_stages: int,
    *,
    sizes: Sequence[int] | None = None,
    memory: Sequence[float] | None = None,
    capacity: float | None = None,
    boundary_bytes: int = 0,
    schedule: str = "1f1b",
    num_microbatches: int = 8,
) -> PartitionEditor:
    """Return an editor of a partition; the other arguments are those of `partition_report`.

    It begins with `sizes`, or with the cut by count: the largest stages first. Raises
    `PartitionError` as `partition` does, for more stages than layers and the like.
    """
    partition(costs, num_stages)
    each, rest = divmod(len(costs), num_stages)
    start = sizes or [each + (stage < rest) for stage in range(num_stages)]
    options = {
        "memory": memory,
        "capacity": capacity,
        "boundary_bytes": boundary_bytes,
        "schedule": schedule,
        "num_microbatches": num_microbatches,
    }
    return PartitionEditor(costs, start, options)


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
