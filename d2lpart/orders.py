"""The named schedules: pure functions from sizes to orders.

Notation: p ranks, m micro-batches, v chunks (stages a rank), F and B the time of a forward and a
backward of one micro-batch on a rank's whole share. With v chunks, stage s lives on rank s mod p.
"""

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral

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


def one_f_one_b(num_ranks: int, num_microbatches: int, chunks: int = 1) -> Schedule:
    """A few forwards to fill the pipeline, then one forward and one backward in turn.

    Bubble time: (p−1)(F+B), as GPipe's; idle/total (p−1)/(m+p−1). Held on rank r: min(m, p−r).
    Source: PipeDream-Flush, as in Megatron-LM (arXiv 2104.04473).

    >>> print(one_f_one_b(2, 3))
    1f1b: 2 ranks, 2 stages, 3 micro-batches
    rank 0: 0F0 0F1 0B0 0F2 0B1 0B2
    rank 1: 1F0 1B0 1F1 1B1 1F2 1B2
    """
    if chunks != 1:
        raise ValueError(
            f"1f1b runs one stage a rank, not {chunks}: use chunks=1, in a "
            f"Pipeline as many devices as stages"
        )

    def order(stages: Sequence[int]) -> Iterable[Action]:
        (stage,) = stages
        ahead = min(num_microbatches, num_ranks - stage - 1)  # forwards before the first backward
        yield from (Action(stage, "F", k) for k in range(ahead))
        for k in range(num_microbatches):
            if ahead + k < num_microbatches:
                yield Action(stage, "F", ahead + k)
            yield Action(stage, "B", k)

    return _schedule("1f1b", order, _round_robin(num_ranks, 1), num_ranks)


SCHEDULES: dict[str, Callable[[int, int, int], Schedule]] = {
    "naive": naive,
    "gpipe": gpipe,
    "1f1b": one_f_one_b,
}
"""Every named schedule; a new one joins by an entry here."""


def build_schedule(
    name: str, num_ranks: int, num_microbatches: int, *, chunks: int = 1
) -> Schedule:
    """Return the named schedule for `num_ranks` ranks and `num_microbatches` micro-batches.

    Args:
        name: one of `sorted(SCHEDULES)`.
        num_ranks: p, at least 1.
        num_microbatches: m, at least 1.
        chunks: v, the number of stages that each rank holds.

    Raises:
        ValueError: an unknown name, or a size that the schedule cannot have.
    """
    if name not in SCHEDULES:
        raise ValueError(
            f"no schedule is called {name!r}: choose from {', '.join(sorted(SCHEDULES))}"
        )
    sizes = {"num_ranks": num_ranks, "num_microbatches": num_microbatches, "chunks": chunks}
    for what, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, Integral) or size < 1:
            raise ValueError(f"{what} is {size!r}: a schedule needs a whole number of at least 1")
    return SCHEDULES[name](int(num_ranks), int(num_microbatches), int(chunks))


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
