"""Layers split inside: each rank holds a part of one layer's weights, and computes its share.

A linear layer y = W x + b can be cut by its outputs (rows of torch's weight: every rank needs all
of x and makes some of y), or by its inputs (columns of it: every rank needs some of x and makes a
term of all of y). A convolution is a linear layer on channels. Megatron-LM (arXiv 1909.08053)
writes y = x A, and calls the first *column parallel* and the second *row parallel*.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from d2lpart.models.decoder import Attention, Block, Head, Perceptron
from d2lpart.splits.collectives import Group, Tensors, copied, summed

Linear = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def even_sizes(number: int, ranks: int, what: str) -> list[int]:
    """Share a number of things over ranks, as evenly as it goes; the first ranks get one more.

    Raises:
        ValueError: there are fewer things than ranks.

    >>> even_sizes(50, 3, "output channels")
    [17, 17, 16]
    """
    if ranks > number:
        raise ValueError(
            f"{ranks} ranks for {number} {what}: each rank needs at least one; use at most "
            f"{number} ranks"
        )
    return [number // ranks + (rank < number % ranks) for rank in range(ranks)]


@dataclass(frozen=True)
class Shares:
    """How a tensor is shared: rank r gets a run of `sizes[r]` places along `dim`.

    With `groups`, the places are so many groups of equal length, and a rank gets a run of each:
    queries, keys and values lie in one weight, and a head is a run of each of the three.
    """

    dim: int
    sizes: Sequence[int]
    groups: int = 1

    def cut(self, tensor: Tensor) -> list[Tensor]:
        """Return each rank's share."""
        grouped = tensor.unflatten(self.dim, (self.groups, -1))
        parts = grouped.split(list(self.sizes), self.dim + 1)
        return [part.flatten(self.dim, self.dim + 1) for part in parts]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the tensor of which these are the shares."""
        grouped = [part.unflatten(self.dim, (self.groups, -1)) for part in parts]
        return torch.cat(grouped, self.dim + 1).flatten(self.dim, self.dim + 1)


class Split(nn.Module):
    """One layer over all ranks: `parts[r]` is what rank r has of it, on the device of rank r.

    shares: for the name of each weight that is shared, how; every rank has all of the others.
    """

    def __init__(self, layer: nn.Module, group: Group, shares: Mapping[str, Shares]) -> None:
        super().__init__()
        self.group, self.shares = group, shares
        self.parts = nn.ModuleList(copy.deepcopy(layer) for _ in group.devices)
        for name, weight in layer.named_parameters(recurse=False):
            if name in shares:
                cut = shares[name].cut(weight.detach())
                for part, own in zip(self.parts, cut, strict=True):
                    setattr(part, name, nn.Parameter(own.clone(), weight.requires_grad))
        for part, device in zip(self.parts, group.devices, strict=True):
            part.to(device).zero_grad()
            _tell_sizes(part)

    def joined(self, read: Callable[[Tensor], Tensor | None]) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, value) of the unsplit layer; `read` takes a part's weight or buffer.

        Where `read` returns None, nothing is yielded. What every rank has is read off rank 0.
        """
        first = self.parts[0]
        for name, tensor in (*first.named_parameters(), *first.named_buffers()):
            shares = self.shares.get(name)
            tensors = [getattr(part, name) for part in self.parts] if shares else [tensor]
            values = [value.to(tensor.device) for value in map(read, tensors) if value is not None]
            if values:
                yield name, shares.join(values) if shares else values[0]


def _tell_sizes(part: nn.Module) -> None:
    """Let a part of a linear layer say its own sizes, not those of the layer it was cut from."""
    if isinstance(part, LINEAR):
        names = ("out_features", "in_features")
        if not isinstance(part, nn.Linear):
            names = ("out_channels", "in_channels")
        for name, size in zip(names, part.weight.shape, strict=False):
            setattr(part, name, size)


class OnEveryRank(Split):
    """A layer that is not split: every rank has all of it, and all compute the same."""

    def __init__(self, layer: nn.Module, group: Group) -> None:
        super().__init__(layer, group, {})

    def forward(self, values: Tensors) -> list[Tensor]:
        """Turn whole values into whole ones; of a layer for each channel, shared into shared."""
        return [part(value) for part, value in zip(self.parts, values, strict=True)]


class ByOutputs(Split):
    """A linear or convolutional layer of which each rank computes some outputs.

    `sizes`: the outputs of each rank; `groups`: as in `Shares`. Input whole, output shared.
    """

    def __init__(self, layer: Linear, group: Group, sizes: Sequence[int], groups: int = 1) -> None:
        shares = Shares(0, sizes, groups)
        super().__init__(layer, group, {"weight": shares, "bias": shares})

    def forward(self, values: Tensors) -> list[Tensor]:
        """Compute each rank's outputs from whole values, which `copied` or `spread` hands over."""
        return [_apply(*pair, biased=True) for pair in zip(self.parts, values, strict=True)]


