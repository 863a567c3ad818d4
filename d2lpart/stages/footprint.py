"""How many bytes a stage holds of one micro-batch: the storages that autograd keeps for B, I and W.

They are counted once for each kind of input, by looking at every tensor that the forward saves.
Counted are the stage's input and whatever the backward needs beside it; not counted are weights,
and their copies in low precision, of which autocast makes one for all micro-batches.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from d2lpart.stages.layer_parts import parts
from d2lpart.stages.saved import Saved


class Left(NamedTuple):
    """The bytes held of one micro-batch from I on."""

    gradients: int  # that wait for W, and were not held before
    total: int  # after I: these, and what W needs of what the forward saved
    inputs: bool = False  # whether W needs the input


class Footprint:
    """Counts what the layers leave held; the result is kept for inputs of one kind.

    Attributes:
        seen: the tensors saved when `measure` counted last, copies of weights left out.
        copies: those copies, by weight and storage, with their bytes.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._layers = layers
        self._mode: tuple[list[bool], list[bool]] = [], []
        self._known: dict[Hashable, int] = {}
        self._left: dict[Hashable, Left] = {}
        self.seen: set[int] = set()
        self.copies: defaultdict[nn.Parameter, dict[int, int]] = defaultdict(dict)

    def begin(self) -> None:
        """Forget what was counted, if weights have been frozen or a mode changed since."""
        inside = parts(self._layers)
        weights = (weight for part in inside for weight in part._parameters.values())
        training = [part.training for part in inside]
        learning = [weight.requires_grad for weight in weights if weight is not None]
        if (training, learning) != self._mode:
            self._mode = training, learning
            self._known.clear()
            self._left.clear()

    def measure(
        self, inputs: Tensor, compute: Callable[[], Tensor], saved: Saved | None = None
    ) -> tuple[Tensor, int]:
        """Run `compute`, and return its output and the bytes it leaves held.

        With `saved`, what autograd saves is saved there.
        """
        kind = self._kind(inputs)
        whole = saved is None or not saved.splits
        if kind in self._known and (whole or kind in self._left):
            with nullcontext() if saved is None else saved.saving():
                return compute(), self._known[kind]
        seen: list[Tensor] = []

        def counts(tensor: Tensor) -> bool:
            weight = weight_of(tensor)
            if weight is None:
                seen.append(tensor.detach())
            elif storage_of(tensor) != storage_of(weight):
                self.copies[weight][storage_of(tensor)] = tensor.untyped_storage().nbytes()
            return weight is None

        with (saved or Saved(splits=False)).saving(counts):
            outputs = compute()
        self.seen = set(map(storage_of, seen))
        self._known[kind] = sum(self._storages(inputs, seen).values())
        return outputs, self._known[kind]

    def measure_left(
        self, inputs: Tensor, gradients: Iterable[Tensor], saved: Iterable[Tensor]
    ) -> Left:
        """Return the bytes that I leaves held: `gradients`, and of the tensors saved, `saved`."""
        kind = self._kind(inputs)
        if kind not in self._left:
            before = self._storages(inputs, saved)
            after = self._storages(inputs, (*saved, *gradients))
            total = sum(after.values())
            needed = storage_of(inputs) in map(storage_of, saved)
            self._left[kind] = Left(total - sum(before.values()), total, needed)
        return self._left[kind]

    def _storages(self, inputs: Tensor, tensors: Iterable[Tensor]) -> dict[int, int]:
        """Return the bytes of each storage of the inputs and `tensors`, without the layers' own."""
        storages = {}
        for tensor in tensors:
            storages[storage_of(tensor)] = tensor.untyped_storage().nbytes()
        storages[storage_of(inputs)] = inputs.nbytes
        for layer in self._layers:
            for weight in (*layer.parameters(), *layer.buffers()):
                storages.pop(storage_of(weight), None)
        return storages

    @staticmethod
    def _kind(inputs: Tensor) -> Hashable:
        device = inputs.device.type
        autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        return inputs.shape, inputs.dtype, inputs.requires_grad, autocast


CAST = "ToCopyBackward0"
VIEWS = {
    "ExpandBackward0",
    "PermuteBackward0",
    "ReshapeAliasBackward0",
    "TBackward0",
    "TransposeBackward0",
    "UnsafeViewBackward0",
    "UnsqueezeBackward0",
    "ViewBackward0",
}


def storage_of(tensor: Tensor) -> int:
    """Return what is the same for all tensors that share a storage, as long as it is alive."""
    return tensor.untyped_storage()._cdata


def weight_of(tensor: Tensor) -> nn.Parameter | None:
    """Return the weight that a saved tensor is, or is a view or a copy of; None where it is none.

    Where autocast keeps no copies, each micro-batch has its own, and they are activations.
    """
    node: Any = tensor.grad_fn
    kept = torch.is_autocast_cache_enabled()
    while node is not None and (node.name() in VIEWS or (node.name() == CAST and kept)):
        node = node.next_functions[0][0]
    weight = getattr(node, "variable", tensor)
    return weight if isinstance(weight, nn.Parameter) else None


def of_weights(tensor: Tensor) -> bool:
    """Say whether a saved tensor counts with the weights."""
    return weight_of(tensor) is not None
