"""A submission's code cells: what they define and import, read first; then run, each on its own.

A cell that fails does not keep the next from running. The submission's own imports go through a
guard; those that libraries make do not.
"""

import ast
import builtins
import contextlib
import io
import re
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from d2lpart.common.words import cut

LONGEST_OUTPUT = 2000


class ForbiddenImport(ImportError):
    """The submission imports what its exercise does not allow."""


class FirstWords(io.TextIOBase):
    """A text stream that keeps the first 2,000 characters and drops the rest."""

    def __init__(self) -> None:
        self.kept = ""

    def write(self, text: str) -> int:
        """Keep what still has room; say that all was written."""
        self.kept += str(text)[: LONGEST_OUTPUT - len(self.kept)]
        return len(text)


@dataclass
class Cell:
    """One code cell. given: it is a cell of the course, not changed. trouble: why it is no Python.

    defines: the names its own lines bind; imports: (module, line), in its functions too.
    signatures: for each function, its parameters as (name, kind as in `inspect`, has a default).
    """

    number: int
    given: bool
    source: str
    tree: ast.Module | None = None
    trouble: str = ""
    defines: list[str] = field(default_factory=list)
    imports: list[tuple[str, int]] = field(default_factory=list)
    signatures: dict[str, list[tuple[str, int, bool]]] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The name under which its lines stand in a traceback."""
        return f"<cell {self.number}>"

    @property
    def runs(self) -> bool:
        """Whether it is to be run: the course's own cells only where they define or import."""
        parts = self.tree.body if self.tree else []
        makes = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
        return not self.given or any(isinstance(part, makes) for part in parts)


def read(number: int, given: bool, source: str) -> Cell:
    """Read a cell without running it; magics and shell lines are left out."""
    lines = ["" if line.lstrip()[:1] in ("%", "!", "?") else line for line in source.splitlines()]
    cell = Cell(number, given, "\n".join(lines) + "\n")
    try:
        cell.tree = ast.parse(cell.source, cell.file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        cell.trouble = f"{type(error).__name__}{f' in line {line}' if line else ''}"
        cell.defines = re.findall(r"^def (\w+)", cell.source, re.M)
        return cell
    for part in cell.tree.body:
        cell.defines += _bound(part)
        if isinstance(part, ast.FunctionDef):
            cell.signatures[part.name] = _parameters(part.args)
    for node in ast.walk(cell.tree):
        cell.imports += [(name, node.lineno) for name in _imported(node)]  # type: ignore[attr-defined]
    return cell


def _parameters(given: ast.arguments) -> list[tuple[str, int, bool]]:
    plain = [(arg.arg, 0) for arg in given.posonlyargs] + [(arg.arg, 1) for arg in given.args]
    needed = len(plain) - len(given.defaults)
    found = [(name, kind, place >= needed) for place, (name, kind) in enumerate(plain)]
    found += [(given.vararg.arg, 2, False)] if given.vararg else []
    pairs = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    found += [(arg.arg, 3, default is not None) for arg, default in pairs]
    return found + ([(given.kwarg.arg, 4, False)] if given.kwarg else [])


def _bound(part: ast.stmt) -> list[str]:
    if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [part.name]
    if isinstance(part, ast.Assign):
        return [target.id for target in part.targets if isinstance(target, ast.Name)]
    return []


def _imported(node: ast.AST) -> list[str]:
    """Return the modules that a statement, or a call of `__import__`, names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or "."]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
        function = node.func
        name = function.id if isinstance(function, ast.Name) else function.attr
        if name in ("__import__", "import_module"):
            first = node.args[0] if node.args else None
            known = isinstance(first, ast.Constant) and isinstance(first.value, str)
            return [first.value if known else "importlib"]  # type: ignore[union-attr]
    return []


def allows(allowed: Sequence[str], module: str) -> bool:
    """Tell whether a module is one of those allowed, or lies in one.

    >>> allows(["torch", "os.path"], "torch.nn"), allows(["torch", "os.path"], "os")
    (True, False)
    """
    return any(f"{module}.".startswith(f"{name}.") for name in allowed)


def run(cells: Sequence[Cell], allowed: Sequence[str]) -> tuple[dict[str, Any], dict[int, str]]:
    """Run the cells in order; return their namespace, and what each failed one raised."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module  # where pickle, dataclasses and typing look
    namespace = module.__dict__
    namespace["__builtins__"] = vars(builtins) | {"__import__": _guard(allowed)}
    namespace |= {"display": lambda *values, **options: None}
    raised = {}
    for cell in cells:
        if cell.tree is None or not cell.runs:
            continue
        try:
            with quietly():
                exec(compile(cell.tree, cell.file, "exec"), namespace)
        except BaseException as error:  # the cell's own affair, sys.exit() too
            raised[cell.number] = cut(f"{type(error).__name__}: {error}", LONGEST_OUTPUT)
    return namespace, raised


def _guard(allowed: Sequence[str]) -> Any:
    def guarded(name: str, *where: Any, **options: Any) -> Any:
        if not allows(allowed, name):
            raise ForbiddenImport(name)
        return builtins.__import__(name, *where, **options)

    return guarded


@contextlib.contextmanager
def quietly() -> Iterator[FirstWords]:
    """Keep the first words of what is printed, and let no one else see them."""
    out = FirstWords()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(FirstWords()):
        yield out
