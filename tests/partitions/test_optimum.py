"""Partitions against brute force over all of them: every combination of constraints.

The oracle goes by the definitions alone: all partitions one after the other, fractions, and
micro-batches held as the simulator counts them.
"""

import itertools
import random
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Any

import pytest

from d2lpart.partitions.amounts import layers_in_words, written
from d2lpart.partitions.partitioning import PartitionError, partition
from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.schedule import Schedule
from d2lpart.timelines.simulator import simulate

CASES = range(100)  # seeds of each combination

# ---- the oracle ----


def all_stages(num_layers: int, num_stages: int) -> Iterator[tuple[range, ...]]:
    """Yield the stages of all partitions into consecutive layers."""
    for cuts in itertools.combinations(range(1, num_layers), num_stages - 1):
        yield tuple(range(a, b) for a, b in itertools.pairwise((0, *cuts, num_layers)))


@cache
def held(schedule: str | Schedule, num_stages: int, num_microbatches: int) -> list[int]:
    """Return how many micro-batches a rank holds at once when the schedule is simulated."""
    if isinstance(schedule, str):
        schedule = build_schedule(schedule, num_stages, num_microbatches)
    timeline = simulate(schedule, {"F": 1, "I": 1, "W": 1})
    return [int(timeline.peak_in_flight(rank)) for rank in range(num_stages)]


class Oracle:
    """One case, in fractions: floats count as the decimals they are written as."""

    def __init__(self, costs: list, num_stages: int, options: dict[str, Any]) -> None:
        def fractions(name: str, default: list) -> list[Fraction]:
            return [Fraction(str(number)) for number in options.get(name, default)]

        layers, self.p = range(len(costs)), num_stages
        self.m = options.get("num_microbatches")
        self.costs = [Fraction(str(cost)) for cost in costs]
        self.transfer = fractions("transfer", [0 for _ in layers])
        self.speed = fractions("speed", [1] * num_stages)
        self.memory = fractions("memory", [0 for _ in layers])
        self.activations = fractions("activations", [0 for _ in layers])
        room = options.get("capacity", 10**9)
        room = room if isinstance(room, list) else [room] * num_stages
        self.capacity = [Fraction(str(each)) for each in room]
        self.held = [0] * num_stages
        if "schedule" in options:
            self.held = held(options["schedule"], num_stages, self.m)
        self.load, self.excess = cache(self._load), cache(self._excess)

    def _load(self, stage: int, layers: range) -> Fraction:
        load = sum(self.costs[layer] for layer in layers) / self.speed[stage]
        load += self.transfer[layers.start - 1] if layers.start else 0
        return load + (self.transfer[layers.stop - 1] if layers.stop < len(self.costs) else 0)

    def _excess(self, stage: int, layers: range) -> Fraction:
        needs = (self.memory[i] + self.held[stage] * self.activations[i] for i in layers)
        return sum(needs, Fraction(0)) - self.capacity[stage]

    def worst(self, stages: tuple[range, ...]) -> Fraction:
        """Return by how much the stage that is worst off exceeds its capacity."""
        return max(itertools.starmap(self.excess, enumerate(stages)))

    def merit(self, stages: tuple[range, ...]) -> tuple:
        """Return what is minimised, and what decides between equals."""
        loads = list(itertools.starmap(self.load, enumerate(stages)))
        total, most = sum(loads), max(loads)
        first = (most, total) if self.m is None else (total + (self.m - 1) * most, most)
        return *first, sum(load * load for load in loads), [len(part) for part in stages[::-1]]

    def fitting(self) -> list[tuple[range, ...]]:
        """Return all partitions whose stages fit."""
        every = all_stages(len(self.costs), self.p)
        return [stages for stages in every if self.worst(stages) <= 0]

    def closest(self) -> Fraction:
        """Return the smallest excess that a partition can have."""
        return min(map(self.worst, all_stages(len(self.costs), self.p)))

    def alone(self) -> Fraction:
        """Return by how much the layer that fits least exceeds the stage it fits best."""
        places = range(self.p)
        layers = [range(i, i + 1) for i in range(len(self.costs))]
        return max(min(self.excess(stage, layer) for stage in places) for layer in layers)


