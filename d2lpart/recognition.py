"""`recognize`: which named schedule an order is, whatever it calls itself."""

from d2lpart.orders import SCHEDULES, build_schedule
from d2lpart.schedule import Schedule


def recognize(schedule: Schedule) -> str | None:
    """Return the name of the schedule that has these orders and places, or None.

    Where several names have the same orders, as with one rank or one micro-batch, it is the first
    of `SCHEDULES`.

    >>> recognize(Schedule(["0F0 0F1 0B0 0B1", "1F0 1F1 1B0 1B1"], [0, 1]))
    'gpipe'
    >>> recognize(Schedule(["0F0 0B0 0F1 0B1", "1F0 1F1 1B0 1B1"], [0, 1])) is None
    True
    """
    chunks, rest = divmod(schedule.num_stages, schedule.num_ranks)
    if rest or schedule.num_microbatches < 1:
        return None
    for name in SCHEDULES:
        try:
            named = build_schedule(
                name, schedule.num_ranks, schedule.num_microbatches, chunks=chunks
            )
        except ValueError:  # it has no such number of stages a rank
            continue
        if named == schedule:
            return name
    return None
