"""How many bytes a stage holds of one micro-batch: the storages that autograd keeps for B.

They are counted once for each kind of input, by looking at every tensor that the forward saves.
Counted are the stage's input and whatever the backward needs beside it; not counted are weights,
and what is made of weights alone (the low-precision copies of autocast).
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Footprint:
    """Counts what the layers' forward leaves held; the result is kept for inputs of one kind."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._layers = layers
        self._mode: tuple[list[bool], list[bool]] = [], []
        self._known: dict[Hashable, int] = {}

    def begin(self) -> None:
        """Forget what was counted, if weights have been frozen or a mode changed since."""
        parts = [part for layer in self._layers for part in layer.modules()]
        weights = (weight for part in parts for weight in part._parameters.values())
        training = [part.training for part in parts]
        learning = [weight.requires_grad for weight in weights if weight is not None]
        if (training, learning) != self._mode:
            self._mode = training, learning
            self._known.clear()

    def measure(self, inputs: Tensor, compute: Callable[[], Tensor]) -> tuple[Tensor, int]:
        """Run `compute`, and return its output and the bytes it leaves held."""
        kind = self._kind(inputs)
        if kind in self._known:
            return compute(), self._known[kind]
        storages: dict[int, int] = {}

        def saw(tensor: Tensor) -> Tensor:
            if not _of_weights(tensor):
                storage = tensor.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(saw, lambda tensor: tensor):
            outputs = compute()
        storages[inputs.untyped_storage().data_ptr()] = inputs.nbytes
        for layer in self._layers:
            for weight in (*layer.parameters(), *layer.buffers()):
                storages.pop(weight.untyped_storage().data_ptr(), None)
        self._known[kind] = sum(storages.values())
        return outputs, self._known[kind]

    @staticmethod
    def _kind(inputs: Tensor) -> Hashable:
        device = inputs.device.type
        autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        return inputs.shape, inputs.dtype, inputs.requires_grad, autocast


_OF_ONE = {"ToCopyBackward0", "TBackward0", "TransposeBackward0", "ViewBackward0"}


def _of_weights(tensor: Tensor) -> bool:
    """Say whether a saved tensor is a weight, or a cast or a transpose of one."""
    node: Any = tensor.grad_fn
    while node is not None and node.name() in _OF_ONE:
        node = node.next_functions[0][0]
    return isinstance(getattr(node, "variable", tensor), nn.Parameter)
