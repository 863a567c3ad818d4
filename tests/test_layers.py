"""The direction of the imports, the size of modules and functions, and that all is documented.

The rooms stand in one order, and each imports only what stands before it. So the rooms that compute
orders and times know neither torch nor figures, and any of them can be read on its own.
"""

import ast
import graphlib
import importlib
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "d2lpart"

ROOT = "d2lpart"

# The rooms, each a folder with one concept. A room may import those before it.
ROOMS = (
    "common",
    "schedules",
    "timelines",
    "partitions",
    "memory",
    "models",
    "machine",
    "stages",
    "costs",
    "pipeline",
    "splits",
    "figures",
    "explorers",
    ROOT,
    "course",
    "commands",
    "__main__",
)

# These rooms compute with the standard library alone, and so do some modules of others.
PURE_ROOMS = ("common", "schedules", "timelines", "partitions", "memory")
PURE_ELSEWHERE = (
    "commands.cli",
    "commands.split_report",
    "costs.forecasting",
    "costs.layer_cost",
    "costs.memory_forecast",
    "explorers.report_partition",
    "explorers.report_schedule",
    "machine.allocator",
    "pipeline.step_result",
)

# Only these may import these packages.
ONLY_IN = {
    "matplotlib": ("figures",),
    "ipywidgets": ("explorers", "course"),
    "IPython": ("course",),
    "jupytext": ("course",),
    "nbclient": ("course",),
    "nbformat": ("course",),
    "transformers": ("models.hugging_face",),
}

# These import by a computed name: a public name's room, a command, what a submission asks for.
IMPORT_BY_NAME = (ROOT, "commands.cli", "course.grading.child", "course.grading.submitted_code")

LONGEST_FUNCTION = 50
LONGEST_MODULE = 420


def module_name(path: Path) -> str:
    """Return a module's name inside the package: such as "schedules.orders", or the root's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or ROOT


SOURCES = {module_name(path): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
EACH_MODULE = pytest.mark.parametrize("module", SOURCES)


def imports(source: str) -> Iterator[str]:
    """Yield the full name of all that a module imports, in functions too.

    `from a import b` gives "a.b", whether b is a module or a name in one.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names
            )
        elif isinstance(node, ast.Call):
            yield from dynamic_import(node)


def dynamic_import(call: ast.Call) -> Iterator[str]:
    """Yield what `__import__("a")` and `importlib.import_module("a")` import; "?" if computed."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name in ("__import__", "import_module"):
        first = call.args[0] if call.args else None
        yield str(first.value) if isinstance(first, ast.Constant) else "?"


def own_imports(source: str) -> set[str]:
    """Return the modules of the package that a module imports."""
    found = set()
    for name in imports(source):
        top, _, inside = name.partition(".")
        if top == ROOT:
            while inside and inside not in SOURCES:
                inside = inside.rpartition(".")[0]
            found.add(inside or ROOT)
    return found


def foreign_imports(source: str) -> set[str]:
    """Return the packages that a module imports, this one and the standard library left out."""
    tops = {name.partition(".")[0] for name in imports(source)}
    return tops - {ROOT, "?"} - set(sys.stdlib_module_names)


def room(module: str) -> str:
    """Return the room that a module stands in; the root and `__main__` are their own."""
    return module.partition(".")[0]


def against_the_order(module: str, source: str) -> list[str]:
    """Return the imports of a module that stand in a later room than its own.

    A room imports its own modules; that they have no cycle is seen to elsewhere.
    """
    return [
        name
        for name in sorted(own_imports(source))
        if ROOMS.index(room(name)) > ROOMS.index(room(module))
    ]


def through_the_wall(module: str, source: str) -> list[str]:
    """Return the modules of other rooms that a module imports, though they are not for others."""
    return [
        name
        for name in sorted(own_imports(source))
        if room(name) != room(module)
        and "." in name
        and name.partition(".")[2] not in open_to_all(room(name))
    ]


def open_to_all(name: str) -> list[str]:
    """Return what a room's `__init__.py` names in its `__all__`."""
    for node in ast.parse(SOURCES[name]).body:
        if isinstance(node, ast.Assign) and defined(ast.unparse(node)) == {"__all__"}:
            return list(ast.literal_eval(node.value))
    return []


def functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function has, its docstring left out."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or 0) - docstring.lineno + 1)


def undocumented(source: str) -> list[str]:
    """Return the module, and its public classes, functions and methods, that lack a docstring.

    A method that overrides a documented one of its base class says so with its signature alone.
    """
    tree = ast.parse(source)
    found = [] if ast.get_docstring(tree) else ["the module"]
    documented = {
        function.name for function in functions(source) if ast.get_docstring(function) is not None
    }
    todo: list[tuple[str, ast.stmt]] = [("", node) for node in tree.body]
    for prefix, node in todo:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        name = prefix + node.name
        if node.name.startswith("_"):
            continue
        overrides = bool(prefix) and node.name in documented
        if ast.get_docstring(node) is None and not overrides:
            found.append(name)
        if isinstance(node, ast.ClassDef):
            todo += [(f"{name}.", part) for part in node.body]
    return found


def defined(source: str) -> set[str]:
    """Return the functions, classes and values that a module defines, at its top."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {part.id for part in targets if isinstance(part, ast.Name)}
    return names


def modules_after(statement: str) -> set[str]:
    """Return the packages that a fresh Python has loaded after it ran a statement."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_each_module_stands_in_a_room() -> None:
    there = {room(name) for name in SOURCES}
    assert not there - set(ROOMS), "put it into a room, or add the room after all that it imports"
    assert not set(ROOMS) - there, "ROOMS names a room that is not there"
    assert len(ROOMS) == len(set(ROOMS))
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


@EACH_MODULE
def test_imports_point_upward(module: str) -> None:
    found = against_the_order(module, SOURCES[module])
    assert not found, f"d2lpart/{module} imports from a room that stands after its own in ROOMS"


@EACH_MODULE
def test_what_a_room_keeps_to_itself_is_not_imported(module: str) -> None:
    found = through_the_wall(module, SOURCES[module])
    assert not found, "use what the room's __all__ names, or name it there"


@pytest.mark.parametrize("name", [name for name in ROOMS if name not in (ROOT, "__main__")])
def test_a_room_says_what_it_is_and_names_only_what_it_has(name: str) -> None:
    module = importlib.import_module(f"{ROOT}.{name}")
    assert "first" in (module.__doc__ or ""), "say which file to read first"
    for part in module.__all__:
        assert f"{name}.{part}" in SOURCES or callable(getattr(module, part))


def test_no_imports_go_in_a_circle() -> None:
    edges = {module: own_imports(source) - {module} for module, source in SOURCES.items()}
    graphlib.TopologicalSorter(edges).prepare()  # raises CycleError, which names the circle


@EACH_MODULE
def test_imports_are_absolute_and_written_out(module: str) -> None:
    odd = [name for name in imports(SOURCES[module]) if name.startswith((".", "?"))]
    odd = [] if module in IMPORT_BY_NAME and set(odd) == {"?"} else odd
    assert not odd, "write `from d2lpart.schedules.schedule import Action`"


PURE = [name for name in SOURCES if room(name) in PURE_ROOMS or name in PURE_ELSEWHERE]


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_need_the_standard_library_only(module: str) -> None:
    assert not foreign_imports(SOURCES[module])


def test_pure_modules_load_where_there_is_no_torch() -> None:
    names = ", ".join(ROOT if name == ROOT else f"{ROOT}.{name}" for name in [ROOT, *PURE])
    absent = "; ".join(f"sys.modules[{name!r}] = None" for name in ("torch", "numpy", *ONLY_IN))
    loaded = modules_after(f"{absent}; import {names}; d2lpart.simulate, d2lpart.partition")
    assert ROOT in loaded


@EACH_MODULE
def test_some_packages_have_few_importers(module: str) -> None:
    wrong = {
        package: ONLY_IN[package]
        for package in foreign_imports(SOURCES[module]) & set(ONLY_IN)
        if not f"{module}.".startswith(tuple(f"{name}." for name in ONLY_IN[package]))
    }
    assert not wrong, "only the rooms given here may import this"


