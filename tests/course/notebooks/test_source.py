"""From one source to its notebooks: which cell goes where, and as what."""

from pathlib import Path

import nbformat
import pytest

from d2lpart.course.notebooks.source import (
    Answer,
    SourceError,
    Target,
    Variant,
    answer_of,
    derive,
    read_cells,
    sources,
    tags,
    targets,
)

EXERCISES = '''\
# %% [markdown]
# # 99 Twice: exercises
#
# Two of them.

# %% [markdown] card="Pipeline Parallelism"
# Words.

# %%
class Double:
    def twice(self, n):
        """Twice n."""
        ### BEGIN SOLUTION
        m = n

        return m + n
        ### END SOLUTION

    def thrice(self, n):
        ### BEGIN SOLUTION
        return 3 * n
        ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 99.1
# MISCONCEPTION: squares it
# EXPECT: not a square:
def twice(n): return n * n

# %% tags=["right-answer"]
# EXERCISE: 99.1
def twice(n): return n << 1

# %% [markdown] tags=["solution-only"]
# The trick.

# %% tags=["nbval-check-output", "slow"]
Double().twice(2)
'''


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course's folder with one lesson and one source of exercises."""
    for part in ("notebooks", "exercises"):
        (tmp_path / part / "src").mkdir(parents=True)
    lesson = "# %% [markdown]\n# # 99 Twice\n\n# %%\n1 + 1\n"
    (tmp_path / "notebooks/src/99_twice.py").write_text(lesson, encoding="utf-8")
    (tmp_path / "exercises/src/99_twice.py").write_text(EXERCISES, encoding="utf-8")
    return tmp_path


def exercise_targets(course: Path) -> list[Target]:
    return targets(course / "exercises/src/99_twice.py")


def code(target: Target) -> list[str]:
    return [cell.source for cell in derive(target).cells if cell.cell_type == "code"]


def test_a_lesson_makes_one_notebook_and_exercises_make_two(course: Path):
    lesson, exercises = sources(course)
    assert [(t.variant, t.path) for t in targets(lesson)] == [
        (Variant.LESSON, "notebooks/99_twice.ipynb")
    ]
    assert [(t.variant, t.path) for t in targets(exercises)] == [
        (Variant.STUB, "exercises/99_twice.ipynb"),
        (Variant.SOLUTION, "exercises/solutions/99_twice.ipynb"),
    ]
    assert targets(lesson)[0].file == course / "notebooks/99_twice.ipynb"


def test_a_stub_keeps_what_is_around_the_solution(course: Path):
    stub, _ = exercise_targets(course)
    assert code(stub)[1].splitlines() == [
        "class Double:",
        "    def twice(self, n):",
        '        """Twice n."""',
        "        # YOUR CODE HERE",
        "        raise NotImplementedError",
        "",
        "    def thrice(self, n):",
        "        # YOUR CODE HERE",
        "        raise NotImplementedError",
    ]


def test_a_solution_keeps_the_code_without_its_marks(course: Path):
    _, solution = exercise_targets(course)
    assert code(solution)[1].splitlines() == [
        "class Double:",
        "    def twice(self, n):",
        '        """Twice n."""',
        "        m = n",
        "",
        "        return m + n",
        "",
        "    def thrice(self, n):",
        "        return 3 * n",
    ]


def test_answers_go_into_no_notebook_and_remarks_into_the_solutions_only(course: Path):
    stub, solution = (derive(target) for target in exercise_targets(course))
    for notebook in (stub, solution):
        text = "".join(cell.source for cell in notebook.cells)
        assert "EXPECT" not in text
        assert "n << 1" not in text
    assert [cell.source for cell in solution.cells if "solution-only" in tags(cell)] == [
        "The trick."
    ]
    assert len(solution.cells) == len(stub.cells) + 1


def test_the_bootstrap_cell_stands_behind_the_title(course: Path):
    cells = derive(exercise_targets(course)[0]).cells
    assert cells[0].source == "# 99 Twice: exercises\n\nTwo of them."
    assert tags(cells[1]) == ["bootstrap", "nbval-skip"]
    assert cells[1].metadata["jupyter"] == {"source_hidden": True}
    assert cells[1].metadata["cellView"] == "form"
    assert cells[2].source == "Words."


