"""Sweeps: what can be reached under a cap on the loads, from the first stage to the last.

`reach` says whether there is a partition. The end of a stage is reached if it is from the start of
highest `enter` among those before it: a queue keeps the starts that no later one is higher than.

`under_cap` finds the least sum of loads. Here the best start is that of least (sum before - enter)
among those high enough; a queue keeps the starts that no later one beats in both. So either sweep
looks at each end of each stage about once, however many starts it has.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from d2lpart.partitions.packing import Nodes, Number, Packing

Starts = list[dict[int, int]]  # for each stage, the start that belongs to an end


class Reached(NamedTuple):
    """There are partitions whose loads are all under a cap."""

    peak: Number  # the largest load of one of them


class Refused(NamedTuple):
    """No partition has all its loads under the cap, and none does under a cap below `least`."""

    least: Number


class Found(NamedTuple):
    """What holds of the partitions whose loads are all under a cap."""

    total: Number  # the least sum of loads
    peak: Number  # the largest load of one that has this sum
    through: Sequence[dict[int, Number]]  # for each node the least sum of those that go through it

    def nodes(self, total: Number) -> Nodes:
        """Return the nodes of all partitions whose sum is at most `total`."""
        return [[at for at, least in part.items() if least <= total] for part in self.through]


def reach(packing: Packing, nodes: Nodes, cap: Number) -> Reached | Refused:
    """Say whether a partition through these nodes has its loads up to `cap`.

    What may be under the cap but for the rounding counts as under it.
    """
    cap += packing.rounding
    nodes, refused = _within(packing, nodes, cap)
    before: Sequence[int] = nodes[0]
    came: Starts = []
    for stage, ends in enumerate(nodes[1:]):
        enter, leave, earliest = (
            t[stage] for t in (packing.enter, packing.leave, packing.earliest)
        )
        queue: deque[int] = deque()
        waiting = deque(before)
        starts: dict[int, int] = {}
        for end in ends:
            while waiting and waiting[0] < end:
                start = waiting.popleft()
                while queue and enter[queue[-1]] <= enter[start]:
                    queue.pop()
                queue.append(start)
            while queue and queue[0] < earliest[end]:
                queue.popleft()
            if queue:
                load = leave[end] - enter[queue[0]]
                if load <= cap:
                    starts[end] = queue[0]
                elif load < refused:
                    refused = load
        came.append(starts)
        before = list(starts)
    if not before:
        return Refused(refused - packing.rounding)
    return Reached(max(packing.loads(_bounds(packing, came))))


def under_cap(packing: Packing, nodes: Nodes, cap: Number) -> Found | None:
    """Return what holds of the partitions through these nodes with loads up to `cap`, if any.

    What may be under the cap but for the rounding counts as under it.
    """
    cap += packing.rounding
    nodes, _ = _within(packing, nodes, cap)
    values, starts = _sums(packing, nodes, cap)
    places = packing.num_layers
    if places not in values[-1]:
        return None
    turned = [[places - at for at in reversed(part)] for part in reversed(values)]
    after = _sums(packing.mirrored, turned, cap)[0][::-1]
    through = [
        {at: value + then[places - at] for at, value in part.items() if places - at in then}
        for part, then in zip(values, after, strict=True)
    ]
    return Found(values[-1][places], max(packing.loads(_bounds(packing, starts))), through)


def _within(packing: Packing, nodes: Nodes, cap: Number) -> tuple[Nodes, Number]:
    """Return the nodes in the windows of the cap, and the least cap whose windows are wider."""
    (furthest, more), (nearest, less) = packing.window(cap), packing.mirrored.window(cap)
    inside = [
        ends[bisect_left(ends, packing.num_layers - near) : bisect_right(ends, far)]
        for ends, near, far in zip(nodes, reversed(nearest), furthest, strict=True)
    ]
    return inside, min(more, less)


def _bounds(packing: Packing, starts: Starts) -> list[int]:
    bounds = [packing.num_layers]
    for came in reversed(starts):
        bounds.append(came[bounds[-1]])
    return bounds[::-1]


def _sums(packing: Packing, nodes: Nodes, cap: Number) -> tuple[list[dict[int, Number]], Starts]:
    """Return for each node the least sum of the stages before it, and where the last starts."""
    values: list[dict[int, Number]] = [dict.fromkeys(nodes[0], 0)]
    starts: Starts = []
    for stage, ends in enumerate(nodes[1:]):
        reached, came = _ends(packing, stage, values[-1], ends, cap)
        values.append(reached)
        starts.append(came)
    return values, starts


def _ends(
    packing: Packing, stage: int, before: dict[int, Number], ends: Sequence[int], cap: Number
) -> tuple[dict[int, Number], dict[int, int]]:
    """Return for each end of a stage the least sum, and where the stage starts."""
    enter, leave = packing.enter[stage], packing.leave[stage]
    lowest_leave, earliest = packing.lowest_leave[stage], packing.earliest[stage]
    reached, came = {}, {}
    queue: list[tuple[Number, int]] = []  # (sum before - entry, start) in that order
    waiting = deque(before)
    for end in ends:
        while waiting and waiting[0] < end:
            start = waiting.popleft()
            key = before[start] - enter[start], start
            if queue and key < queue[-1]:
                at, height = bisect_left(queue, key), enter[start]
                queue[at:] = [key, *(other for other in queue[at:] if enter[other[1]] > height)]
            else:
                queue.append(key)
        first, high, last_chance = earliest[end], leave[end] - cap, lowest_leave[end] - cap
        while queue and (queue[0][1] < first or enter[queue[0][1]] < last_chance):
            del queue[0]
        for value, start in queue:
            if start >= first and enter[start] >= high:
                reached[end], came[end] = value + leave[end], start
                break
    return reached, came
