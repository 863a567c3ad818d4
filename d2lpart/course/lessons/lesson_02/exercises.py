"""Lesson 02: three ways to split; its exercises. That on the break-even has its own file."""

import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from d2lpart.course.checks.exercise import Exercise, misconception
from d2lpart.course.lessons.lesson_02.break_even import BREAK_EVEN

NETWORK, LAYERWISE, DATA = "network partitioning", "layer-wise partitioning", "data parallelism"
NONE = "none of the three"

Weights = Sequence[Sequence[float]]


def name_the_split(weights: Weights) -> str:
    """The way to split: `weights[r][i]` is the part of layer i's weights that rank r holds."""
    parts = {part for own in weights for part in own}
    if parts == {1}:
        return DATA
    if parts - {0, 1}:
        return LAYERWISE
    for own in weights:
        places = [place for place, part in enumerate(own) if part]
        if places[-1] - places[0] != len(places) - 1:
            return NONE
    return NETWORK


def _owned(owners: Sequence[int]) -> Weights:
    """Return the table of layers that are whole, each on the rank that `owners` gives."""
    return [[float(owner == rank) for owner in owners] for rank in range(max(owners) + 1)]


def _splits(rng: random.Random) -> Iterator[tuple[Weights]]:
    yield (_owned([0, 1]),)
    yield ([[0.5, 0.5], [0.5, 0.5]],)
    yield ([[1.0, 1.0], [1.0, 1.0]],)
    yield (_owned([0, 1, 0]),)
    yield (_owned([1, 0, 0]),)
    yield (_owned([1, 0, 0, 1]),)
    yield ([[0.34, 0.4], [0.34, 0.3], [0.32, 0.3]],)  # 50 channels and 10 units on three ranks
    for _ in range(4):
        ranks = rng.choice([2, 4])
        layers = rng.randint(2 * ranks, 10)
        more = rng.choices(range(ranks), k=layers - ranks)
        yield (_owned(sorted([*range(ranks), *more])),)
        yield (_owned([layer % ranks for layer in range(layers)]),)
        yield ([[1 / ranks] * layers] * ranks,)
        yield ([[1.0] * layers] * ranks,)


@misconception(
    "You mix the names of two books. Here they are D2L's: network partitioning cuts between "
    "layers, layer-wise partitioning inside each."
)
def _other_book(weights: Weights) -> str:
    """Call the cut between layers "layer-wise", and the other one by the name that is left."""
    swapped = {NETWORK: LAYERWISE, LAYERWISE: NETWORK}
    right = name_the_split(weights)
    return swapped.get(right, right)


@misconception(
    lambda weights: (
        f"Each of the {len(weights[0])} layers is whole on one rank, but a rank's layers are not "
        f"consecutive."
    )
)
def _in_any_order(weights: Weights) -> str:
    """Take whole layers for network partitioning, wherever they are."""
    right = name_the_split(weights)
    return NETWORK if right == NONE else right


@misconception(
    lambda weights: (
        f"Rank 0 holds {sum(weights[0]):g} of {len(weights[0])} layers' weights in all. That does "
        f"not tell whole layers from parts of each: look at the single numbers."
    )
)
def _by_amounts(weights: Weights) -> str:
    """Look only at how much each rank holds in all."""
    amounts = [sum(own) for own in weights]
    if min(amounts) == len(weights[0]):
        return DATA
    return LAYERWISE if len(set(amounts)) == 1 else name_the_split(weights)


@misconception(
    lambda weights: (
        f"Rank 0 holds {weights[0][0]:g} of the first layer, not 1/{len(weights)}. A layer need "
        f"not divide evenly: what counts is that no rank has all of it."
    )
)
def _only_evenly(weights: Weights) -> str:
    """Take parts for a split only where all ranks have equally much of a layer."""
    right = name_the_split(weights)
    return NETWORK if right == LAYERWISE and weights[0][0] * len(weights) != 1 else right


