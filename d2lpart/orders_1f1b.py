"""One forward, one backward: 1F1B, and 1F1B interleaved over several stages a rank.

Both run some forwards ahead, then one forward and one backward in turn. They differ in how many
run ahead, and in which stage's turn it is. Notation: see `d2lpart.orders`.
"""

from collections.abc import Iterator, Sequence

from d2lpart.schedule import Action, Schedule


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
    p, v = num_ranks, chunks
    orders = []
    for rank in range(p):
        stages = range(rank, p * v, p)
        forwards = list(_in_groups(stages, "F", p, num_microbatches))
        backwards = list(_in_groups(stages[::-1], "B", p, num_microbatches))
        ahead = (v - 1) * p + 2 * (p - 1 - rank) if v > 1 else p - 1 - rank
        order = _in_turn(forwards, backwards, ahead)
        orders.append([action for action in order if action.microbatch < num_microbatches])
    return Schedule(orders, [stage % p for stage in range(p * v)], "interleaved")


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
