"""Mutants: copies of a function with one small mistake each, made by changing its syntax tree.

The mistakes are those that people make: off by one, the wrong comparison, swapped operands, a
dropped term, min for max, the reverse order, a step that is left out, a wrong rank or device.
"""

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

COMPARED = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
CALCULATED = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Add,),
    ast.Pow: (ast.Mult,),
}
ANOTHER = {"min": "max", "max": "min", "sum": "max", "any": "all", "all": "any"}
TURNABLE = ("range", "reversed", "sorted", "enumerate", "zip")


@dataclass(frozen=True)
class Mutant:
    """A function with one mistake: where it is, the line before, and the line after."""

    function: Callable[..., Any]
    line: int
    before: str
    after: str

    @property
    def text(self) -> str:
        """What was changed into what; with the exercise's id it names the mutant."""
        return f"{self.before} -> {self.after}"


def mutants_of(function: Callable[..., Any]) -> Iterator[Mutant]:
    """Yield each mutant of a function once; those whose text does not differ are left out.

    A mutant sees the globals of the original. Raises `OSError` for a function without source.
    """
    source = textwrap.dedent(inspect.getsource(function))
    tree = ast.parse(source)
    original = ast.unparse(tree)
    seen = {original}
    for number in range(sum(1 for _ in ast.walk(tree))):
        for choice in range(8):
            changed = copy.deepcopy(tree)
            node = next(n for i, n in enumerate(ast.walk(changed)) if i == number)
            change = list(_changes(node))[choice : choice + 1]
            if not change:
                break
            _put(changed, node, change[0])
            text = ast.unparse(ast.fix_missing_locations(changed))
            if text not in seen:
                seen.add(text)
                yield _mutant(function, original, text, getattr(node, "lineno", 1))


def _mutant(function: Callable[..., Any], original: str, text: str, line: int) -> Mutant:
    space = dict(function.__globals__)
    exec(compile(text, f"<mutant of {function.__name__}>", "exec"), space)
    pairs = zip(original.splitlines(), text.splitlines(), strict=False)
    before, after = next(((a, b) for a, b in pairs if a != b), ("", ""))
    if len(original.splitlines()) != len(text.splitlines()):
        after = "(left out)" if len(text) < len(original) else after
    return Mutant(space[function.__name__], line, before.strip(), after.strip())


def _put(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    """Put a node in the place of another one."""
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list) and any(item is old for item in value):
                value[[item is old for item in value].index(True)] = new


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in a node's place."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value - 1)
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Compare):
        for other in COMPARED.get(type(node.ops[0]), ()):
            yield ast.Compare(node.left, [other(), *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.BinOp):
        yield from _calculated(node)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Call):
        yield from _called(node)
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        yield from _sliced(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield node.operand
    elif isinstance(node, ast.comprehension):
        for place in range(len(node.ifs)):
            rest = node.ifs[:place] + node.ifs[place + 1 :]
            yield ast.comprehension(node.target, node.iter, rest, node.is_async)
    elif isinstance(node, ast.AugAssign) or _is_step(node):
        yield ast.Pass()
    elif isinstance(node, ast.Tuple | ast.List) and isinstance(node.ctx, ast.Load) and node.elts:
        yield type(node)(node.elts[::-1], node.ctx)


def _is_step(node: ast.AST) -> bool:
    """Tell whether a node is a statement that is only a call, and no docstring."""
    return isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)


def _calculated(node: ast.BinOp) -> Iterator[ast.AST]:
    for other in CALCULATED.get(type(node.op), ()):
        yield ast.BinOp(node.left, other(), node.right)
    if isinstance(node.op, ast.Sub | ast.Div | ast.FloorDiv | ast.Mod | ast.Pow):
        yield ast.BinOp(node.right, node.op, node.left)
    yield node.left
    yield node.right


def _called(node: ast.Call) -> Iterator[ast.AST]:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name in ANOTHER:
        yield ast.Call(ast.Name(ANOTHER[name], ast.Load()), node.args, node.keywords)
    if name == "reversed":
        yield node.args[0]
    if len(node.args) > 1 and name != "range":
        swapped = [node.args[1], node.args[0], *node.args[2:]]
        yield ast.Call(node.func, swapped, node.keywords)
    if name in TURNABLE and name != "reversed":
        whole = ast.Call(ast.Name("list", ast.Load()), [node], [])
        yield ast.Subscript(whole, ast.Slice(None, None, ast.Constant(-1)), ast.Load())
    if name == "range":
        first = [*node.args[:-1], ast.BinOp(node.args[-1], ast.Add(), ast.Constant(1))]
        less = [*node.args[:-1], ast.BinOp(node.args[-1], ast.Sub(), ast.Constant(1))]
        yield ast.Call(node.func, first, [])
        yield ast.Call(node.func, less, [])
    if isinstance(node.func, ast.Attribute) and not node.args and not node.keywords:
        yield node.func.value


def _sliced(node: ast.Subscript) -> Iterator[ast.AST]:
    part = node.slice
    assert isinstance(part, ast.Slice)
    for side in ("lower", "upper"):
        if (end := getattr(part, side)) is not None:
            for other in (ast.Add(), ast.Sub()):
                moved = copy.copy(part)
                setattr(moved, side, ast.BinOp(end, other, ast.Constant(1)))
                yield ast.Subscript(node.value, moved, node.ctx)
            open_ = copy.copy(part)
            setattr(open_, side, None)
            yield ast.Subscript(node.value, open_, node.ctx)
