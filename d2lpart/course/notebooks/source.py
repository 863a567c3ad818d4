"""A notebook's source, and the cells of each notebook that is made from it.

A source is a py:percent text, `notebooks/src/NN_name.py` or `exercises/src/NN_name.py`. A lesson
becomes one notebook; exercises become two: stubs, where the code between `### BEGIN SOLUTION` and
`### END SOLUTION` is taken out, and solutions. Three tags say where a cell goes:

- `solution-only`: into the solutions only;
- `wrong-answer`: into no notebook; the tests run it and require the hint it names;
- `right-answer`: into no notebook; the tests run it and require that it is accepted.

Wrong and right answers stand in a source beside the exercise they belong to:

    # %% tags=["wrong-answer"]
    # EXERCISE: 05.1
    # MISCONCEPTION: divides by the ideal time instead of the whole
    # EXPECT: the whole step
    def idle_fraction(p, m):
        return (p - 1) / m
"""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from d2lpart.course.notebooks.bootstrap import badge, bootstrap_source, repository_address

SOLUTION = re.compile(
    r"^(?P<indent>[ \t]*)### BEGIN SOLUTION[^\n]*\n(?P<body>.*?)\n?^[ \t]*### END SOLUTION[^\n]*$",
    re.DOTALL | re.MULTILINE,
)
STUB = r"\g<indent># YOUR CODE HERE\n\g<indent>raise NotImplementedError"
ANSWER_TAGS = ("wrong-answer", "right-answer")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class SourceError(ValueError):
    """A notebook's source breaks a rule of its form."""


class Variant(StrEnum):
    """Which notebook is made from a source."""

    LESSON = "lesson"
    STUB = "stub"
    SOLUTION = "solution"


@dataclass(frozen=True)
class Target:
    """One notebook to be made: from `source`, at `path` under the course's folder `root`."""

    source: Path
    variant: Variant
    root: Path
    path: str

    @property
    def file(self) -> Path:
        """Where the notebook lies."""
        return self.root / self.path


def sources(root: Path) -> list[Path]:
    """Return all notebook sources under the course's folder, lessons first."""
    return [
        path
        for part in ("notebooks", "exercises")
        for path in sorted(root.glob(f"{part}/src/*.py"))
    ]


def targets(source: Path) -> list[Target]:
    """Return the notebooks made from a source.

    Raises `SourceError` where the source lies in neither notebooks/src nor exercises/src.
    """
    source = source.resolve()
    if not source.is_file():
        raise SourceError(f"{source}: no such file; give a source such as notebooks/src/05_idle.py")
    part, root = source.parent.parent.name, source.parents[2]
    if source.parent.name != "src" or part not in ("notebooks", "exercises"):
        raise SourceError(f"{source}: sources lie in notebooks/src and exercises/src")
    name = f"{source.stem}.ipynb"
    if part == "notebooks":
        return [Target(source, Variant.LESSON, root, f"notebooks/{name}")]
    return [
        Target(source, Variant.STUB, root, f"exercises/{name}"),
        Target(source, Variant.SOLUTION, root, f"exercises/solutions/{name}"),
    ]


def tags(cell: NotebookNode) -> list[str]:
    """Return a cell's tags."""
    return list(cell.metadata.get("tags", []))


def read_cells(source: Path) -> list[NotebookNode]:
    """Return the cells as they are written, each with the id its place in the file gives it.

    Raises `SourceError` where the first cell is no title or a solution's marks do not pair.
    """
    cells = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent").cells
    if not cells or cells[0].cell_type != "markdown" or not cells[0].source.startswith("# "):
        raise SourceError(f"{source}: the first cell is Markdown and begins with the title, '# …'")
    for position, cell in enumerate(cells):
        cell.metadata.pop("lines_to_next_cell", None)
        cell.id = _cell_id(source, str(position))
        left = SOLUTION.sub("", cell.source)
        if "### BEGIN SOLUTION" in left or "### END SOLUTION" in left:
            raise SourceError(
                f"{source}: cell {position + 1} has a ### BEGIN SOLUTION without its "
                "### END SOLUTION, or the other way round"
            )
    return list(cells)


def derive(target: Target) -> NotebookNode:
    """Return the notebook of a target, not executed."""
    title, *rest = read_cells(target.source)
    address = repository_address(target.root)
    picture = badge(address, target.path)
    if picture:
        first, _, more = title.source.partition("\n")
        title.source = f"{first}\n\n{picture}" + (f"\n{more}" if more else "")
    cells = [title, _bootstrap_cell(target.source, address)]
    cells += [with_solution(cell, target.variant) for cell in rest if _belongs(cell, target)]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=nbformat.from_dict(METADATA))
    notebook.nbformat_minor = 5
    return notebook


def with_solution(cell: NotebookNode, variant: Variant) -> NotebookNode:
    """Return the cell with its solution taken out (stubs) or its solution's marks taken out."""
    if cell.cell_type == "code":
        stub = variant is Variant.STUB
        cell.source = SOLUTION.sub(STUB if stub else r"\g<body>", cell.source)
    return cell


def _belongs(cell: NotebookNode, target: Target) -> bool:
    if any(tag in ANSWER_TAGS for tag in tags(cell)):
        return False
    return "solution-only" not in tags(cell) or target.variant is Variant.SOLUTION


def _bootstrap_cell(source: Path, address: str) -> NotebookNode:
    cell = nbformat.v4.new_code_cell(bootstrap_source(address))
    cell.id = _cell_id(source, "bootstrap")
    cell.metadata["tags"] = ["bootstrap", "nbval-skip"]
    cell.metadata["jupyter"] = {"source_hidden": True}  # JupyterLab folds it; it does nothing there
    cell.metadata["cellView"] = "form"  # Colab shows its field alone
    return cell


def _cell_id(source: Path, position: str) -> str:
    return hashlib.sha256(f"{source.stem}:{position}".encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Answer:
    """One answer to an exercise, right or wrong.

    expect: a phrase of the verdict it must get; misconception: the idea it rests on. Both are empty
    for a right answer. code: the cell's code, which defines the exercise's function.
    """

    exercise: str
    right: bool
    expect: str
    misconception: str
    code: str

    @property
    def title(self) -> str:
        """What the answer is, in one line."""
        return f"{self.exercise}, {'a right answer' if self.right else self.misconception}"

    def agrees_with(self, ok: bool, verdict: str) -> bool:
        """Tell whether it got what it must get: acceptance, or a refusal with its phrase."""
        return ok if self.right else not ok and self.expect in verdict


def answer_of(cell: NotebookNode, source: Path) -> Answer | None:
    """Return the answer a cell holds; None where it is another sort of cell.

    Raises `SourceError` where a line that says what the answer is for is missing.
    """
    found = [tag for tag in tags(cell) if tag in ANSWER_TAGS]
    if not found:
        return None
    right = found == ["right-answer"]
    wanted = ["EXERCISE"] if right else ["EXERCISE", "MISCONCEPTION", "EXPECT"]
    fields = dict(re.findall(r"^# (EXERCISE|MISCONCEPTION|EXPECT): *(.+?) *$", cell.source, re.M))
    if missing := [name for name in wanted if name not in fields]:
        raise SourceError(f"{source}: the {found[0]} cell has no line '# {missing[0]}: …'")
    expect, idea = fields.get("EXPECT", ""), fields.get("MISCONCEPTION", "")
    return Answer(fields["EXERCISE"], right, expect, idea, cell.source)
