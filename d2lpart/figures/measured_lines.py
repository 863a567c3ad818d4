"""`curves`: measured points, with their spread, against the lines of formulas."""

from collections.abc import Collection, Mapping, Sequence
from itertools import cycle
from typing import Any

from d2lpart.common.display import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION
from d2lpart.figures.page import FRAME, GREY, INK, NORMAL, Page, Picture, line_width

COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)  # the dark ones first
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))
LEFT, RIGHT = 0.75, 0.25  # inches beside the axes


def curves(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    ylabel: str,
    description: str,
    bounds: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    markers: Collection[str] = (),
    title: str = "",
    width: float = 7.0,
    height: float = 2.8,
) -> Picture:
    """Draw several values over the same `x`, told apart by colour, marker and line style.

    Args:
        x: where the values stand.
        series: for each name one value for each `x`; nan leaves a place blank.
        xlabel, ylabel: what the axes count, with units.
        description: the picture in words, for readers who see only text.
        bounds: for measured series the (lowest, highest) value seen at each `x`; drawn as bars.
        markers: the series drawn as points; those with bounds are so anyway, the others are lines.
        title: a line over the figure.
        width, height: of the figure and of its axes, in inches.

    Raises:
        ValueError: a series or its bounds are not as long as `x`, or are not in `series`.
    """
    bounds = bounds or {}
    _check(x, series, bounds, markers)
    page = Page(width, title)
    entry = 0.75 + max(line_width(name, NORMAL) for name in series)  # of the legend, in inches
    columns = max(1, int((width - LEFT - RIGHT) / entry))
    page.space(0.21 * -(-len(series) // columns) + 0.1)
    axes = page.axes(height, LEFT, RIGHT)
    points = {*markers, *bounds}
    handles = [
        _draw(axes, x, name, values, look, name in points, bounds.get(name))
        for (name, values), look in zip(series.items(), _looks(len(series)), strict=True)
    ]
    _finish(axes, x, xlabel, ylabel)
    axes.legend(
        handles=handles,
        loc="lower left", bbox_to_anchor=(0, 1 + 0.06 / height), ncols=columns, fontsize=NORMAL,
        frameon=False, borderpad=0, borderaxespad=0, handlelength=2.6, labelspacing=0.35,
    )  # fmt: skip
    page.space(0.5)
    return page.picture(description)


def _check(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    bounds: Mapping[str, Sequence[tuple[float, float]]],
    markers: Collection[str],
) -> None:
    if not series:
        raise ValueError("there is no series: give at least one name with its values")
    for what, given in (("values", series), ("bounds", bounds)):
        for name, values in given.items():
            if len(values) != len(x):
                raise ValueError(
                    f"{name!r} has {len(values)} {what} for {len(x)} values of x: give one for each"
                )
    unknown = [name for name in (*bounds, *markers) if name not in series]
    if unknown:
        raise ValueError(f"there is no series {unknown[0]!r}: choose from {', '.join(series)}")
    for name, seen in bounds.items():
        for value, (low, high) in zip(series[name], seen, strict=True):
            if value < low or value > high:
                raise ValueError(f"{name!r}: {value} lies outside its bounds {low} to {high}")


def _looks(number: int) -> list[tuple[str, str, Any]]:
    """Return a colour, a marker and a line style for each series."""
    looks = zip(cycle(COLOURS), cycle(MARKERS), cycle(DASHES), range(number), strict=False)
    return [(colour, marker, dash) for colour, marker, dash, _ in looks]


def _draw(
    axes: Any,
    x: Sequence[float],
    name: str,
    values: Sequence[float],
    look: tuple[str, str, Any],
    points: bool,
    bounds: Sequence[tuple[float, float]] | None,
) -> Any:
    """Draw one series as points or as a line, and return what stands for it in the legend."""
    colour, marker, dash = look
    style: dict[str, Any] = {"color": colour, "label": name}
    if not points:
        return axes.plot(x, values, linestyle=dash, linewidth=1.8, zorder=2, **style)[0]
    style |= {"marker": marker, "markersize": 6, "linestyle": "", "zorder": 3}
    if bounds is None:
        return axes.plot(x, values, **style)[0]
    spread = [
        [value - low for value, (low, _) in zip(values, bounds, strict=True)],
        [high - value for value, (_, high) in zip(values, bounds, strict=True)],
    ]
    return axes.errorbar(x, values, yerr=spread, capsize=4, elinewidth=1.2, **style)


def _finish(axes: Any, x: Sequence[float], xlabel: str, ylabel: str) -> None:
    """Name the axes, let y begin at 0 where no value is below it, and draw a faint grid."""
    axes.set_xlabel(xlabel, size=NORMAL, color=INK)
    axes.set_ylabel(ylabel, size=NORMAL, color=INK)
    if len(x) <= 12 and all(float(value).is_integer() for value in x):
        axes.set_xticks(x)
    if axes.get_ylim()[0] < 0 <= axes.dataLim.ymin or axes.dataLim.ymin > 0:
        axes.set_ylim(bottom=0)
    axes.grid(color=FRAME, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    for side in ("left", "bottom"):
        axes.spines[side].set(visible=True, color=GREY, linewidth=0.8)
