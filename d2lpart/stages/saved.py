"""Saved: the tensors that autograd saves in one forward, so that some can be let go before others.

A backward lets go of everything that a graph has saved, or of nothing. Half a backward needs a
finer way: every saved tensor lies in a box, the graph holds the box, and a box can be emptied.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

import torch
from torch import Tensor
from torch.autograd.graph import Node


class Box:
    """One saved tensor."""

    __slots__ = ("counts", "done", "hold", "tensor", "version")

    def __init__(self, tensor: Tensor, counts: bool, hold: object) -> None:
        self.tensor: Tensor | None = tensor.detach()  # with its graph it would hold itself
        self.hold = hold
        self.version = tensor._version
        self.counts = counts
        self.done = False  # read by a node that does not run again


class Saved:
    """The tensors saved in one forward.

    Args:
        hold: called with each; what it returns lasts as long as the tensor is held.
        splits: whether the backward is split, so that boxes have to be emptied before it ends.
    """

    def __init__(self, hold: Callable[[Tensor], object] | None = None, splits: bool = True) -> None:
        self._hold, self.splits = hold, splits
        self._boxes: list[Box] = []
        self._sparing = 0

    @contextmanager
    def saving(self, counts: Callable[[Tensor], bool] = lambda tensor: True) -> Iterator[None]:
        """Box what autograd saves in this context; `counts` says which tensors `let_go` returns."""

        def pack(tensor: Tensor) -> Box:
            box = Box(tensor, counts(tensor), self._hold(tensor) if self._hold else None)
            if self.splits:
                self._boxes.append(box)
            return box

        hook = partial(_uncompiled(), pack) if "torch._dynamo" in sys.modules else pack
        with torch.autograd.graph.saved_tensors_hooks(hook, self._unpack):
            yield

    def _unpack(self, box: Box) -> Tensor:
        tensor = box.tensor
        if tensor is None:
            raise RuntimeError(
                "a tensor that I has let go is read again in W: a layer keeps its tensors in a way "
                "of its own; use a schedule whose backward is whole (1f1b, gpipe, interleaved)"
            )
        if tensor._version != box.version:  # torch leaves this check to whoever saves
            raise RuntimeError(
                f"a tensor of shape {tuple(tensor.shape)} that the backward needs has been "
                f"modified by an inplace operation: it was saved at version {box.version}, and is "
                f"now at version {tensor._version}; use operations that are not in place"
            )
        box.done = not self._sparing
        return tensor

    def spare(self, change: int) -> None:
        """Count the nodes under way whose tensors are to be read again: one more, or one less."""
        self._sparing += change

    def let_go(self) -> list[Tensor]:
        """Empty the boxes of nodes that do not run again, and return what the others hold.

        Call it once: from then on a box lasts as long as its node.
        """
        for box in self._boxes:
            if box.done:
                box.tensor = box.hold = None
        left = [box.tensor for box in self._boxes if box.tensor is not None and box.counts]
        self._boxes.clear()
        return left


@cache
def _uncompiled() -> Callable[..., Box]:
    """Return a call that a compiled layer leaves alone; else torch compiles `pack` with it."""

    def call(pack: Callable[[Tensor], Box], tensor: Tensor) -> Box:
        return pack(tensor)

    return torch.compiler.disable(call)


def saved_elsewhere(node: Node) -> bool:
    """Say whether a node's tensors lie in no box: hooks inside a layer (a checkpoint) keep them."""
    for name in _names(type(node)):
        kept = getattr(node, name)
        for one in kept if isinstance(kept, list | tuple) else [kept]:
            if one is not None and not isinstance(one.data, Box | Tensor | None):
                return True
    return False


@cache
def _names(kind: type) -> list[str]:
    """Return the attributes under which nodes of this kind show what they have saved."""
    return [name for name in dir(kind) if name.startswith("_raw_saved_")]


@contextmanager
def no_cast_cache() -> Iterator[None]:
    """Keep autocast from storing casts of weights that were made without a graph."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
