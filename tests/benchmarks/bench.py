"""Measure the package beside its peers on this machine, and write the page of results.

`make bench` runs this in .venv-bench, where the peers are installed; a peer that is not there, or
cannot run here, is named in the tables with its reason. `make bench BENCH=quick` takes the smallest
sizes, and writes to a folder of its own; a full run brings the figures in README.md up to date.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import claims
import gpu
import growth
import imports
import lessons
import partitioning
import prediction
import quality
import report
import simulator
import steps

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


STEPS = "steps"
SECTIONS: dict[str, Callable[[bool], list[report.Table]]] = {
    "partitions": quality.tables,
    "partitioning": partitioning.tables,
    "simulator": simulator.tables,
    "predictions": prediction.tables,
    "import": imports.tables,
    "lessons": lessons.tables,
    "growth": growth.tables,
    "cuda": gpu.tables,
}


def main() -> None:
    """Run the sections, and write Markdown and JSON."""
    options = arguments()
    partly = options.quick or len(options.only) <= len(SECTIONS)
    out = options.out or (ROOT / ".build" / "bench" if partly else HERE)
    out.mkdir(parents=True, exist_ok=True)
    growth.FIGURES = out / "figures"

    start = time.perf_counter()
    where, raw = report.circumstances(), {}
    found: list[report.Table] = []
    if STEPS in options.only:
        measured = steps.measure(options.quick, options.rounds)
        raw |= steps.raw(measured)
        found += steps.tables(measured)
    for name in options.only:
        if name != STEPS:
            found += SECTIONS[name](options.quick)
    where["load_after"] = round(os.getloadavg()[0], 2)
    where["seconds"] = round(time.perf_counter() - start)

    command = " ".join(["bench.py", *sys.argv[1:]]) if sys.argv[1:] else "make bench"
    (out / "RESULTS.md").write_text(report.page(where, found, command), "utf-8")
    content = report.as_json(where, found, raw)
    (out / "results.json").write_text(content, "utf-8")
    if out == HERE:
        claims.write(ROOT / "README.md", json.loads(content))
    print(f"{where['seconds']} s; written: {out / 'RESULTS.md'}", file=sys.stderr)


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    every = [STEPS, *SECTIONS]
    parser.add_argument("--quick", action="store_true", help="a smoke check of a minute or two")
    parser.add_argument("--only", nargs="+", choices=every, default=every)
    parser.add_argument("--rounds", type=int, default=sys.maxsize, help="the most, for steps")
    parser.add_argument("--out", type=Path, help="where the page goes; by default beside this")
    return parser.parse_args()


if __name__ == "__main__":
    main()
