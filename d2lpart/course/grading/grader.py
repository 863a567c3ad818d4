"""Grades submitted notebooks: each runs in a child of its own, and is judged here."""

import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from d2lpart.course.catalog import exercises
from d2lpart.course.checks.alarm import TimeUp, time_limit
from d2lpart.course.checks.checker import judge
from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.grading.child_process import GARBLED, Child, ChildFailed, Limits
from d2lpart.course.grading.library import Library, make_library
from d2lpart.course.grading.proxy import Proxy
from d2lpart.course.grading.submission import (
    CodeCell,
    SubmissionError,
    exercises_in,
    given_cells,
    read_cells,
)

NOTEBOOKS = Path(__file__).resolve().parents[3] / "exercises"
NO_ANSWER = "no answer"
FAILED = "failed"
FAILURES = {"timeout": "endless", "crashed": "died", "garbled": "died", "failed": FAILED}
JUDGING_SECONDS = 10.0
"""On top of what an exercise has: for the grader's own work on what came back."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a submission's answer to one exercise.

    kind: as in `verdict.KINDS`; besides, "no answer" where the function is not there, "import"
    where it imports what is not allowed, "unreadable" where the file is no notebook, and "failed"
    where the grader itself failed on it: look at that one by hand.
    seconds: how long the verdict took. seed: with it the cases can be drawn again.
    """

    submission: str
    exercise: str
    points: int
    of: int
    kind: str
    sentence: str
    call: str = ""
    seconds: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Order:
    """What to grade and how: one for all submissions of a run."""

    folder: Path
    seed: int
    ids: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Graded:
    """All rows of one submission, and what the confinement was found to prevent (or not)."""

    rows: list[Row]
    prevented: dict[str, bool]


def grade(paths: Sequence[Path], order: Order, workers: int = 2) -> Iterator[Graded]:
    """Yield the rows of each submission, in the order of `paths`; never raises for what is in one.

    The workers are processes of the grader; each submission runs in a child of one of them.
    """
    with tempfile.TemporaryDirectory(prefix="d2lpart-") as place:
        library = make_library(Path(place))
        given = given_cells(NOTEBOOKS)
        with _pool(min(workers, len(paths))) as pool:
            waiting = [pool.submit(grade_one, path, order, library, given) for path in paths]
            try:
                for path, one in zip(paths, waiting, strict=True):
                    yield _result(one) or _graded_alone(path, order, library, given)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, spawn, torch.set_num_threads, (1,))


def _result(one: "Future[Graded]") -> Graded | None:
    """Return what a worker found; None where a worker has died, which spoils the whole pool."""
    try:
        return one.result()
    except BrokenProcessPool:
        return None


def _graded_alone(path: Path, order: Order, library: Library, given: frozenset[str]) -> Graded:
    """Grade a submission in a worker of its own, so that only the one that ends it has no verdict.

    So the submissions that waited when a worker died are not lost.
    """
    with _pool(1) as pool:
        found = _result(pool.submit(grade_one, path, order, library, given))
    return found or _unjudged(path, order, "the process that judged it has ended")


def _unjudged(path: Path, order: Order, reason: str) -> Graded:
    asked = [exercise for exercise in exercises() if exercise.id in order.ids]
    sentence = f"The grader failed on it ({reason}): look at it by hand."
    name = path.relative_to(order.folder).as_posix()
    return Graded(_rows(name, asked, FAILED, sentence, order), {})


def grade_one(path: Path, order: Order, library: Library, given: frozenset[str]) -> Graded:
    """Return the rows of one submission; a fault of the grader itself is a row, too."""
    try:
        return _graded(path, order, library, given)
    except Exception as error:  # one submission must not cost the others
        return _unjudged(path, order, type(error).__name__)


def _graded(path: Path, order: Order, library: Library, given: frozenset[str]) -> Graded:
    name = path.relative_to(order.folder).as_posix()
    known = exercises()
    asked = [exercise for exercise in known if exercise.id in order.ids]
    try:
        cells = read_cells(path, given)
    except SubmissionError as error:
        return Graded(_rows(name, asked or known[:0], "unreadable", str(error), order), {})
    found = asked or exercises_in(cells, known)
    if not found:
        sentence = "no exercise of the course is in it"
        return Graded(_rows(name, found, "unreadable", sentence, order), {})
    session = _Session(cells, found, order, library)
    try:
        rows = [session.row(name, exercise) for exercise in found]
    finally:
        session.end()
    return Graded(rows, session.prevented)


def _rows(
    name: str, found: Sequence[Exercise], kind: str, sentence: str, order: Order
) -> list[Row]:
    """Return a row without points for each exercise, or one for the whole file."""
    ids = [(exercise.id, exercise.points) for exercise in found] or [("", 0)]
    return [Row(name, id_, 0, of, kind, sentence, seed=order.seed) for id_, of in ids]


