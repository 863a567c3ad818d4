"""Ledger: what one rank has to hold, item by item, in bytes; and the ledgers of all ranks.

The formulas and the real run return this one type, so a prediction and a measurement are printed,
drawn and compared by the same code, and each says which of the two it is.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from d2lpart.common.arguments import check_kind, check_number, listed_of
from d2lpart.common.display import Drawable
from d2lpart.common.quantities import BYTE_UNITS, bytes_text, count

ITEMS = ("weights", "gradients", "optimizer", "activations")
SOURCES = ("computed", "measured")
_UNITS = BYTE_UNITS[1:]  # a total of some TB is told in GB, as devices are


@dataclass(frozen=True)
class Ledger(Drawable):
    """What one rank holds, in bytes.

    Attributes:
        weights: the parameters and buffers.
        gradients: of the weights.
        optimizer: its state, master weights included.
        activations: what the forward leaves held for the backward, at its peak.
        source: "computed" from formulas or a profile, or "measured" by which storages were alive.
        at_once: the most that was alive at one moment of a measured step; None where the items are
            given at their own peaks alone. It is below the total where they peak one after another.

    What an operation needs only while it runs, and messages on their way, are in no item.

    >>> print(Ledger(weights=14 * 10**9, gradients=14 * 10**9, optimizer=84 * 10**9))
    ledger of one rank, computed
                        GB        GiB
    weights          14.00      13.04
    gradients        14.00      13.04
    optimizer        84.00      78.23
    activations       0.00       0.00
    total           112.00     104.31
    """

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    source: str = "computed"
    at_once: int | None = None

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"source is {self.source!r}: use one of {', '.join(SOURCES)}")
        for item, nbytes in self.items():
            check_number(item, nbytes)
            if not 0 <= nbytes < inf:
                raise ValueError(f"{item} is {nbytes}: give bytes, at least 0")

    def items(self) -> list[tuple[str, int]]:
        """Return the items in their order, each with its bytes."""
        return [(item, getattr(self, item)) for item in ITEMS]

    @property
    def total(self) -> int:
        """All items together, in bytes."""
        return sum(nbytes for _, nbytes in self.items())

    @property
    def state(self) -> int:
        """Weights, gradients and optimizer: what is there between two steps, in bytes."""
        return self.total - self.activations

    def describe(self) -> str:
        """Return the ledger as a table, in powers of 1000 and of 1024."""
        big, name, binary, binary_name = unit_of(self.total)
        rows = [*self.items(), ("total", self.total)]
        if self.at_once is not None:
            rows.append(("most at once", self.at_once))
        lines = [f"ledger of one rank, {self.source}", f"{'':<12}{name:>10} {binary_name:>10}"]
        for item, nbytes in rows:
            lines.append(f"{item:<12}{nbytes / big:>10,.2f} {nbytes / binary:>10,.2f}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Ledgers(Drawable, Sequence[Ledger]):
    """The ledgers of all ranks, from rank 0; `ledgers[r]` is that of rank r.

    Attributes:
        ranks: one ledger a rank, all from one source.
        capacity: of each rank in bytes, or None; `math.inf` is no limit.

    >>> print(Ledgers([Ledger(4_000_000), Ledger(9_000_000)], capacity=(8e6, 8e6)))
    2 ledgers, computed, in MB (1 MB = 0.954 MiB)
              weights  gradients  optimizer activations      total   capacity
    rank 0       4.00       0.00       0.00        0.00       4.00       8.00
    rank 1       9.00       0.00       0.00        0.00       9.00       8.00  1 MB too much
    """

    ranks: tuple[Ledger, ...]
    capacity: tuple[float, ...] | None = None

    def __init__(self, ranks: Iterable[Ledger], capacity: Iterable[float] | None = None) -> None:
        own = tuple(listed_of(Ledger, ranks, "give one ledger a rank"))
        limits: tuple[Any, ...] | None = None
        if capacity is not None:
            limits = tuple(listed_of(object, capacity, "give one capacity a rank"))
            for limit in limits:
                check_number("capacity", limit)
        if not own or len({ledger.source for ledger in own}) > 1:
            raise ValueError(
                f"{len(own)} ledgers from {len({ledger.source for ledger in own})} sources: give "
                f"at least one ledger, and all computed or all measured"
            )
        if limits is not None and len(limits) != len(own):
            raise ValueError(
                f"{count(len(limits), 'capacity')} for {count(len(own), 'rank')}: give one "
                "capacity a rank"
            )
        object.__setattr__(self, "ranks", own)
        object.__setattr__(self, "capacity", limits)

    @property
    def source(self) -> str:
        """Where the numbers are from: "computed" or "measured"."""
        return self.ranks[0].source

    @property
    def largest(self) -> int:
        """The total of the fullest rank, in bytes: what a device needs."""
        return max(ledger.total for ledger in self.ranks)

    @property
    def too_full(self) -> list[int]:
        """The ranks whose total is over their capacity."""
        limits = self.capacity or (inf,) * len(self)
        return [r for r, ledger in enumerate(self.ranks) if ledger.total > limits[r]]

    def compare(self, other: "Ledgers") -> "LedgerComparison":
        """Set these ledgers beside others: computed and measured, or two partitions."""
        check_kind(other, Ledgers, "compare with those of predict_memory(…) or a step's .memory")
        return LedgerComparison(self, other)

    def __getitem__(self, rank):  # type: ignore[no-untyped-def]
        return self.ranks[rank]

    def __len__(self) -> int:
        return len(self.ranks)

    def __iter__(self) -> Iterator[Ledger]:
        return iter(self.ranks)

    def labels(self, names: Sequence[str] | None = None) -> list[str]:
        """Return the name of each ledger: its rank, or what `names` say instead.

        Raises:
            ValueError: not one name a ledger.
        """
        if names is None:
            return [f"rank {rank}" for rank in range(len(self))]
        labels = listed_of(str, names, "give one name a rank")
        if len(labels) != len(self):
            raise ValueError(f"{len(labels)} names for {len(self)} ledgers: give each one name")
        return labels

    def describe(self, names: Sequence[str] | None = None) -> str:
        """Return a table with a line for each rank; `names` as in `labels`."""
        labels = self.labels(names)
        wide = max(map(len, labels))
        scale, name, binary, binary_name = unit_of(self.largest)
        limits = self.capacity if self.capacity and min(self.capacity) < inf else None
        head = "".join(f"{word:>11}" for word in ("weights", "gradients", "optimizer"))
        head += f"{'activations':>12}{'total':>11}" + f"{'capacity':>11}" * (limits is not None)
        lines = [
            f"{count(len(self), 'ledger')}, {self.source}, in {name} "
            f"(1 {name} = {scale / binary:.3f} {binary_name})",
            f"{'':<{wide}}{head}",
        ]
        for rank, ledger in enumerate(self.ranks):
            cells = [f"{nbytes / scale:,.2f}" for _, nbytes in ledger.items()]
            cells.append(f"{ledger.total / scale:,.2f}")
            widths = (11, 11, 11, 12, 11)
            line = f"{labels[rank]:<{wide}}" + "".join(
                f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)
            )
            if limits is not None:
                line += f"{limits[rank] / scale:>11,.2f}" if limits[rank] < inf else f"{'none':>11}"
                if rank in self.too_full:
                    line += f"  {bytes_text(ledger.total - limits[rank])} too much"
            lines.append(line)
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class LedgerComparison(Drawable):
    """Two pipelines' ledgers side by side, rank by rank; `difference` is the second's excess."""

    first: Ledgers
    second: Ledgers

    def __post_init__(self) -> None:
        if len(self.first) != len(self.second):
            raise ValueError(
                f"{count(len(self.first), 'rank')} and {len(self.second)}: compare ledgers of "
                "equally many"
            )

    @property
    def difference(self) -> float:
        """The largest difference of a rank's total, as a share of the first's; signed."""
        pairs = zip(self.first, self.second, strict=True)
        return max((_share(a.total, b.total) for a, b in pairs), key=abs)

    @property
    def names(self) -> tuple[str, str]:
        """What the two are called: by their sources, or first and second where these are one."""
        one, two = self.first.source, self.second.source
        return ("first", "second") if one == two else (one, two)

    def describe(self) -> str:
        """Return a table: activations and total of each rank, both, and their difference."""
        scale, name, *_ = unit_of(max(self.first.largest, self.second.largest))
        one, two = self.names
        lines = [
            f"{one} against {two}, in {name}; largest difference {self.difference:+.1%}",
            f"{'':<5}{'activations':^34}{'total':^34}".rstrip(),
            "rank " + f"{one:>11}{two:>11}{'':>12}" * 2,
        ]
        for rank, (a, b) in enumerate(zip(self.first, self.second, strict=True)):
            pairs = ((a.activations, b.activations), (a.total, b.total))
            cells = (
                f"{x / scale:>11,.3f}{y / scale:>11,.3f}{_share(x, y):>+11.1%} " for x, y in pairs
            )
            lines.append(f"{rank:<5}" + "".join(cells))
        return "\n".join(line.rstrip() for line in lines)

    def __repr__(self) -> str:
        return self.describe()


def _share(first: float, second: float) -> float:
    """Return by which share of the first the second is larger."""
    if first == second:
        return 0.0
    return (second - first) / first if first else inf


def unit_of(nbytes: float) -> tuple[float, str, int, str]:
    """Return the largest unit in which the number is at least 1, decimal and binary."""
    return next((unit for unit in _UNITS if nbytes >= unit[0]), _UNITS[-1])
