"""Hints in three steps, each stronger; then a worked solution of a different instance.

A question or an exercise has either none or exactly three. In a notebook they fold out one inside
the other, so that the third is not seen before the first; `hint("05.1")` gives them one by one.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from d2lpart.course.questions.feedback import Explanation, explain, inline_html

STEPS = 3
WORKED = STEPS + 1
"""The level of the worked solution, one above the last hint."""


class Hinted(Protocol):
    """What has hints: a question or an exercise."""

    @property
    def id(self) -> str:
        """Such as "05.q1"."""

    @property
    def hints(self) -> Sequence[Explanation]:
        """Three sentences, or none."""

    @property
    def worked(self) -> Explanation:
        """The solution of another instance; may be empty."""


def check_hints(item_id: str, hints: Sequence[Explanation], worked: Explanation) -> None:
    """Raise `ValueError` unless there are three hints, or none and no worked solution either."""
    if len(hints) not in (0, STEPS):
        raise ValueError(f"{item_id}: {len(hints)} hints; give {STEPS}, each stronger, or none")
    if worked and not hints:
        raise ValueError(
            f"{item_id}: a worked solution without hints; give {STEPS} hints before it"
        )


@dataclass(frozen=True)
class Hint:
    """One step of help: its level (1 to 3, 4 for the worked solution) and its text."""

    item_id: str
    level: int
    text: str
    last: bool

    @property
    def title(self) -> str:
        """What is shown to unfold it."""
        return "A worked example" if self.level == WORKED else f"Hint {self.level} of {STEPS}"

    def __repr__(self) -> str:
        more = "" if self.last else f'\nThe next one: hint("{self.item_id}", {self.level + 1})'
        return f"{self.title}. {self.text}{more}"

    def _repr_html_(self) -> str:
        return f'<div role="status"><b>{self.title}.</b> {paragraphs(self.text)}</div>'


def levels(item: Hinted) -> int:
    """Return how many steps of help there are: 0, 3, or 4 with a worked solution."""
    return len(item.hints) + bool(item.worked)


def get_hint(item: Hinted, level: int) -> Hint:
    """Return the hint of a level, from 1; raises `ValueError` for a level that there is not."""
    there = levels(item)
    if not there:
        raise ValueError(f"{item.id} has no hints: the explanation of each answer is all there is")
    if not 1 <= level <= there:
        raise ValueError(f"{item.id} has hints 1 to {there}, not {level}")
    text = item.worked if level == WORKED else item.hints[level - 1]
    return Hint(item.id, level, explain(text), last=level == there)


def hints_html(item: Hinted) -> str:
    """Return the hints as HTML, each folded inside the one before; "" where there are none."""
    inner = ""
    for level in range(levels(item), 0, -1):
        hint = get_hint(item, level)
        inner = (
            f"<details><summary>{hint.title}</summary>"
            f'<div style="margin-left:1em">{paragraphs(hint.text)}{inner}</div></details>'
        )
    return inner


def paragraphs(text: str) -> str:
    """Return text as HTML; lines that are indented by four spaces stand as code.

    >>> paragraphs("Two steps:\\n    a = 1")
    'Two steps:<pre>a = 1</pre>'
    """
    out, code = "", list[str]()
    for line in [*text.split("\n"), ""]:
        if line.startswith("    "):
            code.append(line[4:])
            continue
        if code:
            joined = "\n".join(code)
            out, code = f"{out}<pre>{html.escape(joined)}</pre>", []
        out += (" " if out and line and not out.endswith("</pre>") else "") + inline_html(line)
    return out


class Hints:
    """All steps of help of one item; as the last line of a cell it shows them, folded."""

    def __init__(self, item: Hinted) -> None:
        self._item = item

    def __repr__(self) -> str:
        count = len(self._item.hints)
        if not count:
            return f"{self._item.id} has no hints"
        more = " and a worked example" if self._item.worked else ""
        return f'{count} hints{more}, one at a time: hint("{self._item.id}")'

    def _repr_html_(self) -> str:
        return hints_html(self._item)

    def __getitem__(self, level: int) -> Any:
        return get_hint(self._item, level)
