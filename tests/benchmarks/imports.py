"""What an import of the package costs beyond that of torch, each in a fresh Python, in turns."""

import os
import subprocess
import sys
import tempfile
import time

from report import Row, Table
from spread import Spread

STATEMENTS = {"torch alone": "import torch", "torch and d2lpart": "import torch, d2lpart"}


def tables(quick: bool) -> list[Table]:
    """Return the seconds of both, and their difference."""
    print("imports", file=sys.stderr)
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in STATEMENTS}
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(3 if quick else 10):
            for name, statement in STATEMENTS.items():
                took[name].append(fresh(statement, cache))
    took = {name: times[1:] for name, times in took.items()}  # the first compiles the sources
    rows = [row(name, times) for name, times in took.items()]
    both = zip(took["torch and d2lpart"], took["torch alone"], strict=True)
    rows.append(row("d2lpart adds", [(a[0] - b[0], a[1] - b[1]) for a, b in both]))
    words = "Wall and processor milliseconds of a Python that imports this and ends."
    return [Table("Import", words, ("what", "wall", "processor"), rows)]


def fresh(statement: str, cache: str) -> tuple[float, float]:
    """Return wall and processor seconds of a new Python that runs a statement.

    Compiled sources are kept in the folder `cache`, as they are in a user's installation.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = cache
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    wall, after = time.perf_counter() - start, os.times()
    children = after.children_user + after.children_system
    return wall, children - before.children_user - before.children_system


def row(name: str, times: list[tuple[float, float]]) -> Row:
    """Return the line of a statement."""
    wall, processor = (Spread.of(column) for column in zip(*times, strict=True))
    cells = [spread.written(0, 1e3, " ms") for spread in (wall, processor)]
    data = {"seconds": wall, "processor_seconds": processor}
    return Row(name, cells, data, f"import-{name.replace(' ', '-')}")
