"""What a lesson and a check cost beyond the models that they run, in seconds of the processor.

A lesson is run as its reader runs it, all cells in a kernel of its own, with `meter` inside.
Alone, this prints its tables: `python tests/benchmarks/lessons.py`.
"""

import ast
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from meter import IMPORTS, MODELS, PICTURES
from nbclient import NotebookClient
from nbformat import NotebookNode
from report import Row, Table
from spread import Spread

from d2lpart.course.catalog import exercises
from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.checks.guard import guarded_judge
from d2lpart.course.notebooks.build import kernel_environment, notebook_client
from d2lpart.course.notebooks.source import Variant

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parents[1] / "notebooks"
FIRST = f"import sys; sys.path.append({str(HERE)!r}); import meter; meter.watch()"
LAST = "print(meter.seconds())"
PARTS = {
    "start, imports": ("start", IMPORTS),
    "models": (MODELS,),
    "pictures": (PICTURES,),
    "the rest": ("rest",),
}
"""The columns of the table of lessons, and what each is made of."""

Seconds = tuple[float, float]  # of the processor, and of the wall


def tables(quick: bool) -> list[Table]:
    """Return the table of lessons, that of the first picture, and that of checks."""
    print("lessons", file=sys.stderr)
    imported = "import d2lpart.course, d2lpart.figures.plotting, ipywidgets"
    subprocess.run([sys.executable, "-c", imported], check=True, env=environment())  # compiles them
    every = sorted(NOTEBOOKS.glob("*.ipynb"))
    return [
        lessons([NOTEBOOKS / "05_worker_idle_time.ipynb"] if quick else every),
        pictures(every[0], 1 if quick else 5),
        checks(exercises()[:2] if quick else exercises(), 1 if quick else 3),
    ]


def lessons(paths: Sequence[Path]) -> Table:
    """Return what each lesson takes, and whose work it is."""
    return Table(
        "Lessons",
        "Processor seconds of a kernel from its start to the end of the lesson, one run each. "
        "`start, imports` is the kernel's own start, torch, matplotlib and all else that is "
        "imported; `models` are forwards, backwards and optimizers, in all threads; `pictures` are "
        "drawn and encoded; `the rest` is the cells' own Python, schedules, simulations, the "
        "engine, questions, and the messages between kernel and page.",
        ("lesson", "all", *PARTS),
        [lesson_row(path.stem, metered(path)) for path in paths],
    )


def lesson_row(name: str, seconds: dict[str, float]) -> Row:
    """Return the line of a lesson from the seconds that `meter` tells."""
    total = sum(seconds.values())
    parts = {part: sum(seconds[one] for one in made_of) for part, made_of in PARTS.items()}
    cells = [f"{total:.1f} s", *(f"{own:.2f} s ({own / total:.0%})" for own in parts.values())]
    return Row(name, cells, {"seconds": total, **seconds}, f"lesson-{name[:2]}")


def metered(path: Path) -> dict[str, float]:
    """Run a lesson with the meter in its kernel, and return what that tells."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FIRST))
    notebook.cells.append(nbformat.v4.new_code_cell(LAST))
    with kernel(notebook, path.parent) as client:
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
    told: dict[str, float] = ast.literal_eval(notebook.cells[-1].outputs[-1]["text"])
    return told


def pictures(path: Path, repeats: int) -> Table:
    """Return how long the reader of a lesson waits for its first picture."""
    waited = Spread.of(first_picture(path) for _ in range(repeats))
    words = "Wall seconds from the start of a kernel to the first picture under a cell."
    name = f"lesson {path.stem[:2]}"
    row = Row(name, [waited.written(2, unit=" s")], {"seconds": waited}, "first-picture")
    return Table("The first picture", words, ("of", "wall"), [row])


def first_picture(path: Path) -> float:
    """Return the seconds from a kernel's start until a cell of the notebook has shown a picture.

    Raises:
        ValueError: no cell shows one.
    """
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    with kernel(notebook, path.parent) as client:
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
            if any("<img" in str(output.get("data")) for output in cell.get("outputs", [])):
                return time.perf_counter() - start
    raise ValueError(f"{path.name} shows no picture: name a notebook that does")


@contextmanager
def kernel(notebook: NotebookNode, folder: Path) -> Iterator[NotebookClient]:
    """Start a kernel for a notebook, as the build starts it, and end it at the end."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    client = notebook_client(notebook, folder)
    with client.setup_kernel(env=environment()):
        yield client


def environment() -> dict[str, str]:
    """Return a reader's variables: widgets are shown, and compiled sources are kept."""
    given = kernel_environment(Variant.LESSON)
    return {
        k: v for k, v in given.items() if k not in ("D2LPART_STATIC", "PYTHONDONTWRITEBYTECODE")
    }


def checks(asked: Sequence[Exercise], repeats: int) -> Table:
    """Return what the checks of exercises take, of their references and of wrong answers."""
    right = {one.id: check(one, one.reference, repeats) for one in asked}
    wrong = [check(one, one.misconceptions[0][0], repeats) for one in asked if one.misconceptions]
    slowest = max(right, key=lambda one: right[one][0])
    rows = [
        check_row(f"the right answer, {len(right)} exercises", list(right.values()), "check-right"),
        check_row(f"the right answer, the slowest: {slowest}", [right[slowest]], "check-slowest"),
        check_row(f"a wrong answer, {len(wrong)} exercises", wrong, "check-wrong"),
    ]
    return Table(
        "Checks",
        f"Milliseconds of one check, the median of {repeats} each: in a child process, with limits "
        "of time and memory, on all its cases. The processor's are those of both processes. "
        "Quartiles are over the exercises.",
        ("check", "wall", "processor"),
        rows,
    )


def check(exercise: Exercise, answer: Callable[..., Any], repeats: int) -> Seconds:
    """Return the median seconds of the processor and of the wall that a check takes."""
    took = [timed(lambda: guarded_judge(exercise, answer)) for _ in range(repeats)]
    own, wall = (Spread.of(column).middle for column in zip(*took, strict=True))
    return own, wall


def timed(work: Callable[[], object]) -> Seconds:
    """Return what some work takes, of the processor and of the wall."""
    before, start = processor(), time.perf_counter()
    work()
    wall = time.perf_counter() - start
    return processor() - before, wall


def processor() -> float:
    """Return the seconds that this process has taken, and its children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


def check_row(name: str, took: Sequence[Seconds], anchor: str) -> Row:
    """Return a line of the table of checks."""
    own, wall = (Spread.of(column) for column in zip(*took, strict=True))
    cells = [spread.written(0, 1e3, " ms") for spread in (wall, own)]
    return Row(name, cells, {"seconds": wall, "processor_seconds": own}, anchor)


if __name__ == "__main__":
    for each in tables("--quick" in sys.argv):
        print(each.markdown())
