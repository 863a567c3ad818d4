"""How a value shows itself: plain text in a terminal, a described figure in a notebook.

Timelines and partitions know nothing about figures. They say in words what they are
(`describe`), and a painter, handed in by the package root, turns them into a picture. So the
modules that compute never import the module that draws.
"""

import base64
import html
import io
from collections.abc import Callable
from typing import Any

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
        """Return the value's matplotlib figure; the options are those of `d2lpart.draw`."""
        if not _painters:
            raise RuntimeError("nothing draws yet: import the package d2lpart, not a part of it")
        return _painters[0](self, **options)

    def __str__(self) -> str:
        return self.describe()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return figure_bundle(self.plot(), self.describe())


def figure_bundle(figure: Any, description: str) -> dict[str, str]:
    """Return a notebook output for a figure: its text, and an image that carries it as `alt`."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110, bbox_inches="tight")
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


def seconds_text(seconds: float) -> str:
    """Write a time with three digits and the unit that suits it.

    >>> seconds_text(0.01234), seconds_text(21.0), seconds_text(4.2e-5)
    ('12.3 ms', '21 s', '42 µs')
    """
    for scale, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(seconds) >= scale * 0.9995:
            return f"{seconds / scale:.{3 if abs(seconds / scale) < 999.5 else 4}g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def bytes_text(nbytes: float) -> str:
    """Write a number of bytes with three digits, in powers of 1000.

    >>> bytes_text(83886080), bytes_text(512)
    ('83.9 MB', '512 B')
    """
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(nbytes) >= scale * 0.9995:
            return f"{nbytes / scale:.3g} {unit}"
    return f"{nbytes:g} B"


def staircase(
    lanes: list[list[tuple[str, float, float]]], start: float, end: float, columns: int = 96
) -> list[str]:
    """Draw lanes of labelled boxes (label, start, end) as lines of text; idle time stays blank.

    >>> staircase([[("F0", 0, 1), ("B0", 3, 5)], [("F0", 1, 2), ("B0", 2, 3)]], 0, 5)
    ['F0    B0--', '  F0B0    ']
    """
    boxes = [box for lane in lanes for box in lane]
    length = end - start
    widest = max(len(label) for label, _, _ in boxes)
    shortest = min((b - a for _, a, b in boxes if b > a), default=length)
    width = min(columns, round(widest * length / shortest)) if length > 0 else columns
    scale = width / length if length > 0 else 0.0
    lines = []
    for lane in lanes:
        line = [" "] * width
        for label, a, b in lane:
            left, right = round((a - start) * scale), round((b - start) * scale)
            line[left:right] = label.ljust(right - left, "-")[: right - left]
        lines.append("".join(line))
    return lines
