"""A padding mask that rides along: one tensor crosses a cut, so the mask is its last column."""

from typing import Literal

import torch
from torch import Tensor, nn

PaddingSource = int | Literal["mask"] | None


class Attach(nn.Module):
    """The first layer of a padded decoder: embeds the tokens, and adds the mask as a column.

    Args:
        embedding: turns token ids (B, T) into vectors (B, T, C).
        padding: the id of a padding token, or "mask": see `layers_of`.

    >>> Attach(nn.Embedding(10, 4), padding=0)(torch.tensor([[0, 7, 8]]))[..., -1].tolist()
    [[0.0, 1.0, 1.0]]
    """

    def __init__(self, embedding: nn.Module, padding: int | Literal["mask"]) -> None:
        super().__init__()
        self.embedding = embedding
        self.padding = padding

    def forward(self, inputs: Tensor) -> Tensor:
        """Turn ids (B, T), or ids and mask (B, T, 2), into vectors and mask (B, T, C + 1)."""
        if isinstance(self.padding, int):
            ids, mask = inputs, inputs.ne(self.padding)
        elif inputs.dim() == 3 and inputs.shape[-1] == 2:
            ids, mask = inputs.unbind(-1)  # each (B, T)
        else:
            raise ValueError(
                f"inputs of shape {tuple(inputs.shape)}: with padding='mask' the input has ids and "
                f"mask, (batch, positions, 2); pass torch.stack([ids, attention_mask], dim=-1)"
            )
        return attach(self.embedding(ids), mask)

    def extra_repr(self) -> str:
        """Say where the mask comes from."""
        return f"padding={self.padding!r}"


def attach(x: Tensor, mask: Tensor) -> Tensor:
    """Add a mask (B, T) to vectors (B, T, C) as their last column, 1 for a token."""
    return torch.cat([x, (mask != 0).to(x.dtype)[..., None]], dim=-1)


def detach(x: Tensor) -> tuple[Tensor, Tensor]:
    """Undo `attach`: return the vectors (B, T, C) and the mask (B, T), true for a token."""
    return x[..., :-1], x[..., -1] != 0
