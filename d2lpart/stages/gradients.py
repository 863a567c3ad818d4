"""The gradients of a step: set aside before it, added up after it, as they were if it fails."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from d2lpart.common.interrupts import uninterrupted


@contextmanager
def gradients_kept(parameters: Sequence[nn.Parameter]) -> Iterator[Sequence[nn.Parameter]]:
    """Set gradients aside; add the new ones to them at the end, or put them back on failure.

    All are added or none: an interrupt comes before the first of them or after the last.
    """
    before = [parameter.grad for parameter in parameters]
    done = False
    try:
        for parameter in parameters:
            parameter.grad = None
        yield parameters
        new = [parameter.grad for parameter in parameters]
        sums = [_sum_if_unlike(*pair) for pair in zip(before, new, strict=True)]  # may yet fail
        with uninterrupted():
            for parameter, total, *pair in zip(parameters, sums, before, new, strict=True):
                parameter.grad = _sum(*pair) if total is None else total
            done = True
    except BaseException:
        if not done:
            with uninterrupted():
                for parameter, gradient in zip(parameters, before, strict=True):
                    parameter.grad = gradient
        raise


def _sum_if_unlike(before: Tensor | None, new: Tensor | None) -> Tensor | None:
    """Return the sum of two gradients where adding them in place may fail."""
    if before is None or new is None:
        return None
    one, other = ((x.dtype, x.device, x.layout, x.shape) for x in (before, new))
    shared = torch._debug_has_internal_overlap(before) != 0 or before.is_inference()
    return None if one == other and not shared else before + new


def _sum(before: Tensor | None, new: Tensor | None) -> Tensor | None:
    if before is None or new is None:
        return new if before is None else before
    return before.add_(new)


def divide(parameters: Sequence[nn.Parameter], divisor: float) -> None:
    """Divide the gradients in place."""
    if divisor != 1.0:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= divisor
