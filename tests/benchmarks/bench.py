"""Measure the package beside its peers on this machine, and write the page of results.

`make bench` runs this in .venv-bench, where the peers are installed; a peer that is not there, or
cannot run here, is named in the tables with its reason. `make bench BENCH=quick` takes the smallest
sizes, and writes to a folder of its own.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu
import growth
import imports
import partitioning
import prediction
import quality
import report
import simulator
import steps

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def run_steps(quick: bool, raw: dict[str, Any]) -> list[report.Table]:
    """Measure the steps, and keep every single measurement."""
    measured = steps.measure(quick)
    raw |= steps.raw(measured)
    return steps.tables(measured)


SECTIONS: dict[str, Callable[[bool, dict[str, Any]], list[report.Table]]] = {
    "steps": run_steps,
    "partitions": lambda quick, raw: quality.tables(quick),
    "partitioning": lambda quick, raw: partitioning.tables(quick),
    "simulator": lambda quick, raw: simulator.tables(quick),
    "predictions": lambda quick, raw: prediction.tables(quick),
    "import": lambda quick, raw: imports.tables(quick),
    "growth": lambda quick, raw: growth.tables(quick),
    "cuda": lambda quick, raw: gpu.tables(quick),
}


def main() -> None:
    """Run the sections, and write Markdown and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke check of a minute or two")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--out", type=Path, help="where the page goes; by default beside this")
    options = parser.parse_args()
    partly = options.quick or len(options.only) < len(SECTIONS)
    out = options.out or (ROOT / ".build" / "bench" if partly else HERE)
    out.mkdir(parents=True, exist_ok=True)
    growth.FIGURES = out / "figures"

    start = time.perf_counter()
    where, raw = report.circumstances(), {}
    found = [table for name in options.only for table in SECTIONS[name](options.quick, raw)]
    where["load_after"] = round(os.getloadavg()[0], 2)
    command = "make bench BENCH=quick" if options.quick else "make bench"
    (out / "RESULTS.md").write_text(report.page(where, found, command), "utf-8")
    (out / "results.json").write_text(report.as_json(where, found, raw), "utf-8")
    print(f"{time.perf_counter() - start:.0f} s; written: {out / 'RESULTS.md'}", file=sys.stderr)


if __name__ == "__main__":
    main()