@misconception(
    lambda weights: (
        f"Rank 0 has {[round(part) for part in weights[0]]} of the layers. Whose run comes first "
        f"does not matter: any rank may have the first layers."
    )
)
def _in_rank_order(weights: Weights) -> str:
    """Let the first layers be on rank 0, the next ones on rank 1, and nowhere else."""
    owners = [own.index(1) for own in zip(*weights, strict=True) if 1 in own]
    return name_the_split(weights) if owners == sorted(owners) else NONE


@misconception(
    lambda weights: (
        f"Every rank has something of every layer, but of the first only {weights[0][0]:g}. A "
        f"replica has all of it."
    )
)
def _copies_of_all(weights: Weights) -> str:
    """Take every split in which all ranks have every layer for replicas."""
    return DATA if all(part for own in weights for part in own) else name_the_split(weights)


NAME_THE_SPLIT = Exercise(
    "02.1",
    "Name the split",
    name_the_split,
    cases=_splits,
    misconceptions=[
        _other_book,
        _in_any_order,
        _by_amounts,
        _only_evenly,
        _in_rank_order,
        _copies_of_all,
    ],
    otherwise=lambda weights: (
        f"The ranks hold {[list(own) for own in weights]}. Are layers whole on one rank, in parts "
        f"on all, or whole on all? Where they are whole on one: are they neighbours?"
    ),
    example=([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]],),
)

Layer = tuple[str, int, int, int]


def layer_table(layers: Sequence[Layer], size: int) -> list[tuple[int, int]]:
    """(parameters, multiply-adds) of each layer, for one image of size × size pixels."""
    table = []
    for kind, inputs, outputs, width in layers:
        if kind == "conv":
            size = size - width + 1
            weights = inputs * outputs * width**2
            table.append((weights + outputs, weights * size**2))
        elif kind == "pool":
            size = size // width
            table.append((0, 0))
        else:
            table.append((inputs * outputs + outputs, inputs * outputs))
    return table


LENET: list[Layer] = [
    ("conv", 1, 20, 3),
    ("pool", 20, 20, 2),
    ("conv", 20, 50, 5),
    ("pool", 50, 50, 2),
    ("dense", 800, 128, 1),
    ("dense", 128, 10, 1),
]


def _networks(rng: random.Random) -> Iterator[tuple[list[Layer], int]]:
    yield [("dense", 3, 2, 1)], 1
    yield [("conv", 1, 2, 3)], 4
    yield [("pool", 1, 1, 2), ("conv", 1, 2, 2)], 5
    yield [("conv", 2, 3, 2), ("pool", 3, 3, 3), ("conv", 3, 1, 2)], 10
    for _ in range(5):
        size = start = rng.randint(16, 40)
        channels, layers = rng.randint(1, 3), list[Layer]()
        for _ in range(2):
            width, outputs = rng.randint(1, 4), rng.randint(2, 9)
            layers += [("conv", channels, outputs, width), ("pool", outputs, outputs, 2)]
            size, channels = (size - width + 1) // 2, outputs
        yield [*layers, ("dense", channels * size**2, rng.randint(2, 20), 1)], start


@misconception(
    "You count each weight of a convolution as used once. It is used at every place of the output: "
    "that is why a convolution does so much with so few weights."
)
def _used_once(layers: Sequence[Layer], size: int) -> list[tuple[int, int]]:
    """Take the weights of a convolution for its multiply-adds."""
    rows = layer_table(layers, size)
    return [
        (count, inputs * outputs * width**2 if kind == "conv" else work)
        for (kind, inputs, outputs, width), (count, work) in zip(layers, rows, strict=True)
    ]


