"""What a pipeline raises when a step fails, and when a rank runs out of memory."""

from math import inf

from d2lpart.common.quantities import bytes_text
from d2lpart.memory.ledger import Ledger


class PipelineError(ValueError, RuntimeError):
    """A step that failed; it names the rank, stage, action, micro-batch and layer."""


def told(error: BaseException) -> str:
    """Return the kind of an error and its text; one whose text fails keeps its kind.

    >>> told(KeyError("weight"))
    "KeyError: 'weight'"
    """
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as another:
        return f"{type(error).__name__} (its text raises {type(another).__name__})"


class OutOfMemoryError(PipelineError, MemoryError):
    """A rank that has no room for what it is about to hold.

    Attributes:
        rank: which one.
        ledger: what it held at that moment, measured; None where nothing was counted.
        asked: how many bytes more were asked for; None where only the allocator knows.
        capacity: how many the rank may hold; None where the device itself was full.
    """

    def __init__(
        self,
        message: str,
        rank: int,
        ledger: Ledger | None = None,
        asked: int | None = None,
        capacity: float | None = None,
    ) -> None:
        super().__init__(message)
        self.rank, self.ledger, self.asked, self.capacity = rank, ledger, asked, capacity


class Full(Exception):
    """A rank's account is full: what the error is made of, once it is known what the rank did."""

    def __init__(self, rank: int, item: str, asked: int, capacity: float, ledger: Ledger) -> None:
        super().__init__(rank)
        self.rank, self.item, self.asked = rank, item, asked
        self.capacity, self.ledger = capacity, ledger

    def error(self, where: str) -> OutOfMemoryError:
        """Return the error, with `where` as its beginning."""
        what = "optimizer state" if self.item == "optimizer" else self.item
        more = f"{bytes_text(self.asked)} more of {what}"
        excess = self.ledger.total + self.asked - self.capacity
        message = (
            f"{where}: out of memory\n{more} would be {bytes_text(excess)} over the capacity of "
            f"rank {self.rank}, {bytes_text(self.capacity)}\n{self._remedy()}\n{self.ledger}"
        )
        return OutOfMemoryError(message, self.rank, self.ledger, self.asked, self.capacity)

    def _remedy(self) -> str:
        """Say what helps: against activations, or where the state alone is too much."""
        state = self.ledger.state + (self.asked if self.item != "activations" else 0)
        return _TOO_MUCH_STATE if state > self.capacity else _TOO_MANY_ACTIVATIONS


_TOO_MUCH_STATE = (
    "It does not fit whatever the batch: use more ranks, so that each holds fewer layers,\n"
    "or an optimizer with less state"
)
_TOO_MANY_ACTIVATIONS = (
    "Use a smaller batch, more micro-batches under a schedule that holds few of them (1f1b),\n"
    "recompute=True, or more ranks, so that each holds fewer layers"
)


def allocator_error(
    where: str, rank: int, error: Exception, ledger: Ledger | None = None, capacity: float = inf
) -> OutOfMemoryError:
    """Return the error for a device whose allocator had no more to give.

    Args:
        where: what the rank did.
        rank: which one.
        error: what the allocator said.
        ledger: what the rank held, where that was counted.
        capacity: what it may hold.
    """
    limit = f" (the capacity of rank {rank} is {bytes_text(capacity)})" if capacity < inf else ""
    message = (
        f"{where}: out of memory{limit}: {error}. Use a smaller batch, recompute=True, or more "
        f"ranks, so that each holds fewer layers"
    )
    if ledger is not None:
        message += f"\n{ledger}"
    return OutOfMemoryError(message, rank, ledger, None, capacity if capacity < inf else None)
