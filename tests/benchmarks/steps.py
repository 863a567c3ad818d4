"""The time of a step beside every peer: widths, one and two ranks, all in turns.

The bound of p ranks is (m + p - 1) / m * plain / p: the plain loop shared out evenly, with the
bubble that GPipe and 1F1B cannot avoid (arXiv 1811.06965, 2104.04473). No pipeline of equal stages
can be faster on cores that do not disturb each other; what two cores take from each other is
measured by two plain loops in two processes. The plain loop is the fastest there is: it keeps
freed memory, as our pipeline does, and nobody else unless their name says so.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contest import Contestant, Turn, key, name_of, rounds
from report import Row, Table
from spread import Spread, ratios

from d2lpart.common.quantities import count

ROUNDS = {128: 21, 256: 11, 512: 7, 768: 5}  # at each width
SETUP = {"blocks": 8, "samples": 16, "context": 64, "microbatches": 8}
QUICK_ROUNDS = {32: 3, 64: 3}
QUICK_SETUP = {"blocks": 2, "samples": 8, "context": 16, "microbatches": 4}

PLAIN = "plain kept, 1 rank"
OURS = {1: "ours 1f1b, 1 rank", 2: "ours 1f1b, 2 ranks"}
CROWD = "processes kept, 2 ranks"
THREADS = "threads kept, 2 ranks"

# (name, ranks, processes), and what the page calls it
FIELD = {
    ("plain kept", 1, 1): "plain loop, freed memory kept",
    ("plain", 1, 1): "plain loop as it comes",
    ("ours 1f1b", 1, 1): "d2lpart, 1F1B",
    ("torch 1f1b", 1, 1): "torch.distributed.pipelining, 1F1B",
    ("torchgpipe", 1, 1): "torchgpipe",
    ("accelerate", 1, 1): "accelerate, device map",
    ("ours 1f1b", 2, 1): "d2lpart, 1F1B",
    ("ours gpipe", 2, 1): "d2lpart, GPipe",
    ("torch 1f1b", 2, 2): "torch.distributed.pipelining, 1F1B",
    ("torch gpipe", 2, 2): "torch.distributed.pipelining, GPipe",
    ("torchgpipe", 2, 1): "torchgpipe",
    ("accelerate", 2, 1): "accelerate, device map",
    ("torch 1f1b kept", 2, 2): "torch.distributed.pipelining, 1F1B, freed memory kept",
    ("processes kept", 2, 2): "two plain loops, two processes",
    ("threads kept", 2, 1): "two plain loops, two threads",
}


@dataclass(frozen=True)
class Measured:
    """All turns at one width, and why a contestant has none."""

    width: int
    microbatches: int
    rounds: Sequence[Mapping[str, Turn]]
    failures: Mapping[str, str]

    def seconds(self, name: str) -> list[float]:
        """Return a contestant's step of each round."""
        return [turns[name].seconds for turns in self.rounds]

    def over_bound(self, name: str, ranks: int) -> list[float]:
        """Return each step of a contestant over the bound, one rank's over the plain loop."""
        share = bound_share(ranks, self.microbatches)
        return ratios(self.seconds(name), [share * plain for plain in self.seconds(PLAIN)])

    def over_plain(self, name: str) -> list[float]:
        """Return each step of a contestant over the plain loop's."""
        return ratios(self.seconds(name), self.seconds(PLAIN))

    def slowed(self) -> list[float]:
        """Return by how much the bound of two ranks grows on cores that share.

        Both work at once for (m - 1) / (m + 1) of it, and then take what two processes take.
        """
        at_once = (self.microbatches - 1) / (self.microbatches + 1)
        return [1 + at_once * (crowd - 1) for crowd in self.over_plain(CROWD)]


def bound_share(ranks: int, microbatches: int) -> float:
    """Return the bound of a step as a share of the plain loop's time.

    >>> bound_share(1, 8), bound_share(2, 8)
    (1.0, 0.5625)
    """
    return (microbatches + ranks - 1) / microbatches / ranks


def measure(quick: bool, most: int = sys.maxsize) -> list[Measured]:
    """Let all contestants step at every width, in at most so many rounds."""
    repeats, setup = (QUICK_ROUNDS, QUICK_SETUP) if quick else (ROUNDS, SETUP)
    contestants = [Contestant(*who) for who in FIELD]
    try:
        return [at_width(contestants, w, min(most, n), setup) for w, n in repeats.items()]
    finally:
        for contestant in contestants:
            contestant.close()


def at_width(
    contestants: Sequence[Contestant], width: int, repeats: int, setup: Mapping[str, int]
) -> Measured:
    """Build everyone's model, hold the results against each other, and measure."""
    print(f"steps at width {width}: {repeats} rounds", file=sys.stderr)
    for contestant in contestants:
        contestant.build({**setup, "width": width})
    for contestant in contestants:
        contestant.ready()
    check_alike(contestants)
    alive = [contestant for contestant in contestants if not contestant.error]
    found = rounds(alive, repeats)
    failures = {key(contestant): contestant.error for contestant in contestants if contestant.error}
    return Measured(width, setup["microbatches"], found, failures)


def check_alike(contestants: Sequence[Contestant]) -> None:
    """Raise unless everyone who takes a step has the loss and the gradients of the plain loop."""
    first = {key(contestant): (contestant.step(), contestant.norm()) for contestant in contestants}
    plain, norm = first.pop(PLAIN)
    if plain is None or norm is None:
        raise RuntimeError(f"the plain loop does not run: {contestants[0].error}")
    for name, (turn, other) in first.items():
        if turn is None or other is None or name in (CROWD, THREADS):  # these train two models
            continue
        if abs(turn.loss - plain.loss) > 1e-4 or abs(other / norm - 1) > 1e-4:
            raise RuntimeError(
                f"{name} has loss {turn.loss} and gradients of norm {other}, the plain loop "
                f"{plain.loss} and {norm}: they do not do the same work"
            )


