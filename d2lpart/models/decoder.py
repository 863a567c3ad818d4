"""A GPT-style transformer decoder as an explicit list of layers: embedding, blocks, head.

The letters in the shape comments of this file:

    B  samples in the batch          H  attention heads
    T  positions in a sample         D  width of one head, C / H
    C  width of the model            V  tokens in the vocabulary
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from d2lpart.common.arguments import check_kind, check_number
from d2lpart.models.generation import generate

INTEGER_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Embedding(nn.Module):
    """The first layer: a learned vector for each token plus one for each position.

    >>> Embedding(vocab_size=10, width=4, context=8)(torch.zeros(2, 3, dtype=torch.long)).shape
    torch.Size([2, 3, 4])
    """

    def __init__(self, vocab_size: int, width: int, context: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, width)
        self.position = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn token ids (B, T) of any integer type into vectors (B, T, C).

        Raises:
            ValueError: no integers, another shape, more positions than the context, or an id that
                the vocabulary does not have (on the CPU; a GPU reports it as an error of its own).
        """
        self._check(tokens)
        positions = self.position.weight[: tokens.shape[1]]  # (T, C)
        try:
            vectors = self.token(tokens.long())  # (B, T, C)
        except IndexError:  # raised on CPU only: a GPU reports a wrong id as a device-side assert
            raise ValueError(self._wrong_ids(tokens)) from None
        return self.dropout(vectors + positions)

    def _check(self, tokens: Tensor) -> None:
        check_kind(tokens, Tensor, "pass token ids, for example torch.tensor([[1, 2, 3]])")
        if tokens.dtype not in INTEGER_TYPES:
            raise ValueError(
                f"tokens of type {tokens.dtype}: the embedding looks up whole numbers; "
                "pass token ids, for example tokens.long()"
            )
        if tokens.dim() != 2:
            raise ValueError(
                f"tokens of shape {tuple(tokens.shape)}: the decoder takes 2 dimensions "
                "(batch, positions); a single sample is tokens[None]"
            )
        context = self.position.num_embeddings
        if tokens.shape[1] > context:
            raise ValueError(
                f"{tokens.shape[1]} positions for a context of {context}: each position needs "
                f"its own vector; pass at most {context} positions, or build the decoder "
                f"with context={tokens.shape[1]}"
            )

    def _wrong_ids(self, tokens: Tensor) -> str:
        vocab_size = self.token.num_embeddings
        return (
            f"token ids from {tokens.min()} to {tokens.max()} for a vocabulary of {vocab_size}: "
            f"ids go from 0 to {vocab_size - 1}; use a larger vocab_size or other ids"
        )

    def __repr__(self) -> str:
        vocab_size, width = self.token.weight.shape
        context = self.position.num_embeddings
        return f"Embedding(vocab_size={vocab_size}, width={width}, context={context})"


class Attention(nn.Module):
    """Causal self-attention: every position looks at itself and at those before it."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the positions of x (B, T, C); the shape stays."""
        B, T, C = x.shape
        qkv = self.query_key_value(x).view(B, T, 3, self.num_heads, C // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind()  # each (B, H, T, D)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)  # (B, H, T, D)
        return self.output(mixed.transpose(1, 2).reshape(B, T, C))


class Perceptron(nn.Module):
    """Two linear maps with a GELU between them, for each position by itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, 4 * width)
        self.output = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map each vector of x (B, T, C); the shape stays."""
        return self.output(F.gelu(self.hidden(x)))  # (B, T, 4C) inside


class Block(nn.Module):
    """A middle layer: attention, then a perceptron, each on a normalised copy of the stream.

    Dropout acts on what the two branches add to the stream, and nowhere else.

    >>> Block(width=8, num_heads=2)(torch.zeros(2, 3, 8)).shape
    torch.Size([2, 3, 8])
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads)
        self.perceptron_norm = nn.LayerNorm(width)
        self.perceptron = Perceptron(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Add both branches to x (B, T, C); the shape stays."""
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.perceptron(self.perceptron_norm(x)))

    def __repr__(self) -> str:
        width, num_heads = self.attention.output.in_features, self.attention.num_heads
        return f"Block(width={width}, num_heads={num_heads})"


