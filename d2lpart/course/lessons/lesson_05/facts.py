"""Lesson 05: the predicted steps that its explanations take their numbers from."""

from collections.abc import Sequence

from d2lpart import Link, Span, Timeline, build_schedule, simulate


def step(
    name: str, forwards: Sequence[float], num_microbatches: int = 1, link: Link | None = None
) -> Timeline:
    """One step of stages with these forward seconds; a backward takes twice as long."""
    durations = [{"F": f, "B": 2 * f} for f in forwards]
    schedule = build_schedule(name, len(forwards), num_microbatches)
    return simulate(schedule, durations, link or Link())


def naive(num_ranks: int) -> Timeline:
    """A naive step of even stages."""
    return step("naive", [1.0] * num_ranks)


def gpipe(num_microbatches: int, forwards: Sequence[float] = (1, 1, 1, 1)) -> Timeline:
    """A pipelined step on four ranks."""
    return step("gpipe", forwards, num_microbatches)


def pass_seconds(num_ranks: int, hop: float) -> float:
    """How long the forward of a model of 1 s of forward takes, cut over some ranks."""
    spans = step("naive", [1 / num_ranks] * num_ranks, link=Link(latency=hop)).spans
    return max(span.end for span in spans if span.action.kind == "F")


def slow_link(times: float = 1) -> Timeline:
    """A 13B decoder (40 blocks, width 5120, 2048 positions) on 4 A100 over 12.5 GB/s or less."""
    s, h = 2048, 5120
    seconds = 10 * (24 * s * h**2 + 4 * s**2 * h) / 156e12
    durations = {"F": seconds, "B": 2 * seconds}
    link = Link(bandwidth=12.5e9 / times)
    return simulate(build_schedule("naive", 4, 1), durations, link, boundary_bytes=2 * s * h)


def sent() -> float:
    """The milliseconds of all its messages."""
    return 1e3 * sum(t.seconds for t in slow_link().transfers)


HEAVY = (1, 1, 2, 1)


def with_faster(rank: int) -> float:
    """Seconds of 16 micro-batches where stage 2 is twice as heavy and one rank twice as fast."""
    return gpipe(16, [f / 2 if r == rank else f for r, f in enumerate(HEAVY)]).makespan


def forward(rank: int, microbatch: int) -> Span:
    """A forward of that step, with no rank faster."""
    spans = gpipe(16, HEAVY).spans
    return next(span for span in spans if span.action == (rank, "F", microbatch))
