"""The named schedules, drawn: one lane a rank, one column a unit of time, with F = B = 1."""

import re
from itertools import product
from pathlib import Path

import pytest

from d2lpart.schedules import orders
from d2lpart.schedules.orders import (
    SCHEDULES,
    build_schedule,
    gpipe,
    interleaved,
    naive,
    one_f_one_b,
)
from d2lpart.schedules.schedule import Action, ScheduleError
from d2lpart.timelines.simulator import simulate

GRID = [(p, m) for p in range(1, 7) for m in range(1, 10)]


def drawn(picture, num_ranks, stages_written=False):
    """Read a picture: for each rank, its actions and the columns in which they stand."""
    cell = 4 if stages_written else 3
    lanes = [line[8:].rstrip("|") for line in picture.strip("\n").splitlines()]
    assert len(lanes) == num_ranks
    for rank, lane in enumerate(lanes):
        cells = [lane[i : i + cell].strip() for i in range(0, len(lane), cell)]
        prefix = "" if stages_written else str(rank)
        yield [(Action.parse(prefix + text), i) for i, text in enumerate(cells) if text]


def assert_looks_like(schedule, picture, stages_written=False):
    lanes = list(drawn(picture, schedule.num_ranks, stages_written))
    assert schedule.orders == tuple(tuple(action for action, _ in lane) for lane in lanes)
    timeline = simulate(schedule, {"F": 1, "B": 1})
    for rank, lane in enumerate(lanes):
        assert [(span.action, span.start) for span in timeline.of_rank(rank)] == lane


PICTURES = {
    ("naive", 2, 3): """
rank 0 |F0       B0 F1       B1 F2       B2 |
rank 1 |   F0 B0       F1 B1       F2 B2    |
""",
    ("gpipe", 2, 3): """
rank 0 |F0 F1 F2       B0 B1 B2 |
rank 1 |   F0 F1 F2 B0 B1 B2    |
""",
    ("1f1b", 2, 3): """
rank 0 |F0 F1    B0 F2 B1    B2 |
rank 1 |   F0 B0 F1 B1 F2 B2    |
""",
    ("naive", 3, 2): """
rank 0 |F0             B0 F1             B1 |
rank 1 |   F0       B0       F1       B1    |
rank 2 |      F0 B0             F1 B1       |
""",
    ("gpipe", 3, 2): """
rank 0 |F0 F1             B0 B1 |
rank 1 |   F0 F1       B0 B1    |
rank 2 |      F0 F1 B0 B1       |
""",
    ("1f1b", 3, 2): """
rank 0 |F0 F1          B0    B1 |
rank 1 |   F0 F1    B0    B1    |
rank 2 |      F0 B0 F1 B1       |
""",
    ("naive", 4, 2): """
rank 0 |F0                   B0 F1                   B1 |
rank 1 |   F0             B0       F1             B1    |
rank 2 |      F0       B0             F1       B1       |
rank 3 |         F0 B0                   F1 B1          |
""",
    ("gpipe", 4, 8): """
rank 0 |F0 F1 F2 F3 F4 F5 F6 F7                   B0 B1 B2 B3 B4 B5 B6 B7 |
rank 1 |   F0 F1 F2 F3 F4 F5 F6 F7             B0 B1 B2 B3 B4 B5 B6 B7    |
rank 2 |      F0 F1 F2 F3 F4 F5 F6 F7       B0 B1 B2 B3 B4 B5 B6 B7       |
rank 3 |         F0 F1 F2 F3 F4 F5 F6 F7 B0 B1 B2 B3 B4 B5 B6 B7          |
""",
    ("1f1b", 4, 8): """
rank 0 |F0 F1 F2 F3          B0 F4 B1 F5 B2 F6 B3 F7 B4    B5    B6    B7 |
rank 1 |   F0 F1 F2       B0 F3 B1 F4 B2 F5 B3 F6 B4 F7 B5    B6    B7    |
rank 2 |      F0 F1    B0 F2 B1 F3 B2 F4 B3 F5 B4 F6 B5 F7 B6    B7       |
rank 3 |         F0 B0 F1 B1 F2 B2 F3 B3 F4 B4 F5 B5 F6 B6 F7 B7          |
""",
    # fewer micro-batches than ranks
    ("gpipe", 4, 1): """
rank 0 |F0                   B0 |
rank 1 |   F0             B0    |
rank 2 |      F0       B0       |
rank 3 |         F0 B0          |
""",
    ("1f1b", 4, 2): """
rank 0 |F0 F1                B0    B1 |
rank 1 |   F0 F1          B0    B1    |
rank 2 |      F0 F1    B0    B1       |
rank 3 |         F0 B0 F1 B1          |
""",
    # one rank
    ("naive", 1, 3): """
rank 0 |F0 B0 F1 B1 F2 B2 |
""",
    ("gpipe", 1, 3): """
rank 0 |F0 F1 F2 B0 B1 B2 |
""",
    ("1f1b", 1, 3): """
rank 0 |F0 B0 F1 B1 F2 B2 |
""",
}


