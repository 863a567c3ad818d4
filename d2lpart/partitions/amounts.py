"""Numbers as users give them: checked, taken exactly, and written in messages."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from numbers import Integral, Rational, Real
from typing import Any, Protocol

from d2lpart.common.quantities import count


class Timed(Protocol):
    """The cost of a layer that knows its seconds, or why it does not: a `LayerCost`."""

    @property
    def forward_seconds(self) -> float | None:
        """Of the forward alone; None where it was not timed."""

    @property
    def seconds(self) -> float:
        """Forward and backward together; a `ValueError` where they are not known."""


class PartitionError(ValueError):
    """A partition that cannot be: the message names the rule, the numbers and the remedy."""


class CapacityError(PartitionError):
    """Layers that do not fit the memory there is, however they are cut.

    Args:
        template: the message, with {} where an amount of memory stands.
        amounts: those, in the user's unit.

    >>> error = CapacityError("{} over", Fraction(13_990_666_240))
    >>> str(error), error.told(lambda amount: f"{float(amount) / 1e9:.0f} GB")
    ('13,990,666,240 over', '14 GB over')
    """

    def __init__(self, template: str, *amounts: Fraction) -> None:
        super().__init__(template, *amounts)

    def told(self, show: Callable[[Fraction], str]) -> str:
        """Return the message with the amounts as `show` writes them."""
        template, *amounts = self.args
        return str(template).format(*map(show, amounts))

    def __str__(self) -> str:
        return self.told(written)


def exact(name: str, value: Any) -> Fraction:
    """Return a finite number as a fraction; a float counts as the decimal it prints as.

    Raises:
        PartitionError: it is no number, or not finite.

    >>> exact("cost", 0.1) + exact("cost", 0.2) == exact("cost", 0.3)
    True
    """
    if not isinstance(value, Real):
        raise PartitionError(f"{name} is of type {type(value).__name__}: give a number")
    if isinstance(value, Integral):
        return Fraction(int(value))
    if isinstance(value, Rational):
        return Fraction(value)
    if not math.isfinite(value):
        raise PartitionError(f"{name} is {value}: give a finite number")
    return Fraction(repr(float(value)))


def listed(name: str, values: Any) -> list[Any]:
    """Return what the user gives as a list, with one entry a layer, a stage or a cut.

    Raises:
        PartitionError: it cannot be gone through.
    """
    try:
        each = iter(values)
    except TypeError:
        raise PartitionError(f"{name} is {values!r}: give a list of numbers") from None
    return list(each)


def costs_listed(costs: Any) -> list[Any]:
    """Return the cost of each layer as a number; of a profile, the seconds of each.

    Raises:
        PartitionError: there is no list, or a layer of a profile has no seconds.
    """
    return [_seconds(f"costs[{i}]", cost) for i, cost in enumerate(listed("costs", costs))]


def _seconds(name: str, cost: Any) -> Any:
    if not hasattr(cost, "forward_seconds"):
        return cost
    try:
        return cost.seconds
    except ValueError as error:
        raise PartitionError(f"{name}: {error}") from None


def exact_amounts(name: str, values: Any) -> list[Fraction]:
    """Return numbers that say how much, as fractions.

    Raises:
        PartitionError: one of them is no number, not finite, or below 0.
    """
    numbers = [exact(f"{name}[{i}]", value) for i, value in enumerate(listed(name, values))]
    for i, number in enumerate(numbers):
        if number < 0:
            raise PartitionError(f"{name}[{i}] is {written(number)}: give a number of at least 0")
    return numbers


def check_length(name: str, values: Sequence[Any], wanted: int, what: str) -> None:
    """Raise where there is not one value for each layer, stage or cut."""
    if len(values) != wanted:
        raise PartitionError(
            f"{name} has {count(len(values), 'number')} for {count(wanted, what)}: "
            f"give one a {what}"
        )


def whole_number(name: str, value: Any, remedy: str) -> int:
    """Return a whole number above 0.

    Raises:
        PartitionError: it is none; the message ends with the remedy.
    """
    if not isinstance(value, Integral) or value < 1:
        raise PartitionError(f"{name} is {value!r}: {remedy}")
    return int(value)


def whole(*lists: Sequence[Fraction]) -> list[list[int]]:
    """Return all numbers times their common denominator: in one finer unit they are whole."""
    unit = math.lcm(*(number.denominator for numbers in lists for number in numbers))
    return [
        [number.numerator * (unit // number.denominator) for number in numbers] for numbers in lists
    ]


def written(number: float | Fraction) -> str:
    """Return a finite number as messages and descriptions show it.

    >>> written(16_000_000_000), written(2.5), written(1 / 3)
    ('16,000,000,000', '2.5', '0.333333')
    """
    if -(10**15) < number < 10**15 and number == int(number):
        return f"{int(number):,}"
    return f"{float(number):.6g}"


def layers_in_words(layers: range) -> str:
    """Return the numbers of consecutive layers, in words.

    >>> layers_in_words(range(4, 8)), layers_in_words(range(4, 5))
    ('layers 4-7', 'layer 4')
    """
    last = layers.stop - 1
    return f"layer {last}" if len(layers) == 1 else f"layers {layers.start}-{last}"
