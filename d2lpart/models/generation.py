"""Text from a model: one token drawn at a time, each from the logits that the last ones give."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from d2lpart.common.arguments import check_kind, check_number


def generate(
    model: Callable[[Tensor], Tensor],
    prompt: Tensor,
    num_new: int,
    *,
    context: int | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Continue a prompt with tokens drawn one at a time from the model's last logits.

    Args:
        model: anything that turns tokens (B, T) into logits (B, T, V). An `nn.Module` runs in
            evaluation mode and is left in the mode it had; no gradients are recorded.
        prompt: token ids, (B, T) or (T,).
        num_new: how many tokens to add.
        context: the most positions the model takes; only the last `context` tokens are shown
            to it. None means `model.context`.
        temperature: the logits are divided by it. Below 1 the likely tokens become likelier;
            at 0 the likeliest is always taken.
        generator: where the random numbers come from; None means torch's global generator.

    Returns:
        the prompt and the new tokens: integers, (B, T + num_new) or (T + num_new,).

    Raises:
        ValueError: an empty prompt, a negative number or temperature, or an unknown context.

    >>> def count_on(tokens):
    ...     return nn.functional.one_hot((tokens + 1) % 10, 10).float()
    >>> generate(count_on, torch.tensor([7]), 5, context=4, temperature=0)
    tensor([7, 8, 9, 0, 1, 2])
    """
    context = _context_of(model) if context is None else context
    _check_request(prompt, num_new, context, temperature)
    tokens = prompt[None] if prompt.dim() == 1 else prompt
    tokens = tokens.long()  # (B, T)
    with torch.no_grad(), _evaluating(model):
        for _ in range(num_new):
            logits = model(tokens[:, -context:])[:, -1]  # (B, V)
            drawn = _draw_tokens(logits, temperature, generator)  # (B, 1)
            tokens = torch.cat([tokens, drawn.to(tokens.device)], dim=1)
    return tokens[0] if prompt.dim() == 1 else tokens


def _draw_tokens(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """Draw one token for each row of logits (B, V); the result is (B, 1)."""
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    chances = torch.softmax(logits.float() / temperature, dim=-1)
    if generator is not None:
        chances = chances.to(generator.device)
    return torch.multinomial(chances, num_samples=1, generator=generator)


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Run a module in evaluation mode, then give each of its parts back the mode it had."""
    parts = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [part.training for part in parts]
    try:
        for part in parts:
            part.training = False
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode


def _context_of(model: Any) -> int:
    context = getattr(model, "context", None)
    if not isinstance(context, int):
        raise ValueError(
            f"{type(model).__name__} does not say how many positions it takes; "
            "pass context=, the one the decoder was built with"
        )
    return context


def _check_request(prompt: Tensor, num_new: int, context: int, temperature: float) -> None:
    check_kind(prompt, Tensor, "give token ids; of a text, Corpus.encode(text)")
    check_number("temperature", temperature)
    if prompt.dim() not in (1, 2) or prompt.shape[-1] == 0:
        raise ValueError(
            f"a prompt of shape {tuple(prompt.shape)}: the model continues what is there; "
            "pass at least 1 token, as (positions,) or (batch, positions)"
        )
    if not isinstance(num_new, int) or num_new < 0:
        raise ValueError(f"num_new={num_new}: tokens can only be added; use at least 0")
    if context < 1:
        raise ValueError(f"context={context}: the model must see something; use at least 1")
    if temperature < 0:
        raise ValueError(
            f"temperature={temperature}: the logits are divided by it; use a positive number, "
            "or 0 for the likeliest token"
        )
