"""The figure of ledgers: one bar a rank, made of its items, and the capacity as a line."""

from collections.abc import Sequence
from math import inf
from typing import Any

from d2lpart.common.display import ORANGE, PURPLE, SKY, VERMILLION, YELLOW
from d2lpart.figures.page import (
    FRAME,
    GREY,
    INK,
    MARGIN,
    NORMAL,
    Page,
    Picture,
    boxes,
    line_width,
    sample,
)
from d2lpart.memory.ledger import ITEMS, Ledger, LedgerComparison, Ledgers, unit_of

# A hatch for each colour but the first.
LOOKS = {
    "weights": (SKY, ""),
    "gradients": (ORANGE, "///"),
    "optimizer": (YELLOW, "\\\\\\"),
    "activations": (PURPLE, "..."),
}
BAR = 0.72  # height of a bar; the next one is 1 further down

Row = tuple[str, Ledger, float]  # name, ledger, capacity


def ledgers_picture(
    ledgers: Ledgers,
    *,
    names: Sequence[str] | None = None,
    title: str = "",
    width: float = 9.0,
) -> Picture:
    """Draw what each rank holds, item by item, and mark those over their capacity.

    Args:
        ledgers: of the ranks.
        names: of the bars; by default "rank 0" and so on.
        title: a line over the headline.
        width: of the figure, in inches.

    Raises:
        ValueError: the number of names is not that of the ledgers.
    """
    labels = ledgers.labels(names)
    limits = ledgers.capacity or (inf,) * len(ledgers)
    rows = list(zip(labels, ledgers, limits, strict=True))
    return _picture(rows, ledgers.describe(names), title, width)


def ledger_picture(ledger: Ledger, *, title: str = "", width: float = 9.0) -> Picture:
    """Draw what one rank holds; the arguments are those of `ledgers_picture`."""
    return _picture([("one rank", ledger, inf)], ledger.describe(), title, width)


def ledger_comparison_picture(
    comparison: LedgerComparison, *, title: str = "", width: float = 9.0
) -> Picture:
    """Draw two bars a rank on one scale; the arguments are those of `ledgers_picture`."""
    one, two = comparison.names
    rows: list[Row] = []
    for rank, (first, second) in enumerate(zip(comparison.first, comparison.second, strict=True)):
        rows += [(f"rank {rank}, {one}", first, inf), (two, second, inf)]
    return _picture(rows, comparison.describe(), title, width)


def _picture(rows: Sequence[Row], description: str, title: str, width: float) -> Picture:
    page = Page(width, title)
    page.text(description.partition("\n")[0], NORMAL + 1)
    page.space(0.3)
    scale, name, *_ = unit_of(max(ledger.total for _, ledger, _ in rows))
    cells = [_cell(ledger, limit, scale) for _, ledger, limit in rows]
    left = MARGIN + 0.1 + max(line_width(label, NORMAL) for label, *_ in rows)
    right = (
        MARGIN + 0.3 + 1.1 * max(line_width(cell, NORMAL) for cell in [*cells, f"total, {name}"])
    )
    axes: Any = page.axes(0.34 * len(rows), left, right)
    limits = [limit / scale for *_, limit in rows if limit < inf]
    largest = max([ledger.total / scale for _, ledger, _ in rows] + limits) or 1
    axes.set_xlim(0, largest)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
    axes.tick_params(axis="y", length=0)
    place = {"transform": axes.get_yaxis_transform(), "size": NORMAL}
    x = 1 + 0.2 / (width - left - right)
    axes.text(x, -0.66, f"total, {name}", va="bottom", color=GREY, **place)
    for number, ((_, ledger, limit), cell) in enumerate(zip(rows, cells, strict=True)):
        _bar(axes, number, ledger, scale)
        full = ledger.total > limit
        if limit < inf:
            _limit(axes, number, limit / scale, full)
        weight = "bold" if full else "normal"
        style = {"va": "center_baseline", "weight": weight, "color": INK, **place}
        axes.text(x, number, cell, **style)
    _legend(axes, bool(limits))
    page.space(0.62)
    return page.picture(description)


def _cell(ledger: Ledger, limit: float, scale: float) -> str:
    return f"{ledger.total / scale:,.2f}" + "  too much" * (ledger.total > limit)


def _bar(axes: Any, number: int, ledger: Ledger, scale: float) -> None:
    """Draw the items of one ledger side by side."""
    right = 0.0
    for item, nbytes in ledger.items():
        if nbytes:
            face, hatch = LOOKS[item]
            place = (right, number - BAR / 2, nbytes / scale, BAR)
            boxes(axes, [place], face, FRAME, hatch)
            right += nbytes / scale


def _limit(axes: Any, number: int, limit: float, full: bool) -> None:
    """Draw the capacity across a bar, thick where it is exceeded."""
    style = {"color": VERMILLION if full else INK, "linewidth": 3 if full else 1.8}
    axes.plot([limit, limit], [number - 0.5, number + 0.5], clip_on=False, zorder=4, **style)


def _legend(axes: Any, with_limit: bool) -> None:
    handles: list[Any] = [sample(item, *LOOKS[item]) for item in ITEMS]
    if with_limit:
        (line,) = axes.plot([], [], color=INK, linewidth=1.8, label="capacity")
        handles.append(line)
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=axes.transAxes,
        borderaxespad=2.2,
        ncols=len(handles),
        frameon=False,
        fontsize=NORMAL,
        handlelength=1.6,
        columnspacing=1.4,
    )
