"""Span, Transfer and Link: one piece of work in time, one message in time, and what carries it.

A long step keeps its times as `Columns` of numbers; spans and transfers are made when asked for.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from d2lpart.common.arguments import check_number
from d2lpart.schedules.compiled_schedule import CompiledSchedule
from d2lpart.schedules.schedule import Action, Schedule


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
    """One message between ranks: what `action` made, on its way from `source` to `target`.

    A message that queues for its wire starts when the wire takes it.
    """

    source: int
    target: int
    nbytes: int
    start: float
    end: float
    action: Action
    wire: str | None = None  # what it queues for: "pair", "bus", or nothing

    @property
    def seconds(self) -> float:
        """How long the message was under way."""
        return self.end - self.start


def by_time(one: Span | Transfer) -> tuple[float, int, float]:
    """Order by start; what starts at one moment by rank, then by end."""
    return one.start, one.rank if isinstance(one, Span) else one.source, one.end


def check_spans(spans: Sequence[Span], schedule: Schedule) -> None:
    """Raise unless there is one span for each action of a schedule, on the rank of its stage."""
    if not spans:
        raise ValueError("there are no spans: a timeline needs one for each action, at least one")
    given, wanted = Counter(span.action for span in spans), Counter(schedule.position.keys())
    if given != wanted:
        odd = min(a for a in given.keys() | wanted.keys() if given[a] != wanted[a])
        raise ValueError(
            f"spans of {odd}: {given[odd]}, actions {odd} in the schedule: {wanted[odd]}; a "
            f"timeline needs one span for each action"
        )
    for span in spans:
        home = schedule.stage_to_rank[span.action.stage]
        if span.rank != home:
            raise ValueError(
                f"the span of {span.action} is on rank {span.rank}, but its stage is on rank {home}"
            )


WIRES = (None, "pair", "bus")


@dataclass(frozen=True)
class Link:
    """What connects two ranks: a message takes `latency + bytes / bandwidth` seconds.

    Sends do not block the sender. `shared` says which messages share a wire, which carries one at
    a time, in the order in which they are ready, those of one moment by their sender's rank:
    None, no wire is shared and every message travels at once; "pair", the messages from one rank
    to another share one, and there is another one for the way back; "bus", all messages share one.

    >>> Link(latency=1e-5, bandwidth=1e9).seconds(1_000_000)
    0.00101
    """

    latency: float = 0.0  # seconds
    bandwidth: float = math.inf  # bytes per second
    shared: str | None = None

    def __post_init__(self) -> None:
        check_number("latency", self.latency)
        check_number("bandwidth", self.bandwidth)
        if not 0 <= self.latency < math.inf:
            raise ValueError(f"latency is {self.latency}: give seconds, 0 or more")
        if not self.bandwidth > 0:
            raise ValueError(f"bandwidth is {self.bandwidth}: give bytes per second, more than 0")
        if self.shared not in WIRES:
            raise ValueError(f"shared is {self.shared!r}: use one of None, 'pair', 'bus'")

    def seconds(self, nbytes: float) -> float:
        """Return how long a message of `nbytes` is under way."""
        return self.latency + nbytes / self.bandwidth

    def __str__(self) -> str:
        rate = "no limit" if self.bandwidth == math.inf else f"{self.bandwidth / 1e9:g} GB/s"
        wire = {None: "", "pair": ", one message at a time each way", "bus": ", one bus for all"}
        return f"{self.latency:g} s and {rate}{wire[self.shared]}"


@dataclass(frozen=True, eq=False)
class Messages:
    """What each action waits for from another rank; where it waits for none, the entry is idle."""

    sizes: Sequence[int]  # bytes
    wires: Sequence[str | None]
    sent: Sequence[float]  # seconds since the step began
    arrived: Sequence[float]


@dataclass(frozen=True, eq=False)
class Columns:
    """Starts and ends of all actions, by their numbers in `program`, and the messages they need."""

    program: CompiledSchedule
    starts: list[float]
    ends: list[float]
    messages: Messages

    def times(self, rank: int) -> tuple[list[float], list[float]]:
        """Return the starts and the ends of a rank's actions, in order of time."""
        own = slice(*self.program.first[rank : rank + 2])
        return self.starts[own], self.ends[own]

    def spans(self, rank: int) -> list[Span]:
        """Return the spans of a rank, in order of time."""
        first, end = self.program.first[rank : rank + 2]
        actions = self.program.actions[first:end]
        return list(map(Span, [rank] * (end - first), actions, *self.times(rank)))

    def transfers(self) -> list[Transfer]:
        """Return the messages, rank by rank in the order of the actions that need them."""
        program, ranks = self.program, self.program.ranks
        columns = self.messages.sizes, self.messages.wires, self.messages.sent
        rows = zip(program.source, program.codes, *columns, self.messages.arrived, strict=True)
        return [
            Transfer(ranks[program.codes[maker]], ranks[code], size, a, b, action, wire)
            for maker, code, size, wire, a, b in rows
            if maker < len(program.actions)
            for action in [program.actions[maker]]
        ]
