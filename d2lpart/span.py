"""Span, Transfer and Link: one piece of work in time, one message in time, and what carries it."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from d2lpart.schedule import Action


class Span(NamedTuple):
    """One action with a start and an end, in seconds since the step began."""

    rank: int
    action: Action
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long the action took."""
        return self.end - self.start


class Transfer(NamedTuple):
    """One message between ranks: what `action` made, on its way from `source` to `target`."""

    source: int
    target: int
    nbytes: int
    start: float
    end: float
    action: Action

    @property
    def seconds(self) -> float:
        """How long the message was under way."""
        return self.end - self.start


@dataclass(frozen=True)
class Link:
    """What connects two ranks: a message takes `latency + bytes / bandwidth` seconds.

    Sends do not block the sender.

    >>> Link(latency=1e-5, bandwidth=1e9).seconds(1_000_000)
    0.00101
    """

    latency: float = 0.0  # seconds
    bandwidth: float = math.inf  # bytes per second

    def __post_init__(self) -> None:
        if not 0 <= self.latency < math.inf:
            raise ValueError(f"latency is {self.latency}: give seconds, 0 or more")
        if not self.bandwidth > 0:
            raise ValueError(f"bandwidth is {self.bandwidth}: give bytes per second, more than 0")

    def seconds(self, nbytes: float) -> float:
        """Return how long a message of `nbytes` is under way."""
        return self.latency + nbytes / self.bandwidth

    def __str__(self) -> str:
        rate = "no limit" if self.bandwidth == math.inf else f"{self.bandwidth / 1e9:g} GB/s"
        return f"{self.latency:g} s and {rate}"
