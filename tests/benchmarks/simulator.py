"""How many actions a second are compiled and simulated, beside torch's own dry run of an order.

Run `make bench`. Every repeat times all parts one after another in one process, so that a noisy
machine disturbs them alike; ratios are taken within a repeat, and medians are reported.

Torch's dry run is `_simulate_comms_compute`, which `_simulate` of its pipeline runtime calls. It
wants sends and receives among the actions: they are added before the clock starts, and its speed
counts them as well. It gives every action one tick; the simulator gives it a start and an end.
"""

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.pipelining.schedules import (
    _Action,
    _add_send_recv,
    _simulate_comms_compute,
)

from d2lpart import Link, Schedule, build_schedule, simulate
from d2lpart.hardware import cores
from d2lpart.program import compiled

EVEN = {"F": 1, "B": 2}
BUS = Link(0.01, shared="bus")
SIZES = ((4, 64), (8, 128), (16, 256), (32, 512), (64, 1024))
PARTS = "build", "compile", "simulate", "read", "spans", "bus"


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and result, with the garbage of earlier calls out of the way."""
    gc.collect()
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def parts(p: int, m: int) -> tuple[int, dict[str, float]]:
    """Return the number of actions of a step, and the seconds of each part of a simulation."""
    took: dict[str, float] = {}
    took["build"], schedule = timed(lambda: build_schedule("1f1b", p, m))
    took["compile"], _ = timed(lambda: compiled(schedule))
    took["simulate"], timeline = timed(lambda: simulate(schedule, EVEN))
    took["read"], _ = timed(lambda: (timeline.makespan, timeline.idle_fraction()))
    took["spans"], _ = timed(lambda: timeline.spans)
    took["bus"], _ = timed(lambda: simulate(schedule, EVEN, BUS))
    return sum(map(len, schedule.orders)), took


def growth(repeats: int) -> None:
    """Print the parts of each size, and how the time of an action changes with the size."""
    runs = [[parts(p, m) for p, m in SIZES] for _ in range(repeats)]
    print(f"{'p':>3} {'m':>5} {'actions':>8}  {'  '.join(f'{x:>8}' for x in PARTS)}  actions/s")
    for place, (p, m) in enumerate(SIZES):
        actions = runs[0][place][0]
        middle = [statistics.median(run[place][1][x] for run in runs) for x in PARTS]
        speed = statistics.median(actions / both(run[place][1]) for run in runs)
        cells = "  ".join(f"{seconds * 1e3:6.1f}ms" for seconds in middle)
        print(f"{p:3} {m:5} {actions:8}  {cells}  {speed:9,.0f}")
    ratios = []
    for run in runs:
        (few, small), (many, large) = run[0], run[-1]
        ratios.append(both(large) / many / (both(small) / few))
    print(f"seconds of an action, largest / smallest step: {spread(ratios)} (linear is 1)")


def both(took: dict[str, float]) -> float:
    """Return the seconds that a schedule takes to become a timeline."""
    return took["compile"] + took["simulate"]


def beside_torch(p: int, m: int, repeats: int) -> None:
    """Print the speeds of both on the same order, and their ratio."""
    given = build_schedule("1f1b", p, m)
    rows = [[_Action.from_str(str(action)) for action in order] for order in given.orders]
    places = given.stage_to_rank.__getitem__
    lowered = _add_send_recv(dict(enumerate(rows)), places, given.num_stages)
    actions, messages = sum(map(len, given.orders)), sum(map(len, lowered.values()))
    ours, theirs = [], []
    for _ in range(repeats):
        fresh = Schedule(given.orders, given.stage_to_rank)  # compiled by nobody yet
        ours.append(timed(lambda fresh=fresh: simulate(fresh, EVEN))[0])
        theirs.append(timed(lambda: _simulate_comms_compute(lowered, places, given.num_stages))[0])
    print(f"p={p} m={m}, {actions} actions; with torch's sends and receives {messages}")
    print(f"  compile and simulate: {actions / statistics.median(ours):9,.0f} actions/s")
    print(f"  torch's dry run:      {messages / statistics.median(theirs):9,.0f} actions/s")
    each = [b / a for a, b in zip(ours, theirs, strict=True)]
    print(f"  torch's seconds / ours, on this order: {spread(each)}")


def spread(ratios: list[float]) -> str:
    """Write a median with its quartiles."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f}, quartiles {low:.2f} to {high:.2f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(f"torch {torch.__version__}, Python {sys.version.split()[0]}, {cores()} cores")
    growth(repeats)
    for p, m in ((8, 128), (32, 512)):
        beside_torch(p, m, repeats)
