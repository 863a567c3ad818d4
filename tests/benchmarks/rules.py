"""Rules by which others cut layers into stages, each as costs and p -> sizes of the stages.

torchgpipe's and accelerate's are called in their own packages, where these are installed. DeepSpeed
is not: its rule is written out here from its description.
"""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

from d2lpart import partition

Rule = Callable[[Sequence[int], int], list[int]]


def optimal(costs: Sequence[int], num_stages: int) -> list[int]:
    """Ours: the lightest slowest stage, by exact search."""
    return list(partition(costs, num_stages).sizes)


def equal_counts(costs: Sequence[int], num_stages: int) -> list[int]:
    """As many layers for every stage, the first ones one more: what one does without costs.

    >>> equal_counts([1] * 7, 3)
    [3, 2, 2]
    """
    share, more = divmod(len(costs), num_stages)
    return [share + (stage < more) for stage in range(num_stages)]


def narrowest(costs: Sequence[int], num_stages: int) -> list[int]:
    """DeepSpeed's balanced rule, from its description.

    A dynamic programme over the first i layers on j stages keeps for each (i, j) one way to cut:
    that with the least difference between its largest and its smallest stage, the last of equals.
    A way that is worse so far, and better in the end, is forgotten; so it is a heuristic both for
    that difference and for the largest stage. Few layers are dealt out by count.

    >>> narrowest([4, 4, 4, 4] + [1] * 8, 3)
    [2, 2, 8]
    """
    layers = len(costs)
    if layers <= num_stages:
        return equal_counts(costs, num_stages)
    sums = list(accumulate(costs, initial=0))
    kept = {(0, 0): (0.0, math.inf, 0)}  # (i, j): largest, smallest, where the last stage begins
    for end in range(1, layers + 1):
        for stages in range(1, min(end, num_stages) + 1):
            best = math.inf
            for start in range(stages - 1, end):
                if (start, stages - 1) not in kept:
                    continue
                largest, smallest, _ = kept[start, stages - 1]
                load = sums[end] - sums[start]
                largest, smallest = max(largest, load), min(smallest, load)
                if largest - smallest <= best:
                    best = largest - smallest
                    kept[end, stages] = largest, smallest, start
    bounds = [layers]
    for stages in range(num_stages, 0, -1):
        bounds.append(kept[bounds[-1], stages][2])
    return [end - start for start, end in pairwise(reversed(bounds))]


def torchgpipe(costs: Sequence[int], num_stages: int) -> list[int]:
    """torchgpipe's balancer: block partitions of sequences (Bárány and Grinberg, 1308.2452)."""
    from torchgpipe.balance import balance_cost

    return list(balance_cost(list(costs), num_stages))


def accelerate(costs: Sequence[int], num_stages: int) -> list[int]:
    """accelerate's automatic device map over balanced memory: fill one device after another.

    It knows sizes only, so a cost is handed to it as that many bytes of a layer.
    """
    import logging

    import torch
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory
    from torch import nn

    class Layer(nn.Module):
        def __init__(self, nbytes: int) -> None:
            super().__init__()
            empty = torch.empty(nbytes, dtype=torch.uint8, device="meta")
            self.weight = nn.Parameter(empty, requires_grad=False)

    logging.getLogger("accelerate").setLevel(logging.ERROR)  # there need not be as many devices
    model = nn.Sequential(*map(Layer, costs))
    room = dict.fromkeys(range(num_stages), 2 * sum(costs))
    memory = get_balanced_memory(model, room, ["Layer"])
    places = infer_auto_device_map(model, memory, ["Layer"])
    of_layer = [places[""] if "" in places else places[str(k)] for k in range(len(costs))]
    return [of_layer.count(stage) for stage in range(num_stages)]


RULES: dict[str, Rule] = {
    "d2lpart, partition": optimal,
    "DeepSpeed, smallest max − min": narrowest,
    "torchgpipe, blockpartition": torchgpipe,
    "accelerate, balanced memory": accelerate,
    "equal counts": equal_counts,
}


def bottleneck(costs: Sequence[int], sizes: Sequence[int]) -> int:
    """Return the cost of the heaviest stage; a stage may be empty, a layer may not be left out.

    >>> bottleneck([1, 2, 3], [2, 0, 1])
    3
    """
    if sum(sizes) != len(costs):
        raise ValueError(f"{sum(sizes)} layers are placed, of {len(costs)}: place every layer once")
    ends = list(accumulate(sizes, initial=0))
    return max(sum(costs[start:end]) for start, end in pairwise(ends))
