"""How near each rule's partition comes to the best one, and how long it takes to find it.

The cases are those of known answer and 1,000 random ones, the same in every run. A rule misses a
case if its heaviest stage is heavier than it need be; the excess says by how much.
"""

import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from report import Row, Table
from rules import RULES, Rule, bottleneck
from spread import Spread

Case = tuple[list[int], int]  # costs of the layers, number of stages

KNOWN: dict[str, Case] = {
    "4 layers of 4, 8 of 1, on 3 stages": ([4] * 4 + [1] * 8, 3),
    "31 equal layers on 8 stages": ([1] * 31, 8),
    "embedding 1, 12 layers of 10, head 40, on 4 stages": ([1] + [10] * 12 + [40], 4),
    "24 equal layers on 4 stages": ([1] * 24, 4),
}
SEED = 20
LARGE: Case = ([1 + (7 * k) % 100 for k in range(192)], 16)


def random_cases(number: int) -> list[Case]:
    """Return cases of 2 to 8 stages and up to 64 layers: even, decoder-like, and wild ones.

    >>> all(2 <= p <= len(costs) and min(costs) > 0 for costs, p in random_cases(50))
    True
    """
    draw = random.Random(SEED)
    kinds: list[Callable[[int], list[int]]] = [
        lambda n: [draw.randint(1, 100) for _ in range(n)],
        lambda n: [draw.randint(1, 30), *[50] * (n - 2), draw.randint(1, 400)][-n:],
        lambda n: [1 + int(draw.lognormvariate(3, 1)) for _ in range(n)],
    ]
    cases = []
    for k in range(number):
        num_stages = draw.randint(2, 8)
        cases.append((kinds[k % 3](draw.randint(num_stages, 64)), num_stages))
    return cases


def least(costs: Sequence[int], num_stages: int) -> int:
    """Return the smallest heaviest stage there can be, found without `partition`.

    A limit is enough if filling one stage after another up to it needs no more stages than there
    are; the smallest such limit is searched by halving. Costs are whole numbers above 0.

    >>> least([4, 4, 4, 4] + [1] * 8, 3)
    8
    """
    low, high = max(costs), sum(costs)
    while low < high:
        limit = (low + high) // 2
        needed, load = 1, 0
        for cost in costs:
            load += cost
            if load > limit:
                needed, load = needed + 1, cost
        low, high = (low, limit) if needed <= num_stages else (limit + 1, high)
    return low


@dataclass(frozen=True)
class Judged:
    """How a rule did: its excess over the best in each case (0 is the best), and its seconds."""

    excess: Sequence[float]
    seconds: Sequence[float]

    @property
    def missed(self) -> list[float]:
        """The excess of the cases in which it is not the best."""
        return [excess for excess in self.excess if excess > 0]


def judge(rule: Rule, cases: Sequence[Case], best: Sequence[int]) -> Judged:
    """Apply a rule to all cases; an impossible result (better than the best) is an error."""
    excess, seconds = [], []
    for (costs, num_stages), least in zip(cases, best, strict=True):
        start = time.perf_counter()
        sizes = rule(costs, num_stages)
        seconds.append(time.perf_counter() - start)
        found = bottleneck(costs, sizes)
        if found < least or len(sizes) != num_stages:
            raise RuntimeError(f"{sizes} of {costs} on {num_stages} stages against {least}")
        excess.append(found / least - 1)
    return Judged(excess, seconds)


def tables(quick: bool) -> list[Table]:
    """Return what every rule finds in the known cases, and how it does in the random ones."""
    print("partitions", file=sys.stderr)
    rules = {name: rule for name, rule in RULES.items() if runs(rule)}
    without = [name for name in RULES if name not in rules]
    return [known(rules, without), at_random(rules, 60 if quick else 1000)]


def runs(rule: Rule) -> bool:
    """Say whether a rule's package is installed."""
    try:
        rule([1, 1], 2)
    except ImportError:
        return False
    return True


def known(rules: dict[str, Rule], without: Sequence[str]) -> Table:
    """Return the heaviest stage that each rule makes in the cases of known answer."""
    rows = []
    for place, (title, (costs, num_stages)) in enumerate(KNOWN.items()):
        loads = {name: bottleneck(costs, rule(costs, num_stages)) for name, rule in rules.items()}
        data: dict[str, Any] = {"loads": loads}
        numbers = least(costs, num_stages), *loads.values()
        rows.append(Row(title, [f"{load:g}" for load in numbers], data, f"known-{place}"))
    words = "The cost of the heaviest stage. "
    words += f"Not installed: {', '.join(without)}. " if without else ""
    return Table("Partitions of known answer", words, ("case", "least there can be", *rules), rows)


def at_random(rules: dict[str, Rule], number: int) -> Table:
    """Return how often and how far each rule misses the best partition of random cases."""
    cases = random_cases(number)
    best = [least(*case) for case in cases]
    rows = []
    for name, rule in rules.items():
        judged = judge(rule, cases, best)
        large = judge(rule, [LARGE] * 3, [least(*LARGE)] * 3)
        missed = judged.missed
        mean, most = sum(missed) / max(1, len(missed)), max(missed, default=0.0)
        cells = [
            f"{len(missed) / number:.1%}",
            f"{mean:.1%}" if missed else "–",
            f"{most:.1%}" if missed else "–",
            Spread.of(judged.seconds).written(2, 1e3, " ms"),
            Spread.of(large.seconds).written(1, 1e3, " ms"),
        ]
        data = {
            "missed": len(missed) / number,
            "mean_excess": mean,
            "largest_excess": most,
            "seconds": Spread.of(judged.seconds),
            "seconds_large": Spread.of(large.seconds),
        }
        rows.append(Row(name, cells, data, f"random-{name.split(',')[0].replace(' ', '-')}"))
    columns = ("rule", "misses", "by, on average", "at most", "a case", "192 layers on 16 stages")
    return Table(
        f"{number:,} random partitions",
        "How often a rule's heaviest stage is heavier than it need be, and by how much in those "
        "cases; how long it takes, with up to 64 layers on up to 8 stages, and with many of both. "
        "DeepSpeed's rule is written here from its description, so its times are not its own.",
        columns,
        rows,
    )
