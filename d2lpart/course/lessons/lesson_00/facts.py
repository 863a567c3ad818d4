"""Lesson 00: the predicted steps that its explanations take their numbers from."""

from d2lpart import Link, Timeline, build_schedule, simulate


def step(name: str, num_ranks: int, num_microbatches: int, work: float = 1.0) -> Timeline:
    """One step with `work` seconds of computing in all, a third of it forward."""
    share = work / (3 * num_ranks * num_microbatches)
    schedule = build_schedule(name, num_ranks, num_microbatches)
    return simulate(schedule, {"F": share, "B": 2 * share})


def naive(num_ranks: int) -> Timeline:
    """One step of 1 s, the mini-batch in one piece."""
    return step("naive", num_ranks, 1)


def uneven() -> Timeline:
    """Four ranks and four micro-batches; stage 1 has twice the work of the others."""
    light = {"F": 1.0, "B": 2.0}
    return simulate(build_schedule("1f1b", 4, 4), [light, {"F": 2.0, "B": 4.0}, light, light])


def equal() -> Timeline:
    """Four ranks and four micro-batches, with a backward as long as a forward."""
    return simulate(build_schedule("1f1b", 4, 4), {"F": 1.0, "B": 1.0})


def with_hops(seconds: float) -> Timeline:
    """A naive step of 1 s on four ranks, each message `seconds` under way."""
    durations = {"F": 1 / 12, "B": 2 / 12}
    return simulate(build_schedule("naive", 4, 1), durations, Link(latency=seconds))
