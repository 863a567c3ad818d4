"""Values as plain JSON and back: what a call takes and returns, without pickle.

Numbers, texts, None and lists stand for themselves; all else is an object with one key that says
what it is. A value of any other type arrives as an `Opaque`, which only has the type's name.

>>> encode((1, {2: 0.5}))
{'tuple': [1, {'dict': [[2, 0.5]]}]}
>>> decode(encode((1, {2: 0.5})))
(1, {2: 0.5})
>>> type(decode(encode(iter([])))).__name__
'list_iterator'
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence, Set
from fractions import Fraction
from types import UnionType
from typing import Any

import torch

from d2lpart import Action, Partition

DEEPEST = 50
LONGEST = 100_000
"""Items of one list; a longer one, such as range(10**12), is not sent."""

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}


class Opaque:
    """A value whose type has no plain form; its class bears that type's name."""


class CodingError(ValueError):
    """What came is the code of no value."""


def encode(value: Any, depth: int = 0) -> Any:
    """Return the value's code; a value that has none is coded by its type's name alone."""
    try:
        return _encode(value, depth)
    except Exception:  # a learner's own class may raise anything when it is read
        return _opaque(value)


def _encode(value: Any, depth: int) -> Any:
    if value is None or type(value) in (bool, str, float):
        return value
    if isinstance(value, str | float):
        return _bare(value)
    if depth > DEEPEST:
        return _opaque(value)
    if isinstance(value, int):
        return int(value)
    if type(value).__module__ == "numpy":
        return _encode(torch.as_tensor(value) if value.ndim else value.item(), depth)
    if isinstance(value, torch.Tensor):
        return {"tensor": _encode_tensor(value)}
    if isinstance(value, Action):
        return {"action": [value.stage, value.kind, value.microbatch]}
    if isinstance(value, Partition):
        return {"partition": [int(size) for size in value.sizes]}
    if isinstance(value, Fraction):
        return {"fraction": [value.numerator, value.denominator]}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    return _encode_container(value, depth + 1)


def _bare(value: str | float) -> str | float:
    return str(value) if isinstance(value, str) else float(value)


def _encode_container(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return {"dict": [[encode(k, depth), encode(v, depth)] for k, v in value.items()]}
    if isinstance(value, bytes | bytearray | memoryview) or not isinstance(value, Sequence | Set):
        return _opaque(value)
    if len(value) > LONGEST:
        return _opaque(value)
    items = [encode(item, depth) for item in value]
    if isinstance(value, tuple):
        return {"tuple": items}
    return {"set": items} if isinstance(value, Set) else items


def _encode_tensor(value: torch.Tensor) -> list[Any]:
    plain = value.detach().cpu().contiguous()
    name = str(plain.dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise TypeError(name)
    raw = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    return [name, list(plain.shape), value.requires_grad, base64.b64encode(raw).decode()]


def _opaque(value: Any) -> dict[str, str]:
    return {"opaque": type(value).__name__}


def decode(code: Any, depth: int = 0) -> Any:
    """Return the value of a code. Raises `CodingError` for what `encode` does not make."""
    if code is None or isinstance(code, bool | int | float | str):
        return code
    if depth > 2 * DEEPEST:
        raise CodingError("a value nested too deep")
    if isinstance(code, list):
        return [decode(item, depth + 1) for item in code]
    (kind, content) = next(iter(code.items())) if len(code) == 1 else ("", None)
    if kind not in DECODERS:
        raise CodingError(f"no kind of value: {kind[:40]!r}")
    try:
        return DECODERS[kind](content, depth + 1)
    except CodingError:
        raise
    except Exception as error:
        raise CodingError(f"not the code of a {kind}: {type(error).__name__}") from None


def _items(content: Any, depth: int) -> list[Any]:
    if not isinstance(content, list):
        raise CodingError("a list was to come")
    return [decode(item, depth) for item in content]


def _decode_tensor(content: Any, depth: int) -> torch.Tensor:
    name, shape, requires_grad, text = content
    dtype, raw = DTYPES[name], bytearray(base64.b64decode(text, validate=True))
    if any(type(size) is not int or size < 0 for size in shape):
        raise CodingError("a shape of whole numbers was to come")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise CodingError(f"{len(raw)} bytes for the shape {tuple(shape)}")
    if math.prod(max(size, 1) for size in shape) > 10 * LONGEST:
        raise CodingError("a tensor of nothing whose list would fill the memory")
    flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
    return flat.reshape(shape).requires_grad_(requires_grad is True)


def _numbers(content: Any, kinds: type | UnionType) -> list[Any]:
    """Return two numbers; a text such as "1e999999999" would take for ever to become one."""
    if len(content) != 2 or not all(isinstance(part, kinds) for part in content):
        raise CodingError("two numbers were to come")
    return list(content)


def _decode_opaque(content: Any, depth: int) -> Opaque:
    name = content if isinstance(content, str) and content.isidentifier() else "object"
    return type(name[:40], (Opaque,), {})()


def _decode_action(content: Any, depth: int) -> Action:
    stage, kind, microbatch = content
    return Action(stage, kind, microbatch)


DECODERS: dict[str, Callable[[Any, int], Any]] = {
    "tuple": lambda content, depth: tuple(_items(content, depth)),
    "set": lambda content, depth: {item for item in _items(content, depth)},  # noqa: C416
    "dict": lambda content, depth: {
        decode(key, depth): decode(value, depth) for key, value in content
    },
    "tensor": _decode_tensor,
    "action": _decode_action,
    "partition": lambda content, depth: Partition(_items(content, depth)),
    "fraction": lambda content, depth: Fraction(*_numbers(content, int)),
    "complex": lambda content, depth: complex(*_numbers(content, int | float)),
    "opaque": _decode_opaque,
}


def overwrite(old: Any, new: Any) -> None:
    """Make the lists, dicts, sets and tensors in `old` what they are in `new`, in place."""
    if isinstance(old, list) and isinstance(new, list):
        old[:] = new
    elif isinstance(old, dict) and isinstance(new, dict):
        old.clear()
        old.update(new)
    elif isinstance(old, set) and isinstance(new, set):
        old.clear()
        old |= new
    elif isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
        old.data = new.data
    elif isinstance(old, tuple) and isinstance(new, tuple):
        for a, b in zip(old, new, strict=False):
            overwrite(a, b)
