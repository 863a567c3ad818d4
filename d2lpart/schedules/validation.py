"""`validate` and `execution_order`: whether a schedule can run, and why an illegal one cannot.

What waits for what is asked of `dependencies`; here stands what may go wrong, and how it is said.
"""

from collections import deque
from collections.abc import Iterator

from d2lpart.schedules.schedule import (
    KINDS,
    Action,
    Schedule,
    ScheduleError,
    check_schedule,
    dependencies,
)


def validate(schedule: Schedule) -> Schedule:
    """Return the schedule if it can run, and raise otherwise.

    Raises:
        ScheduleError: which action is missing, doubled, impossible, on the wrong rank or out of
            order, or which ranks wait for each other in a circle.
    """
    check_schedule(schedule)
    _check_places(schedule)
    _check_actions(schedule)
    _check_complete(schedule)
    for _ in execution_order(schedule):
        pass
    return schedule


def _check_places(schedule: Schedule) -> None:
    if not schedule.position:
        raise ScheduleError("the schedule has no action: give each rank at least one")
    for stage, rank in enumerate(schedule.stage_to_rank):
        if not 0 <= rank < schedule.num_ranks:
            raise ScheduleError(
                f"stage {stage} is on rank {rank}, but the orders end with rank "
                f"{schedule.num_ranks - 1}: use ranks 0 to {schedule.num_ranks - 1}"
            )
    for rank in range(schedule.num_ranks):
        if rank not in schedule.stage_to_rank:
            raise ScheduleError(f"rank {rank} has no stage: give it one, or leave the rank out")


def _check_actions(schedule: Schedule) -> None:
    seen: set[Action] = set()
    for rank, order in enumerate(schedule.orders):
        for action in order:
            if action.kind not in KINDS:
                raise ScheduleError(f"{action} is of kind {action.kind!r}: use {', '.join(KINDS)}")
            if not 0 <= action.stage < schedule.num_stages or action.microbatch < 0:
                raise ScheduleError(
                    f"{action} is impossible: stages go from 0 to {schedule.num_stages - 1}, "
                    f"micro-batches from 0"
                )
            home = schedule.stage_to_rank[action.stage]
            if home != rank:
                raise ScheduleError(
                    f"rank {rank} runs {action}, but stage {action.stage} is on rank {home}: "
                    f"move the action there"
                )
            if action in seen:
                raise ScheduleError(
                    f"{action} is doubled: rank {rank} runs it twice; once is enough"
                )
            seen.add(action)


def _check_complete(schedule: Schedule) -> None:
    for stage, rank in enumerate(schedule.stage_to_rank):
        for microbatch in range(schedule.num_microbatches):
            has = {k for k in KINDS if Action(stage, k, microbatch) in schedule.position}
            if has in ({"F", "B"}, {"F", "I", "W"}):
                continue
            if "B" in has and has & {"I", "W"}:
                raise ScheduleError(
                    f"stage {stage} runs the backward of micro-batch {microbatch} twice, as B and "
                    f"as {' and '.join(sorted(has & {'I', 'W'}))}: take either B, or I and W"
                )
            lacks = "F" if "F" not in has else "W" if "I" in has else "I" if "W" in has else "B"
            last = schedule.num_microbatches - 1
            raise ScheduleError(
                f"{stage}{lacks}{microbatch} is missing from the order of rank {rank}: a stage "
                f"runs F and B (or I and W) of each micro-batch, 0 to {last}"
            )


def execution_order(schedule: Schedule) -> Iterator[Action]:
    """Yield every action once, each after its dependencies and in its rank's order.

    Raises:
        ScheduleError: nothing can go on although work is left: a deadlock, whose cycle is named.
    """
    done: set[Action] = set()
    head = [0] * schedule.num_ranks
    waiting: dict[Action, list[int]] = {}  # ranks that stand still until this action has ended
    ready = deque(range(schedule.num_ranks))
    while ready:
        rank = ready.popleft()
        order = schedule.orders[rank]
        while head[rank] < len(order):
            action = order[head[rank]]
            missing = next((d for d in dependencies(action, schedule) if d not in done), None)
            if missing is not None:
                waiting.setdefault(missing, []).append(rank)
                break
            yield action
            done.add(action)
            head[rank] += 1
            ready.extend(waiting.pop(action, ()))
    if waiting:
        raise ScheduleError(
            _deadlock({r: need for need, rs in waiting.items() for r in rs}, schedule)
        )


def _deadlock(need: dict[int, Action], schedule: Schedule) -> str:
    """Name the cycle; `need[rank]` is the action that `rank` stands still for."""
    rank = min(need)
    seen: list[int] = []
    while rank not in seen:
        seen.append(rank)
        if need[rank] not in schedule.position:
            return f"{need[rank]} is missing: rank {rank} waits for it, and no rank runs it"
        rank = schedule.position[need[rank]][0]
    cycle = seen[seen.index(rank) :]
    if len(cycle) == 1:
        late = need[rank]
        early = next(a for a in schedule.orders[rank] if late in dependencies(a, schedule))
        return f"rank {rank} runs {early} before {late}, which it needs: run {late} first"
    links = [f"waits for {need[r]} on rank {schedule.position[need[r]][0]}" for r in cycle]
    return (
        f"deadlock: rank {rank} {', which '.join(links)}; "
        f"let one of these ranks run earlier what another one waits for"
    )
