"""Every named schedule by its name, and the function that makes it.

Notation: p ranks, m micro-batches, v chunks (stages a rank), F and B the time of a forward and a
backward of one micro-batch on a rank's whole share; B = I + W. With v chunks, stage s lives on rank
s mod p. The figure above each schedule shows a small one, a line a rank, with F, I and W of 1 s and
B of 2 s; `print(simulate(…))` draws it, and a test compares the two.

The zero-bubble schedules split the backward. The input gradient I is what the stage before waits
for; the weight gradient W is waited for by no one, so each W is put off until the rank has nothing
better to do. The price is memory: a micro-batch is held until its W has run. They are the orders
made by hand of Zero Bubble Pipeline Parallelism (arXiv 2401.10241). Their bubble times are those of
the paper, for the longest span of a rank, from its first start to its last end; idle/total also
counts the stagger of the ranks, and stays above 0.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from numbers import Integral

from d2lpart.schedules.schedule import Action, Schedule


def naive(num_ranks: int, num_microbatches: int, chunks: int = 1) -> Schedule:
    """One micro-batch after another, forward through all stages and back: one rank works at a time.

    Idle (idle/total): (p−1)/p. Held: one micro-batch.
    Source: the process flow of plain layer-wise model parallelism.
    """
    stage_to_rank = _round_robin(num_ranks, chunks)

    # naive, 3 ranks, 2 micro-batches
    #   rank 0 |F0            B0--F1            B1--|
    #   rank 1 |  F0      B0--      F1      B1--    |
    #   rank 2 |    F0B0--            F1B1--        |
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

    # gpipe, 3 ranks, 4 micro-batches
    #   rank 0 |F0F1F2F3            B0--B1--B2--B3--|
    #   rank 1 |  F0F1F2F3      B0--B1--B2--B3--    |
    #   rank 2 |    F0F1F2F3B0--B1--B2--B3--        |
    def order(stages: Sequence[int]) -> Iterable[Action]:
        yield from (Action(s, "F", k) for s in stages for k in range(num_microbatches))
        yield from (Action(s, "B", k) for s in reversed(stages) for k in range(num_microbatches))

    return _schedule("gpipe", order, stage_to_rank, num_ranks)


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
            f"Pipeline as many devices as stages; or 'interleaved', which runs several"
        )
    # 1f1b, 3 ranks, 4 micro-batches
    #   rank 0 |F0F1F2        B0--F3B1--  B2--  B3--|
    #   rank 1 |  F0F1    B0--F2B1--F3B2--  B3--    |
    #   rank 2 |    F0B0--F1B1--F2B2--F3B3--        |
    orders = []
    for stage in range(num_ranks):
        forwards = [Action(stage, "F", k) for k in range(num_microbatches)]
        backwards = [Action(stage, "B", k) for k in range(num_microbatches)]
        orders.append(_in_turn(forwards, backwards, ahead=num_ranks - 1 - stage))
    return Schedule(orders, range(num_ranks), "1f1b")


def interleaved(num_ranks: int, num_microbatches: int, chunks: int = 1) -> Schedule:
    """1F1B with v stages a rank: it turns to its next stage after every p micro-batches.

    Bubble time: (p−1)(F+B)/v, idle/total (p−1)/(vm+p−1), where m is a multiple of p.
    Held on rank r, v > 1: at most min(m, ((v−1)p + 2(p−1−r) + 1)/v), and just that where m is a
    multiple of p. With v = 1 it is 1F1B. Crossings: vp−1 instead of p−1.
    Source: Megatron-LM (arXiv 2104.04473), which wants m to be a multiple of p. Any other m runs
    the order for the next multiple, less the micro-batches that are not there.

    >>> print(interleaved(2, 2, 2))
    interleaved: 2 ranks, 4 stages, 2 micro-batches
    rank 0: 0F0 0F1 2F0 2F1 2B0 2B1 0B0 0B1
    rank 1: 1F0 1F1 3F0 3B0 3F1 3B1 1B0 1B1
    """
    # interleaved, 2 ranks, 2 micro-batches, 2 stages a rank
    #   rank 0 |0F0-0F1-2F0-2F1-        2B0-----    2B1-----0B0-----0B1-----|
    #   rank 1 |    1F0-1F1-3F0-3B0-----3F1-3B1-----1B0-----1B1-----        |
    p, v = num_ranks, chunks
    orders = []
    for rank in range(p):
        stages = range(rank, p * v, p)
        forwards = list(_in_groups(stages, "F", p, num_microbatches))
        backwards = list(_in_groups(stages[::-1], "B", p, num_microbatches))
        ahead = (v - 1) * p + 2 * (p - 1 - rank) if v > 1 else p - 1 - rank
        order = _in_turn(forwards, backwards, ahead)
        orders.append([action for action in order if action.microbatch < num_microbatches])
    return Schedule(orders, _round_robin(p, v), "interleaved")


def _in_turn(forwards: Sequence[Action], backwards: Sequence[Action], ahead: int) -> list[Action]:
    """`ahead` forwards, then forward and backward in turn, then the backwards that are left."""
    order = list(forwards[:ahead])
    for forward, backward in zip(forwards[ahead:], backwards, strict=False):
        order += forward, backward
    order += backwards[max(0, len(forwards) - ahead) :]
    return order


def _in_groups(
    stages: Sequence[int], kind: str, size: int, num_microbatches: int
) -> Iterator[Action]:
    """Each group of `size` micro-batches through all `stages`; the last group is full, too."""
    for first in range(0, num_microbatches, size):
        for stage in stages:
            for k in range(first, first + size):
                yield Action(stage, kind, k)


def zb_h1(num_ranks: int, num_microbatches: int, chunks: int = 1) -> Schedule:
    """1F1B with split backwards: the later a rank, the longer it puts its weight gradients off.

    Bubble time (longest span of a rank): (p−1)(F+I−W) for m ≥ p and W ≤ F.
    Held: min(m, p) on every rank; 1F1B's first rank holds as much.

    >>> print(zb_h1(2, 3))
    zb-h1: 2 ranks, 2 stages, 3 micro-batches
    rank 0: 0F0 0F1 0I0 0W0 0F2 0I1 0W1 0I2 0W2
    rank 1: 1F0 1I0 1F1 1I1 1W0 1F2 1I2 1W1 1W2
    """
    # zb-h1, 3 ranks, 5 micro-batches
    #   rank 0 |F0F1F2    I0W0F3I1W1F4I2W2I3W3I4W4|
    #   rank 1 |  F0F1  I0F2I1W0F3I2W1F4I3W2I4W3W4|
    #   rank 2 |    F0I0F1I1F2I2W0F3I3W1F4I4W2W3W4|
    return _delayed("zb-h1", num_ranks, num_microbatches, chunks, delay=1)


def zb_h2(num_ranks: int, num_microbatches: int, chunks: int = 1) -> Schedule:
    """ZB-H1 with twice as many forwards ahead and weight gradients put off twice as long.

    Bubble time (longest span of a rank): (p−1)(F+I−2W) for m ≥ 2p−1 and W ≤ F, W ≤ I; 0 where
    F = I = W. Held: min(m, 2p−1) on every rank.

    >>> print(zb_h2(2, 3))
    zb-h2: 2 ranks, 2 stages, 3 micro-batches
    rank 0: 0F0 0F1 0F2 0I0 0W0 0I1 0W1 0I2 0W2
    rank 1: 1F0 1I0 1F1 1I1 1F2 1I2 1W0 1W1 1W2
    """
    # zb-h2, 3 ranks, 6 micro-batches
    #   rank 0 |F0F1F2F3F4I0W0F5I1W1I2W2I3W3I4W4I5W5    |
    #   rank 1 |  F0F1F2I0F3I1F4I2W0F5I3W1I4W2I5W3W4W5  |
    #   rank 2 |    F0I0F1I1F2I2F3I3F4I4W0F5I5W1W2W3W4W5|
    return _delayed("zb-h2", num_ranks, num_microbatches, chunks, delay=2)


def _delayed(name: str, p: int, m: int, chunks: int, delay: int) -> Schedule:
    """Let a rank run `delay` forwards ahead for each rank after it, and I before W for each before.

    What a rank does not hold for the one, it holds for the other: delay·(p−1) + 1 at most.
    """
    if chunks != 1:
        raise ValueError(
            f"{name} runs one stage a rank, not {chunks}: use chunks=1, in a Pipeline as many "
            f"devices as stages; or 'zb-v', which runs two"
        )

    def order(stage: int) -> Iterator[Action]:
        ahead, late = delay * (p - 1 - stage), delay * stage
        for k in range(-ahead, m + late):
            if k + ahead < m:
                yield Action(stage, "F", k + ahead)
            if 0 <= k < m:
                yield Action(stage, "I", k)
            if 0 <= k - late < m:
                yield Action(stage, "W", k - late)

    return Schedule(map(order, range(p)), range(p), name)


def zb_v(num_ranks: int, num_microbatches: int, chunks: int = 2) -> Schedule:
    """Two stages a rank in the shape of a V: down the ranks and up again, so rank 0 has the loss.

    Stage s lives on rank s, and behind the turn on rank 2p−1−s.
    Bubble time (longest span of a rank): 0 for F = I = W and m ≥ 2p−1.
    Held: at most min(m, p) on every rank, and just that for m ≥ 2p−1. Crossings: 2p−2, as the two
    stages at the turn share a rank. A smaller m runs the order for 2p−1, less the micro-batches
    that are not there.

    >>> print(zb_v(2, 2))
    zb-v: 2 ranks, 4 stages, 2 micro-batches
    rank 0: 0F0 0F1 3F0 3I0 3W0 3F1 3I1 3W1 0I0 0W0 0I1 0W1
    rank 1: 1F0 2F0 1F1 2F1 2I0 2W0 1I0 1W0 2I1 2W1 1I1 1W1
    """
    if chunks != 2:
        raise ValueError(
            f"zb-v runs two stages a rank, not {chunks}: leave chunks out, or use chunks=2, in a "
            f"Pipeline half as many devices as stages"
        )
    # zb-v, 2 ranks, 3 micro-batches, 2 stages a rank
    #   rank 0 |0F0-0F1-0F2-3F0-3I0-3W0-3F1-3I1-3W1-0I0-0W0-3F2-3I2-3W2-0I1-0W1-0I2-0W2-    |
    #   rank 1 |    1F0-2F0-1F1-2F1-2I0-2W0-1F2-1I0-1W0-2F2-2I1-2W1-1I1-2I2-1I2-1W1-2W2-1W2-|
    p, m = num_ranks, num_microbatches
    full = [_v_order(rank, p, max(m, 2 * p - 1)) for rank in range(p)]
    orders = [[action for action in order if action.microbatch < m] for order in full]
    return Schedule(orders, [*range(p), *reversed(range(p))], "zb-v")


def _v_order(rank: int, p: int, m: int) -> Iterator[Action]:
    """The order of one rank, m ≥ 2p−1. It has a stage on the way down and one on the way up."""
    down, up, after = rank, 2 * p - 1 - rank, p - rank
    steady = [(down, "F"), (down, "I"), (down, "W"), (up, "F"), (up, "I"), (up, "W")]
    filling = m - (2 * p - 1 - rank)  # forwards of `down` that the warm-up leaves
    steps = [
        *[(down, "F")] * (2 * after - 1),
        *[(up, "F"), (down, "F")] * rank,
        *[(up, "F"), (up, "I"), (up, "W")] * after,
        *steady * filling,
        *steady[1:] * (m - p - filling),
        *[(down, "I"), (up, "I")] * rank,
        *[(down, "I"), (down, "W")] * after,
        *[(up, "W")] * rank,
        *[(down, "W")] * rank,
    ]
    microbatch = {step: count() for step in set(steps)}
    for stage, kind in steps:
        yield Action(stage, kind, next(microbatch[stage, kind]))


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
