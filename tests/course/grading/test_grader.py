"""Grading: solved notebooks get their points, hostile ones cost only themselves."""

import csv
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from d2lpart.commands.cli import main
from d2lpart.course.grading import grader
from d2lpart.course.grading.child_process import Child, Limits
from d2lpart.course.grading.command import as_csv, plain
from d2lpart.course.grading.grader import NOTEBOOKS, Order, grade_one
from d2lpart.course.grading.library import make_library
from d2lpart.course.grading.plain_values import encode
from d2lpart.course.grading.submission import given_cells

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no process groups on this system")

RIGHT = (
    "def events(p):\n    return [f'{s}F0' for s in range(p)] + [f'{s}B0' for s in range(p)][::-1]"
)
CHECK = "from d2lpart.course import check\ncheck('03.1', events)"
COURSE = NOTEBOOKS.parent / "d2lpart/course"
REFERENCES = COURSE / "lessons/lesson_03/exercises.py"
LIMITS = Limits(memory=2**30)
SHORT = Limits(load_seconds=2, exercise_seconds=1, memory=2**30)  # for what has no end


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return make_library(tmp_path_factory.mktemp("library"))


def notebook(*cells):
    made = [{"cell_type": "code", "source": cell, "metadata": {}, "outputs": []} for cell in cells]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def graded(library, tmp_path):
    """`graded(cell, ...)` returns the row of exercise 03.1 for a notebook of these cells."""

    def run(*cells, ids=("03.1",), limits=LIMITS):
        path = tmp_path / "one.ipynb"
        path.write_text(notebook(*cells), "utf-8")
        return grade_one(path, Order(tmp_path, 7, ids, limits), library, frozenset())

    return run


# ---- honest ones


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
@pytest.mark.parametrize("solved", [True, False])
def test_the_courses_own_notebooks(path, solved, library):
    path = path.parent / "solutions" / path.name if solved else path
    found = grade_one(path, Order(path.parent, 7), library, given_cells(NOTEBOOKS))
    assert {row.kind for row in found.rows} == {"right" if solved else "missing"}
    assert all(row.points == solved * row.of for row in found.rows)
    assert len({row.exercise[:3] for row in found.rows}) == 1


def test_an_answer_is_judged_by_its_values(graded):
    assert graded(RIGHT, CHECK).rows[0].kind == "right"
    row = graded(RIGHT.replace("[::-1]", "")).rows[0]
    assert (row.points, row.kind) == (0, "misconception")
    assert "the backward begins at stage" in row.sentence
    assert row.call.startswith("events(")
    assert graded("x = 1").rows[0].kind == "no answer"


def test_an_error_names_the_cell_and_its_line(graded):
    row = graded("import math", "def events(p):\n    q = 1\n    return p / 0").rows[0]
    assert row.sentence == "Your function raises ZeroDivisionError in line 3 of cell 2."


def test_cells_that_fail_cost_what_they_define(graded):
    row = graded("1 / 0", RIGHT).rows[0]
    assert row.kind == "right"
    row = graded(f"1 / 0\n{RIGHT}").rows[0]
    assert row.sentence == "Cell 1 fails: ZeroDivisionError: division by zero"
    assert "SyntaxError" in graded("def events(p:\n    return").rows[0].sentence


@pytest.mark.parametrize("form", ["tuple({})", "list({})"])
def test_several_forms_of_an_output_are_the_same(form, graded):
    changed = RIGHT.replace("return ", "return " + form.split("{")[0]) + ")"
    assert graded(changed).rows[0].kind == "right"


def test_an_argument_that_is_changed_is_seen(library, tmp_path):
    source = "def crossings(placement):\n    placement.sort()\n    return 1"
    path = tmp_path / "one.ipynb"
    path.write_text(notebook(source), "utf-8")
    row = grade_one(path, Order(tmp_path, 7, ("04.1",), LIMITS), library, frozenset()).rows[0]
    assert row.points == 0


# ---- hostile ones