@pytest.mark.parametrize(("name", "p", "m"), PICTURES)
def test_a_schedule_looks_like_its_picture(name, p, m):
    schedule = build_schedule(name, p, m)
    assert schedule.name == name
    assert schedule.stage_to_rank == tuple(range(p))
    assert_looks_like(schedule, PICTURES[name, p, m])


CHUNKED = {
    ("naive", 2, 1): """
rank 0 |0F0     2F0         2B0     0B0 |
rank 1 |    1F0     3F0 3B0     1B0     |
""",
    ("gpipe", 2, 2): """
rank 0 |0F0 0F1 2F0 2F1         2B0 2B1 0B0 0B1 |
rank 1 |    1F0 1F1 3F0 3F1 3B0 3B1 1B0 1B1     |
""",
    ("gpipe", 2, 3): """
rank 0 |0F0 0F1 0F2 2F0 2F1 2F2         2B0 2B1 2B2 0B0 0B1 0B2 |
rank 1 |    1F0 1F1 1F2 3F0 3F1 3F2 3B0 3B1 3B2 1B0 1B1 1B2     |
""",
    # m < p: a rank waits for the end of the ring between its stages
    ("gpipe", 3, 1): """
rank 0 |0F0         3F0                 3B0         0B0 |
rank 1 |    1F0         4F0         4B0         1B0     |
rank 2 |        2F0         5F0 5B0         2B0         |
""",
}


@pytest.mark.parametrize(("name", "p", "m"), CHUNKED)
def test_a_schedule_with_two_stages_a_rank_looks_like_its_picture(name, p, m):
    schedule = build_schedule(name, p, m, chunks=2)
    assert schedule.stage_to_rank == (*range(p), *range(p))
    assert_looks_like(schedule, CHUNKED[name, p, m], stages_written=True)


@pytest.mark.parametrize(("p", "m"), GRID)
def test_naive_repeats_one_microbatch(p, m):
    for rank, order in enumerate(naive(p, m).orders):
        assert order == tuple((rank, kind, k) for k in range(m) for kind in "FB")


@pytest.mark.parametrize(("p", "m"), GRID)
def test_all_schedules_run_the_same_actions(p, m):
    for name in SCHEDULES:
        schedule = build_schedule(name, p, m)
        kinds = "FIW" if name.startswith("zb") else "FB"
        everything = product(range(schedule.num_stages), kinds, range(m))
        assert schedule.position.keys() == set(everything)
        assert schedule.num_stages == (2 * p if name == "zb-v" else p)


@pytest.mark.parametrize(("p", "m"), GRID)
def test_1f1b_takes_forwards_ahead_and_then_turn_by_turn(p, m):
    for rank, order in enumerate(one_f_one_b(p, m).orders):
        kinds = "".join(action.kind for action in order)
        ahead = min(m, p - rank)
        assert kinds == "F" * ahead + "BF" * (m - ahead) + "B" * ahead