def test_the_badge_and_the_address_are_stamped_where_one_is_declared(course: Path):
    address = "https://github.com/someone/d2lpart"
    declaration = f'[project]\nname = "x"\n[project.urls]\nRepository = "{address}"\n'
    (course / "pyproject.toml").write_text(declaration, encoding="utf-8")
    cells = derive(exercise_targets(course)[1]).cells
    title, picture, *rest = cells[0].source.split("\n\n")
    assert (title, rest) == ("# 99 Twice: exercises", ["Two of them."])
    assert picture.endswith("someone/d2lpart/blob/main/exercises/solutions/99_twice.ipynb)")
    assert f'repository = "{address}"' in cells[1].source


def test_metadata_is_that_of_the_source(course: Path):
    cells = derive(exercise_targets(course)[0]).cells
    assert cells[2].metadata == {"card": "Pipeline Parallelism"}
    assert cells[-1].metadata == {"tags": ["nbval-check-output", "slow"]}
    assert cells[3].metadata == {}


def test_equal_sources_give_equal_valid_notebooks(course: Path):
    for target in exercise_targets(course):
        first, second = derive(target), derive(target)
        nbformat.validate(first)
        assert nbformat.writes(first) == nbformat.writes(second)
        ids = [cell.id for cell in first.cells]
        assert len(set(ids)) == len(ids)


def test_ids_come_from_the_file_and_the_position(course: Path):
    stub, solution = ([c.id for c in derive(t).cells] for t in exercise_targets(course))
    assert stub[:4] == solution[:4]
    assert stub[-1] == solution[-1], "a cell that is left out moves no id"
    other = course / "exercises/src/98_other.py"
    other.write_text(EXERCISES, encoding="utf-8")
    assert not {cell.id for cell in derive(targets(other)[0]).cells} & set(stub)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first cell is Markdown and begins with the title"),
        ("# %%\n1 + 1\n", "the first cell is Markdown and begins with the title"),
        ("# %% [markdown]\n# Twice\n", "the first cell is Markdown and begins with the title"),
        (
            "# %% [markdown]\n# # 99\n\n# %%\n### BEGIN SOLUTION\n1\n",
            "cell 2 has a ### BEGIN SOLUTION without its ### END SOLUTION",
        ),
        (
            "# %% [markdown]\n# # 99\n\n# %%\n1\n### END SOLUTION\n",
            "cell 2 has a ### BEGIN SOLUTION without its ### END SOLUTION",
        ),
    ],
)
def test_a_source_of_the_wrong_form(course: Path, text: str, message: str):
    source = course / "notebooks/src/99_twice.py"
    source.write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match=message):
        read_cells(source)


def test_a_source_in_the_wrong_place(course: Path):
    with pytest.raises(SourceError, match="no such file; give a source such as"):
        targets(course / "notebooks/src/98_none.py")
    stray = course / "notebooks/99_twice.py"
    stray.write_text(EXERCISES, encoding="utf-8")
    with pytest.raises(SourceError, match="sources lie in notebooks/src and exercises/src"):
        targets(stray)


def answers(source: Path) -> list[Answer]:
    found = [answer_of(cell, source) for cell in read_cells(source)]
    return [answer for answer in found if answer]


def test_answers_carry_what_they_stand_for(course: Path):
    wrong, right = answers(course / "exercises/src/99_twice.py")
    assert (wrong.exercise, wrong.right) == ("99.1", False)
    assert (wrong.expect, wrong.misconception) == ("not a square:", "squares it")
    assert wrong.code.endswith("def twice(n): return n * n")
    assert (right.exercise, right.right, right.expect) == ("99.1", True, "")
    assert (wrong.title, right.title) == ("99.1, squares it", "99.1, a right answer")


def test_an_answer_agrees_when_it_gets_what_it_must_get(course: Path):
    wrong, right = answers(course / "exercises/src/99_twice.py")
    assert wrong.agrees_with(False, "it is not a square: add")
    assert not wrong.agrees_with(False, "something else")
    assert not wrong.agrees_with(True, "not a square:")
    assert right.agrees_with(True, "")
    assert not right.agrees_with(False, "")


@pytest.mark.parametrize("line", ["EXERCISE: 99.1", "MISCONCEPTION: squares it", "EXPECT: not a"])
def test_an_answer_without_one_of_its_lines(course: Path, line: str):
    source = course / "exercises/src/99_twice.py"
    kept = EXERCISES.replace(f"# {line}", "#", 1)
    source.write_text(kept, encoding="utf-8")
    name = line.partition(":")[0]
    with pytest.raises(SourceError, match=f"the wrong-answer cell has no line '# {name}: …'"):
        answers(source)
