"""How far predictions are from what happens: the virtual clock, and a profile.

The virtual clock runs every action alone and places it by the dependency rule; the wall clock lets
the ranks run at once. Both take turns on the same pipeline. What two cores take from each other is
in the second and not in the first, unless a machine has cores that share nothing.

A profile is taken before each step that it predicts; forecast.py says how.
"""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

import torch
from report import Row, Table
from spread import Spread

from d2lpart import Decoder, Pipeline
from d2lpart.common.quantities import count
from d2lpart.machine.hardware import cores, threads

WIDTHS = {128: 21, 256: 11, 512: 7, 768: 5}  # and how often
QUICK = {32: 3}
RANKS, BLOCKS, SAMPLES, CONTEXT, VOCABULARY, MICROBATCHES = 2, 8, 16, 64, 256, 8


def tables(quick: bool) -> list[Table]:
    """Return the errors of the virtual clock and of a profile."""
    print("predictions", file=sys.stderr)
    return [clocks(QUICK if quick else WIDTHS), profiles(quick)]


def clocks(widths: dict[int, int]) -> Table:
    """Hold the virtual clock against the wall clock at every width."""
    title = "Virtual clock against wall clock"
    columns = "step of 2 ranks", "virtual over wall", "wall"
    if cores() < RANKS:
        words = f"Not measured: {RANKS} ranks do not run at once on {cores()} core."
        return Table(title, words, columns, ())
    rows = []
    for width, repeats in widths.items():
        pairs = makespans(width, repeats)
        error = Spread.of(virtual / wall - 1 for virtual, wall in pairs)
        wall = Spread.of(wall for _, wall in pairs)
        cells = [percent(error), wall.written(1, 1e3, " ms")]
        data = {"error": error, "wall_seconds": wall}
        rows.append(Row(f"1F1B, width {width}", cells, data, f"virtual-{width}"))
    words = (
        "The step that the virtual clock gives, over the one that the wall clock measures, less 1: "
        "below 0 the step takes longer than the virtual clock says."
    )
    return Table(title, words, columns, rows)


def makespans(width: int, repeats: int) -> list[tuple[float, float]]:
    """Return the step by the virtual and by the wall clock, in turns on one pipeline."""
    torch.manual_seed(0)
    with threads(1):
        decoder = Decoder(VOCABULARY, width, BLOCKS, max(1, width // 64), CONTEXT)
        pipeline = Pipeline(decoder, devices=["cpu"] * RANKS, num_microbatches=MICROBATCHES)
        inputs, targets = torch.randint(VOCABULARY, (2, SAMPLES, CONTEXT))
        found = []
        for _ in range(repeats + 1):
            took = []
            for pipeline.clock in ("virtual", "wall"):
                decoder.zero_grad(set_to_none=True)
                took.append(pipeline.step(inputs, targets).timeline.makespan)
            found.append((took[0], took[1]))
        return found[1:]


def percent(spread: Spread) -> str:
    """Write an error with its sign, as a share.

    >>> percent(Spread(-0.051, -0.02, 0.01, 9))
    '-2.0% (-5.1% to +1.0%)'
    """
    return f"{spread.middle:+.1%} ({spread.low:+.1%} to {spread.high:+.1%})"


def profiles(quick: bool) -> Table:
    """Return the errors of steps that were forecast from a profile."""
    import forecast

    cases: Sequence[tuple[str, int, str]] = [
        (size, ranks, clock)
        for size in (["1M"] if quick else forecast.CASES)
        for ranks, clock in ((1, "wall"), (2, "virtual"), (4, "virtual"))
    ]
    rows = []
    for size, ranks, clock in cases:
        with redirect_stdout(sys.stderr):
            found = forecast.errors(forecast.CASES[size], ranks, clock, "1f1b", 3 if quick else 5)
        error = Spread.of(found)
        title = f"{size} parameters, {count(ranks, 'rank')}, {clock} clock"
        rows.append(Row(title, [percent(error)], {"error": error}, f"profile-{size}-{ranks}"))
    words = "The step that `forecast` predicts from a profile, over the one measured, less 1."
    return Table("Profile against a measured step", words, ("step", "error"), rows)
