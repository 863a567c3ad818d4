"""Every named schedule by its name; the two oldest, naive and GPipe, are made here.

Notation: p ranks, m micro-batches, v chunks (stages a rank), F and B the time of a forward and a
backward of one micro-batch on a rank's whole share. With v chunks, stage s lives on rank s mod p.
"""

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral

from d2lpart.orders_1f1b import interleaved, one_f_one_b
from d2lpart.orders_zero_bubble import zb_h1, zb_h2, zb_v
from d2lpart.schedule import Action, Schedule


def naive(num_ranks: int, num_microbatches: int, chunks: int = 1) -> Schedule:
    """One micro-batch after another, forward through all stages and back: one rank works at a time.

    Idle (idle/total): (p−1)/p. Held: one micro-batch.
    Source: the process flow of plain layer-wise model parallelism.
    """
    stage_to_rank = _round_robin(num_ranks, chunks)

    def order(stages: Sequence[int]) -> Iterable[Action]:
        for k in range(num_microbatches):
            yield from (Action(s, "F", k) for s in stages)
            yield from (Action(s, "B", k) for s in reversed(stages))

    return _schedule("naive", order, stage_to_rank, num_ranks)


def gpipe(num_ranks: int, num_microbatches: int, chunks: int = 1) -> Schedule:
    """All forwards, then all backwards.

    Bubble time: (p−1)(F+B)/v for m ≥ p or v = 1; idle/total (p−1)/(vm+p−1). Held: m micro-batches.
    Source: GPipe (arXiv 1811.06965); the backwards run in the order of the forwards.
    """
    stage_to_rank = _round_robin(num_ranks, chunks)

    def order(stages: Sequence[int]) -> Iterable[Action]:
        yield from (Action(s, "F", k) for s in stages for k in range(num_microbatches))
        yield from (Action(s, "B", k) for s in reversed(stages) for k in range(num_microbatches))

    return _schedule("gpipe", order, stage_to_rank, num_ranks)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "naive": naive,
    "gpipe": gpipe,
    "1f1b": one_f_one_b,
    "interleaved": interleaved,
    "zb-h1": zb_h1,
    "zb-h2": zb_h2,
    "zb-v": zb_v,
}
"""Every named schedule; a new one joins by an entry here."""


def build_schedule(
    name: str, num_ranks: int, num_microbatches: int, *, chunks: int | None = None
) -> Schedule:
    """Return the named schedule for `num_ranks` ranks and `num_microbatches` micro-batches.

    Args:
        name: one of `sorted(SCHEDULES)`.
        num_ranks: p, at least 1.
        num_microbatches: m, at least 1.
        chunks: v, the number of stages that each rank holds; 1 if not given, in zb-v always 2.

    Raises:
        ValueError: an unknown name, or a size that the schedule cannot have.
    """
    if not isinstance(name, str) or name not in SCHEDULES:
        raise ValueError(
            f"no schedule is called {name!r}: choose from {', '.join(sorted(SCHEDULES))}"
        )
    sizes = {"num_ranks": num_ranks, "num_microbatches": num_microbatches}
    if chunks is not None:
        sizes["chunks"] = chunks
    for what, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, Integral) or size < 1:
            raise ValueError(f"{what} is {size!r}: a schedule needs a whole number of at least 1")
    return SCHEDULES[name](*map(int, sizes.values()))


def _round_robin(num_ranks: int, chunks: int) -> tuple[int, ...]:
    return tuple(stage % num_ranks for stage in range(num_ranks * chunks))


def _schedule(
    name: str,
    order: Callable[[Sequence[int]], Iterable[Action]],
    stage_to_rank: tuple[int, ...],
    num_ranks: int,
) -> Schedule:
    """Assemble a schedule from `order(stages of one rank)`."""
    stages = [[s for s, r in enumerate(stage_to_rank) if r == rank] for rank in range(num_ranks)]
    return Schedule([order(own) for own in stages], stage_to_rank, name)
