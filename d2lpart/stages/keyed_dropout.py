"""Dropout from keyed generators: the same key gives the same mask, wherever a layer runs.

Dropout draws from one generator for the whole process, so its masks hang on the order in which
layers run, and ranks on threads race for it. Here each (layer, micro-batch) brings a generator
of its own. A cut of the network then changes no mask.
"""

import hashlib
import math
import operator
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint

from d2lpart.stages.layer_parts import parts


class keyed_randomness(TorchFunctionMode):
    """A context in which dropout draws from a generator seeded by whole numbers.

    Inside, and on this thread only, these draw from the keyed generator of their tensor's
    device: every dropout of `torch` and `torch.nn.functional` (so every `nn.Dropout` too),
    `F.scaled_dot_product_attention` with `dropout_p` > 0, and `nn.MultiheadAttention` with the
    transformer layers built on it. Several draws in one context differ from each other.
    Torch's global generators are neither read nor advanced by them.

    Everything else that is random (`torch.rand`, `nn.RReLU`, the dropout inside `nn.LSTM` ...)
    goes on using the global generator. A CPU and a GPU turn one key into different masks,
    since their generators differ.

    Args:
        seed: the seed of the run.
        key: what tells the draws apart, for example step, layer, micro-batch.

    >>> x = torch.ones(8)
    >>> with keyed_randomness(0, 3, 1):
    ...     first = F.dropout(x, 0.5)
    >>> with keyed_randomness(0, 3, 1):
    ...     again = F.dropout(x, 0.5)
    >>> with keyed_randomness(0, 3, 2):
    ...     other = F.dropout(x, 0.5)
    >>> torch.equal(first, again), torch.equal(first, other)
    (True, False)
    """

    def __init__(self, seed: int, *key: int) -> None:
        super().__init__()
        self.seed = generator_seed(seed, *key)
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace the functions that drop; leave every other one alone."""
        replacement = _REPLACEMENTS.get(func)
        if replacement is None:
            return func(*args, **(kwargs or {}))
        return replacement(self, *args, **(kwargs or {}))

    def draw(self, shape: tuple[int, ...], chance: float, device: torch.device) -> Tensor:
        """Return a bool tensor on `device`, each value true with the given chance.

        Raises:
            ValueError: a checkpoint would draw other values when it runs its forward again.
        """
        if _in_checkpoint():
            raise ValueError(
                "dropout inside torch.utils.checkpoint draws another mask when its forward runs "
                "again in the backward: take the checkpoint away, and pass recompute=True to the "
                "Pipeline, which draws the same one"
            )
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self.seed)
        # On a CPU this is twice as fast as `bernoulli_`.
        return torch.rand(shape, generator=self._generators[device], device=device) < chance


def _in_checkpoint() -> bool:
    """Say whether a checkpoint is among the callers: nothing else tells both of its kinds."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") != checkpoint.__name__:
        frame = frame.f_back
    return frame is not None