# ---- random cases ----

NAMES = ("num_microbatches", "transfer", "speed", "memory", "activations")
COMBINATIONS = [c for size in range(6) for c in itertools.combinations(NAMES, size)]


def random_case(seed: int, names: tuple[str, ...]) -> tuple[list, int, dict[str, Any]]:
    """Return costs, a number of stages and the named options, whole numbers or decimals."""
    rng = random.Random(f"{seed} {names}")
    near = rng.randint(10**15, 10**16)
    number = rng.choice(
        [
            lambda: rng.randint(0, 12),
            lambda: rng.randint(0, 3),
            lambda: rng.randint(1, 30) / 10,
            rng.random,
            lambda: near + rng.randint(0, 3),  # no float tells sums of these apart
        ]
    )
    num_layers = rng.randint(1, 10)
    num_stages = rng.randint(1, min(num_layers, 5))
    options: dict[str, Any] = {
        "num_microbatches": rng.choice([1, 2, 3, 4, 7, 32, 10**6]),
        "transfer": [number() for _ in range(num_layers)],
        "speed": [rng.choice([1, 2, 3, 0.5, 1.7, rng.random() + 0.1]) for _ in range(num_stages)],
        "memory": [rng.randint(0, 9) for _ in range(num_layers)],
        "activations": [rng.randint(0, 9) / rng.choice([1, 10]) for _ in range(num_layers)],
    }
    options = {name: options[name] for name in names}
    if "activations" in names:
        few = min(options.get("num_microbatches", 4), 32)
        one_each = sorted({*SCHEDULES} - {"zb-v"})
        options |= {"schedule": rng.choice(one_each), "num_microbatches": few}
    if {"activations", "memory"} & {*names}:
        case = Oracle([0] * num_layers, num_stages, options)
        needs = sum(case.memory) + max(case.held) * sum(case.activations) * Fraction(2, 3)
        share = float(needs) / num_stages
        rooms = [round(share * rng.uniform(0.7, 2.0), 1) for _ in range(num_stages)]
        options["capacity"] = rng.choice([rooms, round(share * rng.uniform(0.9, 1.6))])
    return [number() for _ in range(num_layers)], num_stages, options


@pytest.mark.parametrize("names", COMBINATIONS, ids=lambda names: "+".join(names) or "costs")
def test_best_of_all_partitions(names: tuple[str, ...]) -> None:
    for seed in CASES:
        costs, num_stages, options = random_case(seed, names)
        oracle = Oracle(costs, num_stages, options)
        if fitting := oracle.fitting():
            found = partition(costs, num_stages, **options).stages
            assert oracle.worst(found) <= 0, (seed, found)
            assert oracle.merit(found) == min(map(oracle.merit, fitting)), (seed, found)
        else:
            with pytest.raises(PartitionError, match=r" over; ") as caught:
                partition(costs, num_stages, **options)
            check_verdict(str(caught.value), oracle)


def check_verdict(message: str, oracle: Oracle) -> None:
    """Check what a refusal says: that this stage is over by so much, and none does better."""
    if " alone needs " in message:
        assert f": {written(oracle.alone())} over; no partition helps" in message
        return
    assert oracle.alone() <= 0
    assert f": {written(oracle.closest())} over; use " in message
    said = re.search(r"comes closest, stage (\d+) \(layers? ([\d-]+)\) needs", message)
    assert said, message
    stage, (first, *last) = int(said[1]), map(int, said[2].split("-"))
    layers = range(first, (last or [first])[0] + 1)
    assert layers_in_words(layers) in message
    assert oracle.excess(stage, layers) == oracle.closest()
    assert f"the capacity of stage {stage} is {written(oracle.capacity[stage])}" in message


