"""`plot`: the figure of every value that has one, and `curves` for lessons."""

from functools import singledispatch
from typing import Any

from d2lpart.figures.ledger_bars import ledger_comparison_picture, ledger_picture, ledgers_picture
from d2lpart.figures.measured_lines import curves
from d2lpart.figures.page import Picture
from d2lpart.figures.partition_bars import partition_picture
from d2lpart.figures.timeline import comparison_picture, timeline_picture
from d2lpart.memory.ledger import Ledger, LedgerComparison, Ledgers
from d2lpart.partitions.partitioning import Partition
from d2lpart.timelines.timeline import Comparison, Timeline

__all__ = ["Picture", "curves", "plot"]


@singledispatch
def plot(value: Any, **options: Any) -> Picture:
    """Return the figure of a timeline, a partition, ledgers, or a comparison.

    The options are those of the functions registered below.

    Raises:
        ValueError: there is no figure for such a value.
    """
    raise ValueError(
        f"there is no figure of a {type(value).__name__}: give a Timeline, a Partition, Ledgers, "
        f"or a comparison"
    )


plot.register(Timeline, timeline_picture)
plot.register(Comparison, comparison_picture)
plot.register(Partition, partition_picture)
plot.register(Ledger, ledger_picture)
plot.register(Ledgers, ledgers_picture)
plot.register(LedgerComparison, ledger_comparison_picture)
