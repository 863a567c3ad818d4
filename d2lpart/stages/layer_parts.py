"""The modules that a layer is made of: every step looks at them, so they are found quickly."""

import operator
from collections.abc import Iterable, Sequence

from torch import nn


def parts(layers: Iterable[nn.Module]) -> list[nn.Module]:
    """Return layers and all modules inside them, each once, the outer ones first.

    They are those of `nn.Module.modules`, which makes up their names on the way.

    >>> layer = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    >>> set(parts([layer])) == set(layer.modules())
    True
    """
    known = dict.fromkeys(layers)
    found = list(known)
    for outer in found:  # it grows on the way
        for part in outer._modules.values():
            if part is not None and part not in known:
                known[part] = None
                found.append(part)
    return found


class Makeup:
    """The modules and weights of layers; it is equal to another only where they are the same."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self._parts = parts(layers)
        self._weights = [weight for part in self._parts for weight in part._parameters.values()]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Makeup) and _same(self._all(), other._all())

    def _all(self) -> list[object]:
        return [*self._parts, *self._weights]

    def modes(self) -> list[bool]:
        """Return for each module whether it is in training mode."""
        return [part.training for part in self._parts]


def _same(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(one) == len(other) and all(map(operator.is_, one, other))