def test_import_loads_neither_torch_nor_figures_nor_widgets() -> None:
    loaded = modules_after("import d2lpart")
    assert ROOT in loaded
    assert not loaded & {"torch", "numpy", "pytest", *ONLY_IN}
    loaded = modules_after("import d2lpart; d2lpart.Pipeline, d2lpart.layers_of")
    assert "torch" in loaded
    assert not loaded & {"pytest", *ONLY_IN}


def test_each_public_name_is_a_value_that_says_what_it_is() -> None:
    root = importlib.import_module(ROOT)
    assert len(root.__all__) == len(set(root.__all__))
    assert set(root.__all__) == set(re.findall(r"(\w+) as \1\b", SOURCES[ROOT])), "two lists differ"
    assert set(root.__all__) <= set(dir(root))
    with pytest.raises(AttributeError, match="no attribute 'Pipelines'"):
        _ = root.Pipelines
    for name in root.__all__:
        value = getattr(root, name)
        assert not isinstance(value, types.ModuleType), f"{name} is a module: import its function"
        assert name == "SCHEDULES" or value.__doc__
        assert name not in SOURCES, "loaded, the module would take the name's place"


@EACH_MODULE
def test_no_module_bears_a_name_that_it_defines(module: str) -> None:
    own = module.rpartition(".")[2]
    assert own not in defined(SOURCES[module]), f"whose is `import {own}`: rename one of the two"


@EACH_MODULE
def test_modules_and_functions_are_short(module: str) -> None:
    source = SOURCES[module]
    lines = source.count("\n")
    assert lines <= LONGEST_MODULE, "make it two modules"
    lengths = {function.name: length(function) for function in functions(source)}
    long = {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION}
    assert not long, "make each of these two functions"


@EACH_MODULE
def test_all_that_is_public_is_documented(module: str) -> None:
    assert not undocumented(SOURCES[module])


# The readers above, tried on modules that break a rule.


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import d2lpart.timelines.svg", "timelines.svg"),
        ("from d2lpart.timelines import svg", "timelines.svg"),
        ("from d2lpart import Timeline", ROOT),
        ("from d2lpart import figures", "figures"),
        ("from d2lpart.timelines.svg import lanes_svg", "timelines.svg"),
        ("from d2lpart.course import check", "course"),
        ("from d2lpart.course import catalog", "course.catalog"),
        ("def f():\n    from d2lpart.timelines.svg import lanes_svg", "timelines.svg"),
        ("if TYPE_CHECKING:\n    from d2lpart.timelines.svg import lanes_svg", "timelines.svg"),
        ("x = importlib.import_module('d2lpart.timelines.svg')", "timelines.svg"),
        ("x = __import__('d2lpart.timelines.svg')", "timelines.svg"),
    ],
)
def test_each_form_of_import_is_seen(line: str, found: str) -> None:
    assert own_imports(line) == {found}
    assert against_the_order("schedules.orders", line) == [found]
    assert foreign_imports(line) == set()


def test_imports_of_other_packages_are_seen() -> None:
    source = "import json, torch.nn\ndef f():\n    from matplotlib.figure import Figure"
    assert foreign_imports(source) == {"torch", "matplotlib"}


def test_odd_imports_are_seen() -> None:
    assert list(imports("from . import a")) == ["..a"]
    assert list(imports("import_module(name)")) == ["?"]


def test_the_root_may_import_the_rooms_before_it_and_not_the_course() -> None:
    assert against_the_order(ROOT, "from d2lpart.figures.plotting import plot") == []
    assert against_the_order(ROOT, "from d2lpart.course import check") == ["course"]
    assert (
        against_the_order("course.build", "import d2lpart, d2lpart.course.notebooks.source") == []
    )


def test_lengths_leave_the_docstring_out() -> None:
    source = 'def f():\n    """One.\n\n    Two.\n    """\n    x = 1\n    return x\n'
    assert [length(function) for function in functions(source)] == [3]


def test_missing_docstrings_are_named() -> None:
    source = (
        "class A:\n    def b(self): pass\n    def _c(self): pass\ndef d(): pass\ndef _e(): pass"
    )
    assert undocumented(source) == ["the module", "A", "d", "A.b"]


def test_what_a_module_defines_is_seen() -> None:
    source = "import a\nb = 1\nc: int = 2\ndef d(): e = 3\nclass F:\n    g = 4"
    assert defined(source) == {"b", "c", "d", "F"}
