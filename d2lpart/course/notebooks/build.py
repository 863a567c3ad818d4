"""Builds the notebooks from their sources, and the picture on the README's front.

    python -m d2lpart.course.notebooks.build [--check | --cover] [SOURCE …]

A notebook is written in one piece, after all its cells have run; a cell that fails, or that writes
to stderr, stops the build and leaves the old notebook as it was. Equal sources give equal cells.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

import d2lpart
from d2lpart import build_schedule, simulate
from d2lpart.common.display import VIEW
from d2lpart.common.files import write_whole
from d2lpart.course.notebooks.committed import complaints, drift, strays
from d2lpart.course.notebooks.source import (
    METADATA,
    SourceError,
    Target,
    Variant,
    derive,
    sources,
    targets,
)
from d2lpart.timelines.timeline import Comparison

CELL_SECONDS = 120
"""A cell that runs longer than this fails the build."""

COVER = "notebooks/figures/readme.png"


class BuildError(RuntimeError):
    """A notebook could not be built; the text names its source, the cell and the error."""


def build_notebook(target: Target) -> None:
    """Make one notebook: derive it, run it in its folder, and write it. Raises `BuildError`."""
    notebook = derive(target)
    target.file.parent.mkdir(parents=True, exist_ok=True)
    _execute(notebook, target)
    _strip(notebook)
    if found := complaints(notebook, target.root):
        raise BuildError(f"{target.source} ({target.variant}): " + "; ".join(found))
    nbformat.validate(notebook)
    write_whole(target.file, nbformat.writes(notebook) + "\n")


def kernel_environment(variant: Variant) -> dict[str, str]:
    """Return the variables the notebook's kernel runs with; solutions are checked strictly."""
    package = str(Path(d2lpart.__file__).resolve().parents[1])
    path = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONHASHSEED": "0",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "D2LPART_STATIC": "1",
        "D2LPART_PROGRESS": "off",
        "D2LPART_SEED": "",
        "D2LPART_STRICT": "1" if variant is Variant.SOLUTION else "0",
    }


def notebook_client(notebook: NotebookNode, folder: Path) -> NotebookClient:
    """Return what runs a notebook's cells in a kernel of its own, in a folder."""
    return NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--Application.log_level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )


def _execute(notebook: NotebookNode, target: Target) -> None:
    client = notebook_client(notebook, target.file.parent)
    try:
        client.execute(env=kernel_environment(target.variant))
    except CellExecutionError as error:
        message = f"{error.ename}: {error.evalue}"
        raise BuildError(f"{_place(notebook, target)}: {message}") from None
    except CellTimeoutError:
        where = _place(notebook, target)
        raise BuildError(f"{where}: still running after {CELL_SECONDS} s") from None
    except DeadKernelError:
        raise BuildError(f"{_place(notebook, target)}: the kernel died") from None


def _place(notebook: NotebookNode, target: Target) -> str:
    """Name the cell the run stopped in, the last one started, and its line in the source."""
    started = [
        cell for cell in notebook.cells if cell.get("execution_count") or cell.get("outputs")
    ]
    cell = started[-1] if started else notebook.cells[0]
    number = notebook.cells.index(cell) + 1
    first = cell.source.strip().partition("\n")[0]
    lines = target.source.read_text(encoding="utf-8").splitlines()
    line = f", line {lines.index(first) + 1}" if first in lines else ""
    return f"{target.source}{line} ({target.variant}, cell {number}: {first!r})"


def _strip(notebook: NotebookNode) -> None:
    """Take out what differs from run to run or does not outlive the kernel."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(VIEW, None)


def check(paths: Sequence[Path], root: Path) -> list[str]:
    """Return a line for each notebook that is not what its source says; no paths: look at all."""
    chosen = list(paths) or sources(root)
    found = [drift(target) for source in chosen for target in targets(source)]
    return [text for text in found if text] + ([] if paths else strays(root))


def _build_all(paths: Sequence[Path], root: Path) -> Iterator[str]:
    for source in list(paths) or sources(root):
        for target in targets(source):
            start = time.perf_counter()
            build_notebook(target)
            yield f"{target.path}  {time.perf_counter() - start:.1f} s"


def cover_comparison() -> Comparison:
    """Return what the cover shows: the same work without overlap, and in the 1F1B order.

    4 ranks, 8 micro-batches, a backward twice as long as a forward.
    """
    naive, one_f_one_b = (build_schedule(name, 4, 8) for name in ("naive", "1f1b"))
    durations = {"F": 1.0, "B": 2.0}
    return simulate(naive, durations).compare(simulate(one_f_one_b, durations))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m d2lpart.course.notebooks.build", description=__doc__
    )
    parser.add_argument("sources", nargs="*", type=Path, help="all of the course if none is given")
    parser.add_argument("--check", action="store_true", help="build nothing; fail on any drift")
    parser.add_argument("--cover", action="store_true", help="draw the README's picture alone")
    options = parser.parse_args(arguments)
    root = Path.cwd()
    try:
        if options.cover:
            (root / COVER).parent.mkdir(parents=True, exist_ok=True)
            figure = cover_comparison().plot()
            figure.savefig(root / COVER, dpi=110, metadata={"Software": None})
            return 0
        if options.check:
            found = check(options.sources, root)
            print("\n".join(found) or "every notebook is what its source says")
            return 1 if found else 0
        for line in _build_all(options.sources, root):
            print(line, flush=True)
    except (BuildError, SourceError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
