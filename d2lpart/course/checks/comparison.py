"""Is this value the expected one? One rule for every check, and the words for the difference.

Numbers agree within a tolerance; whole numbers, texts and their lists agree exactly; a list, a
tuple, a range and a tensor with the same entries are the same answer.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import torch

FP32_TOLERANCE = 2e-5
"""Two right computations in fp32 differ by this much, relative to the largest entry."""


class Difference(NamedTuple):
    """Why two values differ. kind: "type", "nan" or "value"; detail: a clause for the reader."""

    kind: str
    detail: str


def difference(got: Any, expected: Any, tolerance: float = 1e-6) -> Difference | None:
    """Return None where `got` is as good as `expected`, else the first difference.

    tolerance: relative to the expected number (absolute below 1); at least 2e-5 for fp32 tensors.

    >>> difference((0.5, 1), [0.5, 1.0]) is None
    True
    >>> difference([1, 2], [1, 3]).detail
    'item 1 differs'
    >>> difference("0.5", 0.5).detail
    'expected a number, not text'
    """
    try:
        return _difference(got, expected, tolerance)
    except Exception:  # whatever a learner returns, such as a list that contains itself
        return Difference("type", f"{type_words(got)} that cannot be read")


def _difference(got: Any, expected: Any, tolerance: float) -> Difference | None:
    got, expected = _plain(got), _plain(expected)
    if isinstance(expected, torch.Tensor):
        return _tensor_difference(got, expected, tolerance)
    if isinstance(got, torch.Tensor):
        got = got.tolist()
    if type_words(got) != type_words(expected):
        return Difference("type", f"expected {type_words(expected)}, not {type_words(got)}")
    if isinstance(expected, Real) and not isinstance(expected, bool):
        return _number_difference(got, expected, tolerance)
    if isinstance(expected, Mapping):
        return _mapping_difference(got, expected, tolerance)
    if _is_list(expected):
        return _list_difference(got, expected, tolerance)
    if got == expected:
        return None
    alike = isinstance(got, str) and got.lower() == expected.lower()
    return Difference("value", "right but for capital letters" if alike else "")


def type_words(value: Any) -> str:
    """Name the kind of a value as a learner would.

    >>> [type_words(v) for v in (1, 0.5, True, "a", [1], range(3), None)]
    ['a number', 'a number', 'True or False', 'text', 'a list', 'a list', 'None']
    """
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, Real):
        return "a number"
    if isinstance(value, torch.Tensor):
        return "a tensor"
    if isinstance(value, Mapping):
        return "a dict"
    if _is_list(value):
        return "a list"
    return {str: "text", type(None): "None"}.get(type(value), f"a {type(value).__name__}")


def _plain(value: Any) -> Any:
    """Turn numpy arrays into tensors or numbers, and tensors with a single entry into numbers."""
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        value = torch.as_tensor(value) if getattr(value, "ndim", 0) else value.tolist()
    if isinstance(value, torch.Tensor) and value.ndim == 0:
        return value.item()
    return _without_own_rules(value)


def _without_own_rules(value: Any) -> Any:
    """Make a number or text of a class of its own a usual one, which equals only its equals."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__pos__(value)
    if isinstance(value, float):
        return float.__pos__(value)
    return str.__str__(value) if isinstance(value, str) else value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _number_difference(got: Real, expected: Real, tolerance: float) -> Difference | None:
    if isinstance(got, int) and isinstance(expected, int):
        return None if got == expected else Difference("value", "")
    try:
        a, b = float(got), float(expected)
    except OverflowError:  # a whole number too large for any float
        return Difference("value", "")
    if math.isnan(a) or math.isnan(b):
        same = math.isnan(a) and math.isnan(b)
        return None if same else Difference("nan" if math.isnan(a) else "value", "")
    near = math.isfinite(b) and abs(a - b) <= tolerance * max(1.0, abs(b))
    return None if a == b or near else Difference("value", "")


def _list_difference(got: Any, expected: Any, tolerance: float) -> Difference | None:
    if len(got) != len(expected):
        return Difference("value", f"expected {len(expected)} items, not {len(got)}")
    for index, (a, b) in enumerate(zip(got, expected, strict=True)):
        if found := _difference(a, b, tolerance):
            return _inside(f"item {index}", found)
    return None


def _mapping_difference(got: Any, expected: Any, tolerance: float) -> Difference | None:
    if missing := [key for key in expected if key not in got]:
        return Difference("value", f"the key {missing[0]!r} is missing")
    if extra := [key for key in got if key not in expected]:
        return Difference("value", f"the key {extra[0]!r} is too much")
    for key, value in expected.items():
        if found := _difference(got[key], value, tolerance):
            return _inside(f"the entry {key!r}", found)
    return None


def _inside(place: str, found: Difference) -> Difference:
    return Difference(
        found.kind, f"{place}: {found.detail}" if found.detail else f"{place} differs"
    )


def _tensor_difference(got: Any, expected: torch.Tensor, tolerance: float) -> Difference | None:
    if not isinstance(got, torch.Tensor):
        try:
            got = torch.as_tensor(got)
        except (TypeError, ValueError, RuntimeError):
            return Difference("type", f"expected a tensor, not {type_words(got)}")
    if got.shape != expected.shape:
        shapes = f"{tuple(expected.shape)}, not {tuple(got.shape)}"
        return Difference("value", f"expected the shape {shapes}")
    if got.is_complex():
        return Difference("type", "expected real numbers, not complex ones")
    a, b = got.detach().cpu().double(), expected.detach().cpu().double()
    if a.isnan().any() and not b.isnan().any():
        return Difference("nan", f"{int(a.isnan().sum())} of {a.numel()} entries")
    if a.numel() == 0:
        return None
    alike = (a == b) | (a.isnan() & b.isnan())
    gaps = (a - b).abs().masked_fill(alike, 0.0).nan_to_num(math.inf, posinf=math.inf)
    if gaps.max() <= _room(b, got.dtype, expected.dtype, tolerance):
        return None
    place = [int(i) for i in torch.unravel_index(gaps.argmax(), gaps.shape)]
    return Difference("value", f"largest difference {gaps.max().item():.3g}, at {place}")


def _room(
    expected: torch.Tensor, got_type: torch.dtype, expected_type: torch.dtype, tolerance: float
) -> float:
    """Return how far an entry may be off: relative to the largest finite one, 0 for whole ones."""
    if not (got_type.is_floating_point or expected_type.is_floating_point):
        return 0.0
    if expected_type not in (torch.float64, torch.int64):
        tolerance = max(tolerance, FP32_TOLERANCE)
    return tolerance * max(1.0, expected.abs().nan_to_num(0.0, posinf=0.0).max().item())
