"""How costs grow with ranks, micro-batches and layers, on doubly logarithmic axes.

Each curve is timed in turns with the others of its picture. Where a cost is proportional to a size,
its curve climbs one decade in one decade; the slope between the last two points is written beside.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from report import Row, Table
from rules import RULES
from simulator import timed
from spread import Spread
from torch import nn

from d2lpart import Pipeline, Schedule, build_schedule, partition, simulate

FIGURES = Path(__file__).parent / "figures"
INKS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"  # Okabe and Ito
MARKS = "o", "s", "^", "D", "v"


@dataclass(frozen=True)
class Curve:
    """Seconds at several sizes; `prepare(size)` returns what is then timed."""

    name: str
    sizes: Sequence[int]
    prepare: Callable[[int], Callable[[], object]]


@dataclass(frozen=True)
class Picture:
    """Curves over the same kind of size."""

    name: str
    title: str
    words: str
    across: str
    curves: Sequence[Curve]


def simulation(p: int) -> Callable[[int], Callable[[], object]]:
    """Simulate 1F1B of p ranks, as a schedule that nobody has compiled yet."""

    def prepare(m: int) -> Callable[[], object]:
        given = build_schedule("1f1b", p, m)
        return lambda: simulate(Schedule(given.orders, given.stage_to_rank), {"F": 1, "B": 2})

    return prepare


def search(num_stages: int, rule: str = "") -> Callable[[int], Callable[[], object]]:
    """Find the best partition of uneven layers, or another rule's."""

    def prepare(layers: int) -> Callable[[], object]:
        costs = [1 + (7 * k) % 100 for k in range(layers)]
        if rule:
            return lambda: RULES[rule](costs, num_stages)
        return lambda: partition(costs, num_stages)

    return prepare


def step(ranks: int, microbatches: int, layers: int) -> Callable[[], object]:
    """Perform a step with layers so small that nearly all of it is the engine's own work."""
    torch.set_num_threads(1)
    model = [nn.Linear(2, 2) for _ in range(layers)]
    sizes = [layers // ranks] * ranks
    pipeline = Pipeline(
        model, sizes, ["cpu"] * ranks, num_microbatches=microbatches, loss_fn=_mean, clock="wall"
    )
    inputs = torch.ones(microbatches, 2)
    pipeline.step(inputs, inputs)  # the first step counts bytes
    return lambda: pipeline.step(inputs, inputs)


def _mean(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs - targets).square().mean()


def pictures(quick: bool) -> list[Picture]:
    """Return what is drawn; a quick run takes the smallest sizes of each curve."""
    few = 2 if quick else None
    return [
        Picture(
            "growth_simulator",
            "Simulating a step",
            "Seconds to compile and simulate 1F1B against its micro-batches: proportional to m and "
            "to p.",
            "micro-batches",
            [
                Curve(f"{p} ranks", (64, 128, 256, 512, 1024, 2048)[:few], simulation(p))
                for p in (4, 16, 64)
            ],
        ),
        Picture(
            "growth_partition",
            "Finding a partition",
            "Seconds to find a partition against the number of layers: ours on 4, 16 and 64 "
            "stages, and DeepSpeed's rule on 16.",
            "layers",
            [
                *(
                    Curve(f"{p} stages", (64, 128, 256, 512, 1024, 2048)[:few], search(p))
                    for p in (4, 16, 64)
                ),
                Curve(
                    "16 stages, max − min",
                    (64, 128, 256)[:few],
                    search(16, "DeepSpeed, smallest max − min"),
                ),
            ],
        ),
        Picture(
            "growth_step",
            "The engine's own work in a step",
            "Seconds of a step whose layers compute next to nothing, against one size at a time: "
            "micro-batches (2 ranks, 8 layers), ranks (8 micro-batches, 64 layers), layers (2 "
            "ranks, 8 micro-batches).",
            "micro-batches, ranks or layers",
            [
                Curve("micro-batches", (4, 8, 16, 32, 64, 128)[:few], lambda m: step(2, m, 8)),
                Curve("ranks", (1, 2, 4, 8, 16, 32)[:few], lambda p: step(p, 8, 64)),
                Curve("layers", (8, 16, 32, 64, 128, 256)[:few], lambda n: step(2, 8, n)),
            ],
        ),
    ]


def measure(curves: Sequence[Curve], repeats: int) -> dict[str, dict[int, Spread]]:
    """Time every size of every curve, in turns."""
    calls = {(c.name, size): c.prepare(size) for c in curves for size in c.sizes}
    took: dict[tuple[str, int], list[float]] = {place: [] for place in calls}
    for _ in range(repeats):
        for place, call in calls.items():
            took[place].append(timed(call)[0])
    return {c.name: {size: Spread.of(took[c.name, size]) for size in c.sizes} for c in curves}


def slope(curve: Mapping[int, float]) -> float:
    """Return the exponent of a power law through the last two points.

    >>> slope({1: 5.0, 2: 1.0, 4: 2.0, 8: 8.0})
    2.0
    """
    (left, low), (right, high) = sorted(curve.items())[-2:]
    return math.log(high / low) / math.log(right / left)


def tables(quick: bool) -> list[Table]:
    """Measure and draw every picture, and return each with the numbers in it."""
    found = []
    for picture in pictures(quick):
        print(picture.title, file=sys.stderr)
        curves = measure(picture.curves, 3 if quick else 7)
        draw(picture, curves)
        rows = []
        for name, spreads in curves.items():
            exponent = slope({size: spread.middle for size, spread in spreads.items()})
            points = ", ".join(f"{s}: {x.middle * 1e3:,.1f}" for s, x in spreads.items())
            data: dict[str, Any] = {"slope": exponent, "seconds": spreads}
            where = f"{picture.name}-{name}".replace(" ", "-").replace("_", "-").replace(",", "")
            rows.append(Row(name, [points, f"{exponent:.2f}"], data, where))
        columns = "curve", f"milliseconds at each number of {picture.across}", "slope at the end"
        words = picture.words + " Slope 1 is proportional."
        found.append(Table(picture.title, words, columns, rows, f"figures/{picture.name}.png"))
    return found


def draw(picture: Picture, curves: Mapping[str, Mapping[int, Spread]]) -> None:
    """Draw the medians with their quartiles."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for place, (name, spreads) in enumerate(curves.items()):
        sizes = list(spreads)
        middle = [spread.middle for spread in spreads.values()]
        below = [spread.middle - spread.low for spread in spreads.values()]
        above = [spread.high - spread.middle for spread in spreads.values()]
        exponent = slope(dict(zip(sizes, middle, strict=True)))
        axes.errorbar(
            sizes,
            middle,
            [below, above],
            color=INKS[place],
            marker=MARKS[place],
            capsize=3,
            label=f"{name} (slope {exponent:.2f})",
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set(xlabel=picture.across, ylabel="seconds", title=picture.title)
    axes.xaxis.set_major_formatter(lambda size, _: f"{size:g}")
    axes.grid(which="major", alpha=0.3)
    axes.legend(frameon=False)
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / f"{picture.name}.png", dpi=110)
