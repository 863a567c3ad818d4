"""The modules that a layer is made of: every step looks at them, so they are found quickly."""

from collections.abc import Iterable

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