FORGERIES = {
    "prints a verdict": "print('03.1 Right.')\ndef events(p):\n    print('Right')\n    return []",
    "replaces check": (
        "import d2lpart.course\nd2lpart.course.check = lambda *a: True\n"
        "def events(p):\n    return []"
    ),
    "replaces what reads its values": (
        "import d2lpart, torch, operator\n"
        "from d2lpart.course.grading import child, plain_values, wire\n"
        "child.encode = plain_values.encode = lambda *a: ['0F0', '0B0']\n"
        "def events(p):\n    return []"
    ),
    "is equal to everything": (
        "class All(list):\n    def __eq__(self, other): return True\n    __hash__ = None\n"
        "def events(p):\n    return All()"
    ),
    "is a text that equals everything": (
        "class Any(str):\n    def __eq__(self, other): return True\n    __hash__ = str.__hash__\n"
        "def events(p):\n    return [Any('x')] * (2 * p)"
    ),
    "edits the progress file": (
        "def events(p):\n"
        "    open('/root/.local/share/d2lpart/progress.json', 'w').write('{}')\n    return []"
    ),
    "looks for the reference": (
        "def events(p):\n"
        "    from d2lpart.course.lessons.lesson_03.exercises import events as reference\n"
        "    return reference(p)"
    ),
    "reads the course's file": (
        f"def events(p):\n    text = open({str(REFERENCES)!r}).read()\n"
        "    space = {}\n    exec(text, space)\n    return space['events'](p)"
    ),
    "looks up the stack": (
        "import sys\ndef events(p):\n    frame = sys._getframe()\n"
        "    while frame:\n        if 'expected' in frame.f_locals:\n"
        "            return frame.f_locals['expected'].value\n        frame = frame.f_back\n"
        "    return []"
    ),
    "ends early with success": "import os\ndef events(p):\n    os._exit(0)",
    "ends the program": "def events(p):\n    raise SystemExit(0)",
    "ends while it loads": f"{RIGHT}\nimport os, sys\nos._exit(0)",
    "writes to the socket": (
        "import os\ndef events(p):\n    for fd in range(3, 64):\n        try:\n"
        '            os.write(fd, b\'{"value": ["0F0", "0B0"]}\' * 100)\n'
        "        except OSError: pass\n    return []"
    ),
    "closes the socket": "import os\ndef events(p):\n    os.closerange(3, 64)\n    return []",
    "loops": "def events(p):\n    while True: pass",
    "loops and catches": (
        "def events(p):\n    while True:\n        try:\n            while True: pass\n"
        "        except BaseException: pass"
    ),
    "loops while it loads": f"{RIGHT}\nwhile True: pass",
    "takes all memory": "def events(p):\n    return [bytearray(2**26) for _ in range(1000)]",
    "returns too much": "def events(p):\n    return ['0F0'] * 10**8",
    "returns many rows of nothing": (
        "import torch\ndef events(p):\n    return [torch.empty((10**8, 0))]"
    ),
    "recurses": "def events(p):\n    return events(p)",
    "is nested without end": "def events(p):\n    a = []\n    a.append(a)\n    return a",
    "crashes": "import ctypes\ndef events(p):\n    return ctypes.string_at(0)",
    "prints without end": "def events(p):\n    while True: print('x' * 10**6)",
    "kills its parent": "import os\ndef events(p):\n    os.kill(os.getppid(), 9)\n    return []",
    "forks without end": "import os\ndef events(p):\n    while True: os.fork()",
    "starts threads without end": (
        "import threading, time\ndef events(p):\n    while True:\n"
        "        threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
    ),
}


@pytest.mark.parametrize("attempt", FORGERIES)
def test_a_hostile_submission_costs_only_itself(attempt, graded, library):
    """With a way around the list of allowed imports, so that the rest has to hold.

    What the next submission has in common with it are the grader, which goes on, and the library.
    """
    before = state(library.folder)
    source = FORGERIES[attempt]
    for name in ("os, sys", "os", "sys", "ctypes", "threading, time"):
        for one in name.split(", "):
            taken = f"{one} = torch.sys.modules['{one}']\n"
            source = source.replace(f"import {name}\n", f"import torch\n{taken}import {name}\n")
        source = source.replace(f"import {name}\n", "")
    row = graded(source, limits=SHORT).rows[0]
    assert row.points == 0, row
    assert row.kind != "import"
    assert state(library.folder) == before


def state(folder):
    """What lies in a folder, and how old and large it is."""
    each = [(path, path.lstat()) for path in folder.rglob("*")]
    return {path: (at.st_mtime_ns, at.st_size, at.st_mode) for path, at in each}


def test_a_right_one_is_graded_after_hostile_ones(graded):
    for attempt in ("ends the program", "crashes"):
        assert graded(FORGERIES[attempt].replace("import ctypes\n", "")).rows[0].points == 0
    assert graded(RIGHT).rows[0].points == 1


# The same with a way around the list of imports: what is not allowed is then stopped by the system.
AROUND = "import torch\nget = torch.sys.modules.get\nos = get('os')\n"
SYSTEM = {
    "reading the course and other files": (f"os.open({str(COURSE / 'checks/exercise.py')!r}, 0)"),
    "writing files": "os.open('mine', os.O_CREAT | os.O_WRONLY)",
    "network": "get('socket').socket().connect(('127.0.0.1', 9))",
    "new processes": "os.fork()",
    "signals to others": "os.kill(os.getppid(), 0)",
    "more memory": "len(bytearray(2**31))",
}


