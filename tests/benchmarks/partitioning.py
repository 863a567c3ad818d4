"""How long the exact partition of a network takes: plain, and with all constraints.

"all on" is transfer, memory, activations under 1F1B, and a capacity and a speed for each stage;
"too small" is the same with capacities that no partition fits: the time until that is said.
Alone, this prints its tables: `python tests/benchmarks/partitioning.py`.
"""

import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from report import Row, Table
from spread import Spread

from d2lpart import PartitionError, partition

SIZES = ((48, 8), (200, 16), (1000, 64))
MICROBATCHES = (1, 2, 4, 64, 1024)
SPEEDS = (0.5, 1, 2)

COSTS: dict[str, Callable[[random.Random], float]] = {
    "random": lambda rng: rng.random(),
    "many ties": lambda rng: rng.randint(0, 3),
    "all alike": lambda rng: 1,
    "few heavy": lambda rng: min(1.0, 0.001 / (rng.random() + 1e-9)),
}


def plain(rng: random.Random, kind: str, n: int, p: int) -> dict[str, Any]:
    """Return costs alone."""
    return {"costs": [COSTS[kind](rng) for _ in range(n)], "num_stages": p}


def all_on(
    rng: random.Random, kind: str, n: int, p: int, m: int, any_speed: bool, room: float
) -> dict[str, Any]:
    """Return a case with every constraint; `room` is what there is of memory over what is held."""
    memory = [COSTS[kind](rng) + 0.5 for _ in range(n)]
    activations = [COSTS[kind](rng) / 8 for _ in range(n)]
    held = sum(memory) + sum(activations) * min(m, p) / 2
    speeds = [rng.uniform(0.5, 2) if any_speed else rng.choice(SPEEDS) for _ in range(p)]
    return plain(rng, kind, n, p) | {
        "num_microbatches": m,
        "transfer": [COSTS[kind](rng) for _ in range(n)],
        "memory": memory,
        "activations": activations,
        "schedule": "1f1b",
        "capacity": [room * held / p * rng.uniform(0.8, 1.2) for _ in range(p)],
        "speed": speeds,
    }


def timed(case: dict[str, Any]) -> tuple[float, bool]:
    """Return the seconds that a case takes of this process, and whether a partition fits."""
    start = time.process_time()
    try:
        partition(**case)
        fits = True
    except PartitionError:
        fits = False
    return time.process_time() - start, fits


def row(name: str, cases: Sequence[Sequence[dict[str, Any]]], anchor: str) -> Row:
    """Return the median of each column of cases, the longest of all, and how many fit."""
    columns = [[timed(case) for case in column] for column in cases]
    each = [Spread.of(seconds for seconds, _ in column) for column in columns]
    longest = max(seconds for column in columns for seconds, _ in column)
    fits = [fits for column in columns for _, fits in column]
    cells = [f"{1e3 * spread.middle:.0f}" for spread in each]
    cells += [""] * (len(MICROBATCHES) - len(cells))
    data = {"seconds": each, "longest": longest, "fits": sum(fits), "of": len(fits)}
    return Row(name, [*cells, f"{1e3 * longest:.0f}", f"{sum(fits)} of {len(fits)}"], data, anchor)


def rows(n: int, p: int, repeats: int) -> Iterator[Row]:
    """Yield all rows of one size; plain costs have one column."""
    seeds = range(repeats)
    for kind in COSTS:
        cases = [[plain(random.Random(s), kind, n, p) for s in seeds]]
        yield row(f"plain, {kind}", cases, _anchor("plain", kind, n))
    for name, room in (("all on", 2.5), ("too small", 0.6)):
        for kind in COSTS:
            for speed in ("", "any speed"):
                cases = [
                    [all_on(random.Random(s), kind, n, p, m, bool(speed), room) for s in seeds]
                    for m in MICROBATCHES
                ]
                title = ", ".join(filter(None, (name, kind, speed)))
                yield row(title, cases, _anchor(name, kind, speed, n))


def _anchor(*parts: object) -> str:
    return "-".join(str(part).replace(" ", "-") for part in ("partitioning", *parts) if part)


def table(n: int, p: int, repeats: int) -> Table:
    """Return the table of one size."""
    columns = ("case", *(f"m={m}" for m in MICROBATCHES), "longest", "fit")
    return Table(
        f"Time of the exact partition of {n:,} layers into {p} stages",
        f"Milliseconds of one process, the median of {repeats} random networks in each column. "
        "Plain costs have no micro-batches, and one column. `all on`: a cost of every cut, memory, "
        "activations under 1F1B, a capacity and a speed of every stage. `too small`: the time "
        "until it is said by how much the layers do not fit.",
        columns,
        list(rows(n, p, repeats)),
    )


def tables(quick: bool) -> list[Table]:
    """Return a table of each size."""
    print("partitioning", file=sys.stderr)
    sizes = SIZES[:2] if quick else SIZES
    return [table(n, p, 3) for n, p in sizes]


if __name__ == "__main__":
    for each in tables("--quick" in sys.argv):
        print(each.markdown())
