"""`recognize`: which named schedule an order is, whatever its ranks and it are called."""

from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.schedule import Action, Schedule, check_schedule


def recognize(schedule: Schedule) -> str | None:
    """Return the name of the schedule that this one is, up to numbering, or None.

    How ranks and micro-batches are numbered does not matter, as long as all orders agree on it.
    Where several names have the same orders, as with one rank or one micro-batch, it is the first
    of `SCHEDULES`.

    Raises:
        ScheduleError: it is no schedule; an illegal one is None.

    >>> recognize(Schedule(["1F1 1F0 1B1 1B0", "0F1 0F0 0B1 0B0"], [1, 0]))
    'gpipe'
    >>> recognize(Schedule(["0F0 0B0 0F1 0B1", "1F0 1F1 1B0 1B1"], [0, 1])) is None
    True
    """
    check_schedule(schedule)
    chunks, rest = divmod(schedule.num_stages, max(1, schedule.num_ranks))
    if rest or schedule.num_microbatches < 1:
        return None
    plain = _renumbered(schedule)
    for name in SCHEDULES:
        try:
            named = build_schedule(
                name, schedule.num_ranks, schedule.num_microbatches, chunks=chunks
            )
        except ValueError:  # it has no such number of stages a rank
            continue
        if named == plain:
            return name
    return None


def _renumbered(schedule: Schedule) -> Schedule | None:
    """Number ranks by their first stages, and micro-batches as stage 0 takes them up.

    So the named schedules are numbered. None where a rank has no stage, or stage 0 no such order.
    """
    ranks = list(dict.fromkeys(schedule.stage_to_rank))
    if sorted(ranks) != list(range(schedule.num_ranks)):
        return None
    first = [a.microbatch for a in schedule.orders[ranks[0]] if (a.stage, a.kind) == (0, "F")]
    number = {microbatch: place for place, microbatch in enumerate(first)}
    if not {a.microbatch for order in schedule.orders for a in order} <= number.keys():
        return None
    orders = [
        [Action(stage, kind, number[k]) for stage, kind, k in schedule.orders[rank]]
        for rank in ranks
    ]
    return Schedule(orders, [ranks.index(rank) for rank in schedule.stage_to_rank])
