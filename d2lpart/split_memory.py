"""What the layers of a model need of memory, tied weights included, which a profile counts once.

A profile charges a tied weight to its first layer, where its optimizer state is as well. Each other
rank that uses it holds a shadow of it, and for a moment the shadow's gradient.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

from torch import nn

from d2lpart.layer_cost import LayerCost
from d2lpart.ledger import Ledgers
from d2lpart.memory_formulas import BytesPerParameter
from d2lpart.partitioning import Partition
from d2lpart.schedule import Schedule


def layer_needs(
    layers: Sequence[nn.Module],
    costs: Sequence[LayerCost],
    order: Schedule,
    recipe: BytesPerParameter,
    input_bytes: int,
) -> tuple[list[float], list[float]]:
    """Return bytes for each layer, as `partition` takes them: once, and for each micro-batch held.

    A weight that an earlier layer has counts as a shadow, as if that layer were on another rank.
    What a split backward holds otherwise between its halves is not told; the ledgers do.

    Args:
        layers: of the model.
        costs: of the layers.
        order: of the step.
        recipe: bytes for each parameter.
        input_bytes: of the whole mini-batch, which lies with the first layer.
    """
    once = [cost.parameters * recipe.total for cost in costs]
    once[0] += input_bytes
    seen: set[nn.Parameter] = set()
    for number, layer in enumerate(layers):
        own = set(layer.parameters())
        if order.num_ranks > 1:
            again = sum(weight.numel() for weight in own & seen)
            once[number] += again * (recipe.weights + recipe.gradients)
        seen |= own
    inputs = [0, *(cost.boundary_bytes for cost in costs[:-1])]
    held: list[float] = [
        entry + cost.activation_bytes for entry, cost in zip(inputs, costs, strict=True)
    ]
    held[-1] += costs[-1].boundary_bytes  # what the loss keeps
    return once, held


def with_shadows(
    memory: Ledgers,
    layers: Sequence[nn.Module],
    cut: Partition,
    order: Schedule,
    recipe: BytesPerParameter,
) -> Ledgers:
    """Return ledgers with each tied weight and its gradient on every rank that uses it.

    Args:
        memory: the ledgers of a profile.
        layers: of the model.
        cut: layers a stage.
        order: says which stage is on which rank.
        recipe: bytes for each parameter.
    """
    users: dict[nn.Parameter, list[int]] = {}
    for stage, run in enumerate(cut.stages):
        for weight in dict.fromkeys(w for layer in run for w in layers[layer].parameters()):
            ranks = users.setdefault(weight, [])
            if order.stage_to_rank[stage] not in ranks:
                ranks.append(order.stage_to_rank[stage])
    more = [0] * len(memory)
    for weight, ranks in users.items():
        for rank in ranks[1:]:
            more[rank] += weight.numel()
    return Ledgers(
        [
            replace(
                own,
                weights=own.weights + ceil(number * recipe.weights),
                gradients=own.gradients + ceil(number * recipe.gradients),
            )
            for own, number in zip(memory, more, strict=True)
        ],
        memory.capacity,
    )
