"""Schedules as torch's CSV of actions, read and written by torch's own runtime and by ours."""

import pytest
from hypothesis import given, settings, strategies as st
from torch.distributed.pipelining.schedules import (
    ScheduleInterleaved1F1B,
    ScheduleZBVZeroBubble,
    _Action,
    _PipelineScheduleRuntime,
)

from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.recognition import recognize
from d2lpart.schedules.schedule import Schedule, ScheduleError
from d2lpart.schedules.torch_table import (
    from_torch_csv,
    read_torch_csv,
    to_torch_csv,
    write_torch_csv,
)


def loaded_by_torch(schedule, path):
    """Torch's runtime with the actions of a file; it has no stages, and needs no processes."""
    runtime = object.__new__(_PipelineScheduleRuntime)
    runtime._stages, runtime.pipeline_order = [], {}
    runtime.pp_group_size, runtime._num_stages = schedule.num_ranks, schedule.num_stages
    runtime._n_microbatches, runtime._defer_pp_recv = schedule.num_microbatches, False
    runtime._load_csv(str(path), format="compute_only")
    return runtime


def assert_goes_round_through_torch(schedule, folder):
    runtime = loaded_by_torch(schedule, write_torch_csv(schedule, folder / "ours.csv"))
    read = [[str(action) for action in row] for row in runtime.pipeline_order.values()]
    assert read == [[str(action) for action in order] for order in schedule.orders]
    assert runtime.stage_index_to_group_rank == dict(enumerate(schedule.stage_to_rank))
    runtime._dump_csv(str(folder / "theirs.csv"), format="compute_only")
    assert (folder / "theirs.csv").read_bytes() == (folder / "ours.csv").read_bytes()
    assert read_torch_csv(folder / "theirs.csv") == schedule


@pytest.mark.parametrize(("p", "m"), [(1, 1), (2, 3), (3, 6), (4, 8)])
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_named_schedules_go_round_through_torch(name, p, m, tmp_path):
    assert_goes_round_through_torch(build_schedule(name, p, m), tmp_path)


@settings(max_examples=60)
@given(random=st.randoms(use_true_random=False))
def test_any_schedule_goes_round_through_torch(random, random_schedule, tmp_path_factory):
    schedule = random_schedule(random)
    assert_goes_round_through_torch(schedule, tmp_path_factory.getbasetemp())


def made_by_torch(kind, p, m, v):
    """The table of one of torch's schedules; it has no stages, and needs no processes."""
    made = object.__new__(kind)
    made.pp_group_size, made.n_local_stages, made._n_microbatches = p, v, m
    made._num_stages = made.num_stages = p * v
    made.number_of_rounds, made.microbatches_per_round = max(1, m // p), m // max(1, m // p)
    rows = []
    for rank in range(p):
        made.rank = rank
        cells = made._calculate_single_rank_operations(rank)
        rows.append(",".join("" if cell is None else str(cell) for cell in cells))
    return "\n".join(rows)


@pytest.mark.parametrize(("p", "m"), [(2, 4), (3, 6), (4, 8), (4, 12)])
@pytest.mark.parametrize(
    ("kind", "name", "v"),
    [
        (ScheduleInterleaved1F1B, "interleaved", 2),
        (ScheduleInterleaved1F1B, "interleaved", 3),
        (ScheduleZBVZeroBubble, "zb-v", 2),
    ],
)
def test_torch_makes_the_same_orders(kind, name, v, p, m):
    schedule = from_torch_csv(made_by_torch(kind, p, m, v))
    assert schedule == build_schedule(name, p, m, chunks=v)
    assert recognize(schedule) == name


def test_every_cell_is_an_action_to_torch():
    schedule = Schedule(["10F12 10I12 10W12"], [0])
    cells = [str(action) for order in schedule.orders for action in order]
    assert [str(_Action.from_str(cell)) for cell in cells] == cells


def test_empty_cells_are_idle_steps():
    text = "0F0,0F1,,,0B0,0B1\n,1F0,1B0,1F1,1B1,\n"
    assert from_torch_csv(text) == Schedule(["0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1"], [0, 1])


def test_a_name_is_kept():
    assert from_torch_csv("0F0,0B0\r\n", name="mine").name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "0F0,0SEND_F0,0B0",
            r"line 1, cell 2 is '0SEND_F0', which torch adds .*format='compute_only'",
        ),
        ("0UNSHARD,0F0,0B0", r"line 1, cell 1 is '0UNSHARD'"),
        ("0F0,(0F1;0B0)OVERLAP_F_B,0B1", r"cell 2 is '\(0F1;0B0\)OVERLAP_F_B'"),
        ("0F0,0X0", r"line 1, cell 2: '0X0' is no action"),
        ("0F0,0B0,1F0\n1B0", "stage 1 stands in line 1 and, with 1B0, in line 2"),
        ("0F0,0B0\n2F0,2B0", "stage 1 has no action, but stage 2 has"),
        ("", "the schedule has no action"),
        ("0F0\n", "0B0 is missing"),
        ("0F0,0B0\n\n1F0,1B0\n", "rank 1 has no stage"),
    ],
)
def test_what_is_wrong_is_named(text, message):
    with pytest.raises(ScheduleError, match=message):
        from_torch_csv(text)


def test_an_illegal_schedule_is_not_written(tmp_path):
    with pytest.raises(ScheduleError, match="0B0 is missing"):
        write_torch_csv(Schedule(["0F0"], [0]), tmp_path / "bad.csv")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ScheduleError, match="is no Schedule"):
        to_torch_csv("1f1b")
