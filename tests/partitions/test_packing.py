"""Packings and sweeps, the parts of the search for the best partition, against all partitions."""

import itertools
import random
from itertools import pairwise

import pytest

from d2lpart.partitions.optimum import most_even
from d2lpart.partitions.packing import Number, Packing, packing_of_excess, packing_of_work, windows
from d2lpart.partitions.sweep import Reached, Refused, reach, under_cap

SEEDS = range(300)


def random_packing(seed: int, cuts: bool = True) -> Packing:
    """Return a small packing of whole numbers, with memory."""
    rng = random.Random(seed)
    n = rng.randint(1, 9)
    p = rng.randint(1, min(n, 4))
    costs = [rng.randint(0, 9) for _ in range(n)]
    between = [0, *(rng.randint(0, 6) * cuts for _ in range(n - 1)), 0]
    memory = [rng.randint(0, 4) for _ in range(n)]
    needs = list(itertools.accumulate(memory, initial=0))
    capacity = [rng.randint(max(memory), max(memory) + 2 * sum(memory) // p) for _ in range(p)]
    work = list(itertools.accumulate(costs, initial=0))
    rates = [rng.randint(1, 3) for _ in range(p)]
    return packing_of_work(work, rates, between, windows([needs] * p, capacity))


def all_bounds(packed: Packing) -> list[list[int]]:
    """Return the bounds of all partitions that fit the memory."""
    n, p = packed.num_layers, packed.num_stages
    every = ([0, *cuts, n] for cuts in itertools.combinations(range(1, n), p - 1))
    return [b for b in every if all(packed.earliest[s][b[s + 1]] <= b[s] for s in range(p))]


def test_a_load_by_hand() -> None:
    packed = packing_of_work([0, 1, 3, 6], [1, 10], [0, 5, 7, 0], [[0] * 4] * 2)
    assert packed.loads([0, 1, 3]) == [1 + 5, 5 * 10 + 5]
    assert packed.loads([0, 2, 3]) == [3 + 7, 3 * 10 + 7]
    assert packed.least_total == 6 * 1 + 2 * 5
    assert packed.largest_load() >= 10 * 6
    assert [list(part) for part in packed.nodes] == [[0], [1, 2], [3]]


def test_a_window_by_hand() -> None:
    needs = [0, 4, 6, 7, 12]
    assert windows([needs, needs], [6, 3]) == [[0, 0, 0, 1, 2], [0, 1, 1, 1, 4]]


def test_an_excess_by_hand() -> None:
    packed = packing_of_excess([[0, 4, 6], [0, 8, 12]], [5, 2])
    assert packed.loads([0, 1, 2]) == [4, 4 + 3]  # 1 less than there is, and 2 more; 5 on both


@pytest.mark.parametrize("seed", range(40))
def test_mirrored_packings_have_the_same_loads(seed: int) -> None:
    packed = random_packing(seed)
    turned = packed.mirrored
    bounds = [[packed.num_layers - at for at in reversed(b)] for b in all_bounds(packed)]
    assert sorted(bounds) == all_bounds(turned)
    for one in bounds:
        straight = [packed.num_layers - at for at in reversed(one)]
        assert turned.loads(one) == packed.loads(straight)[::-1]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("factor", [1, 10**12 + 1, 10**400 + 7])
def test_rounding_is_within_what_is_said(seed: int, factor: int) -> None:
    packed = random_packing(seed)
    large = Packing(
        [[number * factor for number in table] for table in packed.enter],
        [[number * factor for number in table] for table in packed.leave],
        packed.earliest,
    )
    rough = large.rough()
    most = max(max(map(abs, table)) for table in (*packed.enter, *packed.leave)) or 1
    for bounds in all_bounds(packed):
        for near, load in zip(rough.loads(bounds), packed.loads(bounds), strict=True):
            assert near == pytest.approx(load / (2 * most), abs=float(rough.rounding))
            assert near <= 1


def test_stages_share_what_is_equal() -> None:
    packed = packing_of_work(list(range(1001)), [1] * 64, [0] * 1001, [[0] * 1001] * 64)
    rough = packed.rough()
    for tables in (packed.enter, packed.lowest_leave, packed.latest, rough.leave):
        assert len({id(table) for table in tables}) == 1


def caps(packed: Packing) -> range:
    """Return all caps that may matter."""
    return range(int(packed.largest_load()) + 2)


def test_reach_tells_which_caps_have_a_partition() -> None:
    for seed in SEEDS:
        packed = random_packing(seed)
        most = [max(packed.loads(bounds)) for bounds in all_bounds(packed)]
        for cap in caps(packed):
            answer = reach(packed, packed.nodes, cap)
            if isinstance(answer, Reached):
                assert answer.peak in most
                assert answer.peak <= cap
            else:
                assert isinstance(answer, Refused)
                assert not any(peak < answer.least for peak in most), seed
                assert answer.least > cap


def test_a_sweep_finds_the_least_sum_through_every_node() -> None:
    for seed in SEEDS:
        packed = random_packing(seed)
        every = [(bounds, packed.loads(bounds)) for bounds in all_bounds(packed)]
        for cap in caps(packed):
            found = under_cap(packed, packed.nodes, cap)
            under = [(bounds, loads) for bounds, loads in every if max(loads) <= cap]
            if found is None:
                assert not under, (seed, cap)
                continue
            assert found.total == min(sum(loads) for _, loads in under)
            assert (found.total, found.peak) in {(sum(b), max(b)) for _, b in under}
            through: list[dict[int, Number]] = [{} for _ in packed.nodes]
            for bounds, loads in under:
                for part, at in zip(through, bounds, strict=True):
                    part[at] = min(part.get(at, sum(loads)), sum(loads))
            assert [dict(sorted(part.items())) for part in found.through] == [
                dict(sorted(part.items())) for part in through
            ]
            assert list(found.nodes(found.total)[0]) == [0]


def merit(packed: Packing, bounds: list[int]) -> tuple:
    """Return what is minimised among partitions of least sum, and the bounds."""
    loads = packed.loads(bounds)
    sizes = [b - a for a, b in pairwise(bounds)]
    return sum(loads), sum(load * load for load in loads), sizes[::-1], bounds


@pytest.mark.parametrize("cuts", [False, True])
def test_the_most_even_of_least_sum(cuts: bool) -> None:
    orderly = 0
    for seed in SEEDS:
        packed = random_packing(seed, cuts)
        orderly += packed.orderly
        every = all_bounds(packed)
        for cap in sorted({max(packed.loads(bounds)) for bounds in every}):
            found = under_cap(packed, packed.nodes, cap)
            assert found is not None
            merits = (merit(packed, b) for b in every if max(packed.loads(b)) <= cap)
            assert most_even(packed, found.nodes(found.total), cap) == min(merits)[-1], seed
    assert orderly == len(SEEDS) if not cuts else 0 < orderly < len(SEEDS)
