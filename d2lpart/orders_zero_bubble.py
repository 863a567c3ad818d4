"""Zero bubble: the backward is split, and weight gradients fill what would be idle time.

The input gradient I is what the stage before waits for; the weight gradient W is waited for by no
one. So each W is put off until the rank has nothing better to do. The price is memory: a
micro-batch is held until its W has run. Notation: see `d2lpart.orders`; B = I + W.

The bubble times are those of the paper, for the longest span of a rank, from its first start to its
last end; idle/total also counts the stagger of the ranks, and stays above 0.
Source: Zero Bubble Pipeline Parallelism (arXiv 2401.10241), the orders made by hand.
"""

from collections.abc import Iterator
from itertools import count

from d2lpart.schedule import Action, Schedule


def zb_h1(num_ranks: int, num_microbatches: int, chunks: int = 1) -> Schedule:
    """1F1B with split backwards: the later a rank, the longer it puts its weight gradients off.

    Bubble time (longest span of a rank): (p−1)(F+I−W) for m ≥ p and W ≤ F.
    Held: min(m, p) on every rank; 1F1B's first rank holds as much.

    >>> print(zb_h1(2, 3))
    zb-h1: 2 ranks, 2 stages, 3 micro-batches
    rank 0: 0F0 0F1 0I0 0W0 0F2 0I1 0W1 0I2 0W2
    rank 1: 1F0 1I0 1F1 1I1 1W0 1F2 1I2 1W1 1W2
    """
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
