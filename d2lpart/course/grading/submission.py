"""A submitted notebook as it lies on the disk: its code cells, and the exercises it is about.

The file is read as JSON and nothing more; what is in it is not run here.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2lpart.course.checks.exercise import Exercise

MOST_BYTES = 20 * 2**20
MOST_CODE = 2**19
"""Bytes of all code cells as JSON, so that they fit into one message to the child."""

FINDS_THE_COURSE = "bootstrap"
"""The tag of a notebook's first cell, which fetches the course on Colab."""

CHECKED = re.compile(r"""\bcheck\(\s*["']([^"']{1,20})["']""")
DEFINED = re.compile(r"^def (\w+)", re.M)


class SubmissionError(ValueError):
    """A file is no notebook that can be graded; says why."""


@dataclass(frozen=True)
class CodeCell:
    """One code cell: its number in the notebook from 1, its text, and whether the course wrote it.

    given: the text is that of a cell of the course, unchanged.
    """

    number: int
    given: bool
    source: str


def find_submissions(folder: Path) -> list[Path]:
    """Return the notebooks in a folder and below it, checkpoints left out, in a fixed order.

    Raises `ValueError` where there is no such folder, or no notebook in it.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: give the folder that holds the notebooks")
    found = sorted(
        path
        for path in folder.rglob("*.ipynb")
        if ".ipynb_checkpoints" not in path.parts and not path.is_dir()
    )
    if not found:
        raise ValueError(f"no notebook (*.ipynb) in {folder}")
    return found


def read_cells(path: Path, given: Collection[str] = ()) -> list[CodeCell]:
    """Return the code cells of a notebook; `given` are the texts of the course's own cells.

    Raises `SubmissionError` for a link, for a file too large, and for what is no notebook.
    """
    if path.is_symlink() or not path.is_file():
        raise SubmissionError("it is a link or no plain file: hand in the notebook itself")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise SubmissionError(
            f"it has {size / 2**20:.0f} MiB, and {MOST_BYTES / 2**20:.0f} are read: clear its "
            f"outputs before handing it in"
        )
    try:
        document = json.loads(path.read_bytes())
        cells = [
            (number, "".join(cell["source"]))
            for number, cell in enumerate(document["cells"], start=1)
            if cell["cell_type"] == "code"
        ]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise SubmissionError(f"it is no notebook: {type(error).__name__}") from None
    if (size := len(json.dumps(cells))) > MOST_CODE:
        raise SubmissionError(f"it has {size} bytes of code, and {MOST_CODE} are run")
    return [CodeCell(number, text.strip() in given, text) for number, text in cells]


def given_cells(notebooks: Path) -> frozenset[str]:
    """Return the texts of all code cells of the notebooks in a folder; none where it is not there.

    So what the course itself has written into a notebook is told from what the learner has. First
    cells, which look for the course, are left out: they import what no exercise needs.
    """
    found: set[str] = set()
    for path in sorted(notebooks.glob("*.ipynb")) if notebooks.is_dir() else []:
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            tags = cell["metadata"].get("tags", [])
            if cell["cell_type"] == "code" and FINDS_THE_COURSE not in tags:
                found.add("".join(cell["source"]).strip())
    return frozenset(found)


def exercises_in(cells: Sequence[CodeCell], known: Sequence[Exercise]) -> list[Exercise]:
    """Return the exercises of the lessons that a notebook is about.

    A lesson counts where one of its exercises is checked in the notebook or, where none is, its
    function defined; then all its exercises count, so that an unanswered one has a row as well.
    """
    code = "\n".join(cell.source for cell in cells)
    checked = set(CHECKED.findall(code))
    asked = [exercise for exercise in known if exercise.id in checked]
    if not asked:
        defined = set(DEFINED.findall(code))
        asked = [exercise for exercise in known if exercise.name in defined]
    lessons = {exercise.id.partition(".")[0] for exercise in asked}
    return [exercise for exercise in known if exercise.id.partition(".")[0] in lessons]
