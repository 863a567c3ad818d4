"""Values and calls as text: short enough to compare by eye, exact enough to be pasted."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from d2lpart.common.words import MORE, cut
from d2lpart.course.checks.exercise import Exercise

LONGEST = 300
"""Characters of a value that are shown."""
LONGEST_CALL = 2000
LONGEST_SENTENCE = 1000


def show_value(value: Any) -> str:
    """Write a value so that it can be compared by eye: short floats, tensors with their shape.

    >>> show_value(2 / 3), show_value([0.5, 1]), show_value(torch.zeros(2))
    ('0.666667', '[0.5, 1]', 'tensor of shape (2,): [0, 0]')
    """
    return cut(_shown(_in_words, value), LONGEST)


def show_error(error: BaseException) -> str:
    """Write an error as Python does, in one piece, though its own text may fail or be huge.

    >>> show_error(KeyError()), show_error(ValueError("no"))
    ('KeyError', 'ValueError: no')
    """
    name = type(error).__name__
    try:
        return cut(f"{name}: {error}".removesuffix(": "), LONGEST)
    except Exception as second:
        return f"{name}, whose text raises {type(second).__name__}"


def _shown(write: Callable[[Any], str], value: Any) -> str:
    """Return `write(value)`; what cannot be written, such as 10**5000, goes by its type."""
    try:
        return write(value)
    except Exception:
        return f"a value of type {type(value).__name__} that cannot be shown"


def _in_words(value: Any) -> str:
    if isinstance(value, torch.Tensor) and value.ndim > 0:
        entries = f": {_short(value.tolist())}" if 0 < value.numel() <= 16 else ""
        return f"tensor of shape {tuple(value.shape)}{entries}"
    return _short(value)


def _short(value: Any) -> str:
    """Write a value with short floats, and no more of a large one than is shown."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if type(value) is list:
        return "[" + _joined(_short(item) for item in value) + "]"
    if type(value) in (tuple, str, bytes):
        return repr(value[: LONGEST + 1])
    if type(value) in (set, dict) and len(value) > LONGEST:
        return f"{{{_joined(map(repr, value))}"
    return repr(value)


def _joined(items: Iterable[str]) -> str:
    """Join the items up to the first that is not seen any more."""
    return ", ".join(_until(items, LONGEST))


def _until(items: Iterable[str], room: int) -> Iterator[str]:
    for item in items:
        yield item
        room -= len(item) + 2
        if room < 0:
            return


def show_pair(expected: Any, got: Any) -> tuple[str, str]:
    """Write two values; in full where their short forms would look alike."""
    short = show_value(expected), show_value(got)
    if short[0] != short[1] or short[0].endswith(MORE):
        return short
    full = _shown(repr, expected), _shown(repr, got)
    return full if max(map(len, full)) <= LONGEST else short


def show_call(exercise: Exercise, args: tuple[Any, ...], drawn: str = "") -> str:
    """Write the call that reproduces a case, such as `idle_fraction(2, 3)`.

    drawn: a Python expression for the arguments; it is written where they have no short form.
    """
    if exercise.show:
        return f"{exercise.name}({exercise.show(*args)})"
    try:
        inside = ", ".join(_literal(arg) for arg in args)
    except Exception:
        inside = ", ".join(" ".join(show_value(arg).split()) for arg in args)
        inside = f"*{drawn}" if drawn else inside
    if drawn and len(inside) > LONGEST_CALL:
        inside = f"*{drawn}"
    return f"{exercise.name}({cut(inside, LONGEST_CALL)})"


def _literal(value: Any) -> str:
    """Return Python text that makes the value; raises ValueError where there is no short one."""
    if isinstance(value, torch.Tensor):
        return _tensor(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if type(value) is list:
        return "[" + ", ".join(map(_literal, value)) + "]"
    if type(value) is tuple:
        return "(" + ", ".join(map(_literal, value)) + ("," if len(value) == 1 else "") + ")"
    if type(value) is dict:
        pairs = (f"{_literal(key)}: {_literal(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    text = repr(value)
    if text.startswith("<"):
        raise ValueError(f"no Python text makes {text}")
    return text


def _tensor(value: torch.Tensor) -> str:
    if not 0 < value.numel() <= 64 or value.device.type != "cpu":
        raise ValueError(f"no short text makes a tensor of shape {tuple(value.shape)}")
    usual = (torch.float32, torch.int64, torch.bool)
    dtype = "" if value.dtype in usual else f", dtype={value.dtype}"
    return f"torch.tensor({_literal(value.tolist())}{dtype})"