def tables(measured: Sequence[Measured]) -> list[Table]:
    """Return one table for each number of ranks, and what else the turns tell."""
    return [
        Table(
            f"Step of {count(ranks, 'rank')}",
            INTRODUCTIONS[ranks],
            ("contestant", *(f"width {at.width}" for at in measured)),
            [row(measured, *who) for who in FIELD if who[1] == ranks and not is_pair(who[0])],
        )
        for ranks in (1, 2)
    ] + [shared_cores(measured), resources(measured)]


def is_pair(name: str) -> bool:
    """Say whether these are two loops that know nothing of each other, and take no common step."""
    return name.split()[0] in ("processes", "threads")


INTRODUCTIONS = {
    1: "Seconds of forward and backward of a mini-batch, over those of the plain loop over the "
    "same micro-batches; that loop itself in milliseconds. One thread computes. d2lpart lets the C "
    "library keep freed memory, so the plain loop in the first row does so, too.",
    2: "Seconds of a step over the bound, (m + p - 1) / m * plain / p, one thread a rank. "
    "`torch.distributed.pipelining` has a process a rank, and gloo between them. torchgpipe has "
    "one worker thread a device and one autograd thread, so two stages on the CPU take turns; so "
    "do the layers under accelerate's device map, on any device.",
}


def row(measured: Sequence[Measured], name: str, ranks: int, processes: int) -> Row:
    """Return a contestant's line: at each width its ratio, or why there is none."""
    who = name_of(name, ranks)
    cells, data = [], {}
    for at in measured:
        if who in at.failures:
            cells.append(f"did not run: {at.failures[who]}")
        elif who == PLAIN:
            spread = Spread.of(at.seconds(who))
            cells.append(spread.written(1, 1e3, " ms"))
            data[f"seconds_{at.width}"] = spread
        else:
            spread = Spread.of(at.over_bound(who, ranks))
            cells.append(spread.written())
            data[f"ratio_{at.width}"] = spread
    return Row(FIELD[name, ranks, processes], cells, data, anchor(name, ranks))


def anchor(name: str, ranks: int) -> str:
    """Return where a contestant's row is: "step-ours-1f1b-2"."""
    return f"step-{name.replace(' ', '-')}-{ranks}"


def shared_cores(measured: Sequence[Measured]) -> Table:
    """Return what two cores, and two threads of one Python, take from each other."""
    lines: Sequence[tuple[str, str, Callable[[Measured], list[float]]]] = (
        ("two plain loops, two processes", "processes", lambda at: at.over_plain(CROWD)),
        ("two plain loops, two threads", "threads", lambda at: at.over_plain(THREADS)),
        (
            "threads over processes",
            "gil",
            lambda at: ratios(at.seconds(THREADS), at.seconds(CROWD)),
        ),
        (
            "d2lpart, 1F1B: step of 2 ranks, over the bound on such cores",
            "ours",
            lambda at: ratios(at.over_bound(OURS[2], 2), at.slowed()),
        ),
    )
    rows = []
    for title, where, values in lines:
        spreads = {f"ratio_{at.width}": Spread.of(values(at)) for at in measured}
        cells = [spread.written() for spread in spreads.values()]
        rows.append(Row(title, cells, spreads, f"shared-{where}"))
    return Table(
        "What two cores take from each other",
        "Two plain loops at once, each with its own model, over one alone; 1 would be two cores "
        "that share nothing. In two processes they share caches and memory. In two threads they "
        "also share Python's lock (the GIL): what that costs is the third row, and no pipeline on "
        "threads of one Python can be rid of it. Where both ranks of a pipeline work, for "
        "(m - 1) / (m + 1) of the bound, each is as slow as the first row says; the last row is a "
        "step over the bound made so much longer: what is left is ours. All keep freed memory.",
        ("what runs at once", *(f"width {at.width}" for at in measured)),
        rows,
    )


def resources(measured: Sequence[Measured]) -> Table:
    """Return processor seconds over the plain loop's, and page faults, of every contestant."""
    rows = []
    for who, title in FIELD.items():
        name = name_of(*who[:2])
        cells, data = [], {}
        for at in measured:
            if name in at.failures:
                cells.append("did not run")
                continue
            cpu = [turns[name].cpu_seconds / turns[PLAIN].cpu_seconds for turns in at.rounds]
            faults = Spread.of(turns[name].faults for turns in at.rounds)
            cells.append(f"{Spread.of(cpu).middle:.2f}, {faults.middle:,.0f}")
            data |= {f"cpu_{at.width}": Spread.of(cpu), f"faults_{at.width}": faults}
        rows.append(Row(f"{title}, {who[1]}", cells, data))
    return Table(
        "Processor time and page faults of a step",
        "Processor seconds of all ranks together over the plain loop's, and page faults of a step: "
        "memory that was given back to the system and is asked for again.",
        ("contestant, ranks", *(f"width {at.width}" for at in measured)),
        rows,
    )


def raw(measured: Sequence[Measured]) -> dict[str, Any]:
    """Return every single measurement."""
    return {
        f"step seconds at width {at.width}": {
            name: [round(turns[name].seconds, 6) for turns in at.rounds] for name in at.rounds[0]
        }
        for at in measured
    }
