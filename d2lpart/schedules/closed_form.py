"""The bubble of the named schedules by formula, each with the range in which it holds.

Notation: p ranks, m micro-batches, v chunks (stages a rank); F, I and W the times of forward,
input gradient and weight gradient of one micro-batch on a rank's whole share, alike on all ranks;
B = I + W. Messages take no time.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from d2lpart.common.arguments import check_number

IDLE_TOTAL, IDLE_IDEAL = "idle/total", "idle/ideal"
BUBBLE_RATE = "(cost − m(F+I+W))/cost"
DEFINITIONS = (IDLE_TOTAL, IDLE_IDEAL, BUBBLE_RATE)
"""Idle against the step; idle against computing; and with the longest rank span as cost."""


class Sizes(NamedTuple):
    """What the formulas are about: p, m, v and the seconds F, I, W."""

    p: int
    m: int
    v: int
    F: float
    I: float  # noqa: E741
    W: float


class Form(NamedTuple):
    """A formula of a schedule's idle seconds on a rank, its range, and where it comes from."""

    formula: str
    seconds: Callable[[Sizes], float]
    range: str
    holds: Callable[[Sizes], bool]
    definitions: tuple[str, ...]
    source: str


def _even(s: Sizes) -> bool:
    return math.isclose(s.F, s.I, rel_tol=1e-9) and math.isclose(s.F, s.W, rel_tol=1e-9)


def _pipeline(s: Sizes) -> float:
    return (s.p - 1) * (s.F + s.I + s.W) / s.v


_LAST = (BUBBLE_RATE,)  # ranks start and end at different moments: the others have no closed form

FORMS = {
    "naive": Form(
        "m(p−1)(F+B)",
        lambda s: s.m * (s.p - 1) * (s.F + s.I + s.W),
        "any p, m and v",
        lambda s: True,
        DEFINITIONS,
        "one rank of p works at a time",
    ),
    "gpipe": Form(
        "(p−1)(F+B)/v",
        _pipeline,
        "m ≥ p or v = 1",
        lambda s: s.m >= s.p or s.v == 1,
        DEFINITIONS,
        "GPipe (arXiv 1811.06965), section 2",
    ),
    "1f1b": Form(
        "(p−1)(F+B)",
        _pipeline,
        "v = 1",
        lambda s: s.v == 1,
        DEFINITIONS,
        "Megatron-LM (arXiv 2104.04473), section 2.2",
    ),
    "interleaved": Form(
        "(p−1)(F+B)/v",
        _pipeline,
        "m a multiple of p",
        lambda s: s.m % s.p == 0,
        DEFINITIONS,
        "Megatron-LM (arXiv 2104.04473), section 2.2",
    ),
    "zb-h1": Form(
        "(p−1)(F+I−W)",
        lambda s: (s.p - 1) * (s.F + s.I - s.W),
        "m ≥ p, v = 1 and W ≤ F",
        lambda s: s.m >= s.p and s.v == 1 and s.W <= s.F,
        _LAST,
        "Zero Bubble Pipeline Parallelism (arXiv 2401.10241), section 2",
    ),
    "zb-h2": Form(
        "(p−1)(F+I−2W)",
        lambda s: (s.p - 1) * (s.F + s.I - 2 * s.W),
        "m ≥ 2p−1, v = 1 and W ≤ F, I",
        lambda s: s.m >= 2 * s.p - 1 and s.v == 1 and min(s.F, s.I) >= s.W,
        _LAST,
        "Zero Bubble Pipeline Parallelism (arXiv 2401.10241), section 2",
    ),
    "zb-v": Form(
        "0",
        lambda s: 0.0,
        "m ≥ 2p−1, v = 2 and F = I = W",
        lambda s: s.m >= 2 * s.p - 1 and s.v == 2 and _even(s),
        _LAST,
        "Zero Bubble Pipeline Parallelism (arXiv 2401.10241), section 6",
    ),
}


def bubble_formula(
    name: str,
    num_ranks: int,
    num_microbatches: int,
    *,
    definition: str = IDLE_TOTAL,
    chunks: int = 1,
    forward: float = 1.0,
    input_gradient: float = 1.0,
    weight_gradient: float = 1.0,
) -> float:
    """Return the bubble of a named schedule with even stages, by formula.

    Args:
        name: a named schedule.
        num_ranks, num_microbatches, chunks: p, m and v, each at least 1.
        definition: one of `DEFINITIONS`.
        forward, input_gradient, weight_gradient: F, I and W in seconds, on a rank's whole share.

    Raises:
        ValueError: the schedule has no closed form in this definition, or not for these sizes.

    >>> bubble_formula("1f1b", 4, 8), bubble_formula("1f1b", 4, 8, definition="idle/ideal")
    (0.2727272727272727, 0.375)
    """
    if name not in FORMS:
        raise ValueError(f"{name!r} has no closed form: choose from {', '.join(FORMS)}")
    form = FORMS[name]
    if definition not in form.definitions:
        raise ValueError(
            f"{name} has no closed form of {definition!r}: use {' or '.join(form.definitions)}"
        )
    sizes = Sizes(num_ranks, num_microbatches, chunks, forward, input_gradient, weight_gradient)
    for letter, size in zip(Sizes._fields, sizes, strict=True):
        check_number(letter, size)
    if min(sizes[:3]) < 1 or not all(0 <= seconds < math.inf for seconds in sizes[3:]):
        raise ValueError(f"{sizes}: give p, m and v of at least 1, and seconds of 0 or more")
    if not form.holds(sizes):
        raise ValueError(f"{form.formula} holds for {form.range}, but here {sizes}")
    idle = form.seconds(sizes)
    ideal = sizes.m * (sizes.F + sizes.I + sizes.W)
    whole = ideal if definition == IDLE_IDEAL else ideal + idle
    return idle / whole if whole else 0.0
