"""The gradients of a step: set aside before it, added up after it, as they were if it fails."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn


@contextmanager
def gradients_kept(parameters: Sequence[nn.Parameter]) -> Iterator[Sequence[nn.Parameter]]:
    """Set gradients aside; add the new ones to them at the end, or put them back on failure."""
    before = [parameter.grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.grad = None
        yield parameters
    except BaseException:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient
        raise
    for parameter, gradient in zip(parameters, before, strict=True):
        if gradient is not None:
            new = parameter.grad
            parameter.grad = gradient if new is None else gradient.add_(new)


def divide(parameters: Sequence[nn.Parameter], divisor: float) -> None:
    """Divide the gradients in place."""
    if divisor != 1.0:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= divisor