def generator_seed(seed: int, *key: int) -> int:
    """Mix a seed and a key into one number of 63 bits; near keys give unrelated numbers."""
    text = repr([operator.index(part) for part in (seed, *key)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def uses_randomness(module: nn.Module) -> bool:
    """Say whether a layer, in the mode it is in, has a dropout that keyed randomness must reach.

    That is a dropout module with p > 0, or a part with a positive float whose name contains
    "dropout" (as `nn.MultiheadAttention` and most libraries' attention have), while in training
    mode. A probability written inside a `forward` cannot be seen from outside; give it such a
    name. Every operation costs more inside `keyed_randomness`, so it is for these layers only.

    >>> layer = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
    >>> uses_randomness(layer), uses_randomness(layer.eval())
    (True, False)
    """
    return any(part.training and _drops(part) for part in parts([module]))


def _drops(part: nn.Module) -> bool:
    if isinstance(part, _DropoutNd):
        return part.p > 0
    for name, value in vars(part).items():  # runs for every module of every step: no generator
        if "dropout" in name and isinstance(value, float) and value > 0:
            return True
    return False


def _drop(
    mode: keyed_randomness,
    input: Tensor,
    p: float,
    train: bool,
    *,
    channels: bool = False,
    alpha: bool = False,
    inplace: bool = False,
) -> Tensor:
    """Do what `torch.dropout` and its kin do, with a keyed mask (after ATen's Dropout.cpp).

    `channels` drops whole channels: the values with the same first two indices together.
    `alpha` keeps mean and variance of SELU activations (Klambauer et al., 1706.02515).
    """
    if not 0 <= p <= 1:
        raise ValueError(f"a dropout of {p}: it is a probability; use a number from 0 to 1")
    if not train or p == 0:
        return input
    shape = input.shape[:2] + (1,) * (input.dim() - 2) if channels else input.shape
    keep = mode.draw(shape, 1 - p, input.device)
    kept = input.mul_(keep) if inplace else input * keep
    if p == 1:
        return kept
    if not alpha:
        return kept.mul_(1 / (1 - p))
    floor = 1.7580993408473766  # SELU's output far below zero, with the sign changed
    scale = 1 / math.sqrt((floor**2 * p + 1) * (1 - p))
    return kept.mul_(scale).add_((keep.to(input.dtype) - (1 - p)) * (floor * scale))


def _dropout(
    mode: keyed_randomness,
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> Tensor:
    """Do what `F.dropout` does: the one most called, so by the shortest way."""
    return _drop(mode, input, p, training, inplace=inplace)


def _attend(
    mode: keyed_randomness,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Do what `F.scaled_dot_product_attention` does; with dropout, written out and keyed.

    The fused kernels take no generator. Written out, the weights need memory for every pair
    of positions.
    """
    if dropout_p == 0:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if enable_gqa:
        copies = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(copies, dim=-3) for x in (key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * scale) @ key.transpose(-2, -1)
    weights = _weights(scores, _bias(scores, attn_mask, is_causal))
    return _drop(mode, weights.to(value.dtype), dropout_p, True) @ value


def _bias(scores: Tensor, attn_mask: Tensor | None, is_causal: bool) -> Tensor | None:
    """Return what is added to the scores: minus infinity where a position may not look."""
    if is_causal:
        if attn_mask is not None:
            raise ValueError("is_causal and attn_mask are given: use 1 of the 2 masks")
        shape = scores.shape[-2:]
        attn_mask = torch.ones(shape, dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        zeros = torch.zeros_like(attn_mask, dtype=scores.dtype)
        return zeros.masked_fill(~attn_mask, -math.inf)
    return attn_mask


def _weights(scores: Tensor, bias: Tensor | None) -> Tensor:
    """Return the softmax of the last dimension; a row that may look nowhere is all zeros."""
    exact = torch.promote_types(scores.dtype, torch.float32)
    if bias is None:
        return scores.softmax(dim=-1, dtype=exact)
    scores = scores + bias
    blind = (scores == -math.inf).all(dim=-1, keepdim=True)
    return scores.masked_fill(blind, 0).softmax(dim=-1, dtype=exact).masked_fill(blind, 0)


def _opened(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a replacement that runs a Python function of `F` with the mode still on inside.

    Such a function hands itself to the mode on entry, and a mode is off while it handles a
    call, so the dropout inside would go unseen. The copy skips that entry.
    """
    assert isinstance(function, FunctionType)
    copy = FunctionType(function.__code__, _OPEN_NAMES, argdefs=function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__

    def replacement(mode: keyed_randomness, *args: Any, **kwargs: Any) -> Any:
        with mode:
            return copy(*args, **kwargs)

    return replacement


def _never(*_: Any) -> bool:
    return False


_OPEN_NAMES = vars(F) | {"has_torch_function": _never, "has_torch_function_unary": _never}
_REPLACEMENTS: dict[Any, Callable[..., Any]] = {
    F.scaled_dot_product_attention: _attend,
    torch.dropout: _drop,
    torch.dropout_: partial(_drop, inplace=True),
    torch.feature_dropout: partial(_drop, channels=True),
    torch.feature_dropout_: partial(_drop, channels=True, inplace=True),
    torch.alpha_dropout: partial(_drop, alpha=True),
    torch.alpha_dropout_: partial(_drop, alpha=True, inplace=True),
    torch.feature_alpha_dropout: partial(_drop, channels=True, alpha=True),
    torch.feature_alpha_dropout_: partial(_drop, channels=True, alpha=True, inplace=True),
    F.dropout: _dropout,
    F.dropout1d: _opened(F.dropout1d),
    F.dropout2d: _opened(F.dropout2d),
    F.dropout3d: _opened(F.dropout3d),
    F.alpha_dropout: _opened(F.alpha_dropout),
    F.feature_alpha_dropout: _opened(F.feature_alpha_dropout),
    F.multi_head_attention_forward: _opened(F.multi_head_attention_forward),
}
