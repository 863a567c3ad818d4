"""What counts for which layer, where layers share weights: for the first that has it."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from d2lpart.layer_cost import TiedWeight


class Charge(NamedTuple):
    """What counts for one layer.

    weights: those that no earlier layer has. tied: those that one has. buffers: as weights.
    """

    weights: list[nn.Parameter]
    tied: tuple[TiedWeight, ...]
    buffers: list[Tensor]


def charges(layers: Sequence[nn.Module]) -> list[Charge]:
    """Return for each layer what counts for it.

    >>> one, two = nn.Linear(4, 4), nn.Linear(4, 4)
    >>> two.weight = one.weight
    >>> [tuple(weight.shape) for weight in charges([one, two])[1].weights]
    [(4,)]
    >>> charges([one, two])[1].tied
    (TiedWeight(layer=0, position=0, parameters=16, trainable=16),)
    """
    homes: dict[nn.Parameter, tuple[int, int]] = {}
    buffers: set[Tensor] = set()
    found = []
    for index, layer in enumerate(layers):
        weights, tied = [], []
        for position, weight in enumerate(layer.parameters()):
            home = homes.setdefault(weight, (index, position))
            if home[0] == index:
                weights.append(weight)
            else:
                size = weight.numel()
                tied.append(TiedWeight(*home, size, size if weight.requires_grad else 0))
        own = [buffer for buffer in layer.buffers() if buffer not in buffers]
        buffers.update(own)
        found.append(Charge(weights, tuple(tied), own))
    return found
