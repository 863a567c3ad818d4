"""A committed notebook against its source, and against what may be published."""

import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from d2lpart.common.display import VIEW
from d2lpart.course.notebooks.committed import complaints, drift, strays
from d2lpart.course.notebooks.source import Target, derive, targets

LESSON = """\
# %% [markdown]
# # 99 Twice

# %% [markdown] card="Pipeline Parallelism"
# Words.

# %% tags=["slow"]
1 + 1
"""


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """A lesson whose notebook is there and is what its source says."""
    source = tmp_path / "notebooks/src/99_twice.py"
    source.parent.mkdir(parents=True)
    source.write_text(LESSON, encoding="utf-8")
    (target,) = targets(source)
    nbformat.write(derive(target), target.file)
    return target


def edit(target: Target, change) -> None:
    notebook = nbformat.read(target.file, as_version=4)
    change(notebook.cells)
    nbformat.write(notebook, target.file)


def test_no_drift(target: Target):
    assert drift(target) is None


def test_outputs_are_no_drift(target: Target):
    def run(cells):
        cells[3].outputs = [new_output("stream", text="2")]
        cells[3].execution_count = 7

    edit(target, run)
    assert drift(target) is None


def test_the_address_is_no_drift(target: Target):
    address = '[project]\nname = "x"\n[project.urls]\nRepository = "https://github.com/a/b"\n'
    (target.root / "pyproject.toml").write_text(address, encoding="utf-8")
    assert "badge" in derive(target).cells[0].source
    assert drift(target) is None
    nbformat.write(derive(target), target.file)
    (target.root / "pyproject.toml").unlink()
    assert drift(target) is None


def test_a_missing_notebook(target: Target):
    target.file.unlink()
    assert drift(target) == (
        "notebooks/99_twice.ipynb is missing: run `make notebooks` and commit what it changes"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda cell: cell.update(source="1 + 2"),
        lambda cell: cell.update(id="abc"),
        lambda cell: cell.metadata.update(tags=["fast"]),
        lambda cell: cell.metadata.update(card="x"),
    ],
)
def test_a_cell_that_differs(target: Target, change):
    edit(target, lambda cells: change(cells[3]))
    assert drift(target) == (
        "notebooks/99_twice.ipynb: cell 4 ('1 + 1') differs from its source: "
        "run `make notebooks` and commit what it changes"
    )


def test_a_changed_bootstrap_cell_is_drift(target: Target):
    edit(target, lambda cells: cells[1].update(source="import os"))
    assert "cell 2" in (drift(target) or "")


def test_another_number_of_cells(target: Target):
    edit(target, lambda cells: cells.append(new_markdown_cell("more")))
    assert "has 5 cells, its source gives 4: run `make notebooks`" in (drift(target) or "")


def test_a_notebook_without_a_source(target: Target):
    assert strays(target.root) == []
    other = target.root / "exercises/solutions/98_other.ipynb"
    other.parent.mkdir(parents=True)
    target.file.rename(other)
    assert strays(target.root) == [
        "exercises/solutions/98_other.ipynb has no source: remove it, or write its source"
    ]


def executed(*outputs) -> nbformat.NotebookNode:
    return new_notebook(
        cells=[new_markdown_cell("# 99"), new_code_cell("1", outputs=list(outputs))]
    )


def shown(text: str, kind: str = "text/plain"):
    return new_output("execute_result", data={kind: text})


HERE = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        (
            new_output("error", ename="KeyError", evalue="'x'", traceback=[]),
            "ends in KeyError: 'x'",
        ),
        (new_output("stream", name="stderr", text="Warn!\n"), "writes to stderr: Warn!"),
        (shown("{}", VIEW), "shows a widget without its static page"),
        (shown(f"at {HERE}/x.py"), f"shows the path {HERE}"),
        (shown("/home/someone/x", "text/html"), "shows a path of this machine (/home/someone/)"),
        (new_output("stream", text="/tmp/ipykernel_31/2.py"), "shows a path of this machine (ipyk"),
        (shown("lib/site-packages/torch"), "shows a path of this machine (site-packages)"),
    ],
)
def test_what_may_not_be_published(output, complaint):
    (found,) = complaints(executed(output), HERE)
    assert found.startswith(f"cell 2 {complaint}")


def test_the_place_of_the_builders_python_may_not_be_published(tmp_path: Path):
    place = Path(sys.prefix).resolve()
    (found,) = complaints(executed(shown(f"at {place}/bin")), tmp_path)
    assert found == f"cell 2 shows the path {place}"


def test_widget_state_may_not_be_published():
    notebook = executed()
    notebook.metadata["widgets"] = {"state": {}}
    assert complaints(notebook, HERE) == ["it carries widget state"]


def test_ordinary_outputs_may_be_published():
    picture = '<img src="data:image/png;base64,AAAA/home/me/">'
    outputs = (
        shown("idle 75 %, see https://example.org/home/x/"),
        new_output("stream", text="loss 2.5\n"),
        new_output("display_data", data={"image/png": "/home/me/", "text/plain": "<Figure>"}),
        shown(picture, "text/html"),
    )
    assert complaints(executed(*outputs), HERE) == []
