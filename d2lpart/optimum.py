"""The exact search for the best cuts: whole numbers in, cut positions out.

The search walks over the stages from first to last and keeps, for every layer a stage can end
before, the best way to get there (dynamic programming). `cap` is the largest load a stage may
have; it also says which ends are worth a look: neither so late that the stage alone exceeds it,
nor so early that the stages after it must.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import NamedTuple

Join = Callable[[int, int], int]  # (value of the stages so far, load of the next) -> new value
Ends = dict[int, tuple[int, int]]  # end of a stage -> (value so far, where the stage starts)


class _Attempt(NamedTuple):
    """A partition found under a cap; the first two fields say which of two is better."""

    step: int
    squares: int
    bounds: list[int]
    loads: list[int]


class Problem:
    """Layers to be packed into stages; all figures are whole, so that no sum is rounded.

    A stage s of layers start .. end-1 has the load

        sum(costs[start:end]) * rates[s] + fixed[s] + cuts[start] + cuts[end]

    and needs sum(memory[start:end]) <= capacity[s]. `cuts[i]` is the cost of the cut before
    layer i; the first and the last of its len(costs) + 1 entries are no cuts, and 0.
    """

    def __init__(
        self,
        costs: Sequence[int],
        rates: Sequence[int],
        *,
        fixed: Sequence[int] | None = None,
        cuts: Sequence[int] | None = None,
        memory: Sequence[int] | None = None,
        capacity: Sequence[int] | None = None,
    ) -> None:
        self.num_layers, self.num_stages = len(costs), len(rates)
        self.rates = rates
        self.fixed = fixed or [0] * self.num_stages
        self.cuts = cuts or [0] * (self.num_layers + 1)
        self.work = list(accumulate(costs, initial=0))
        self.memory = list(accumulate(memory or [0] * self.num_layers, initial=0))
        self.capacity = capacity or [0] * self.num_stages

    def loads(self, bounds: Sequence[int]) -> list[int]:
        """Return the load of each stage; `bounds` are the cut positions with both ends."""
        return [
            (self.work[end] - self.work[start]) * rate + fixed + self.cuts[start] + self.cuts[end]
            for (start, end), rate, fixed in zip(
                pairwise(bounds), self.rates, self.fixed, strict=True
            )
        ]

    def least_load(self) -> int:
        """Return a bound no bottleneck is below: the work spread without regard to layers."""
        return int(self.work[-1] / sum(Fraction(1, rate) for rate in self.rates))

    def largest_load(self) -> int:
        """Return a bound no load is above."""
        return self.work[-1] * max(self.rates) + max(self.fixed) + 2 * max(self.cuts)

    def least_total(self) -> int:
        """Return a bound the sum of all loads is not below."""
        cheapest = sorted(self.cuts[1:-1])[: self.num_stages - 1]
        return self.work[-1] * min(self.rates) + sum(self.fixed) + 2 * sum(cheapest)


def best_bounds(problem: Problem, num_microbatches: int | None = None) -> list[int]:
    """Return the bounds of the best stages, the most even where several are equally good.

    Best is the smallest largest load or, with m micro-batches, the smallest
    sum(loads) + (m-1) * max(loads). The memory must suffice for at least one partition.
    """
    bottleneck = smallest_bottleneck(problem)
    if num_microbatches is None:
        return most_even(problem, bottleneck)
    return fastest_step(problem, num_microbatches, bottleneck)


def smallest_bottleneck(problem: Problem) -> int:
    """Return the smallest largest load: try a cap near the bound, then higher and higher ones."""
    cap = problem.least_load()
    step = cap // 16 + 1
    while (found := search(problem, cap, max)) is None:
        assert cap < problem.largest_load(), "no partition fits the capacities"
        cap, step = cap + step, 2 * step
    return found[0]


def most_even(problem: Problem, cap: int, weight: int = 0) -> list[int]:
    """Return the bounds of least sum of load * (weight + load) among loads up to `cap`."""
    found = search(problem, cap, lambda value, load: value + load * (weight + load))
    assert found is not None, "the cap is below the smallest bottleneck"
    return found[1]


def fastest_step(problem: Problem, num_microbatches: int, bottleneck: int) -> list[int]:
    """Return the bounds of least sum(loads) + (m-1) * max(loads).

    Lower the cap from the largest load that can pay off down to the smallest bottleneck. Under
    each cap the search finds the least sum, so nothing between the cap and the largest load it
    found is better, and the next cap may lie just below that load.
    """
    waits = num_microbatches - 1
    ceiling = problem.largest_load()
    weight = (problem.num_stages * ceiling) ** 2 + 1  # above all squares: the sum counts first
    if waits == 0:
        return most_even(problem, ceiling, weight)

    def attempt(cap: int) -> _Attempt:
        bounds = most_even(problem, cap, weight)
        loads = problem.loads(bounds)
        step = sum(loads) + waits * max(loads)
        return _Attempt(step, sum(load * load for load in loads), bounds, loads)

    best = attempt(bottleneck)
    cap = (best.step - problem.least_total()) // waits
    while cap > bottleneck:
        found = attempt(cap)
        best = min(best, found)
        cap = min(max(found.loads) - 1, (best.step - sum(found.loads)) // waits)
    return best.bounds


def search(problem: Problem, cap: int, join: Join) -> tuple[int, list[int]] | None:
    """Return the least value and its bounds among all partitions with loads up to `cap`.

    `join` adds a stage's load to the value of the stages before it. None: there is no such
    partition. Of equal ones, that with the shortest last stages is returned.
    """
    rooms = [
        (cap - fixed) // rate for fixed, rate in zip(problem.fixed, problem.rates, strict=True)
    ]
    tables: list[Ends] = [{0: (0, 0)}]
    for stage, room in enumerate(rooms):
        rest = problem.work[-1] - sum(rooms[stage + 1 :])  # work the first stages must have done
        earliest = max(stage + 1, bisect_left(problem.work, rest))
        if stage == problem.num_stages - 1:
            earliest = problem.num_layers
        tables.append(_extend(problem, stage, tables[-1], (cap, room, earliest), join))
    if problem.num_layers not in tables[-1]:
        return None
    bounds = [problem.num_layers]
    for table in reversed(tables[1:]):
        bounds.append(table[bounds[-1]][1])
    return tables[-1][problem.num_layers][0], bounds[::-1]


def _extend(
    problem: Problem, stage: int, before: Ends, limits: tuple[int, int, int], join: Join
) -> Ends:
    """Return the ends of `stage` from those of the stage before it."""
    cap, room, earliest = limits
    work, cuts, memory = problem.work, problem.cuts, problem.memory
    rate, fixed, capacity = problem.rates[stage], problem.fixed[stage], problem.capacity[stage]
    after = problem.num_layers - (problem.num_stages - 1 - stage)  # one layer each for the rest
    ends: Ends = {}
    for start in sorted(before):
        value = before[start][0]
        base = fixed + cuts[start] - work[start] * rate
        latest = min(
            after,
            bisect_right(work, work[start] + room) - 1,
            bisect_right(memory, memory[start] + capacity) - 1,
        )
        for end in range(max(start + 1, earliest), latest + 1):
            load = base + work[end] * rate + cuts[end]
            if load <= cap:
                total = join(value, load)
                if end not in ends or total <= ends[end][0]:
                    ends[end] = (total, start)
    return ends