@misconception(
    lambda layers, size: (
        f"You count the places of the input. A window of width k fits into {size} pixels {size} − "
        f"k + 1 times: count the places of the output."
    )
)
def _at_input(layers: Sequence[Layer], size: int) -> list[tuple[int, int]]:
    """Let a convolution compute at every place of its input."""
    found = []
    for (kind, inputs, outputs, width), row in zip(layers, layer_table(layers, size), strict=True):
        count, work = row
        if kind == "conv":
            work = inputs * outputs * width**2 * size**2
        found.append((count, work))
        size = {"conv": size - width + 1, "pool": size // width}.get(kind, size)
    return found


@misconception("The biases are parameters, too: one for each output channel or unit.")
def _no_bias(layers: Sequence[Layer], size: int) -> list[tuple[int, int]]:
    """Count weights alone."""
    rows = layer_table(layers, size)
    return [
        (count - layer[2] if count else 0, work)
        for layer, (count, work) in zip(layers, rows, strict=True)
    ]


@misconception("A bias is added, not multiplied: it is in no multiply-add.")
def _with_bias(layers: Sequence[Layer], size: int) -> list[tuple[int, int]]:
    """Count each parameter as used once an output place, biases too."""
    rows = layer_table(layers, size)
    return [
        (count, work * count // (count - layer[2]) if count else 0)
        for layer, (count, work) in zip(layers, rows, strict=True)
    ]


@misconception(
    "You count a multiplication and an addition, 2 operations. Together they are 1 multiply-add."
)
def _two_each(layers: Sequence[Layer], size: int) -> list[tuple[int, int]]:
    """Count a multiply-add as two operations."""
    return [(count, 2 * work) for count, work in layer_table(layers, size)]


@misconception(
    "You give each output channel of a convolution one window. It has one for each input channel."
)
def _one_window(layers: Sequence[Layer], size: int) -> list[tuple[int, int]]:
    """Give an output channel one window, and not one for each input channel."""
    rows = layer_table(layers, size)
    return [
        (outputs * width**2 + outputs, work // inputs) if kind == "conv" else (count, work)
        for (kind, inputs, outputs, width), (count, work) in zip(layers, rows, strict=True)
    ]


@misconception(
    "Your windows are lines. A window is a square: width × width weights for each pair of an input "
    "and an output channel."
)
def _a_line(layers: Sequence[Layer], size: int) -> list[tuple[int, int]]:
    """Let a window be as wide as it says, and 1 high."""
    rows = layer_table(layers, size)
    return [
        (inputs * outputs * width + outputs, work // width) if kind == "conv" else (count, work)
        for (kind, inputs, outputs, width), (count, work) in zip(layers, rows, strict=True)
    ]


LAYER_TABLE = Exercise(
    "02.2",
    "The LeNet table",
    layer_table,
    cases=_networks,
    misconceptions=[_used_once, _at_input, _no_bias, _with_bias, _two_each, _one_window, _a_line],
    otherwise=lambda layers, size: (
        f"Follow the image, {size} × {size} at first, through {len(layers)} layers: how large is "
        f"it behind each?"
    ),
    example=(LENET, 28),
)


def split_terms(x: Tensor, first: Tensor, bias: Tensor, second: Tensor, ranks: int) -> list[Tensor]:
    """The terms of relu(x @ first.T + bias) @ second.T, one a rank, hidden units split evenly."""
    terms = []
    for rank in range(ranks):
        own = slice(rank * len(bias) // ranks, (rank + 1) * len(bias) // ranks)
        hidden = torch.relu(x @ first[own].T + bias[own])
        terms.append(hidden @ second[:, own].T)
    return terms


def _whole_numbers(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """From −4 to 4, none of them 0."""
    sizes = torch.randint(1, 5, shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < 0.5, -1.0, 1.0) * sizes


def _pairs(rng: random.Random) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, int]]:
    """Small whole numbers, so that a case can be worked out by hand."""
    x, first, bias, second = [[2.0]], [[1.0], [-1.0]], [1.0, 3.0], [[2.0, -1.0]]  # terms 6 and −1
    yield torch.tensor(x), torch.tensor(first), torch.tensor(bias), torch.tensor(second), 2
    sizes = [(1, 2, 2, 1, 1)]
    sizes += [
        (rng.randint(1, 4), rng.randint(1, 5), k * rng.randint(2, 3), rng.randint(1, 4), k)
        for k in (2, 2, 3, 4)
    ]
    for samples, inputs, hidden, outputs, ranks in sizes:
        generator = torch.Generator().manual_seed(rng.randrange(2**31))
        shapes = (samples, inputs), (hidden, inputs), (hidden,), (outputs, hidden)
        yield (*(_whole_numbers(shape, generator) for shape in shapes), ranks)  # type: ignore[misc]


@misconception(
    lambda x, first, bias, second, ranks: (
        f"Each rank computes the whole output, so the sum is {ranks} times too large, and nothing "
        f"is split."
    )
)
def _whole_everywhere(
    x: Tensor, first: Tensor, bias: Tensor, second: Tensor, ranks: int
) -> list[Tensor]:
    return [torch.relu(x @ first.T + bias) @ second.T for _ in range(ranks)]


@misconception(
    lambda x, first, bias, second, ranks: (
        f"The sum is right, but each rank has used all {len(bias)} hidden units. It may use "
        f"{len(bias) // ranks}."
    )
)
def _an_nth_each(
    x: Tensor, first: Tensor, bias: Tensor, second: Tensor, ranks: int
) -> list[Tensor]:
    return [torch.relu(x @ first.T + bias) @ second.T / ranks for _ in range(ranks)]


@misconception(
    "The relu stands behind the second layer. It belongs to the hidden units, and each rank can "
    "apply it to its own."
)
def _relu_too_late(
    x: Tensor, first: Tensor, bias: Tensor, second: Tensor, ranks: int
) -> list[Tensor]:
    each = len(bias) // ranks
    runs = [slice(rank * each, (rank + 1) * each) for rank in range(ranks)]
    return [torch.relu((x @ first[own].T + bias[own]) @ second[:, own].T) for own in runs]


@misconception(
    "There is no relu. It belongs between the layers, and each rank can apply it to its own hidden "
    "units."
)
def _no_relu(x: Tensor, first: Tensor, bias: Tensor, second: Tensor, ranks: int) -> list[Tensor]:
    parts = zip(first.chunk(ranks), bias.chunk(ranks), second.chunk(ranks, 1), strict=True)
    return [(x @ rows.T + more) @ columns.T for rows, more, columns in parts]


@misconception("The bias is missing: each hidden unit has its own, and goes with it.")
def _unbiased(x: Tensor, first: Tensor, bias: Tensor, second: Tensor, ranks: int) -> list[Tensor]:
    return split_terms(x, first, torch.zeros_like(bias), second, ranks)


@misconception(
    lambda x, first, bias, second, ranks: (
        f"The sum is right. But rank r is to have {len(bias) // ranks} consecutive units, and you "
        f"deal them out in turn."
    )
)
def _dealt_out(x: Tensor, first: Tensor, bias: Tensor, second: Tensor, ranks: int) -> list[Tensor]:
    return [
        torch.relu(x @ first[r::ranks].T + bias[r::ranks]) @ second[:, r::ranks].T
        for r in range(ranks)
    ]


SPLIT_TERMS = Exercise(
    "02.3",
    "Two layers, split inside",
    split_terms,
    cases=_pairs,
    misconceptions=[
        _whole_everywhere,
        _an_nth_each,
        _relu_too_late,
        _no_relu,
        _unbiased,
        _dealt_out,
    ],
    otherwise=lambda x, first, bias, second, ranks: (
        f"Of {len(bias)} hidden units rank 0 has the first {len(bias) // ranks}: rows of `first`, "
        f"entries of `bias`, columns of `second`."
    ),
    tolerance=1e-5,
)


EXERCISES: list[Exercise] = [NAME_THE_SPLIT, LAYER_TABLE, SPLIT_TERMS, BREAK_EVEN]
