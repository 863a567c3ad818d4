"""The command `d2lpart grade FOLDER`."""

import argparse
import secrets
import time
from pathlib import Path

from d2lpart.course.catalog import exercise
from d2lpart.course.grading.child_process import Limits
from d2lpart.course.grading.grader import Graded, Order, grade
from d2lpart.course.grading.submission import find_submissions
from d2lpart.course.grading.table import as_csv, as_json, plain, totals, write


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `d2lpart grade` to the commands."""
    parser = commands.add_parser("grade", help="grade submitted notebooks; for instructors")
    parser.add_argument("folder", type=Path, help="the folder with the notebooks")
    parser.add_argument(
        "--exercise", action="append", default=[], metavar="ID", help="only this one, such as 05.1"
    )
    parser.add_argument(
        "--out", type=Path, metavar="NAME", help="write NAME.csv and NAME.json; FOLDER/grades"
    )
    parser.add_argument("--seed", type=int, help="draws the cases; new ones if none is given")
    parser.add_argument("--workers", type=int, default=2, help="notebooks at a time (2)")
    parser.add_argument("--load-seconds", type=float, default=30.0, help="for all cells (30)")
    parser.add_argument("--exercise-seconds", type=float, default=10.0, help="for each check (10)")
    parser.add_argument("--memory", type=float, default=2.0, metavar="GIB", help="of each (2)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Grade the folder, write the two files, and print a line for each notebook."""
    start = time.monotonic()
    for exercise_id in options.exercise:
        exercise(exercise_id)  # raises for one that is not there
    if options.workers < 1 or min(options.load_seconds, options.exercise_seconds) <= 0:
        raise ValueError("--workers must be at least 1, and times must be more than 0 seconds")
    if options.memory <= 0:
        raise ValueError(f"--memory is {options.memory:g}: give GiB, more than 0")
    paths = find_submissions(options.folder)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    limits = Limits(options.load_seconds, options.exercise_seconds, int(options.memory * 2**30))
    order = Order(options.folder, seed, tuple(options.exercise), limits)
    graded = []
    for one in grade(paths, order, options.workers):
        graded.append(one)
        print(_line(one), flush=True)
    out = options.out or options.folder / "grades"
    rows = [row for one in graded for row in one.rows]
    prevented = _prevented(graded)
    about = {"seed": seed, "prevented": prevented, "limits": limits.as_numbers()}
    write(Path(f"{out}.csv"), as_csv(rows))
    write(Path(f"{out}.json"), as_json(rows, about))
    seconds = time.monotonic() - start
    print(f"{len(paths)} notebooks in {seconds:.1f} s; seed {seed}; {out}.csv, {out}.json")
    for name in sorted(name for name, holds in prevented.items() if not holds):
        print(f"not prevented on this machine: {name}")
    return 0


def _line(one: Graded) -> str:
    ((name, (points, of)),) = totals(one.rows).items()
    kinds = ", ".join(f"{row.exercise} {row.kind}".strip() for row in one.rows if not row.points)
    return f"{points:3} of {of:3}  {plain(name)}" + (f"  ({kinds})" if kinds else "")


def _prevented(graded: list[Graded]) -> dict[str, bool]:
    """Return what was prevented in every child; empty where no child ran."""
    found: dict[str, bool] = {}
    for one in graded:
        for what, holds in one.prevented.items():
            found[what] = found.get(what, True) and holds
    return found
