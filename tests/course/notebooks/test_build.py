"""The builder: runs a notebook whole, writes it in one piece, and names the cell that fails."""

import json
import os
import re
from pathlib import Path

import nbformat
import pytest

from d2lpart.common.display import VIEW
from d2lpart.course.notebooks import build
from d2lpart.course.notebooks.committed import complaints, drift
from d2lpart.course.notebooks.source import Variant, targets

LESSON = """\
# %% [markdown]
# # 99 Twice

# %%
import os
from pathlib import Path
from d2lpart.course.questions.choices import Option, Question

# %%
print(Path.cwd().name, os.environ["D2LPART_STATIC"], os.environ["D2LPART_STRICT"])
print("a second line")

# %%
Question("99.q1", "?", {"a": Option("x", "1."), "b": Option("y", "2.")}, answer="b")

# %%
import ipywidgets
ipywidgets.IntSlider()
"""

EXERCISES = """\
# %% [markdown]
# # 99 Twice

# %%
import os

def twice(n):
    ### BEGIN SOLUTION
    return 2 * n
    ### END SOLUTION

# %%
print(os.environ["D2LPART_STRICT"])
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch):
    """Write a source and return its path; the working folder is the course's."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, part: str = "notebooks") -> Path:
        source = tmp_path / part / "src/99_twice.py"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text, encoding="utf-8")
        return source

    return write


@pytest.fixture
def unrun(monkeypatch):
    """Let notebooks be built without a kernel."""
    monkeypatch.setattr(build, "_execute", lambda notebook, target: None)


def test_a_lesson_is_run_stripped_and_written(write, capsys):
    source = write(LESSON)
    assert build.main(["notebooks/src/99_twice.py"]) == 0
    assert capsys.readouterr().out.startswith("notebooks/99_twice.ipynb  ")
    (target,) = targets(source)
    notebook = nbformat.read(target.file, as_version=4)
    nbformat.validate(notebook)
    assert drift(target) is None
    assert complaints(notebook, target.root) == []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4, 5]
    assert code[2].outputs == [
        {"name": "stdout", "output_type": "stream", "text": "notebooks 1 0\na second line\n"}
    ]
    assert sorted(code[3].outputs[0].data) == ["text/html", "text/plain"]
    assert VIEW not in target.file.read_text(encoding="utf-8")
    assert notebook.metadata == build.METADATA
    folded = {"tags", "jupyter", "cellView"}
    assert [set(cell.metadata) <= {"tags"} for cell in notebook.cells].count(False) == 1
    assert set(code[0].metadata) == folded
    assert [path.name for path in target.file.parent.iterdir()] == ["src", target.file.name]


def test_solutions_run_strictly_and_stubs_do_not(write):
    source = write(EXERCISES, "exercises")
    assert build.main([str(source)]) == 0
    outputs = [
        nbformat.read(target.file, as_version=4).cells[-1].outputs[0].text
        for target in targets(source)
    ]
    assert outputs == ["0\n", "1\n"]
    assert build.check([], Path.cwd()) == []


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            "x = 1\n1 / 0",
            r"src/99_twice\.py, line 5 \(lesson, cell 3: 'x = 1'\): ZeroDivisionError: division",
        ),
        ("import warnings\nwarnings.warn('old')", r"cell 3 writes to stderr: .*UserWarning: old"),
        ("import os\nos.getcwd()", r"cell 3 shows the path /"),
        ("import os\nos._exit(1)", r"cell [23]: .*\): the kernel died"),  # the news may come late
    ],
)
def test_a_cell_that_fails_is_named_and_the_old_notebook_stays(write, capsys, cell, message):
    source = write(f"# %% [markdown]\n# # 99\n\n# %%\n{cell}\n\n# %%\n2 + 2\n")
    (target,) = targets(source)
    target.file.write_text("the old one", encoding="utf-8")
    assert build.main([str(source)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(message, captured.err, re.DOTALL)
    assert target.file.read_text(encoding="utf-8") == "the old one"
    assert [path.name for path in target.file.parent.glob("*.tmp")] == []


def test_a_cell_that_never_ends_is_named(write, monkeypatch):
    monkeypatch.setattr(build, "CELL_SECONDS", 3)
    source = write("# %% [markdown]\n# # 99\n\n# %%\nwhile True: pass\n")
    (target,) = targets(source)
    with pytest.raises(
        build.BuildError, match=r"cell 3: 'while True: pass'\): still running after 3 s"
    ):
        build.build_notebook(target)


def test_equal_sources_give_equal_files(write, unrun):
    source = write(EXERCISES, "exercises")
    texts = []
    for _ in range(2):
        assert build.main([]) == 0
        texts.append([target.file.read_bytes() for target in targets(source)])
    assert texts[0] == texts[1]
    assert texts[0][0].endswith(b"}\n")


def test_a_write_that_fails_leaves_nothing_behind(write, unrun, monkeypatch):
    (target,) = targets(write(LESSON))
    target.file.write_text("the old one", encoding="utf-8")

    def full(source, destination):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        build.build_notebook(target)
    assert target.file.read_text(encoding="utf-8") == "the old one"
    assert list(target.file.parent.glob(".*")) == []


def test_check_builds_nothing_and_names_the_drift(write, unrun, capsys):
    source = write(LESSON)
    (target,) = targets(source)
    assert build.main(["--check"]) == 1
    assert capsys.readouterr().out == (
        "notebooks/99_twice.ipynb is missing: run `make notebooks` and commit what it changes\n"
    )
    assert not target.file.exists()
    assert build.main([]) == 0
    capsys.readouterr()
    assert build.main(["--check"]) == 0
    assert capsys.readouterr().out == "every notebook is what its source says\n"
    source.write_text(LESSON.replace("a second line", "another"), encoding="utf-8")
    before = target.file.read_bytes()
    assert build.main(["--check", str(source)]) == 1
    assert "cell 4 ('print(Path.cwd()" in capsys.readouterr().out
    assert target.file.read_bytes() == before


def test_check_names_strays_only_when_it_looks_at_everything(write, unrun, capsys):
    source = write(LESSON)
    assert build.main([]) == 0
    stray = Path("notebooks/98_stray.ipynb")
    stray.write_text(json.dumps({}), encoding="utf-8")
    assert build.main(["--check", str(source)]) == 0
    assert build.main(["--check"]) == 1
    assert "98_stray.ipynb has no source" in capsys.readouterr().out


def test_a_source_that_is_not_there(write, capsys):
    assert build.main(["notebooks/src/98_none.py"]) == 1
    assert "no such file" in capsys.readouterr().err


def test_the_kernel_finds_the_package_this_builder_belongs_to(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("D2LPART_STRICT", "1")
    root = str(Path(build.__file__).resolve().parents[3])
    environment = build.kernel_environment(Variant.STUB)
    assert environment["PYTHONPATH"] == os.pathsep.join([root, "/elsewhere"])
    assert environment["D2LPART_STRICT"] == "0"
    monkeypatch.delenv("PYTHONPATH")
    assert build.kernel_environment(Variant.SOLUTION)["PYTHONPATH"] == root


def test_the_cover_is_drawn_where_the_readme_looks_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert build.main(["--cover"]) == 0
    assert (tmp_path / build.COVER).read_bytes().startswith(b"\x89PNG")