class _Session:
    """A submission under way; a child that one exercise has ended is started again for the next."""

    def __init__(
        self, cells: Sequence[CodeCell], found: Sequence[Exercise], order: Order, library: Library
    ) -> None:
        self.order, self.library = order, library
        self.cells = [[cell.number, cell.given, cell.source] for cell in cells]
        self.allowed = sorted({name for exercise in found for name in exercise.allowed_imports})
        self.child: Child | None = None
        self.unloadable: ChildFailed | None = None
        self.functions: list[str] = []
        self.raised: dict[str, str] = {}
        self.reports: list[dict[str, Any]] = []
        self.prevented: dict[str, bool] = {}

    def end(self) -> None:
        """End the child, if there is one."""
        if self.child:
            self.child.end()
            self.child = None

    def row(self, name: str, exercise: Exercise) -> Row:
        """Return the row of one exercise."""
        start = time.monotonic()
        row = Row(name, exercise.id, 0, exercise.points, "", "", seed=self.order.seed)
        try:
            self._start()
            row = self._judged(row, exercise)
        except ChildFailed as failure:
            row = replace(row, kind=FAILURES[failure.kind], sentence=_while_loading(failure))
        if row.kind in FAILURES.values():
            self.end()
        return replace(row, seconds=round(time.monotonic() - start, 3))

    def _start(self) -> None:
        """Start the child and let it run the cells; those that failed once are not run again."""
        if self.unloadable:
            raise self.unloadable
        if not self.child:
            try:
                self._load()
            except ChildFailed as failure:
                self.unloadable = failure
                raise

    def _load(self) -> None:
        self.child = Child(self.library, self.order.limits)
        self.prevented = self.child.prevented
        seconds = self.order.limits.load_seconds
        self.reports = self.child.ask({"cells": self.cells}, seconds)["cells"]
        allowed = self.allowed + _imported_by_the_course(self.reports)
        loaded = self.child.ask({"allowed": allowed}, seconds)
        self.functions, self.raised = _checked(loaded)

    def _judged(self, row: Row, exercise: Exercise) -> Row:
        if exercise.name not in self.functions:
            return self._absent(row, exercise.name)
        assert self.child
        seconds = self.order.limits.exercise_seconds
        proxy = Proxy(self.child, exercise.name, seconds, self._parameters(exercise.name))
        try:
            with time_limit(seconds + JUDGING_SECONDS):
                result = judge(exercise, proxy.function(), self.order.seed)
        except TimeUp:
            sentence = "What it returns takes too long to be judged."
            return replace(row, kind=FAILURES["timeout"], sentence=sentence)
        if proxy.failure:
            kind, sentence = FAILURES[proxy.failure.kind], _while_judging(proxy)
            return replace(row, kind=kind, sentence=sentence, call=result.call)
        if result.got.startswith("ForbiddenImport"):
            module = result.got.partition(": ")[2]
            sentence = f"The function imports {module}, which is not allowed here."
            return replace(row, kind="import", sentence=sentence, call=result.call)
        points = exercise.points if result.ok else 0
        kind, sentence = result.kind, result.sentence
        return replace(row, points=points, kind=kind, sentence=sentence, call=result.call)

    def _parameters(self, function: str) -> Any:
        """Return what the last of the cells that define the function gives it as parameters."""
        found = [cell["signatures"].get(function) for cell in self.reports]
        return next((one for one in reversed(found) if one is not None), None)

    def _absent(self, row: Row, function: str) -> Row:
        """Say why a function is not there: its cell failed, or there is none."""
        for cell in self.reports:
            if function not in cell["defines"]:
                continue
            reason = cell["trouble"] or self.raised.get(str(cell["number"]), "")
            if reason.startswith("ForbiddenImport"):
                module = reason.partition(": ")[2]
                sentence = f"Cell {cell['number']} imports {module}, which is not allowed here."
                return replace(row, kind="import", sentence=sentence)
            if reason:
                sentence = f"Cell {cell['number']} fails: {reason}"
                return replace(row, kind="raised", sentence=sentence)
        sentence = f"There is no function `{function}` after all cells have run."
        return replace(row, kind=NO_ANSWER, sentence=sentence)


def _imported_by_the_course(reports: Sequence[dict[str, Any]]) -> list[str]:
    """Return the modules that the course's own cells import; so a submission may import them."""
    return sorted({module for cell in reports if cell["given"] for module, _ in cell["imports"]})


def _checked(loaded: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Return the functions that are there and what cells raised.

    The submission has run by now, so the reply may be its own. Raises `ChildFailed` where it has
    another form.
    """
    functions, raised = loaded.get("functions"), loaded.get("raised")
    if not isinstance(functions, list) or not isinstance(raised, dict):
        raise ChildFailed("garbled", GARBLED)
    return [str(name) for name in functions], {str(cell): str(raised[cell]) for cell in raised}


def _while_loading(failure: ChildFailed) -> str:
    if failure.kind == "timeout":
        return "Its cells still run when the time for them is up."
    return f"{failure} It had not run all cells."


def _while_judging(proxy: Proxy) -> str:
    if proxy.failure and proxy.failure.kind == "timeout":
        return f"Still running after the {proxy.seconds:g} s that an exercise has."
    return str(proxy.failure)
