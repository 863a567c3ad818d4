"""Occupancy: how long each rank computes and stands idle in a step, and the bubble as a fraction.

There are three definitions of the bubble, and each has a method of its own: idle/total is
`idle_fraction`, idle/ideal is `bubble_overhead`, that of the zero-bubble paper is `bubble_rate`.
"""

from functools import cached_property
from numbers import Integral
from operator import sub

Times = tuple[list[float], list[float]]  # starts and ends, in order of time


class Occupancy:
    """What follows from the starts and ends of each rank's actions alone."""

    @property
    def num_ranks(self) -> int:
        """How many ranks work."""
        raise NotImplementedError

    @property
    def _times(self) -> list[Times]:
        """For each rank, the starts and the ends of its actions."""
        raise NotImplementedError

    @cached_property
    def start(self) -> float:
        """When the first action starts, in seconds."""
        return min(min(starts) for starts, _ in self._times if starts)

    @cached_property
    def end(self) -> float:
        """When the last action ends, in seconds."""
        return max(max(ends) for _, ends in self._times if ends)

    @property
    def makespan(self) -> float:
        """The length of the step in seconds, from the first start to the last end."""
        return self.end - self.start

    def _check_rank(self, rank: int) -> None:
        if not isinstance(rank, Integral) or not 0 <= rank < self.num_ranks:
            raise ValueError(
                f"there is no rank {rank!r}: this timeline has ranks 0 to {self.num_ranks - 1}"
            )

    def busy(self, rank: int) -> float:
        """Return the seconds in which `rank` computes."""
        self._check_rank(rank)
        starts, ends = self._times[rank]
        return sum(map(sub, ends, starts))

    def idle(self, rank: int) -> float:
        """Return the seconds of the step in which `rank` computes nothing."""
        return max(0.0, self.makespan - self.busy(rank))  # rounding leaves nothing below 0

    def idle_fraction(self, rank: int | None = None) -> float:
        """Return idle/total, the share of the step spent idle: of one rank, or over all of them."""
        ranks = range(self.num_ranks) if rank is None else [rank]
        total = self.makespan * len(ranks)
        return sum(map(self.idle, ranks)) / total if total else 0.0

    def bubble_overhead(self) -> float:
        """Return idle/ideal, the idle time of all ranks against the time they compute.

        For GPipe and 1F1B with even stages it is (p−1)/m (arXiv 2104.04473, section 2.2).
        """
        busy = sum(map(self.busy, range(self.num_ranks)))
        return sum(map(self.idle, range(self.num_ranks))) / busy if busy else 0.0

    def longest_rank_span(self) -> float:
        """Return the most seconds that lie between a rank's first start and its own last end.

        Ranks start and end at different moments, so this is shorter than the makespan where no
        rank is there from first to last. It is the cost of a step in the zero-bubble paper
        (arXiv 2401.10241, section 4), whose next step begins on each rank as soon as it is free.
        """
        return max(max(ends) - min(starts) for starts, ends in self._times)

    def bubble_rate(self) -> float:
        """Return (cost − m(F+I+W))/cost, with the longest rank span as cost.

        Source: the zero-bubble paper (arXiv 2401.10241, section 4). Where ranks have different
        work, m(F+I+W) is that of the busiest.
        """
        cost = self.longest_rank_span()
        busiest = max(map(self.busy, range(self.num_ranks)))
        return max(0.0, cost - busiest) / cost if cost else 0.0
