"""The command `d2lpart grade FOLDER`, and the files it writes: CSV for a spreadsheet, and JSON.

Both are written whole or not at all. What a learner wrote, such as the name of a file or the text
of an error, is no formula in a spreadsheet and no command to a terminal.
"""

import argparse
import csv
import io
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from d2lpart.common.files import write_whole
from d2lpart.course.catalog import exercise
from d2lpart.course.grading.child_process import Limits
from d2lpart.course.grading.grader import Graded, Order, Row, grade
from d2lpart.course.grading.submission import find_submissions

COLUMNS = [column.name for column in fields(Row)]
FORMULA = ("=", "+", "-", "@")


def plain(text: str) -> str:
    """Return text in one line, without characters that steer a terminal.

    >>> plain("a\\x1b[2Jb\\nc")
    'a?[2Jb c'
    """
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


def as_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV with a head; a cell that would be a formula gets a ' in front."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(value) for value in asdict(row).values()])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def as_json(rows: Sequence[Row], about: dict[str, Any]) -> str:
    """Return the rows, the totals and what is known about the run as JSON."""
    document = {
        **about,
        "totals": {name: [points, of] for name, (points, of) in totals(rows).items()},
        "rows": [asdict(row) for row in rows],
    }
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


def totals(rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    """Return for each submission its points, and how many there are."""
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        points, of = found.get(row.submission, (0, 0))
        found[row.submission] = points + row.points, of + row.of
    return found


def write(path: Path, text: str) -> None:
    """Write a file whole, or not at all; raises `ValueError` where it cannot be written."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None


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
