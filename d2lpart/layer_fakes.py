"""Layers without their numbers: what a forward and a backward would hold and do, nothing computed.

On the device meta a tensor has a shape and a type, but no memory. An operation on it costs nothing,
and autograd saves what it would save. Which kernel torch takes depends on the device, however, and
for meta it takes attention's plain one, which keeps a score for each pair of positions. So the
layers are run with torch's fake tensors, which are on meta and pass for tensors on a CPU.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

CPU = torch.device("cpu")


@contextmanager
def without_numbers(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Let fakes stand for all weights and buffers of the layers as long as the context lasts.

    Tensors made inside are fakes, too. The layers themselves may be anywhere, on meta for one.
    """
    modules = dict.fromkeys(module for layer in layers for module in layer.modules())
    stood = [
        (module, name, tensor)
        for module in modules
        for named in (module._parameters, module._buffers)
        for name, tensor in named.items()
        if tensor is not None
    ]
    with FakeTensorMode():
        fakes = {tensor: fake(tensor) for _, _, tensor in stood}  # a tied weight stays one
        try:
            for module, name, tensor in stood:
                setattr(module, name, fakes[tensor])
            yield
        finally:
            for module, name, tensor in stood:
                setattr(module, name, tensor)


def fake(tensor: Tensor) -> Tensor:
    """Return a fake of the same shape, strides and type, inside a `FakeTensorMode`."""
    made = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=CPU)
    return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made
