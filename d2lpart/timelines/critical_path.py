"""What led to a moment of a step: chains of spans and transfers, each waiting for the one before.

`critical_path` is the chain behind the end of the step, `why` the one behind a gap.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from d2lpart.common.quantities import seconds_text
from d2lpart.timelines.gap_reasons import Gap, Record
from d2lpart.timelines.spans import Span, Transfer


@dataclass(frozen=True)
class Cause:
    """The chain behind a gap, in order of time; it prints in words, from the gap backwards.

    The first link runs when the waiting begins, the last one ends it. Idle time that no span or
    transfer explains (overhead) has an empty chain.
    """

    rank: int
    gap: Gap
    chain: tuple[Span | Transfer, ...]

    def __str__(self) -> str:
        gap = self.gap
        times = f"from {seconds_text(gap.start)} to {seconds_text(gap.end)}"
        lines = [f"rank {self.rank} is idle {times}: {gap.reason}"]
        for place in reversed(range(len(self.chain))):
            earlier = self.chain[place - 1] if place else None
            lines.append(f"  {_doing(self.chain[place])}{_after(self.chain[place], earlier)}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


def _doing(link: Span | Transfer) -> str:
    times = f"from {seconds_text(link.start)} to {seconds_text(link.end)}"
    if isinstance(link, Transfer):
        return f"{link.action} travels from rank {link.source} to rank {link.target} {times}"
    return f"rank {link.rank} computes {link.action} {times}"


def _after(link: Span | Transfer, earlier: Span | Transfer | None) -> str:
    if earlier is None:
        return ""
    if isinstance(link, Transfer):
        queued = isinstance(earlier, Transfer)
        return f", once {'the ' + (link.wire or 'wire') + ' is free' if queued else 'it is made'}"
    if isinstance(earlier, Transfer) or earlier.rank != link.rank:
        return f", once {earlier.action} has arrived"
    return f", once it has done {earlier.action}"


def why(record: Record, rank: int, gap: Gap) -> Cause:
    """Return the chain from what a gap waits for back to what ran when the gap began."""
    chain = []
    grain = 1e-9 * (record.end - record.start)
    for link in backwards(record, gap.cause):
        if link.end - gap.start <= grain:
            break
        if link.seconds > grain or link is gap.cause:
            chain.append(link)
    return Cause(rank, gap, tuple(reversed(chain)))


def chain_to_end(record: Record) -> list[Span | Transfer]:
    """Return the chain that ends the step: spans and transfers, each waiting for the last."""
    return list(backwards(record, record.last))[::-1]


def backwards(record: Record, link: Span | Transfer | None) -> Iterator[Span | Transfer]:
    """Yield a span or transfer, then what it waited for longest, and so on to the step's start."""
    while link is not None:
        yield link
        link = _earlier(record, link)


def _earlier(record: Record, link: Span | Transfer) -> Span | Transfer | None:
    """Return what ended last of all that had to end before `link`; if in doubt, on its own rank."""
    if isinstance(link, Transfer):
        return record.ahead.get(link.action) or record.of[link.action]
    previous = record.before[link.action]
    arrived, maker = max(record.needs(link), default=(record.start, None))
    if maker is None or (previous is not None and previous.end >= arrived):
        return previous
    if maker.rank == link.rank:
        return maker
    return record.message.get(maker.action, maker)
