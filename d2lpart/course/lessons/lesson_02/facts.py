"""Lesson 02: the runs and counts that its explanations take their numbers from."""

from functools import cache

import torch
from torch import nn

from d2lpart import Decoder, LayerCost, build_schedule, profile, simulate
from d2lpart.models.convnet import NAMES, lenet
from d2lpart.splits.comparison import ThreeWays, three_ways

FLOAT = 4  # bytes
POOL2 = NAMES.index("pool2") + 1
"""Layers before the cut behind pool2."""


@cache
def _network() -> nn.Sequential:
    """LeNet, drawn without a number from torch's own generator: the reader's draws stay."""
    with torch.random.fork_rng([]):
        return lenet()


@cache
def costs() -> dict[str, LayerCost]:
    """What each layer of LeNet costs for one image."""
    with torch.random.fork_rng([]):
        return dict(zip(NAMES, profile(_network(), torch.zeros(1, 1, 28, 28)), strict=True))


@cache
def parameters() -> int:
    """All parameters of LeNet."""
    return sum(weight.numel() for weight in _network().parameters())


def share(name: str, of: str = "parameters") -> float:
    """The share of one layer in the network's parameters, or in its "forward_flops"."""
    return getattr(costs()[name], of) / sum(getattr(cost, of) for cost in costs().values())


def before(place: int, of: str) -> float:
    """The share of all layers before a place."""
    return sum(share(name, of) for name in NAMES[:place])


def numbers(name: str) -> int:
    """How many numbers of one image a cut behind that layer carries, one way; nothing is run."""
    channels, side = 1, 28
    for layer in list(_network())[: NAMES.index(name) + 1]:
        if isinstance(layer, nn.Conv2d):
            channels, side = layer.out_channels, side - int(layer.kernel_size[0]) + 1
        elif isinstance(layer, nn.AvgPool2d):
            side //= int(layer.kernel_size)  # type: ignore[arg-type]
        elif isinstance(layer, nn.Linear):
            channels, side = layer.out_features, 1
    return channels * side**2


@cache
def ways(samples: int = 16, ranks: int = 2, pairs: bool = True) -> ThreeWays:
    """One step of LeNet in each of the three ways; the cut is behind pool2, or in equal runs."""
    sizes = {2: (POOL2, len(NAMES) - POOL2), 4: (3, 3, 2, 2)}[ranks]
    images, digits = torch.zeros(samples, 1, 28, 28), torch.zeros(samples, dtype=torch.long)
    with torch.random.fork_rng([]):
        return three_ways(
            lenet(), images, digits, sizes=sizes, devices=["cpu"] * ranks, pairs=pairs
        )


@cache
def decoder_ways(blocks: int) -> ThreeWays:
    """One step of a small decoder in each of the three ways, on two ranks."""
    with torch.random.fork_rng([]):
        decoder = Decoder(vocab_size=64, width=32, num_layers=blocks, num_heads=4, context=16)
        tokens = torch.zeros(2, 16, dtype=torch.long)
        half = (blocks + 2) // 2
        sizes = (half, blocks + 2 - half)
        return three_ways(decoder.layers, tokens, tokens, sizes=sizes, devices=["cpu"] * 2)


def cut(samples: int = 16) -> int:
    """Bytes over the cut behind pool2 in one step."""
    return ways(samples)["network partitioning"].traffic.bytes_moved


def replicas(samples: int = 16, ranks: int = 2) -> int:
    """Bytes of one step of replicas."""
    return ways(samples, ranks)["data parallelism"].traffic.bytes_moved


def held(way: str, ranks: int = 2) -> int:
    """Bytes of weights on the fullest rank."""
    return max(ways(ranks=ranks)[way].parameter_bytes)


def idle(ranks: int) -> float:
    """The idle part of a step that is cut between layers, without micro-batches."""
    return simulate(build_schedule("naive", ranks, 1), {"F": 1, "B": 2}).idle_fraction()
