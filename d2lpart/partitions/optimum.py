"""The exact search for the best cuts: a packing in, cut positions out.

Under a cap on the loads, one sweep finds the least sum of loads (`sweep`). So the smallest
bottleneck is found by halving: which caps have a partition, which have none?

The fastest step, of least sum + waits * max with waits = m - 1, is found by halving too. Take two
caps. A partition whose largest load lies between them has a step of at least (least sum under the
upper cap) + waits * (lower cap): where that is no better than the best step known, there is
nothing to look for, elsewhere a cap in the middle is tried. Each answer narrows what is left: only
nodes (a stage ends here) that some partition good enough goes through are looked at again.

This second search is done twice. In floating point it is fast, and leaves the nodes that a best
partition can go through, whatever the rounding: mostly few. On these the whole numbers decide.

Among the best, the most even one is taken: that of least sum of squared loads. Where every load
grows with its end and shrinks with its start, the best start of a later end is no earlier one (the
squares of such loads are a Monge array; Aggarwal and others, Geometric applications of a
matrix-searching algorithm, 1987): the search for the end in the middle halves what is left for the
others. Elsewhere each start is tried.
"""

from bisect import bisect_left
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from d2lpart.partitions.packing import Nodes, Number, Packing
from d2lpart.partitions.sweep import Found, Reached, reach, under_cap

Ends = dict[int, tuple[Number, int]]  # end of a stage -> (value so far, where the stage starts)
HALVINGS = 50  # of the first bracket of the smallest bottleneck
FEW = 2  # nodes a stage: not worth another halving of rounded numbers


def best_bounds(packing: Packing, num_microbatches: int | None = None) -> list[int]:
    """Return the bounds of the best stages; the memory must suffice for at least one partition.

    Best is the smallest largest load, and of these the least sum of loads; or, with m
    micro-batches, the smallest sum + (m-1) * largest, and of these the smallest largest load. Of
    several such partitions, the most even is returned. The numbers of the packing are whole.
    """
    if num_microbatches is None:
        nodes, cap = packing.nodes, smallest_bottleneck(packing, packing.nodes)
    else:
        rough, waits = packing.rough(), num_microbatches - 1
        nodes = _StepSearch(rough, waits, rough.nodes).near_best()
        cap = _StepSearch(packing, waits, nodes).best_cap()
    best = found_under(packing, nodes, cap)
    return most_even(packing, best.nodes(best.total), best.peak)


def found_under(packing: Packing, nodes: Nodes, cap: Number) -> Found:
    """Return what is found under a cap that has a partition."""
    found = under_cap(packing, nodes, cap)
    assert found is not None, f"no partition has loads up to {cap}"
    return found


def smallest_bottleneck(packing: Packing, nodes: Nodes) -> Number:
    """Return the smallest cap that has a partition; of rounded loads, one barely above it."""
    low, cap = _bracket(packing)  # no cap below `low` has a partition
    step = _share(cap, 64) or 16 * packing.rounding or 1
    high = None  # a cap that has one
    while high is None or high - low > 16 * packing.rounding:
        answer = reach(packing, nodes, cap)
        if isinstance(answer, Reached):
            high = answer.peak + packing.rounding
        else:
            low, step = max(low, answer.least), 2 * step
        cap = low + (step if high is None else _share(high - low, 2))
    return high


def _bracket(packing: Packing) -> tuple[Number, Number]:
    """Return two caps a little apart: below the first there is certainly no partition."""
    high = packing.largest_load()
    low = high - high
    for _ in range(HALVINGS):
        cap = low + _share(high - low, 2)
        if packing.window(cap)[0][-1] == packing.num_layers:
            high = cap
        else:
            low = cap
    return low, high


class _Interval(NamedTuple):
    """Partitions whose largest load lies from low to high."""

    bound: Number  # no step among them is smaller
    low: Number
    order: int  # of two equal intervals, the one that was found first comes first
    high: Number
    above: Found  # what is found under `high` or a cap above it
    from_top: bool  # whether to try `high` next, not the middle


class _StepSearch:
    """The search for the smallest sum + waits * max among the partitions through some nodes."""

    def __init__(self, packing: Packing, waits: int, nodes: Nodes) -> None:
        self.packing, self.waits = packing, waits
        # By how much a rounded step may err, and by how much a cap for the step to err as much.
        self.slack = 32 * (packing.num_stages**2 + waits) * packing.rounding
        self.margin = self.slack / max(waits, 1) if self.slack else 0
        self.kept: list[set[int]] = [set() for _ in nodes]
        self.intervals: list[_Interval] = []
        self.order = count()
        least = found_under(packing, nodes, smallest_bottleneck(packing, nodes))
        self.best = self._merit(least)
        high = self._highest(packing.largest_load(), packing.least_total)
        self._try(_Interval(0, least.peak - self.margin, 0, high, least, True), nodes)
        while self.intervals:
            self._look_into(heappop(self.intervals))

    def best_cap(self) -> Number:
        """Return the smallest largest load of the fastest steps; for loads not rounded."""
        return self.best[1]

    def near_best(self) -> Nodes:
        """Return the nodes that a best partition may go through; for rounded loads."""
        return [sorted(part) for part in self.kept]

    def _merit(self, found: Found) -> tuple[Number, Number]:
        return found.total + self.waits * found.peak, found.peak

    def _highest(self, high: Number, total: Number) -> Number:
        """Return the largest load up to `high` that pays off where no sum is below `total`."""
        if not self.waits:
            return high
        return min(high, _share(self.best[0] + self.slack - total, self.waits))

    def _look_into(self, interval: _Interval) -> None:
        """Drop it if it holds nothing better, keep it if it is narrow, or search it."""
        high = self._highest(interval.high, interval.above.total)
        if self.slack:
            hopeful = interval.bound <= self.best[0] + self.slack
        else:
            hopeful = (interval.bound, interval.low) < self.best
        if interval.low > high or not hopeful:
            return
        nodes = interval.above.nodes(self.best[0] + self.slack - self.waits * interval.low)
        if self.slack and self._is_narrow(high - interval.low, nodes):
            for kept, part in zip(self.kept, nodes, strict=True):
                kept.update(part)
        else:
            self._try(interval._replace(high=high), nodes)

    def _is_narrow(self, width: Number, nodes: Nodes) -> bool:
        few = sum(map(len, nodes)) <= FEW * len(nodes)
        return few or self.waits * width <= 4 * self.slack

    def _try(self, interval: _Interval, nodes: Nodes) -> None:
        """Look for the least sum under one cap in it, and put back what is left of it."""
        middle = interval.low + _share(interval.high - interval.low, 2)
        cap = interval.high if interval.from_top else middle
        found = under_cap(self.packing, nodes, cap)
        if found is not None:
            self.best = min(self.best, self._merit(found))
            # Rounded loads may be as good a little above the peak.
            below = min(cap, found.peak + self.margin) if self.slack else found.peak - 1
            self._put_back(interval.low, below, found, False)
        if not interval.from_top:
            self._put_back(cap if self.slack else cap + 1, interval.high, interval.above, True)

    def _put_back(self, low: Number, high: Number, above: Found, from_top: bool) -> None:
        if low <= high:
            bound = above.total + self.waits * low
            heappush(self.intervals, _Interval(bound, low, next(self.order), high, above, from_top))


def _share(number: Number, parts: int) -> Number:
    """Return one of so many equal parts; of a whole number, without the rest."""
    return number // parts if isinstance(number, int) else number / parts


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