@pytest.mark.parametrize("p", range(1, 5))
def test_with_one_microbatch_all_schedules_are_the_naive_one(p):
    assert naive(p, 1) == gpipe(p, 1) == one_f_one_b(p, 1) == interleaved(p, 1)


@pytest.mark.parametrize(("p", "m"), GRID)
def test_interleaved_with_one_chunk_is_1f1b(p, m):
    assert interleaved(p, m).orders == one_f_one_b(p, m).orders


# ---- bad names and sizes


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no schedule is called 'gpip': .* 1f1b, gpipe, .*naive"):
        build_schedule("gpip", 2, 2)
    for name in (None, ["gpipe"], 7):
        with pytest.raises(ValueError, match="no schedule is called"):
            build_schedule(name, 2, 2)


@pytest.mark.parametrize("size", [0, -1, 2.0, 1.5, "2", True, float("nan")])
@pytest.mark.parametrize("what", ["num_ranks", "num_microbatches", "chunks"])
def test_a_size_is_a_whole_number_of_at_least_1(what, size):
    sizes = {"num_ranks": 2, "num_microbatches": 3} | {what: size}
    message = f"{what} is {size!r}: a schedule needs a whole number of at least 1"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_schedule("gpipe", **sizes)


@pytest.mark.parametrize("name", ["1f1b", "zb-h1", "zb-h2"])
def test_some_have_one_stage_a_rank(name):
    with pytest.raises(ValueError, match=f"{name} runs one stage a rank, not 2: use chunks=1"):
        build_schedule(name, 2, 3, chunks=2)


@pytest.mark.parametrize("chunks", [1, 3])
def test_zb_v_has_two_stages_a_rank(chunks):
    assert build_schedule("zb-v", 2, 3) == build_schedule("zb-v", 2, 3, chunks=2)
    with pytest.raises(ValueError, match=f"zb-v runs two stages a rank, not {chunks}: leave"):
        build_schedule("zb-v", 2, 3, chunks=chunks)


def test_a_bad_size_is_no_fault_of_a_schedule():
    """`ScheduleError` is for schedules that exist and cannot run."""
    with pytest.raises(ValueError, match="whole number") as error:
        build_schedule("naive", 0, 1)
    assert not isinstance(error.value, ScheduleError)


def test_whole_numbers_of_numpy_are_whole_numbers():
    numpy = pytest.importorskip("numpy")
    schedule = build_schedule("gpipe", numpy.int64(2), numpy.int32(3), chunks=numpy.int64(2))
    assert schedule == build_schedule("gpipe", 2, 3, chunks=2)
    assert all(type(rank) is int for rank in schedule.stage_to_rank)


def test_a_new_schedule_joins_by_an_entry(monkeypatch):
    monkeypatch.setitem(SCHEDULES, "mine", lambda p, m, chunks=1: gpipe(p, m, chunks))
    assert build_schedule("mine", 2, 3) == gpipe(2, 3)
    with pytest.raises(ValueError, match="mine"):
        build_schedule("yours", 2, 3)


FIGURES = re.findall(
    r"^ +# ([\w-]+), (\d) ranks, (\d) micro-batches(?:, (\d) stages a rank)?\n"
    r"((?: +#   rank .+\n)+)",
    Path(orders.__file__).read_text("utf-8"),
    re.MULTILINE,
)


@pytest.mark.parametrize(("name", "ranks", "microbatches", "chunks", "lanes"), FIGURES)
def test_the_figure_above_a_schedule_is_what_the_simulator_draws(
    name, ranks, microbatches, chunks, lanes
):
    schedule = build_schedule(name, int(ranks), int(microbatches), chunks=int(chunks or 1))
    told = str(simulate(schedule, {"F": 1, "B": 2, "I": 1, "W": 1})).splitlines()[1:]
    told = [line[: line.rindex("|") + 1] for line in told if line.startswith("rank")]
    assert re.findall(r"rank .+", lanes) == told


def test_every_schedule_has_its_figure():
    assert {name for name, *_ in FIGURES} == set(SCHEDULES)
