"""Packing: layers to be put into stages, and what a stage costs from any start to any end.

A stage s of the layers start .. end-1 has the load

    leave[s][end] - enter[s][start]

which holds whatever is a sum over layers at the stage's own rate, plus something for the cut at
either end. Its memory suffices where start >= earliest[s][end].
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from math import inf
from typing import Any

Number = int | float  # whole in an exact packing, floating in a rough one
Table = Sequence[Any]  # for one stage, a number for each place between layers, 0 to num_layers
Nodes = Sequence[Sequence[int]]  # for each number of stages, places where the last of them may end


def each(tables: Sequence[Table], change: Callable[[Table], Table]) -> list[Table]:
    """Return `change` of every table; stages that share a table share the new one as well."""
    known: dict[int, Table] = {}
    for table in tables:
        if id(table) not in known:
            known[id(table)] = change(table)
    return [known[id(table)] for table in tables]


@dataclass(frozen=True, eq=False)
class Packing:
    """Layers and stages; a table has one entry for each place, 0 to num_layers."""

    enter: Sequence[Table]
    leave: Sequence[Table]
    earliest: Sequence[Table]
    least_total: Number = 0  # a bound that no sum of all loads is below
    rounding: Number = 0  # no load is further from the true one; 0: nothing is rounded

    @property
    def num_stages(self) -> int:
        """How many stages there are."""
        return len(self.enter)

    @property
    def num_layers(self) -> int:
        """How many layers there are."""
        return len(self.enter[0]) - 1

    @cached_property
    def nodes(self) -> Nodes:
        """All places where stages may end when each has at least one layer."""
        p, n = self.num_stages, self.num_layers
        return [range(1), *(range(s, n - p + s + 1) for s in range(1, p)), range(n, n + 1)]

    @cached_property
    def highest_enter(self) -> list[Table]:
        """The largest `enter` up to a place."""
        return each(self.enter, lambda table: list(accumulate(table, max)))

    @cached_property
    def lowest_leave(self) -> list[Table]:
        """The smallest `leave` from a place on."""
        return each(self.leave, lambda table: list(accumulate(reversed(table), min))[::-1])

    @cached_property
    def latest(self) -> list[Table]:
        """For each start the last end that the memory suffices for."""
        places = range(self.num_layers + 1)
        return each(self.earliest, lambda table: [bisect_right(table, at) - 1 for at in places])

    @cached_property
    def orderly(self) -> bool:
        """Whether every load grows with its end and shrinks with its start, as without cuts."""
        inner = slice(1, self.num_layers)
        tables = {id(table): table[inner] for table in (*self.enter, *self.leave)}
        return all(a <= b for table in tables.values() for a, b in pairwise(table))

    @cached_property
    def mirrored(self) -> "Packing":
        """The packing of the same layers and stages, the last first."""
        places = range(self.num_layers + 1)
        last = self.num_layers

        def turned(table: Table) -> Table:
            return [-number for number in reversed(table)]

        return Packing(
            each(self.leave, turned)[::-1],
            each(self.enter, turned)[::-1],
            each(self.latest, lambda table: [last - table[last - at] for at in places])[::-1],
            self.least_total,
            self.rounding,
        )

    def loads(self, bounds: Sequence[int]) -> list[Number]:
        """Return the load of each stage; `bounds` are the cut positions with both ends."""
        ends = enumerate(pairwise(bounds))
        return [self.leave[s][end] - self.enter[s][start] for s, (start, end) in ends]

    def largest_load(self) -> Number:
        """Return a bound that no load is above."""
        return max(max(a) - min(b) for a, b in zip(self.leave, self.enter, strict=True))

    def rough(self) -> "Packing":
        """Return this packing in floating point, in a unit in which no load is above 1.

        The numbers, which are whole, may have any length; digits beyond 60 bits are dropped first.
        """
        most = max(max(map(abs, table)) for table in (*self.enter, *self.leave))
        shift = max(0, most.bit_length() - 60)
        unit = max(1, 2 * most >> shift)  # a load is a difference of two numbers

        def rounded(table: Table) -> Table:
            return [(number >> shift) / unit for number in table]

        return Packing(
            each(self.enter, rounded),
            each(self.leave, rounded),
            self.earliest,
            (self.least_total >> shift) / unit,
            rounding=2.0**-50,
        )

    def window(self, cap: Number) -> tuple[list[int], Number]:
        """Return for each number of stages a place that they certainly cannot reach beyond.

        Each stage is given the best entry and exit near its own, and then no load is above the
        cap. The second result is the least cap above it under which a place is further.
        """
        spare = self.num_layers - self.num_stages
        reach, grows = [0], inf
        for stage in range(self.num_stages):
            start, leave = reach[-1], self.lowest_leave[stage]
            enter = self.highest_enter[stage][start]
            most = min(self.latest[stage][start], spare + stage + 1)
            end = bisect_right(leave, cap + enter) - 1
            if end < most:
                grows = min(grows, leave[end + 1] - enter)
            reach.append(min(end, most))
        return reach, grows


def packing_of_work(
    work: Table, rates: Sequence[int], cuts: Table, earliest: Sequence[Table]
) -> Packing:
    """Return a packing in which a stage's load is its work times its rate, and its two cuts.

    Args:
        work: of all layers before a place.
        rates: what a unit of work costs, for each stage.
        cuts: what the cut at each place costs; 0 for the first and the last, which are no cuts.
        earliest: as a `Packing` has it.
    """
    numbers = range(len(work))
    enter = {rate: [work[at] * rate - cuts[at] for at in numbers] for rate in {*rates}}
    leave = {rate: [work[at] * rate + cuts[at] for at in numbers] for rate in {*rates}}
    cheapest = sorted(cuts[1:-1])[: len(rates) - 1]
    return Packing(
        [enter[rate] for rate in rates],
        [leave[rate] for rate in rates],
        earliest,
        work[-1] * min(rates) + 2 * sum(cheapest),
    )


def packing_of_excess(needs: Sequence[Table], capacity: Sequence[int]) -> Packing:
    """Return a packing whose loads are by how much stages exceed their capacity.

    They are counted from the largest capacity down, so that none is negative.

    Args:
        needs: for each stage, what all layers before a place would need in it.
        capacity: of each stage.
    """
    most = max(capacity)
    leave = [
        [need + most - room for need in table] for table, room in zip(needs, capacity, strict=True)
    ]
    anywhere = [0] * len(needs[0])
    return Packing(needs, leave, [anywhere] * len(needs))


def windows(needs: Sequence[Table], capacity: Sequence[int]) -> list[Table]:
    """Return `earliest` of a packing: before it, a stage that ends here would need too much.

    Args:
        needs: for each stage, what all layers before a place would need in it.
        capacity: of each stage.
    """
    known: dict[tuple[int, int], Table] = {}
    for table, room in zip(needs, capacity, strict=True):
        if (id(table), room) not in known:
            known[id(table), room] = [bisect_left(table, need - room) for need in table]
    return [known[id(table), room] for table, room in zip(needs, capacity, strict=True)]
