"""Lesson 06: the predicted steps that its explanations take their numbers from."""

from d2lpart import Schedule, Timeline, build_schedule, simulate


def step(name: str, p: int = 4, m: int = 8, v: int | None = None) -> Timeline:
    """A step whose F, I and W take 1 s each on a rank's whole share; messages take no time."""
    schedule = build_schedule(name, p, m, chunks=v)
    share = 1 / (schedule.num_stages // p)
    return simulate(schedule, {"F": share, "I": share, "W": share})


def held(timeline: Timeline) -> float:
    """The most micro-batches that any rank holds, in whole-stage units."""
    return timeline.peak_in_flight()


def with_fixed_cost(m: int) -> Timeline:
    """1F1B on four ranks: 48 s of forward and twice that backward, and 0.5 s more an action."""
    share = 48 / (4 * m)
    return simulate(build_schedule("1f1b", 4, m), {"F": share + 0.5, "B": 2 * share + 0.5})


def in_order(*orders: str) -> Timeline:
    """A step of F, I and W of 1 s each, in the orders given, one stage a rank."""
    return simulate(Schedule(orders, range(len(orders))), {"F": 1, "I": 1, "W": 1})


def goes_back(split: bool) -> float:
    """When stage 0 of two starts its backward; each of F, I and W takes 1 s."""
    parts = "I0 {0}W0" if split else "B0"
    orders = [f"{stage}F0 {stage}{parts.format(stage)}" for stage in range(2)]
    spans = in_order(*orders).of_rank(0)
    return spans[1].start
