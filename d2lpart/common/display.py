"""How a value shows itself: plain text in a terminal, a described figure in a notebook; colours.

Timelines and partitions know nothing about figures. They say in words what they are
(`describe`), and a painter, handed in by the package root, turns them into a picture. So the
modules that compute never import the module that draws.
"""

import base64
import html
import io
import math
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from d2lpart.common.files import write_whole

VIEW = "application/vnd.jupyter.widget-view+json"
"""What a notebook calls the output that is a widget."""

# The palette of Okabe and Ito (jfly.uni-koeln.de/color), told apart with any colour vision. Light
# enough for black numbers, then dark enough to stand on white:
SKY, ORANGE, YELLOW, PURPLE = "#56B4E9", "#E69F00", "#F0E442", "#CC79A7"
BLUE, VERMILLION, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"

OF_KIND = {"F": SKY, "B": ORANGE, "I": YELLOW, "W": PURPLE}
"""The colour of each kind of action, in every picture."""

_painters: list[Callable[..., Any]] = []


def set_painter(painter: Callable[..., Any]) -> None:
    """Let `painter(value, **options)` draw every `Drawable`; it returns a matplotlib figure."""
    _painters[:] = [painter]


class Drawable:
    """A value with a description in words and a picture."""

    def describe(self) -> str:
        """Say what the picture shows, for readers and programs that see only text."""
        raise NotImplementedError

    def plot(self, **options: Any) -> Any:
        """Return the value's matplotlib figure; see `d2lpart.figures` for its options."""
        if not _painters:
            raise RuntimeError("nothing draws yet: import the package d2lpart, not a part of it")
        return _painters[0](self, **options)

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the value to a file, whole or not at all, and return its path.

        The suffix says how: `.svg` and `.png` are the figure, drawn with `options` as by `plot`;
        `.txt` is the text that `print` shows; `.json`, which only a timeline has, is its trace for
        ui.perfetto.dev.

        Raises:
            ValueError: another suffix, or options for what is no figure.
            OSError: the file cannot be written; what was there before is as it was.
        """
        path = Path(path)
        suffix, trace = path.suffix.lower(), getattr(self, "to_perfetto", None)
        known = [".svg", ".png", ".txt", *([".json"] if trace else [])]
        if suffix not in known:
            raise ValueError(f"{path.name!r} ends in {suffix!r}: use a name in {', '.join(known)}")
        if suffix in (".svg", ".png"):
            return write_whole(path, _image(self.plot(**options), suffix[1:], self.describe()))
        if options:
            raise ValueError(f"{', '.join(options)}: options are for .svg and .png, not {suffix}")
        return trace(path) if suffix == ".json" and trace else write_whole(path, f"{self}\n")

    def __str__(self) -> str:
        return self.describe()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return figure_bundle(self.plot(), self.describe())


def live_kernel() -> bool:
    """Tell whether a notebook kernel runs this code (a terminal's IPython is none)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def widget_output(build: Callable[[], Any]) -> dict[str, Any]:
    """Return the notebook output that shows the widget that `build` makes.

    Empty where no widget can be: without a live kernel or ipywidgets, or with D2LPART_STATIC=1.
    """
    if os.environ.get("D2LPART_STATIC") == "1" or not live_kernel():
        return {}
    try:
        model_id = build().model_id
    except ImportError:
        return {}
    return {VIEW: {"version_major": 2, "version_minor": 0, "model_id": model_id}}


def figure_bundle(figure: Any, description: str) -> dict[str, str]:
    """Return a notebook output for a figure: its text, and an image that carries it as `alt`."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    data = base64.b64encode(picture.getvalue()).decode("ascii")
    headline = description.splitlines()[0]
    return {
        "text/plain": description,
        "text/html": (
            f'<figure style="margin:0"><img alt="{html.escape(description, quote=True)}" '
            f'style="max-width:100%" src="data:image/png;base64,{data}">'
            f"<figcaption>{html.escape(headline)}</figcaption></figure>"
        ),
    }


def _image(figure: Any, form: str, description: str) -> bytes:
    """Return a figure as a file of a form, "svg" or "png", that carries its text with it."""
    words = {"Title": description.splitlines()[0], "Description": description}
    undated: dict[str, Any] = {"Date": None} if form == "svg" else {}
    picture = io.BytesIO()
    metadata = {**words, **undated}
    figure.savefig(picture, format=form, dpi=150, metadata=metadata)
    return picture.getvalue()


def aligned(rows: Sequence[Sequence[str]], between: str = "  ") -> list[str]:
    """Return rows of cells as lines: the first column to the left, all others to the right.

    >>> aligned([("", "bytes"), ("rank 0", "4")])
    ['        bytes', 'rank 0      4']
    """
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return [between.join([row[0].ljust(first), *map(str.rjust, row[1:], others)]) for row in rows]


Box = tuple[str, float, float]  # label, start, end


def staircase(lanes: list[list[Box]], start: float, end: float, columns: int = 96) -> list[str]:
    """Draw lanes of labelled boxes (label, start, end) as lines of text; idle time stays blank.

    All lines are equally long, `columns` at most. A box too narrow for its label shows the letter
    of it alone, never a part of its number. Where most labels do not fit, no box has one: each
    column then shows the letter of what takes most of it.

    >>> staircase([[("F0", 0, 1), ("B0", 3, 5)], [("F0", 1, 2), ("B0", 2, 3)]], 0, 5)
    ['F0    B0--', '  F0B0    ']
    >>> staircase([[("F0", 0, 1), ("B0", 3, 5)], [("F0", 1, 2), ("B0", 2, 3)]], 0, 5, columns=9)
    ['F  BB', ' FB  ']
    """
    scale = _columns_per_second([box for lane in lanes for box in lane], end - start, columns)
    placed = [
        [(label, (a - start) * scale, (b - start) * scale) for label, a, b in lane]
        for lane in lanes
    ]
    fits = [_fits(box) for lane in placed for box in lane if box[2] > box[1]]
    draw = _labelled if 2 * sum(fits) >= len(fits) else _lettered
    width = _edge((end - start) * scale)
    return [draw(lane, width) for lane in placed]


def _columns_per_second(boxes: list[Box], length: float, columns: int) -> float:
    """Return the scale: a whole number of columns for the shortest box, where there is room."""
    shortest = min((b - a for _, a, b in boxes if b > a), default=0.0)
    if shortest < 1e-300:  # nothing takes time; and what is next to nothing has no finite scale
        return 0.0
    share = min(max(len(label) for label, _, _ in boxes), columns * shortest / length)
    return math.floor(share) / shortest if share >= 1 else columns / length


def _edge(position: float) -> int:
    """Round to the nearest column, halves always upwards, so that equal boxes stay equal."""
    return math.floor(position + 0.5 + 1e-6)


def _fits(box: Box) -> bool:
    label, left, right = box
    return _edge(right) - _edge(left) >= len(label)


def _letter(label: str) -> str:
    return next(character for character in label if character.isalpha())


def _labelled(lane: list[Box], width: int) -> str:
    line = [" "] * width
    for box in lane:
        label, left, right = box[0], _edge(box[1]), _edge(box[2])
        # A letter alone is followed by a dash or a letter: with a number it would be a label.
        alone = _letter(label) if label[0].isalpha() or right - left > 1 else "-"
        text = label if _fits(box) else alone
        line[left:right] = text.ljust(right - left, "-")[: right - left]
    return "".join(line)


def _lettered(lane: list[Box], width: int) -> str:
    shares: list[dict[str, float]] = [defaultdict(float) for _ in range(width)]
    for label, a, b in lane:
        for column in range(math.floor(a), min(width, math.ceil(b))):
            shares[column][_letter(label)] += min(b, column + 1) - max(a, column)
    return "".join(
        max(share, key=share.__getitem__) if sum(share.values()) >= 0.5 - 1e-6 else " "
        for share in shares
    )
