"""The most even of the best partitions: that of least sum of squared loads.

All of them go through the given nodes. Where every load grows with its end and shrinks with its
start, the best start of a later end is no earlier one (the squares of such loads are a Monge
array; Aggarwal and others, Geometric applications of a matrix-searching algorithm, 1987): the
search for the end in the middle halves what is left for the others. Elsewhere each start is tried.
"""

from bisect import bisect_left
from collections.abc import Sequence

from d2lpart.packing import Nodes, Number, Packing

Ends = dict[int, tuple[Number, int]]  # end of a stage -> (value so far, where the stage starts)


def most_even(packing: Packing, nodes: Nodes, cap: Number) -> list[int]:
    """Return the bounds of the partition of least sum, then least sum of squares, up to `cap`.

    Of several, that with the shortest last stages is returned. The numbers are whole, and each
    node is on a partition of least sum.
    """
    tables: list[Ends] = [{0: (0, 0)}]
    for stage, ends in enumerate(nodes[1:]):
        tables.append(_best_starts(_Stage(packing, stage, cap, tables[-1]), ends))
    bounds = [packing.num_layers]
    for table in reversed(tables[1:]):
        bounds.append(table[bounds[-1]][1])
    return bounds[::-1]


class _Stage:
    """One stage: the values of the places where it may start, and what it adds to them."""

    def __init__(self, packing: Packing, stage: int, cap: Number, before: Ends) -> None:
        self.starts = sorted(before)
        self.values = [before[start][0] for start in self.starts]
        self.cap, self.orderly = cap, packing.orderly
        self.weight = packing.num_stages * cap * cap + 1  # above all squares: the sum counts first
        self.enter = [packing.enter[stage][start] for start in self.starts]
        self.leave, self.earliest = packing.leave[stage], packing.earliest[stage]
        self.highest = packing.highest_enter[stage]

    def best_start(self, end: int, left: int, right: int) -> tuple[Number, int]:
        """Return the least value of an end, and which of the starts left .. right gives it."""
        leave, weight, enter, values = self.leave[end], self.weight, self.enter, self.values
        near = max(self.earliest[end], bisect_left(self.highest, leave - self.cap))
        left = max(left, bisect_left(self.starts, near))
        right = min(right, bisect_left(self.starts, end) - 1)
        best, at = None, left
        for place in range(left, right + 1):
            load = leave - enter[place]
            if load <= self.cap:
                value = values[place] + load * (weight + load)
                if best is None or value <= best:
                    best, at = value, place
        assert best is not None, f"no partition has a stage that ends before layer {end}"
        return best, at


def _best_starts(stage: _Stage, ends: Sequence[int]) -> Ends:
    """Return the least value of every end, and the start that gives it."""
    found: Ends = {}
    jobs = [(0, len(ends), 0, len(stage.starts) - 1)]
    while jobs:
        first, stop, left, right = jobs.pop()
        if first < stop:
            middle = (first + stop) // 2
            value, at = stage.best_start(ends[middle], left, right)
            found[ends[middle]] = value, stage.starts[at]
            low, high = (at, at) if stage.orderly else (left, right)
            jobs += [(first, middle, left, high), (middle + 1, stop, low, right)]
    return found
