"""The committed notebooks: what their sources say, fit to be read, and judged as they promise."""

import re
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from d2lpart.course import catalog
from d2lpart.course.checks.verdict import Result
from d2lpart.course.notebooks.committed import complaints, drift, strays
from d2lpart.course.notebooks.rehearsal import answer_verdicts, stub_failures
from d2lpart.course.notebooks.source import (
    Answer,
    Target,
    Variant,
    answer_of,
    read_cells,
    sources,
    tags,
    targets,
)

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sources(ROOT)
LESSONS = [source for source in SOURCES if source.parts[-3] == "notebooks"]
EXERCISES = [source for source in SOURCES if source.parts[-3] == "exercises"]
TARGETS = [target for source in SOURCES for target in targets(source)]

LONGEST_CELL = 20
EXERCISE_HEADING = re.compile(r"^## Exercise (\d\d\.\d+) ●{1,3} \(\d+ minutes\)", re.MULTILINE)


def each(paths):
    return pytest.mark.parametrize(
        "source", paths, ids=lambda path: f"{path.parts[-3]}/{path.stem}"
    )


every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.path)


@every_target
def test_no_drift(target: Target):
    found = drift(target)
    assert found is None, found


def test_every_notebook_has_a_source():
    assert strays(ROOT) == []


@every_target
def test_a_notebook_is_valid_executed_and_clean(target: Target):
    notebook = nbformat.read(target.file, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "a cell was never run"
    assert any(cell.outputs for cell in code), "no cell has an output"
    assert complaints(notebook, ROOT) == []


@every_target
def test_a_notebook_begins_with_its_title_and_the_bootstrap_cell(target: Target):
    notebook = nbformat.read(target.file, as_version=4)
    number = target.source.stem[:2]
    assert notebook.cells[0].source.startswith(f"# {number} ")
    assert [n for n, cell in enumerate(notebook.cells) if "bootstrap" in tags(cell)] == [1]


@every_target
def test_words_stand_between_code_cells_and_code_cells_are_short(target: Target):
    cells = nbformat.read(target.file, as_version=4).cells
    for before, after in pairwise(cells):
        pair = f"no words between these cells:\n{before.source}\n---\n{after.source}"
        assert not before.cell_type == after.cell_type == "code", pair
    for cell in cells:
        lines = len(cell.source.splitlines())
        assert cell.cell_type != "code" or lines <= LONGEST_CELL, f"{lines} lines:\n{cell.source}"


@each(LESSONS)
def test_a_lesson_says_what_for_and_closes_with_what_to_remember(source: Path):
    text = [cell.source for cell in read_cells(source) if cell.cell_type == "markdown"]
    headings = [line for part in text for line in part.splitlines() if line.startswith("#")]
    assert "## After this lesson you can" in headings
    assert "## To remember" in headings


@each(LESSONS)
def test_every_question_and_prediction_stands_in_its_lesson(source: Path):
    items = [*catalog.questions(), *catalog.predictions()]
    own = [item.id for item in items if item.id.startswith(f"{source.stem[:2]}.")]
    text = source.read_text("utf-8")
    assert own
    assert [item for item in own if f'("{item}"' not in text] == []


@pytest.mark.parametrize(
    "path",
    [*SOURCES, *sorted((ROOT / "d2lpart").rglob("*.py")), *sorted(ROOT.glob("*.md"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_text_sends_the_reader_to_a_lesson_that_is_not_there(path: Path):
    there = {source.stem[:2] for source in LESSONS}
    named = re.findall(r"\blessons? (\d\d)(?: (?:and|to) (\d\d))?", path.read_text("utf-8"), re.I)
    assert {number for pair in named for number in pair if number} <= there


def exercise_ids(source: Path) -> list[str]:
    """The ids of the catalog's exercises that belong to a source, by the number in its name."""
    return [item.id for item in catalog.exercises() if item.id.startswith(f"{source.stem[:2]}.")]


@each(EXERCISES)
def test_each_exercise_has_its_heading_with_difficulty_and_minutes(source: Path):
    text = "\n\n".join(c.source for c in read_cells(source) if c.cell_type == "markdown")
    assert EXERCISE_HEADING.findall(text) == exercise_ids(source)


@cache
def rehearsed(source: Path) -> list[tuple[Answer, Result]]:
    return answer_verdicts(source)


def answers(source: Path) -> list[tuple[int, Answer]]:
    found = [answer_of(cell, source) for cell in read_cells(source)]
    return list(enumerate(answer for answer in found if answer))


@each(EXERCISES)
def test_stubs_fail_strictly_and_yet_run_to_the_end(source: Path):
    assert list(dict.fromkeys(stub_failures(source))) == exercise_ids(source)


@each(EXERCISES)
def test_solutions_pass_strictly(source: Path):
    assert rehearsed(source) is not None


@pytest.mark.parametrize(
    ("source", "index"),
    [
        pytest.param(source, index, id=f"{answer.title}-{index}")
        for source in EXERCISES
        for index, answer in answers(source)
    ],
)
def test_each_answer_gets_the_verdict_it_must_get(source: Path, index: int):
    answer, result = rehearsed(source)[index]
    wanted = "acceptance" if answer.right else f"a refusal that says: {answer.expect}"
    assert answer.agrees_with(result.ok, repr(result)), f"wanted {wanted}, got:\n{result}"


@each(EXERCISES)
def test_each_exercise_has_two_wrong_answers_at_least(source: Path):
    count = Counter(answer.exercise for _, answer in answers(source) if not answer.right)
    assert {item: count[item] for item in exercise_ids(source) if count[item] < 2} == {}
    assert set(count) <= set(exercise_ids(source))


def test_every_exercise_of_the_catalog_stands_in_a_notebook():
    there = {item for source in EXERCISES for item in exercise_ids(source)}
    assert {item.id for item in catalog.exercises()} <= there


@each(EXERCISES)
def test_each_exercise_is_checked_under_its_own_name(source: Path):
    names = {item.id: item.name for item in catalog.exercises()}
    code = "\n".join(cell.source for cell in read_cells(source) if cell.cell_type == "code")
    checked = re.findall(r'check\("(\d\d\.\d+)", (\w+)', code)
    assert {item: names[item] for item in exercise_ids(source)} == dict(checked)


def test_both_notebooks_of_an_exercise_source_are_made():
    for source in EXERCISES:
        assert [t.variant for t in targets(source)] == [Variant.STUB, Variant.SOLUTION]