class Head(nn.Module):
    """The last layer: a normalisation, then one score (logit) for each token to come next.

    >>> Head(width=4, vocab_size=10)(torch.zeros(2, 3, 4)).shape
    torch.Size([2, 3, 10])
    """

    def __init__(self, width: int, vocab_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, vocab_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Turn vectors (B, T, C) into logits (B, T, V)."""
        return self.projection(self.norm(x))

    def __repr__(self) -> str:
        vocab_size, width = self.projection.weight.shape
        return f"Head(width={width}, vocab_size={vocab_size})"


class Decoder(nn.Sequential):
    """A decoder of `num_layers` blocks between an embedding and a head.

    It is an `nn.Sequential` of `num_layers` + 2 layers, so that it can be cut between any two
    of them, and its `state_dict` has the keys of `nn.Sequential(*model.layers)`.

    Args:
        vocab_size: the number of token ids, V.
        width: the length of the vector at each position, C; a multiple of `num_heads`.
        num_layers: the number of blocks.
        num_heads: the attention heads of each block, H.
        context: the most positions a sample may have.
        dropout: the share of values set to zero in training, in [0, 1).
        tied: the head's weight and the embedding's token vectors are one Parameter.

    The weights are drawn from torch's global generator, normal, for small decoders that are to
    learn within minutes: linear maps with standard deviation 1/√inputs (LeCun et al. 1998,
    "Efficient BackProp"), divided by √(2 * num_layers) where a branch joins the stream (GPT-2,
    Radford et al. 2019); embeddings with 1; the head with 0.02, so that training begins near the
    loss of a blind guess, ln V. A tied weight has 1/√C. Biases are zero.

    Raises:
        ValueError: a size below 1, a width the heads cannot share evenly, or a dropout
            outside [0, 1).

    >>> model = Decoder(vocab_size=256, width=64, num_layers=2, num_heads=4, context=32)
    >>> model.layers  # doctest: +NORMALIZE_WHITESPACE
    [Embedding(vocab_size=256, width=64, context=32), Block(width=64, num_heads=4),
     Block(width=64, num_heads=4), Head(width=64, vocab_size=256)]
    >>> model(torch.zeros(3, 16, dtype=torch.long)).shape
    torch.Size([3, 16, 256])
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        num_layers: int,
        num_heads: int,
        context: int,
        *,
        dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        _check_sizes(
            vocab_size=vocab_size,
            width=width,
            num_layers=num_layers,
            num_heads=num_heads,
            context=context,
        )
        _check_heads(width, num_heads)
        _check_dropout(dropout)
        embedding = Embedding(vocab_size, width, context, dropout)
        blocks = [Block(width, num_heads, dropout) for _ in range(num_layers)]
        head = Head(width, vocab_size)
        if tied:
            head.projection.weight = embedding.token.weight
        super().__init__(embedding, *blocks, head)
        self.vocab_size, self.width, self.context = vocab_size, width, context
        _draw_weights(embedding, blocks, head)

    @property
    def layers(self) -> list[nn.Module]:
        """The layers in order: the embedding, the blocks, the head."""
        return list(self)

    def __getitem__(self, index: int | slice) -> Any:
        """Return a layer, or for a slice an `nn.Sequential` of consecutive layers."""
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict(list(self._modules.items())[index]))
        return super().__getitem__(index)

    def generate(
        self,
        prompt: Tensor,
        num_new: int,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Continue `prompt` by `num_new` tokens: see the function `generate`."""
        return generate(self, prompt, num_new, temperature=temperature, generator=generator)


def _draw_weights(embedding: Embedding, blocks: list[Block], head: Head) -> None:
    for block in blocks:
        for linear in (part for part in block.modules() if isinstance(part, nn.Linear)):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
            nn.init.zeros_(linear.bias)
        for joining in (block.attention.output, block.perceptron.output):
            joining.weight.data /= (2 * len(blocks)) ** 0.5
    nn.init.normal_(head.projection.weight, std=0.02)
    tied = head.projection.weight is embedding.token.weight
    for vectors in (embedding.token, embedding.position):
        nn.init.normal_(vectors.weight, std=vectors.embedding_dim**-0.5 if tied else 1.0)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(
                f"{name}={size!r}: every size of a decoder is a whole number; use at least 1"
            )


def _check_heads(width: int, num_heads: int) -> None:
    if width % num_heads:
        above = (width // num_heads + 1) * num_heads
        raise ValueError(
            f"width {width} for {num_heads} heads: each head takes an equal share of the width; "
            f"use a multiple of {num_heads}, for example {above}"
        )


def _check_dropout(dropout: float) -> None:
    check_number("dropout", dropout)
    if not 0 <= dropout < 1:
        raise ValueError(
            f"dropout={dropout}: it is the share of values set to zero; "
            "use at least 0 and less than 1"
        )