def test_random_cases_meet_every_answer() -> None:
    fits, alone = [], []
    for names in COMBINATIONS:
        if {"memory", "activations"} & {*names}:
            for seed in CASES:
                case = Oracle(*random_case(seed, names))
                fits.append(bool(case.fitting()))
                alone.append(case.alone() > 0)
    assert len(fits) == 24 * len(CASES)
    assert 0.2 < sum(fits) / len(fits) < 0.8
    assert 0.05 < sum(alone) / len(alone) < 0.5


# ---- memory under a schedule ----


@pytest.mark.parametrize("name", sorted({*SCHEDULES} - {"zb-v"}))
def test_a_stage_needs_what_its_rank_holds(name: str) -> None:
    for stage, most in enumerate(held(name, 3, 5)):
        others = [100 if s != stage else most for s in range(3)]
        asked = {"activations": [1, 1, 1], "schedule": name, "num_microbatches": 5}
        assert partition([1] * 3, 3, capacity=others, **asked).sizes == (1, 1, 1)
        others[stage] -= 1
        with pytest.raises(PartitionError, match=rf"stage {stage} .* needs {most} with {most} mi"):
            partition([1] * 3, 3, capacity=others, **asked)


def test_1f1b_gives_its_first_stages_fewer_layers() -> None:
    asked = {"activations": [1] * 12, "num_microbatches": 8, "capacity": 12}
    assert partition([1] * 12, 4, **asked, schedule="1f1b").sizes == (3, 3, 3, 3)
    asked["capacity"] = 8
    assert partition([1] * 12, 4, **asked, schedule="1f1b").sizes == (2, 2, 4, 4)
    with pytest.raises(PartitionError, match=r"needs 24 with 8 micro-batches held, .*: 16 over"):
        partition([1] * 12, 4, **asked, schedule="gpipe")


def test_each_stage_of_a_rank_is_counted_on_its_own() -> None:
    # rank 0 holds stages 0 and 3 of zb-v; the later one is left sooner
    schedule = build_schedule("zb-v", 2, 6)
    peaks = [0] * 4
    for stage in range(4):
        now = 0
        for action in schedule.orders[schedule.stage_to_rank[stage]]:
            if action.stage == stage:
                now += {"F": 1, "I": 0, "W": -1, "B": -1}[action.kind]
                peaks[stage] = max(peaks[stage], now)
    assert peaks[0] > peaks[3] > 0
    asked = {"activations": [1] * 4, "schedule": schedule}
    assert partition([1] * 4, 4, capacity=peaks, **asked).sizes == (1, 1, 1, 1)
    for stage in range(4):
        less = [peak - (s == stage) for s, peak in enumerate(peaks)]
        with pytest.raises(PartitionError, match=rf"stage {stage} \(layer {stage}\)"):
            partition([1] * 4, 4, capacity=less, **asked)


# ---- numbers of any size ----


@pytest.mark.parametrize("num_microbatches", [None, 1, 2, 10**9])
def test_what_floats_cannot_tell_apart_is_decided(num_microbatches: int | None) -> None:
    costs = [10**30, 1, 10**30]
    for transfer, sizes in (([1, 0], (2, 1)), ([0, 1], (1, 2)), ([1, 1], (2, 1))):
        found = partition(costs, 2, transfer=transfer, num_microbatches=num_microbatches)
        assert found.sizes == sizes


@pytest.mark.parametrize("num_microbatches", [None, 1, 2, 10**12])
def test_nothing_costs_anything(num_microbatches: int | None) -> None:
    found = partition([0] * 6, 3, transfer=[0] * 6, num_microbatches=num_microbatches)
    assert found.sizes == (4, 1, 1)
    assert partition([1e-300] * 6, 3, num_microbatches=num_microbatches).sizes == (2, 2, 2)
    assert partition([1e300] * 6, 3, num_microbatches=num_microbatches).sizes == (2, 2, 2)