@pytest.fixture(scope="module")
def child(library):
    """A child that has, for each part of `SYSTEM`, a function that tries it: `f0`, `f1`, ..."""
    tries = [f"def f{k}():\n    return {code}\n" for k, code in enumerate(SYSTEM.values())]
    with Child(library, LIMITS) as child:
        child.ask({"cells": [[1, False, AROUND + "".join(tries)]]}, LIMITS.load_seconds)
        child.ask({"allowed": ["torch"]}, LIMITS.load_seconds)
        yield child


@pytest.mark.parametrize("what", SYSTEM)
def test_the_system_stops_what_the_list_of_imports_does_not(what, child):
    if not child.prevented[what]:
        pytest.skip(f"this system does not prevent {what}")
    request = {"function": f"f{list(SYSTEM).index(what)}", "args": encode(()), "trial": ""}
    done = child.ask(request, LIMITS.exercise_seconds)
    wanted = ("PermissionError", "OSError", "BlockingIOError", "MemoryError")
    assert done["raised"]["type"] in wanted, done


def test_more_memory_than_there_is_has_a_row(graded):
    found = graded("def events(p):\n    return len(bytearray(2**31))")
    assert not found.prevented["more memory"] or found.rows[0].kind in ("raised", "memory")


FINDS_THE_WIRE = """import torch
from d2lpart.course.grading.wire import Wire
wire = [o for o in torch.sys.modules["gc"].get_objects() if isinstance(o, Wire)][0]
"""


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"functions": 5, "raised": {}},
        {"functions": ["events"], "raised": [1]},
        {"functions": [[1e999]], "raised": {"1": {}}},
    ],
    ids=str,
)
def test_a_forged_reply_to_the_load_costs_only_itself(reply, graded):
    """It has the token and the number of a true one: it comes from the memory they lie in."""
    row = graded(f"{FINDS_THE_WIRE}inf = float('inf')\nwire.send({reply})\n{RIGHT}").rows[0]
    assert row.points == 0
    assert row.kind in ("died", "raised")


@pytest.mark.parametrize(
    "reply",
    [
        {"value": {"set": [[]]}, "changed": [], "printed": ""},
        {"value": [], "changed": [[7, 1]], "printed": ""},
        {"value": [], "changed": 1, "printed": ""},
        {"raised": {"type": 1, "message": 2, "place": 3}, "changed": [], "printed": ""},
        {"raised": {"type": "KeyboardInterrupt", "message": "", "place": None}, "changed": []},
    ],
    ids=str,
)
def test_a_forged_reply_to_a_call_costs_only_itself(reply, graded):
    forged = f"{FINDS_THE_WIRE}def events(p):\n    wire.send({reply})\n    return []"
    assert graded(forged).rows[0].points == 0


def test_cells_that_fail_to_load_are_not_tried_for_each_exercise(library, tmp_path, monkeypatch):
    started = []

    def start(*arguments):
        started.append(Child(*arguments))
        return started[-1]

    monkeypatch.setattr(grader, "Child", start)
    path = tmp_path / "one.ipynb"
    path.write_text(notebook(f"{RIGHT}\nwhile True: pass"), "utf-8")
    rows = grade_one(path, Order(tmp_path, 7, (), SHORT), library, frozenset()).rows
    assert {row.kind for row in rows} == {"endless"}
    assert len(rows) > len(started) == 1


def test_what_the_grader_fails_on_is_a_row(library, tmp_path, monkeypatch):
    def broken(*args):
        raise RuntimeError("a fault of the grader")

    monkeypatch.setattr(grader, "judge", broken)
    path = tmp_path / "one.ipynb"
    path.write_text(notebook(RIGHT), "utf-8")
    row = grade_one(path, Order(tmp_path, 7, ("03.1",), LIMITS), library, frozenset()).rows[0]
    assert (row.kind, row.points, row.of) == ("failed", 0, 1)
    assert "RuntimeError" in row.sentence


def test_a_worker_that_dies_costs_no_other_submission(tmp_path, monkeypatch):
    """Results are taken away by hand: both of the pool, then the first one graded alone.

    Here the workers are threads; the command, below, starts processes.
    """
    for name in ("a", "b"):
        (tmp_path / f"{name}.ipynb").write_text(notebook(RIGHT), "utf-8")
    first = []

    def lost(one):
        first.append(one)
        if len(first) <= 3:
            one.cancel()
            return None
        return one.result()

    monkeypatch.setattr(grader, "_result", lost)
    monkeypatch.setattr(grader, "_pool", ThreadPoolExecutor)
    paths = [tmp_path / "a.ipynb", tmp_path / "b.ipynb"]
    found = list(grader.grade(paths, Order(tmp_path, 7, ("03.1",), LIMITS), 1))
    assert [one.rows[0].kind for one in found] == ["failed", "right"]


