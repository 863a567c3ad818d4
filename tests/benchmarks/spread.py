"""A measurement that was repeated: its median, its quartiles, and how often it was taken."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Spread:
    """The middle of repeated measurements and the quartiles around it, in their unit."""

    low: float
    middle: float
    high: float
    number: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Return the spread of at least one value; one value is its own quartiles.

        >>> Spread.of([3.0, 1.0, 2.0, 5.0, 4.0])
        Spread(low=2.0, middle=3.0, high=4.0, number=5)
        """
        ordered = sorted(values)
        if not ordered:
            raise ValueError("there is nothing to take the median of: give at least one value")
        if len(ordered) == 1:
            return cls(*ordered * 3, number=1)
        low, middle, high = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(low, middle, high, len(ordered))

    def written(self, digits: int = 3, scale: float = 1.0, unit: str = "") -> str:
        """Write the median, and the quartiles in brackets.

        >>> Spread(0.9987, 1.0042, 1.0121, 15).written()
        '1.004 (0.999 to 1.012)'
        >>> Spread(0.9987, 1.0042, 1.0121, 15).written(1, 1e3, " ms")
        '1,004.2 ms (998.7 to 1,012.1)'
        """
        low, middle, high = (f"{x * scale:,.{digits}f}" for x in (self.low, self.middle, self.high))
        return f"{middle}{unit} ({low} to {high})"


def ratios(above: Iterable[float], below: Iterable[float]) -> list[float]:
    """Divide what was measured in the same round, so that a slow moment counts for both.

    >>> ratios([2.0, 6.0], [1.0, 2.0])
    [2.0, 3.0]
    """
    return [a / b for a, b in zip(above, below, strict=True)]
