"""How many actions a second are compiled and simulated, beside torch's own dry run of an order.

Torch's dry run is `_simulate_comms_compute`, which `_simulate` of its pipeline runtime calls. It
wants sends and receives among the actions: they are added before the clock starts, and its speed
counts them as well. It gives every action one tick; the simulator gives it a start and an end.
"""

import gc
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from report import Row, Table
from spread import Spread, ratios

from d2lpart import Link, Schedule, build_schedule, simulate
from d2lpart.schedules.compiled_schedule import compiled

EVEN = {"F": 1, "B": 2}
BUS = Link(0.01, shared="bus")
SIZES = (4, 64), (8, 128), (16, 256), (32, 512), (64, 1024)
BESIDE = (8, 128), (32, 512)
PARTS = "build", "compile", "simulate", "read", "spans", "bus"


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and result, with the garbage of earlier calls out of the way."""
    gc.collect()
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def parts(p: int, m: int) -> dict[str, float]:
    """Return the seconds of each part of a simulation of p ranks and m micro-batches."""
    took: dict[str, float] = {}
    took["build"], schedule = timed(lambda: build_schedule("1f1b", p, m))
    took["compile"], _ = timed(lambda: compiled(schedule))
    took["simulate"], timeline = timed(lambda: simulate(schedule, EVEN))
    took["read"], _ = timed(lambda: (timeline.makespan, timeline.idle_fraction()))
    took["spans"], _ = timed(lambda: timeline.spans)
    took["bus"], _ = timed(lambda: simulate(schedule, EVEN, BUS))
    return took


def tables(quick: bool) -> list[Table]:
    """Return the parts of a simulation at several sizes, and its speed beside torch's dry run."""
    print("simulator", file=sys.stderr)
    repeats = 3 if quick else 7
    sizes = SIZES[:2] if quick else SIZES
    return [pieces(sizes, repeats), beside(BESIDE[:1] if quick else BESIDE, repeats)]


def pieces(sizes: Sequence[tuple[int, int]], repeats: int) -> Table:
    """Return how long each part takes at each size."""
    runs = [[parts(p, m) for p, m in sizes] for _ in range(repeats)]
    rows = []
    for place, (p, m) in enumerate(sizes):
        took = {part: Spread.of(run[place][part] for run in runs) for part in PARTS}
        speed = Spread.of(
            2 * p * m / (run[place]["compile"] + run[place]["simulate"]) for run in runs
        )
        cells = [f"{took[part].middle * 1e3:.1f}" for part in PARTS]
        data = {"actions": 2 * p * m, "actions_per_second": speed, **took}
        rows.append(Row(f"p={p}, m={m}", [*cells, speed.written(0)], data, f"simulator-{p}-{m}"))
    return Table(
        "Parts of a simulation",
        "Milliseconds to build a 1F1B schedule, to compile and to simulate it, to read its step "
        "and idle time, to make all its spans, and to simulate it over a shared bus. Actions a "
        "second are those of compile and simulate.",
        ("step", *PARTS, "actions a second"),
        rows,
    )


def beside(sizes: Sequence[tuple[int, int]], repeats: int) -> Table:
    """Return both speeds on the same orders; torch's changes from release to release."""
    columns = "order", "simulate", "torch's dry run", "torch's seconds over ours"
    words = "Actions a second on the same 1F1B order. Torch counts its sends and receives too."
    try:
        rows = [beside_torch(p, m, repeats) for p, m in sizes]
    except (ImportError, AttributeError) as error:
        rows, words = [], f"Torch's dry run is not where it was: {error}."
    return Table("Simulator and torch's dry run", words, columns, rows)


def beside_torch(p: int, m: int, repeats: int) -> Row:
    """Time both on one order, in turns."""
    from torch.distributed.pipelining import schedules as theirs

    given = build_schedule("1f1b", p, m)
    orders = [[theirs._Action.from_str(str(a)) for a in order] for order in given.orders]
    places = given.stage_to_rank.__getitem__
    lowered = theirs._add_send_recv(dict(enumerate(orders)), places, given.num_stages)
    actions, messages = sum(map(len, given.orders)), sum(map(len, lowered.values()))
    ours, dry = [], []
    for _ in range(repeats):
        fresh = Schedule(given.orders, given.stage_to_rank)  # compiled by nobody yet
        ours.append(timed(lambda fresh=fresh: simulate(fresh, EVEN))[0])
        dry.append(
            timed(lambda: theirs._simulate_comms_compute(lowered, places, given.num_stages))[0]
        )
    mine = Spread.of(actions / took for took in ours)
    other = Spread.of(messages / took for took in dry)
    ratio = Spread.of(ratios(dry, ours))
    cells = [mine.written(0), other.written(0), ratio.written(1)]
    data = {"ours": mine, "torch": other, "ratio": ratio}
    return Row(f"p={p}, m={m}", cells, data, f"dry-run-{p}-{m}")
