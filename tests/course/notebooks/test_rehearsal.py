"""The rehearsal: a source run in this process, its stubs strictly, its answers judged."""

import os
import sys
from pathlib import Path

import pytest

from d2lpart.course import catalog
from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.notebooks import rehearsal
from d2lpart.course.questions.feedback import CheckFailed

SOURCE = """\
# %% [markdown]
# # 99 Twice

# %%
# %matplotlib inline
from pathlib import Path
from d2lpart.course import check
FOLDER = Path.cwd().name

# %%
def twice(n):
    ### BEGIN SOLUTION
    return 2 * n
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 99.1
# MISCONCEPTION: squares it
# EXPECT: a square
def twice(n): return n * n

# %% tags=["right-answer"]
# EXERCISE: 99.1
def twice(n): return sum([n, n])

# %%
result = check("99.1", twice)
result

# %% tags=["solution-only"]
assert twice(4) == 8

# %%
twice = result.or_reference()
print(twice(4))
assert (FOLDER, twice(4)) == ("exercises", 8)
"""


def twice(n: int) -> int:
    return 2 * n


@pytest.fixture
def write(tmp_path: Path, monkeypatch):
    """A catalog with the exercise 99.1, and a function that writes a source on it."""

    class Lesson:
        QUESTIONS = ()
        EXERCISES = (
            Exercise(
                "99.1",
                "Twice",
                twice,
                cases=lambda rng: [(1,), (2,), (3,)],
                misconceptions=[(lambda n: n * n, "That is a square.")],
                otherwise="Add it to itself.",
            ),
        )

    monkeypatch.setattr(catalog, "LESSONS", (Lesson,))

    def write(text: str = SOURCE) -> Path:
        source = tmp_path / "exercises/src/99_twice.py"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text, encoding="utf-8")
        return source

    return write


def test_stubs_fail_strictly_and_run_to_the_end(write, capsys):
    assert rehearsal.stub_failures(write()) == ["99.1"]
    assert capsys.readouterr().out == ""


def test_a_stub_that_gives_the_answer_away_does_not_fail(write):
    given = SOURCE.replace("    ### BEGIN SOLUTION\n", "").replace("    ### END SOLUTION\n", "")
    assert rehearsal.stub_failures(write(given)) == []


def test_stubs_that_cannot_run_to_the_end_raise(write):
    with pytest.raises(NotImplementedError):
        rehearsal.stub_failures(write(SOURCE.replace("twice = result.or_reference()", "")))


def test_each_answer_is_judged(write):
    (wrong, refused), (right, accepted) = rehearsal.answer_verdicts(write())
    assert (wrong.misconception, refused.kind) == ("squares it", "misconception")
    assert right.right
    assert accepted.ok


def test_a_solution_that_is_not_right_raises(write):
    with pytest.raises(CheckFailed, match=r"99\.1 Not yet"):
        rehearsal.answer_verdicts(write(SOURCE.replace("return 2 * n", "return 3 * n")))


def test_an_answer_that_defines_something_else(write):
    source = write(SOURCE.replace("def twice(n): return n * n", "def square(n): return n * n"))
    with pytest.raises(ValueError, match=r"the answer defines no `twice`, which 99\.1 asks for"):
        rehearsal.answer_verdicts(source)


def test_an_answer_sees_what_stands_before_it_and_leaves_no_trace(write):
    text = SOURCE.replace(
        "def twice(n): return n * n", "def twice(n): return n * n if FOLDER else 0\nX = 1"
    )
    text = text.replace("assert twice(4) == 8", "assert twice(4) == 8 and 'X' not in globals()")
    assert len(rehearsal.answer_verdicts(write(text))) == 2


def test_the_place_and_the_environment_are_given_back(write, monkeypatch):
    monkeypatch.setenv("D2LPART_STRICT", "here before")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    folder = Path.cwd()
    rehearsal.stub_failures(write())
    rehearsal.answer_verdicts(write())
    assert Path.cwd() == folder
    assert os.environ["D2LPART_STRICT"] == "here before"
    assert "MPLBACKEND" not in os.environ


def test_figures_are_seen_by_no_one_and_closed(write):
    drawing = "import matplotlib.pyplot as plt\nplt.plot([1]); plt.show()\nassert twice(4) == 8"
    rehearsal.answer_verdicts(write(SOURCE.replace("assert twice(4) == 8", drawing)))
    assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_an_error_shows_the_line_of_the_cell(write):
    source = write(SOURCE.replace("FOLDER = Path.cwd().name", "FOLDER = undefined.name"))
    with pytest.raises(NameError) as caught:
        rehearsal.stub_failures(source)
    entry = caught.traceback[-1]
    assert str(entry.path).endswith("<99_twice.py cell 2>")
    assert entry.lineno + 1 == 4


def test_the_command_prints_verdicts_and_fails_on_a_surprise(write, capsys):
    source = write()
    assert rehearsal.main([str(source)]) == 0
    out = capsys.readouterr().out
    assert "stubs fail for 99.1" in out
    assert "99.1, squares it\n99.1 Not yet." in out
    assert "SURPRISE" not in out
    write(SOURCE.replace("EXPECT: a square", "EXPECT: a circle"))
    assert rehearsal.main([str(source)]) == 1
    assert "SURPRISE 99.1, squares it" in capsys.readouterr().out