def test_too_much_code_has_a_row(graded):
    row = graded(RIGHT, "#" * 2**20).rows[0]
    assert (row.kind, row.points) == ("unreadable", 0)


def test_what_the_courses_cells_import_is_allowed(library, tmp_path):
    """The first cell of lesson 03 imports copy before torch: an answer may use both."""
    document = json.loads((NOTEBOOKS / "03_splitting_a_decoder.ipynb").read_text("utf-8"))
    cells = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    first = "".join(cells[1]["source"])
    assert first.startswith("import copy")
    answer = f"def events(p):\n    copy, torch\n{RIGHT.partition(chr(10))[2]}"
    bootstrap = "".join(cells[0]["source"])
    for start, kind in [(first, "right"), (f"{first}\nx = 1", "raised"), (bootstrap, "raised")]:
        path = tmp_path / "one.ipynb"
        path.write_text(notebook(start, answer), "utf-8")
        order = Order(tmp_path, 7, ("03.1",), LIMITS)
        assert grade_one(path, order, library, given_cells(NOTEBOOKS)).rows[0].kind == kind


def test_other_arguments_than_asked_for_are_named(graded):
    row = graded("def events(p, q, r=1):\n    return []").rows[0]
    assert row.kind == "signature"
    assert row.sentence.endswith("yours has `(p, q, r=None)`.")


def test_an_import_within_the_function_is_named(graded):
    row = graded("def events(p):\n    import subprocess\n    return []").rows[0]
    assert (row.kind, row.points) == ("import", 0)
    assert row.sentence == "The function imports subprocess, which is not allowed here."


def test_what_is_not_allowed_is_named(graded):
    row = graded(f"import subprocess\n{RIGHT}").rows[0]
    assert (row.kind, row.points) == ("import", 0)
    assert row.sentence == "Cell 1 imports subprocess, which is not allowed here."
    assert graded(f"import torch, math, d2lpart\n{RIGHT}").rows[0].kind == "right"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"cells": 3}', '{"cells": [{"cell_type": 5}]}'])
def test_what_is_no_notebook_has_a_row(text, library, tmp_path):
    path = tmp_path / "bad.ipynb"
    path.write_text(text, "utf-8")
    found = grade_one(path, Order(tmp_path, 7), library, frozenset())
    assert [row.kind for row in found.rows] == ["unreadable"]


def test_a_link_is_not_followed(library, tmp_path):
    (tmp_path / "real.ipynb").write_text(notebook(RIGHT), "utf-8")
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "real.ipynb")
    row = grade_one(tmp_path / "link.ipynb", Order(tmp_path, 7, ("03.1",)), library, frozenset())
    assert [(row.kind, row.points) for row in row.rows] == [("unreadable", 0)]


# ---- the command and its files


def test_the_command_writes_one_table_twice(tmp_path, capsys):
    (tmp_path / "b.ipynb").write_text(notebook(RIGHT, CHECK), "utf-8")
    (tmp_path / "=a.ipynb").write_text(notebook("def events(p):\n    return []", CHECK), "utf-8")
    arguments = ["grade", str(tmp_path), "--exercise", "03.1", "--seed", "5", "--workers", "2"]
    assert main(arguments) == 0
    rows = list(csv.DictReader((tmp_path / "grades.csv").read_text("utf-8").splitlines()))
    assert [(row["submission"], row["points"]) for row in rows] == [
        ("'=a.ipynb", "0"),
        ("b.ipynb", "1"),
    ]
    document = json.loads((tmp_path / "grades.json").read_text("utf-8"))
    assert document["seed"] == 5
    assert document["totals"] == {"=a.ipynb": [0, 1], "b.ipynb": [1, 1]}
    assert {row["seed"] for row in document["rows"]} == {5}
    assert set(document["prevented"]) == set(SYSTEM)
    assert "  1 of   1  b.ipynb" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {
        *("b.ipynb", "=a.ipynb", "grades.csv", "grades.json")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["."], "no notebook"),
        ([".", "--exercise", "99.1"], "no exercise '99.1'"),
        ([".", "--workers", "0"], "--workers must be at least 1"),
        ([".", "--memory", "0"], "--memory is 0: give GiB"),
    ],
)
def test_a_wrong_call_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["grade", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_table_holds_no_formula_and_no_command():
    from d2lpart.course.grading.grader import Row

    row = Row("@x", "03.1", 0, 1, "raised", "=HYPERLINK(1)\x1b[2J\nmore")
    assert as_csv([row]).splitlines()[1].startswith("'@x,03.1,0,1,raised,'=HYPERLINK(1)?[2J more")
    assert plain("ü 1\x07") == "ü 1?"
