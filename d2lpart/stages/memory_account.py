"""Account: which storages one rank keeps alive now, by item, and the most of them.

A storage counts once on each rank that keeps it, under the item it came in with, for as long as
the rank refers to it. Ranks on one device may share a storage (a message that was not copied); each
counts it, as each would have it if the devices were several. So the figures do not depend on how
many devices this machine has.
"""

from collections import deque
from collections.abc import Iterable
from math import inf

from torch import Tensor, UntypedStorage, nn

from d2lpart.memory.failures import Full
from d2lpart.memory.ledger import ITEMS, Ledger
from d2lpart.stages.footprint import of_weights


class Hold:
    """A reference of a rank to a storage, which is alive as long as this is."""

    __slots__ = ("_let_go", "_storage")

    def __init__(self, storage: UntypedStorage, let_go: deque[int]) -> None:
        self._storage, self._let_go = storage, let_go

    def __del__(self) -> None:
        self._let_go.append(self._storage._cdata)  # on any thread; the account reads it later


class _Entry:
    __slots__ = ("item", "nbytes", "references")

    def __init__(self, item: str, nbytes: int) -> None:
        self.item, self.nbytes, self.references = item, nbytes, 1


class Account:
    """The storages of one rank.

    Args:
        rank: whose they are.
        capacity: the most bytes that the rank may hold.
    """

    def __init__(self, rank: int, capacity: float = inf) -> None:
        self.rank, self.capacity = rank, capacity
        self._now = dict.fromkeys(ITEMS, 0)
        self._peaks = dict.fromkeys(ITEMS, 0)
        self._total = self._at_once = 0
        self._entries: dict[int, _Entry] = {}
        self._let_go: deque[int] = deque()
        self._kept: list[Hold] = []
        self._gradients: dict[nn.Parameter, Hold] = {}

    def hold(self, item: str, tensor: Tensor, nbytes: int | None = None) -> Hold:
        """Count the storage of a tensor until the returned `Hold` goes away.

        Args:
            item: one of `ITEMS`.
            tensor: what the rank refers to.
            nbytes: to count less than the storage: of a slice of the user's data.

        Raises:
            Full: the rank has no room for it; it is not counted.
        """
        self._settle()
        storage = tensor.untyped_storage()
        key = storage._cdata
        entry = self._entries.get(key)
        if entry is not None:
            entry.references += 1
            return Hold(storage, self._let_go)
        size = storage.nbytes() if nbytes is None else nbytes
        self._check_room(item, size)
        self._entries[key] = _Entry(item, size)
        self._add(item, size)
        self._peaks[item] = max(self._peaks[item], self._now[item])
        self._at_once = max(self._at_once, self._total)
        return Hold(storage, self._let_go)

    def keep(self, item: str, tensors: Iterable[Tensor]) -> None:
        """Count the storages of tensors, all or none, for as long as the account lasts.

        Raises:
            Full: the rank has no room for all of them.
        """
        self._settle()
        tensors = list(tensors)
        storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in tensors}
        new = [s.nbytes() for key, s in storages.items() if key not in self._entries]
        self._check_room(item, sum(new))
        self._kept += [self.hold(item, tensor) for tensor in tensors]

    def keep_data(self, tensor: Tensor) -> None:
        """Count a mini-batch by its own size; it may be a window on more."""
        self._kept.append(self.hold("activations", tensor, tensor.nbytes))

    def hold_saved(self, tensor: Tensor) -> Hold:
        """Count what autograd saves: an activation, or a copy of weights in another precision."""
        return self.hold("weights" if of_weights(tensor) else "activations", tensor)

    def note_gradient(self, weight: nn.Parameter) -> None:
        """Count the gradient that a weight has now."""
        self._gradients.pop(weight, None)
        if weight.grad is not None:
            self._gradients[weight] = self.hold("gradients", weight.grad)

    def drop_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Forget the gradients of weights that have been taken away."""
        for weight in weights:
            self._gradients.pop(weight, None)

    def now(self) -> Ledger:
        """Return what is alive now."""
        self._settle()
        return Ledger(**self._now, source="measured")

    def peaks(self) -> Ledger:
        """Return each item at its peak, and the most that was alive at one moment."""
        return Ledger(**self._peaks, source="measured", at_once=self._at_once)

    def _check_room(self, item: str, nbytes: int) -> None:
        self._settle()
        if self._total + nbytes > self.capacity:
            raise Full(self.rank, item, nbytes, self.capacity, self.now())

    def _add(self, item: str, nbytes: int) -> None:
        self._now[item] += nbytes
        self._total += nbytes

    def _settle(self) -> None:
        while self._let_go:
            key = self._let_go.popleft()
            entry = self._entries[key]
            entry.references -= 1
            if not entry.references:
                del self._entries[key]
                self._add(entry.item, -entry.nbytes)
