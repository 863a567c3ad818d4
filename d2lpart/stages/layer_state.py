"""What a layer keeps from one forward to the next: buffers, and tensors and numbers beside them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Entry = tuple[dict[str, Any], str, Any]
"""A table of a module (its buffers or its attributes), a name in it, and the value there."""


def _tables(layer: nn.Module) -> list[dict[str, Any]]:
    """Return the buffers and the attributes of all modules; a scripted one shows neither."""
    own = [part for part in layer.modules() if not isinstance(part, torch.jit.ScriptModule)]
    return [table for part in own for table in (part._buffers, vars(part))]


def entries(layer: nn.Module) -> Iterator[Entry]:
    """Yield all that a layer may keep; weights are none of it."""
    for table in _tables(layer):
        for name, value in list(table.items()):
            if value is None or type(value) in (int, float, bool, Tensor):
                yield table, name, value


class Kept:
    """What a layer keeps at this moment, to be compared with and gone back to."""

    def __init__(self, layer: nn.Module) -> None:
        self._tables = [(table, dict(table)) for table in _tables(layer)]
        self._before = [(table, name, value, _copy(value)) for table, name, value in entries(layer)]

    def changed(self) -> tuple[str, ...]:
        """Return the names of what has other values now, or is another tensor."""
        return tuple(
            name
            for table, name, value, copy in self._before
            if name not in table or table[name] is not value or not _equal(value, copy)
        )

    def put_back(self) -> None:
        """Let the layer keep what it kept, and nothing new."""
        for table, old in self._tables:
            for name in table.keys() - old.keys():
                del table[name]
            table.update(old)
        for _, _, value, copy in self._before:
            if isinstance(value, Tensor) and not _equal(value, copy):
                value.copy_(copy)


def copies(layer: nn.Module, names: Sequence[str]) -> list[Entry]:
    """Return copies of what a layer keeps under these names."""
    return [(table, name, _copy(value)) for table, name, value in entries(layer) if name in names]


@contextmanager
def standing_in_for(now: Sequence[Entry], before: Sequence[Entry]) -> Iterator[None]:
    """Let a forward that runs again find what there was before; what it makes of that is let go."""
    try:
        write(before)
        yield
    finally:
        write(now)


def write(values: Sequence[Entry]) -> None:
    """Put values into their tables."""
    for table, name, value in values:
        table[name] = value


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _equal(value: Any, copy: Any) -> bool:
    return torch.equal(value, copy) if isinstance(value, Tensor) else value == copy
