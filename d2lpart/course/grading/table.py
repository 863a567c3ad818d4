"""The result of a grading run as files: CSV for a spreadsheet, JSON for a program.

Both are written whole or not at all. What a learner wrote, such as the name of a file or the text
of an error, is no formula in a spreadsheet and no command to a terminal.
"""

import csv
import io
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from d2lpart.course.grading.grader import Row

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
    """Write a file in one step: whole, or not at all.

    Raises `ValueError` where it cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                file.write(text)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None
