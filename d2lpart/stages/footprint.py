"""How many bytes a stage holds of one micro-batch: the storages that autograd keeps for B, I and W.

They are counted once for each kind of input, by looking at every tensor that the forward saves.
Counted are the stage's input and whatever the backward needs beside it; not counted are weights,
and what is made of weights alone (the low-precision copies of autocast).
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from d2lpart.stages.keyed_dropout import parts
from d2lpart.stages.saved import Saved


class Left(NamedTuple):
    """The bytes held of one micro-batch from I on."""

    gradients: int  # that wait for W, and were not held before
    total: int  # after I: these, and what W needs of what the forward saved


class Footprint:
    """Counts what the layers leave held; the result is kept for inputs of one kind."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._layers = layers
        self._mode: tuple[list[bool], list[bool]] = [], []
        self._known: dict[Hashable, int] = {}
        self._left: dict[Hashable, Left] = {}

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
            counted = not of_weights(tensor)
            if counted:
                seen.append(tensor.detach())
            return counted

        with (saved or Saved(splits=False)).saving(counts):
            outputs = compute()
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
            self._left[kind] = Left(total - sum(before.values()), total)
        return self._left[kind]

    def _storages(self, inputs: Tensor, tensors: Iterable[Tensor]) -> dict[int, int]:
        """Return the bytes of each storage of the inputs and `tensors`, without the layers' own."""
        storages = {}
        for tensor in tensors:
            storage = tensor.untyped_storage()
            storages[storage._cdata] = storage.nbytes()
        storages[inputs.untyped_storage()._cdata] = inputs.nbytes
        for layer in self._layers:
            for weight in (*layer.parameters(), *layer.buffers()):
                storages.pop(weight.untyped_storage()._cdata, None)
        return storages

    @staticmethod
    def _kind(inputs: Tensor) -> Hashable:
        device = inputs.device.type
        autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        return inputs.shape, inputs.dtype, inputs.requires_grad, autocast


_OF_ONE = {"ToCopyBackward0", "TBackward0", "TransposeBackward0", "ViewBackward0"}


def of_weights(tensor: Tensor) -> bool:
    """Say whether a saved tensor is a weight, or a cast or a transpose of one."""
    node: Any = tensor.grad_fn
    while node is not None and node.name() in _OF_ONE:
        node = node.next_functions[0][0]
    return isinstance(getattr(node, "variable", tensor), nn.Parameter)
