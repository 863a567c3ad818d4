"""Runs a source's cells in this process, without a kernel: stubs must fail, answers get verdicts.

It is the fast way to try an exercise while writing it:

    python -m d2lpart.course.notebooks.rehearsal exercises/src/05_idle.py
"""

import contextlib
import io
import linecache
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from nbformat import NotebookNode

from d2lpart.course.catalog import exercise, exercises
from d2lpart.course.checks.checker import judge
from d2lpart.course.checks.verdict import Result
from d2lpart.course.notebooks.source import (
    Answer,
    Variant,
    answer_of,
    read_cells,
    tags,
    with_solution,
)
from d2lpart.course.questions.feedback import CheckFailed

Namespace = dict[str, Any]


def stub_failures(source: Path) -> list[str]:
    """Run the stubs strictly; return the ids of the checks that failed, in order.

    After each failure the cell runs again, not strictly, as it does for a learner; so a return
    also shows that the notebook of stubs runs to its end.
    """
    source = source.resolve()
    failed: list[str] = []
    namespace = _fresh()
    with _stage(source):
        for number, cell in _code_cells(source, Variant.STUB):
            if answer_of(cell, source) or "solution-only" in tags(cell):
                continue
            try:
                with patch.dict(os.environ, D2LPART_STRICT="1"):
                    _run(cell.source, namespace, f"{source.name} cell {number}")
            except CheckFailed as failure:
                failed.append(failure.check_id)
                with patch.dict(os.environ, D2LPART_STRICT="0"):
                    _run(cell.source, namespace, f"{source.name} cell {number}")
    return failed


def answer_verdicts(source: Path) -> list[tuple[Answer, Result]]:
    """Run the solutions strictly, and each answer on a copy of what stands before it.

    Returns the answers with their verdicts. Raises `CheckFailed` where a solution is not right.
    """
    source = source.resolve()
    found: list[tuple[Answer, Result]] = []
    namespace = _fresh()
    with _stage(source), patch.dict(os.environ, D2LPART_STRICT="1"):
        for number, cell in _code_cells(source, Variant.SOLUTION):
            place = f"{source.name} cell {number}"
            answer = answer_of(cell, source)
            if answer is None:
                _run(cell.source, namespace, place)
            else:
                found.append((answer, _verdict(answer, dict(namespace), place)))
    return found


def solutions(source: Path) -> dict[str, Callable[..., Any]]:
    """Run the solutions strictly; return the function of each of the lesson's exercises, by id."""
    source = source.resolve()
    namespace = _fresh()
    with _stage(source), patch.dict(os.environ, D2LPART_STRICT="1"):
        for number, cell in _code_cells(source, Variant.SOLUTION):
            if answer_of(cell, source) is None:
                _run(cell.source, namespace, f"{source.name} cell {number}")
    lesson = source.name[:2]
    known = [one for one in exercises() if one.id.startswith(lesson)]
    return {one.id: namespace[one.name] for one in known if one.name in namespace}


def _verdict(answer: Answer, namespace: Namespace, place: str) -> Result:
    task = exercise(answer.exercise)
    namespace.pop(task.name, None)
    _run(answer.code, namespace, place)
    if task.name not in namespace:
        raise ValueError(f"{place}: the answer defines no `{task.name}`, which {task.id} asks for")
    return judge(task, namespace[task.name])


def _code_cells(source: Path, variant: Variant) -> Iterator[tuple[int, NotebookNode]]:
    for number, cell in enumerate(read_cells(source), start=1):
        if cell.cell_type == "code":
            yield number, with_solution(cell, variant)


def _fresh() -> Namespace:
    return {"__name__": "__main__"}


def _run(code: str, namespace: Namespace, place: str) -> None:
    """Execute a cell; magics and shell lines are left out, as only a notebook knows them."""
    lines = [line if line[:1] not in ("%", "!") else "" for line in code.splitlines()]
    text = "\n".join(lines) + "\n"
    file = f"<{place}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(text, file, "exec"), namespace)


@contextlib.contextmanager
def _stage(source: Path) -> Iterator[None]:
    """Be where the notebook would be: in its folder, with pictures that no one sees, prints kept.

    Pictures are the cells' own affair: matplotlib is looked at only where a cell has loaded it.
    """
    _hide_figures()
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, MPLBACKEND="agg", D2LPART_PROGRESS="off"))
        stack.enter_context(contextlib.chdir(source.parents[1]))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message=".*non-interactive|More than 20 figures")
        stack.callback(_hide_figures)
        yield


def _hide_figures() -> None:
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
        pyplot.switch_backend("agg")


def main(paths: list[str]) -> int:
    """Print what the stubs and the answers of each source get; return 1 if an answer surprises."""
    surprises = 0
    for path in map(Path, paths):
        print(f"{path}: stubs fail for {', '.join(stub_failures(path)) or 'nothing'}")
        for answer, result in answer_verdicts(path):
            good = answer.agrees_with(result.ok, repr(result))
            surprises += not good
            print(f"{'' if good else 'SURPRISE '}{answer.title}\n{result}\n")
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
