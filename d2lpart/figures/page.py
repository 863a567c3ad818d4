"""Picture and Page: a figure that says in words what it shows, built from rows of known height.

A page is filled from top to bottom, and every size is in inches: so the layout takes no time and
nothing overlaps. Figures are made without pyplot: drawing leaves no global state behind.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.path import Path
from matplotlib.text import Text

from d2lpart.common.display import figure_bundle

INK, GREY, FRAME = "#1a1a1a", "#4d4d4d", "#b3b3b3"
SMALL, NORMAL, LARGE = 8.0, 9.0, 12.0  # points
MARGIN = 0.12  # inches around the page
HATCH_WIDTH = 1.2  # points
HATCH_LIGHT = 0.5  # how much lighter than its box a hatch is: numbers stay readable on it

Box = tuple[float, float, float, float]  # left, bottom, width, height in the axes' units


class Picture(Figure):
    """A matplotlib figure with a description; as the last line of a cell it shows both."""

    description: str = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return figure_bundle(self, self.description)

    def __repr__(self) -> str:
        return f"<Picture {self.description.partition(chr(10))[0]}>"


class Page:
    """A picture under construction: rows of text and axes, each below the one before.

    width: in inches. title: a line over all, in large letters; none if empty.
    """

    def __init__(self, width: float, title: str = "") -> None:
        self.width = width
        self._picture = Picture(figsize=(width, 1), dpi=110, facecolor="white")
        self._used = MARGIN
        self._texts: list[tuple[Text, float]] = []
        self._axes: list[tuple[Axes, float, float, float, float]] = []
        if title:
            self.text(title, LARGE, bold=True)

    def space(self, height: float) -> None:
        """Leave `height` inches blank."""
        self._used += height

    def text(self, text: str, size: float = NORMAL, colour: str = INK, bold: bool = False) -> None:
        """Add a paragraph, broken where the page ends."""
        em = 0.58 if bold else 0.5
        self._column(_wrapped(text, self.width - 2 * MARGIN, size, em), 0, size, colour, bold)

    def columns(self, texts: Sequence[str], number: int, size: float) -> None:
        """Add texts in `number` columns, read from top to bottom, then from left to right."""
        wide = (self.width - 2 * MARGIN) / number
        cells = [_wrapped(text, wide - 0.1, size, 0.5) for text in texts]
        rows = -(-len(cells) // number)
        top, bottom = self._used, self._used
        for place in range(number):
            lines = [line for cell in cells[place * rows : (place + 1) * rows] for line in cell]
            self._used = top
            self._column(lines, place * wide, size, INK, bold=False)
            bottom = max(bottom, self._used)
        self._used = bottom

    def _column(self, lines: list[str], left: float, size: float, colour: str, bold: bool) -> None:
        style: dict[str, Any] = {"size": size, "color": colour, "linespacing": 1.25}
        text = self._picture.text((MARGIN + left) / self.width, 1, "\n".join(lines), **style)
        text.set(va="top", parse_math=False, weight="bold" if bold else "normal")
        self._texts.append((text, self._used))
        self._used += (1.25 * len(lines) + 0.35) * size / 72

    def axes(self, height: float, left: float, right: float) -> Axes:
        """Add frameless axes, `height` inches high, with margins of `left` and `right` inches."""
        axes = self._picture.add_axes((0, 0, 1, 1))
        self._axes.append((axes, self._used, height, left, right))
        self._used += height
        for side in axes.spines.values():
            side.set_visible(False)
        axes.tick_params(labelsize=NORMAL, length=3, color=FRAME, labelcolor=INK)
        return axes

    def picture(self, description: str) -> Picture:
        """Close the page and return the picture."""
        high = self._used + MARGIN
        self._picture.set_size_inches(self.width, high)
        for text, top in self._texts:
            text.set_y(1 - top / high)
        for axes, top, height, left, right in self._axes:
            wide = (self.width - left - right) / self.width
            axes.set_position((left / self.width, 1 - (top + height) / high, wide, height / high))
        self._picture.description = description
        return self._picture


def boxes(
    axes: Axes,
    places: Sequence[Box],
    face: str,
    edge: str = "",
    hatch: str = "",
    *,
    depth: float = 2,
) -> None:
    """Draw any number of boxes of one look at once; `depth` says what lies over what.

    All are one path: a hatch is then drawn once for all, and not once for each. Of a path of so
    many corners the edges lie between two pixels unless it is told to `snap`.
    """
    corners: Any = np.array(
        [[(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)] for x, y, w, h in places]
    )  # N, 5, 2
    turns = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    path = [Path(corners.reshape(-1, 2), turns * len(corners))]
    style: dict[str, Any] = {"linewidth": 0, "zorder": depth, "clip_on": False, "snap": True}
    filled = PathCollection(path, facecolor=face, edgecolor=_light(face), **style)
    if hatch:
        filled.set_hatch(hatch)
        filled.set_hatch_linewidth(HATCH_WIDTH)
    axes.add_collection(filled, autolim=False)
    if edge:
        style |= {"linewidth": 0.6, "zorder": depth + 0.1}
        outline = PathCollection(path, facecolor="none", edgecolor=edge, **style)
        axes.add_collection(outline, autolim=False)


def sample(label: str, face: str, hatch: str = "") -> Patch:
    """Return a box for a legend, filled as `boxes` fills it."""
    box = Patch(facecolor=face, edgecolor=_light(face), linewidth=0, hatch=hatch, label=label)
    box.set_hatch_linewidth(HATCH_WIDTH)
    return box


def mixed(colour: str, other: str, share: float) -> str:
    """Return `colour` with a share of another one mixed in.

    >>> mixed("#000000", "#ffffff", 0.5)
    '#808080'
    """
    pairs = zip(to_rgb(colour), to_rgb(other), strict=True)
    return to_hex(tuple((1 - share) * a + share * b for a, b in pairs))  # type: ignore[arg-type]


def number_width(text: str, size: float) -> float:
    """Return the inches that a few digits or letters take at `size` points, with a little air."""
    return 0.64 * len(text) * size / 72 + 0.02


def line_width(text: str, size: float) -> float:
    """Return the inches that a few words take at `size` points."""
    return 0.55 * len(text) * size / 72


def _light(face: str) -> str:
    return mixed(face, "white", HATCH_LIGHT)


def _wrapped(text: str, wide: float, size: float, em: float) -> list[str]:
    """Break a text into lines of at most `wide` inches, `em` being a letter's mean width."""
    return textwrap.wrap(text, int(wide * 72 / size / em), subsequent_indent="    ")
