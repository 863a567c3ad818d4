"""A built notebook held against its source and against what a published notebook may contain."""

import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from d2lpart.common.display import VIEW
from d2lpart.common.words import cut
from d2lpart.course.notebooks.bootstrap import without_address
from d2lpart.course.notebooks.source import Target, derive, sources, targets

MEND = "run `make notebooks` and commit what it changes"
PICTURE = re.compile(r"base64,[A-Za-z0-9+/=\s]+")
MACHINE_PATH = re.compile(r"ipykernel_\d+|(?<!\w)/(home|Users)/\w+/|site-packages")


def drift(target: Target) -> str | None:
    """Say where a committed notebook differs from its source, and how to mend it; None if nowhere.

    Outputs are not compared, nor is the repository's address.
    """
    if not target.file.exists():
        return f"{target.path} is missing: {MEND}"
    built = nbformat.read(target.file, as_version=4)
    wanted = derive(target)
    if len(built.cells) != len(wanted.cells):
        counts = f"{len(built.cells)} cells, its source gives {len(wanted.cells)}"
        return f"{target.path} has {counts}: {MEND}"
    for number, (old, new) in enumerate(zip(built.cells, wanted.cells, strict=True), start=1):
        if _fixed_parts(old) != _fixed_parts(new):
            head = new.source.strip().partition("\n")[0]
            return f"{target.path}: cell {number} ({head!r}) differs from its source: {MEND}"
    return None


def strays(root: Path) -> list[str]:
    """Name the notebooks that no source makes."""
    made = {target.path for source in sources(root) for target in targets(source)}
    folders = ("notebooks", "exercises", "exercises/solutions")
    there = [
        f"{folder}/{file.name}" for folder in folders for file in (root / folder).glob("*.ipynb")
    ]
    return [
        f"{path} has no source: remove it, or write its source"
        for path in sorted(there)
        if path not in made
    ]


def complaints(notebook: NotebookNode, root: Path) -> list[str]:
    """Say what an executed notebook has that a published one must not have.

    That is: an error, a warning or anything else on stderr, the state or view of a widget, and a
    path of the machine that built it.
    """
    found = ["it carries widget state"] if "widgets" in notebook.metadata else []
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            found += [f"cell {number} {text}" for text in _output_complaints(output, root)]
    return found


def _output_complaints(output: NotebookNode, root: Path) -> list[str]:
    if output.output_type == "error":
        return [f"ends in {output.ename}: {output.evalue}"]
    if output.output_type == "stream":
        stderr = (
            [f"writes to stderr: {cut(output.text.strip(), 200)}"]
            if output.name == "stderr"
            else []
        )
        return stderr + _path_complaints(output.text, root)
    texts = [text for kind, text in output.data.items() if kind.startswith("text/")]
    view = ["shows a widget without its static page"] if VIEW in output.data else []
    return view + [text for part in texts for text in _path_complaints(part, root)]


def _path_complaints(text: str, root: Path) -> list[str]:
    text = PICTURE.sub("", text)
    own = [str(place) for place in (root.resolve(), Path(sys.prefix).resolve())]
    for path in own:
        if path in text:
            return [f"shows the path {path}"]
    found = MACHINE_PATH.search(text)
    return [f"shows a path of this machine ({found[0]})"] if found else []


def _fixed_parts(cell: NotebookNode) -> tuple[object, ...]:
    return cell.id, cell.cell_type, without_address(cell.source), dict(cell.metadata)
