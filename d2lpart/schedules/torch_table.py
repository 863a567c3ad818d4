"""Torch's table of actions: a schedule as the CSV that torch.distributed.pipelining reads.

One line a rank, one cell an action, written as here: `2F0`, with F, B, I and W. It is what torch's
`_load_csv` takes and its `_dump_csv` writes with format="compute_only" (torch 2.11,
torch/distributed/pipelining/schedules.py). An empty cell is a step in which the rank runs nothing.
"""

import csv
import io
import re
from pathlib import Path

from d2lpart.common.arguments import check_kind
from d2lpart.common.files import write_whole
from d2lpart.schedules.compiled_schedule import compiled
from d2lpart.schedules.schedule import Action, Schedule, ScheduleError

_OTHER = re.compile(r"\d+(UNSHARD|RESHARD|REDUCE_GRAD|(SEND|RECV)_[FB])\d*|\(.*\)OVERLAP_F_B")


def to_torch_csv(schedule: Schedule) -> str:
    r"""Return a schedule as torch's CSV of actions, with the line ends that torch writes.

    Raises:
        ScheduleError: the schedule cannot run; see `validate`.

    >>> to_torch_csv(Schedule(["0F0 0B0", "1F0 1B0"], [0, 1]))
    '0F0,0B0\r\n1F0,1B0\r\n'
    """
    compiled(schedule)
    text = io.StringIO(newline="")
    csv.writer(text).writerows([map(str, order) for order in schedule.orders])
    return text.getvalue()


def from_torch_csv(text: str, name: str = "custom") -> Schedule:
    r"""Return the schedule of torch's CSV of actions; a stage lives where its actions stand.

    Raises:
        ScheduleError: a cell is no action, or one of those that torch adds when it prepares a run;
            a stage stands in two lines or in none; or the schedule cannot run.

    >>> print(from_torch_csv("0F0,0F1,,0B0,0B1\n,1F0,1B0,1F1,1B1\n"))
    custom: 2 ranks, 2 stages, 2 micro-batches
    rank 0: 0F0 0F1 0B0 0B1
    rank 1: 1F0 1B0 1F1 1B1
    """
    check_kind(text, str, "give the text of a table; read_torch_csv reads a file", ScheduleError)
    rows = csv.reader(io.StringIO(text, newline=""))
    orders = [
        [_action(cell, rank, place) for place, cell in enumerate(row) if cell.strip()]
        for rank, row in enumerate(rows)
    ]
    schedule = Schedule(orders, _places(orders), name)
    compiled(schedule)
    return schedule


def write_torch_csv(schedule: Schedule, path: str | Path) -> Path:
    """Write `to_torch_csv` to a file, whole or not at all, and return its path."""
    return write_whole(path, to_torch_csv(schedule))


def read_torch_csv(path: str | Path, name: str = "custom") -> Schedule:
    """Return the schedule that a file holds; see `from_torch_csv`."""
    return from_torch_csv(Path(path).read_bytes().decode("utf-8"), name)


def _action(cell: str, rank: int, place: int) -> Action:
    if _OTHER.fullmatch(cell.strip()):
        raise ScheduleError(
            f"line {rank + 1}, cell {place + 1} is {cell.strip()!r}, which torch adds to a "
            f"schedule: a table has F, B, I and W alone; dump it with format='compute_only'"
        )
    try:
        return Action.parse(cell)
    except ScheduleError as error:
        raise ScheduleError(f"line {rank + 1}, cell {place + 1}: {error}") from None


def _places(orders: list[list[Action]]) -> list[int]:
    """Return for each stage the rank whose line names it."""
    rank_of: dict[int, int] = {}
    for rank, order in enumerate(orders):
        for action in order:
            home = rank_of.setdefault(action.stage, rank)
            if home != rank:
                raise ScheduleError(
                    f"stage {action.stage} stands in line {home + 1} and, with {action}, in line "
                    f"{rank + 1}: a stage lives on one rank; write all its actions in one line"
                )
    stages = sorted(rank_of)
    if stages != list(range(len(stages))):
        lost = next(stage for stage in range(len(stages)) if stage not in rank_of)
        raise ScheduleError(
            f"stage {lost} has no action, but stage {stages[-1]} has: number the stages from 0, "
            f"and leave none out"
        )
    return [rank_of[stage] for stage in stages]