class ByInputs(Split):
    """A linear or convolutional layer that each rank applies to some inputs.

    `sizes`: the inputs of each rank. Input shared, output whole: the ranks' terms are summed. The
    bias is added after that, once, by every rank.
    """

    def __init__(self, layer: Linear, group: Group, sizes: Sequence[int]) -> None:
        super().__init__(layer, group, {"weight": Shares(1, sizes)})

    def forward(self, values: Tensors) -> list[Tensor]:
        """Compute a term on each rank and sum them: one barrier."""
        terms = [_apply(*pair, biased=False) for pair in zip(self.parts, values, strict=True)]
        wholes = summed(self.group, terms)
        return [_add_bias(*pair) for pair in zip(self.parts, wholes, strict=True)]


def _apply(part: nn.Module, value: Tensor, *, biased: bool) -> Tensor:
    assert isinstance(part, LINEAR)
    bias = part.bias if biased else None
    if isinstance(part, nn.Linear):
        return F.linear(value, part.weight, bias)
    return part._conv_forward(value, part.weight, bias)


def _add_bias(part: nn.Module, whole: Tensor) -> Tensor:
    assert isinstance(part, LINEAR)
    if part.bias is None:
        return whole
    places = part.weight.dim() - 2  # behind the channels of a convolution stand its places
    return whole + part.bias.view(-1, *[1] * places)


class SplitAttention(nn.Module):
    """Attention split by heads: each rank mixes the positions for its own heads alone."""

    def __init__(self, attention: Attention, group: Group) -> None:
        super().__init__()
        width = attention.output.in_features // attention.num_heads
        self.heads = even_sizes(attention.num_heads, len(group), "attention heads")
        sizes = [heads * width for heads in self.heads]
        self.query_key_value = ByOutputs(attention.query_key_value, group, sizes, groups=3)
        self.output = ByInputs(attention.output, group, sizes)

    def forward(self, values: Tensors) -> list[Tensor]:
        """Mix the positions of whole values (B, T, C) on each rank: one barrier, at the end."""
        qkv = self.query_key_value(values)
        mixed = [_mix(own, heads) for own, heads in zip(qkv, self.heads, strict=True)]
        return self.output(mixed)


def _mix(qkv: Tensor, heads: int) -> Tensor:
    """Attend with the heads of one rank; qkv (B, T, 3 · heads · D) becomes (B, T, heads · D)."""
    query, key, value = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)  # (B, heads, T, D)
    return mixed.transpose(1, 2).flatten(2)


class SplitPerceptron(nn.Module):
    """A perceptron split by its hidden units: by outputs, then by inputs, nothing in between."""

    def __init__(self, perceptron: Perceptron, group: Group) -> None:
        super().__init__()
        hidden = perceptron.hidden.out_features
        sizes = even_sizes(hidden, len(group), "hidden units")
        self.hidden = ByOutputs(perceptron.hidden, group, sizes)
        self.output = ByInputs(perceptron.output, group, sizes)

    def forward(self, values: Tensors) -> list[Tensor]:
        """Map whole values (B, T, C): one barrier, at the end."""
        return self.output([F.gelu(own) for own in self.hidden(values)])


class SplitBlock(nn.Module):
    """A decoder block: two barriers forward, two backward, however wide it is."""

    def __init__(self, block: Block, group: Group) -> None:
        super().__init__()
        self.group = group
        self.attention_norm = OnEveryRank(block.attention_norm, group)
        self.attention = SplitAttention(block.attention, group)
        self.perceptron_norm = OnEveryRank(block.perceptron_norm, group)
        self.perceptron = SplitPerceptron(block.perceptron, group)
        self.dropout = OnEveryRank(block.dropout, group)

    def forward(self, values: Tensors) -> list[Tensor]:
        """Add both branches to whole values (B, T, C)."""
        values = self._add(values, self.attention, self.attention_norm)
        return self._add(values, self.perceptron, self.perceptron_norm)

    def _add(self, values: Tensors, branch: nn.Module, norm: nn.Module) -> list[Tensor]:
        added = self.dropout(branch(copied(self.group, norm(values))))
        return [value + more for value, more in zip(values, added, strict=True)]


class SplitHead(nn.Module):
    """A decoder's head split by tokens of the vocabulary: shared logits."""

    def __init__(self, head: Head, group: Group) -> None:
        super().__init__()
        self.group = group
        self.norm = OnEveryRank(head.norm, group)
        tokens = even_sizes(head.projection.out_features, len(group), "tokens")
        self.tokens = tuple(tokens)
        self.projection = ByOutputs(head.projection, group, tokens)

    def forward(self, values: Tensors) -> list[Tensor]:
        """Score some tokens on each rank, from whole values (B, T, C)."""
        return self.projection(copied(self.group, self.norm(values)))
