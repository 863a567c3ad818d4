"""Columns: the times of a step as lists of numbers; spans and transfers are made when asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

from d2lpart.schedules.compiled_schedule import Program
from d2lpart.span import Span, Transfer


@dataclass(frozen=True, eq=False)
class Messages:
    """What each action waits for from another rank; where it waits for none, the entry is idle."""

    sizes: Sequence[int]  # bytes
    wires: Sequence[str | None]
    sent: Sequence[float]  # seconds since the step began
    arrived: Sequence[float]


@dataclass(frozen=True, eq=False)
class Columns:
    """Starts and ends of all actions, by their numbers in a program, and the messages they need."""

    program: Program
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
