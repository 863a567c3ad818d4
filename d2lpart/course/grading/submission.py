"""A submitted notebook as it lies on the disk: its code cells, and the exercises it is about.

The file is read as JSON and nothing more; what is in it is not run here.
"""

import ast
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2lpart.course.exercise import Exercise

MOST_BYTES = 20 * 2**20
CHECKED = re.compile(r"""\bcheck\(\s*["']([^"']{1,20})["']""")


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
    return [CodeCell(number, text.strip() in given, text) for number, text in cells]


def given_cells(notebooks: Path) -> frozenset[str]:
    """Return the texts of all code cells of the notebooks in a folder; none where it is not there.

    So what the course itself has written into a notebook is told from what the learner has.
    """
    found: set[str] = set()
    for path in sorted(notebooks.glob("*.ipynb")) if notebooks.is_dir() else []:
        found |= {cell.source.strip() for cell in read_cells(path)}
    return frozenset(found)


def exercises_in(cells: Sequence[CodeCell], known: Sequence[Exercise]) -> list[Exercise]:
    """Return the exercises of the lessons that a notebook is about.

    A lesson counts where one of its exercises is checked in the notebook or, where none is, its
    function defined; then all its exercises count, so that an unanswered one has a row as well.
    """
    checked = set(CHECKED.findall("\n".join(cell.source for cell in cells)))
    asked = [exercise for exercise in known if exercise.id in checked]
    if not asked:
        defined = {name for cell in cells for name in _defined(cell.source)}
        asked = [exercise for exercise in known if exercise.name in defined]
    lessons = {exercise.id.partition(".")[0] for exercise in asked}
    return [exercise for exercise in known if exercise.id.partition(".")[0] in lessons]


def _defined(source: str) -> list[str]:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return re.findall(r"^def (\w+)", source, re.M)
    return [part.name for part in body if isinstance(part, ast.FunctionDef)]
