"""Progress as a table and as bars, in the terminal and in a notebook."""

import html
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from d2lpart.common.display import GREEN, ORANGE
from d2lpart.course.progress.store import Entry, Progress

BAR_CELLS = 20
COLUMNS = ("items", "tried", "passed", "hints", "tries")


@dataclass(frozen=True)
class Row:
    """One line of the table: a lesson, one item of it, or the total.

    items, tried, passed: how many items there are, were answered, were answered right. hints: how
    many hints and worked solutions were seen. tries: how many answers were given.
    """

    name: str
    items: int
    tried: int
    passed: int
    hints: int
    tries: int

    @property
    def words(self) -> str:
        """The bar in words."""
        return f"{self.passed} of {self.items} passed, {self.tried - self.passed} more tried"

    def bar(self) -> str:
        """Return the bar as text: # passed, + tried, . not yet tried.

        >>> Row("05", items=10, tried=6, passed=5, hints=0, tries=7).bar()
        '[##########++........]'
        """
        marks = [
            "#" * (BAR_CELLS * self.passed // max(1, self.items)),
            "+" * (BAR_CELLS * self.tried // max(1, self.items)),
        ]
        return f"[{marks[0] + marks[1][len(marks[0]) :]:.<{BAR_CELLS}}]"


@dataclass(frozen=True)
class Report:
    """The table; as the last line of a cell it shows itself.

    rows: one a lesson, or one an item where a single lesson was asked for. predictions: the guesses
    of these lessons. others: what is recorded under ids that the course does not have.
    """

    rows: Sequence[Row]
    total: Row
    predictions: Progress
    others: Progress

    def __repr__(self) -> str:
        rows = [*self.rows, self.total]
        first = max(6, *(len(row.name) for row in rows))
        head = f"{'lesson':<{first}}" + "".join(f"{name:>8}" for name in COLUMNS)
        lines = [
            f"{row.name:<{first}}"
            + "".join(f"{getattr(row, name):>8}" for name in COLUMNS)
            + f"  {row.bar()}"
            for row in rows
        ]
        key = "# passed, + tried, . not yet tried"
        return "\n".join([head, *lines, key, *self._notes()])

    def _repr_html_(self) -> str:
        heads = "".join(f'<th scope="col">{name}</th>' for name in ("lesson", *COLUMNS, "progress"))
        body = "".join(_html_row(row) for row in [*self.rows, self.total])
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self._notes())
        return (
            '<table aria-label="Progress by lesson">'
            f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{notes}"
        )

    def _notes(self) -> list[str]:
        guesses = [
            f"{item_id} guessed {entry.guess:g}"
            + (f", measured {entry.measured:g}" if entry.measured is not None else "")
            + (" (near)" if entry.near else "")
            for item_id, entry in self.predictions.items()
            if entry.guess is not None
        ]
        notes = [f"predictions: {'; '.join(guesses)}"] if guesses else []
        if self.others:
            notes.append(f"not in this version of the course: {', '.join(self.others)}")
        return notes

    def plain(self) -> dict[str, Any]:
        """Return the same as plain values, for JSON."""
        return {
            "lessons": [asdict(row) for row in self.rows],
            "total": asdict(self.total),
            "predictions": {item_id: asdict(entry) for item_id, entry in self.predictions.items()},
            "others": {item_id: asdict(entry) for item_id, entry in self.others.items()},
        }


def _html_row(row: Row) -> str:
    cells = "".join(f'<td style="text-align:right">{getattr(row, name)}</td>' for name in COLUMNS)
    parts = [(row.passed, GREEN), (row.tried - row.passed, ORANGE)]
    bars = "".join(
        f'<div style="width:{100 * count / max(1, row.items):.1f}%;background:{colour}"></div>'
        for count, colour in parts
    )
    bar = (
        f'<div role="img" aria-label="{html.escape(row.name)}: {row.words}" '
        f'style="display:flex;width:12em;height:.9em;border:1px solid #888">{bars}</div>'
    )
    name = html.escape(row.name)
    return f'<tr><th scope="row">{name}</th>{cells}<td>{bar}{row.words}</td></tr>'


def report(recorded: Progress, known: Sequence[str], lesson: str | None = None) -> Report:
    """Return the table of what is recorded, of all lessons or of one ("05") item by item.

    Args:
        recorded: by the id of an item.
        known: the ids of the course's questions and exercises, in their order.
        lesson: the number of one lesson.

    Raises:
        ValueError: the course has no such lesson.
    """
    lessons = sorted({_lesson(item_id) for item_id in known})
    if lesson is not None and lesson not in lessons:
        raise ValueError(f"no lesson {lesson!r}; those there are: {', '.join(lessons)}")
    strange = {item_id: entry for item_id, entry in recorded.items() if item_id not in known}
    predictions = {
        item_id: entry
        for item_id, entry in strange.items()
        if entry.guess is not None and _lesson(item_id) in lessons
    }
    others = {item_id: strange[item_id] for item_id in strange if item_id not in predictions}
    if lesson is not None:
        known = [item_id for item_id in known if _lesson(item_id) == lesson]
        predictions = {key: entry for key, entry in predictions.items() if _lesson(key) == lesson}
    group: Callable[[str], str] = _lesson if lesson is None else str
    names = lessons if lesson is None else known
    rows = [
        _row(name, [recorded.get(key, Entry()) for key in known if group(key) == name])
        for name in names
    ]
    total = _row("total", [recorded.get(key, Entry()) for key in known])
    return Report(rows, total, predictions, others)


def _lesson(item_id: str) -> str:
    return item_id.partition(".")[0]


def _row(name: str, entries: Sequence[Entry]) -> Row:
    return Row(
        name,
        items=len(entries),
        tried=sum(entry.tries > 0 for entry in entries),
        passed=sum(entry.passed is not None for entry in entries),
        hints=sum(entry.hints + entry.solution for entry in entries),
        tries=sum(entry.tries for entry in entries),
    )
