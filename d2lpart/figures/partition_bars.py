"""The figure of a partition: one bar a stage, made of its layers, as long as they cost."""

from collections.abc import Sequence
from typing import Any

from d2lpart.common.display import VERMILLION
from d2lpart.common.quantities import count
from d2lpart.figures.page import (
    FRAME,
    GREY,
    INK,
    MARGIN,
    NORMAL,
    SMALL,
    Page,
    Picture,
    boxes,
    line_width,
    number_width,
)
from d2lpart.partitions.amounts import written
from d2lpart.partitions.partitioning import Partition

TINTS = ("#cfe6f7", "#e9f3fb")  # of layers in turn
BAR = 0.72  # height of a bar; the next one is 1 further down
BESIDE = 0.4  # inches between the bars and their loads


def partition_picture(
    partition: Partition,
    *,
    costs: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    unit: str = "",
    title: str = "",
    width: float = 9.0,
) -> Picture:
    """Draw a partition: who holds which layers, and which stage is the slowest.

    Args:
        partition: its own costs count where `costs` is not given; without any, layers count alike.
        costs: of each layer, in any unit.
        names: of each layer; by default their numbers, from 0.
        unit: of the costs, for the axis.
        title: a line over the headline.
        width: of the figure, in inches.

    Raises:
        ValueError: the number of names is not that of the layers.
    """
    if costs is not None:
        partition = Partition(partition.sizes, costs)
    labels = [str(layer) for layer in range(partition.num_layers)] if names is None else list(names)
    if len(labels) != partition.num_layers:
        raise ValueError(
            f"{count(len(labels), 'name')} for {count(partition.num_layers, 'layer')}: "
            f"give each layer one name"
        )
    page = Page(width, title)
    headline, *table = partition.describe().splitlines()
    page.text(headline, NORMAL + 1)
    page.space(0.26)
    _bars(page, partition, labels, unit)
    page.space(0.34)
    if table:
        page.text(table[-1], SMALL, GREY)
    return page.picture(partition.describe())


def _bars(page: Page, partition: Partition, names: Sequence[str], unit: str) -> None:
    """Add a bar for each stage, a scale below, and the loads at the right."""
    costs = [1.0] * len(names) if partition.costs is None else list(map(float, partition.costs))
    loads = partition.loads(costs)
    if partition.costs is None:
        words = ["layers", *_cells(loads, "most layers"), "layers"]
    else:
        words = ["load", *_cells(loads, "bottleneck"), f"cost in {unit}" if unit else "cost"]
    axes, inches = _axes(page, words)
    axes.set_xlim(0, max(loads) or 1)
    if partition.costs is None:
        axes.xaxis.get_major_locator().set_params(integer=True)
    for stage, held in enumerate(partition.stages):
        layers = [(names[layer], costs[layer]) for layer in held]
        _layers(axes, stage, layers, inches / (max(loads) or 1))
    _marks(axes, loads)


def _axes(page: Page, words: Sequence[str]) -> tuple[Any, float]:
    """Add axes with a row for each stage and `words` beside them; return also their inches.

    The words are the head of the column, one cell a stage, and the name of the scale.
    """
    head, *cells, scale = words
    left = MARGIN + 0.05 + line_width(f"stage {len(cells)}", NORMAL)
    right = BESIDE + MARGIN + 1.1 * max(line_width(text, NORMAL) for text in words)
    inches = page.width - left - right
    pitch = max(0.2, min(0.42, 6.0 / len(cells)))
    axes: Any = page.axes(pitch * len(cells), left, right)
    axes.set_ylim(len(cells) - 0.5, -0.5)
    axes.set_yticks(range(len(cells)), [f"stage {stage}" for stage in range(len(cells))])
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda cost, _: f"{cost:.6g}")
    x, place = 1 + BESIDE / inches, {"transform": axes.get_yaxis_transform(), "size": NORMAL}
    axes.text(x, -0.5 - 0.06 / pitch, head, va="bottom", color=GREY, **place)
    axes.text(x, len(cells) - 0.5 + 0.09 / pitch, scale, va="top", color=GREY, **place)
    for stage, cell in enumerate(cells):
        weight = "bold" if "  " in cell else "normal"
        axes.text(x, stage, cell, va="center_baseline", weight=weight, color=INK, **place)
    return axes, inches


def _cells(loads: Sequence[float], mark: str) -> list[str]:
    """Return what stands beside each bar: its load, and `mark` at the largest where they differ."""
    return [
        f"{written(load)}  {mark}" if _slowest(load, loads) else written(load) for load in loads
    ]


def _slowest(load: float, loads: Sequence[float]) -> bool:
    """Whether this is the largest of loads that differ by more than rounding."""
    grain = 1e-9 * max(loads)
    return load >= max(loads) - grain > min(loads)


def _layers(axes: Any, stage: int, layers: Sequence[tuple[str, float]], scale: float) -> None:
    """Draw the layers of one stage side by side, each with its name where there is room."""
    right = 0.0
    for number, (name, cost) in enumerate(layers):
        place = (right, stage - BAR / 2, cost, BAR)
        boxes(axes, [place], TINTS[number % 2], FRAME)
        if number_width(name, SMALL) < cost * scale:
            style = {"ha": "center", "va": "center_baseline", "size": SMALL, "color": INK}
            axes.text(right + cost / 2, stage, name, parse_math=False, **style)
        right += cost


def _marks(axes: Any, loads: Sequence[float]) -> None:
    """Frame the bars with the largest load, and draw the mean load behind all bars."""
    for stage, load in enumerate(loads):
        if _slowest(load, loads):
            low, high = stage - BAR / 2, stage + BAR / 2
            corners = ([0, load, load, 0, 0], [low, low, high, high, low])
            axes.plot(*corners, color=VERMILLION, linewidth=2.5, clip_on=False, zorder=3)
    mean = sum(loads) / len(loads)
    axes.axvline(mean, color=INK, linestyle=(0, (2, 1.5)), linewidth=1.2, zorder=1, clip_on=False)
    side = "center" if mean < 0.85 * max(loads) else "right"
    above = {"xytext": (0, 4), "textcoords": "offset points", "va": "bottom", "ha": side}
    axes.annotate(f"mean {written(mean)}", (mean, -0.5), size=NORMAL, color=INK, **above)
