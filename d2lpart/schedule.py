"""Action, Schedule and `dependencies`: what may run when, and why an illegal order is illegal.

A schedule is order and nothing else: no time, no device, no model enters. `dependencies` is the
one place that knows what waits for what; validation, simulation and execution all ask it.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import index
from typing import NamedTuple

KINDS = {"F": "forward", "B": "backward", "I": "input gradient", "W": "weight gradient"}
_READABLE = re.compile(rf"(\d+)([{''.join(KINDS)}])(\d+)")


class ScheduleError(ValueError):
    """A schedule that cannot run: something is missing, doubled, misplaced or out of order."""


class Action(NamedTuple):
    """One unit of work of a rank, written `2F0`: stage 2, forward, micro-batch 0.

    Kinds: F forward, B full backward, I input gradient alone, W weight gradient alone.

    >>> Action(2, "F", 0) == Action.parse("2F0")
    True
    """

    stage: int
    kind: str
    microbatch: int

    def __str__(self) -> str:
        return f"{self.stage}{self.kind}{self.microbatch}"

    @classmethod
    def parse(cls, text: str) -> "Action":
        """Read an action from its written form, the inverse of `str`."""
        match = _READABLE.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ScheduleError(
                f"{text!r} is no action: write the stage, one of {', '.join(KINDS)} and the "
                f"micro-batch, such as '2F0'"
            )
        return cls(int(match[1]), match[2], int(match[3]))


def _as_action(item: object) -> Action:
    if isinstance(item, str):
        return Action.parse(item)
    if isinstance(item, tuple) and len(item) == 3:
        stage, kind, microbatch = item
        try:
            return Action(index(stage), str(kind), index(microbatch))
        except TypeError:
            pass
    raise ScheduleError(f"{item!r} is no action: give an Action or its written form, such as '2F0'")


def _as_items(order: str | Iterable[object]) -> Iterable[object]:
    return order.split() if isinstance(order, str) else order


def _as_rank(item: object) -> int:
    try:
        return index(item)  # type: ignore[arg-type]
    except TypeError:
        raise ScheduleError(f"{item!r} is no rank: give each stage a whole number") from None


@dataclass(frozen=True)
class Schedule:
    """The order of actions of every rank.

    Args:
        orders: one sequence of `Action` (or of its written form) for each rank; or one line of
            written forms, as a schedule prints them.
        stage_to_rank: for each stage, the rank that it lives on.
        name: what people call it.

    A schedule may be illegal; `validate` says so, and why.

    >>> print(Schedule(["0F0 0B0", "1F0 1B0"], [0, 1]))
    custom: 2 ranks, 2 stages, 1 micro-batch
    rank 0: 0F0 0B0
    rank 1: 1F0 1B0
    """

    orders: tuple[tuple[Action, ...], ...]
    stage_to_rank: tuple[int, ...]
    name: str = field(default="custom", compare=False)

    def __init__(
        self,
        orders: Iterable[str | Iterable[Action | str]],
        stage_to_rank: Sequence[int],
        name: str = "custom",
    ) -> None:
        actions = tuple(tuple(map(_as_action, _as_items(order))) for order in orders)
        object.__setattr__(self, "orders", actions)
        object.__setattr__(self, "stage_to_rank", tuple(map(_as_rank, stage_to_rank)))
        object.__setattr__(self, "name", name)

    @property
    def num_ranks(self) -> int:
        """How many ranks work."""
        return len(self.orders)

    @property
    def num_stages(self) -> int:
        """How many stages the network is cut into."""
        return len(self.stage_to_rank)

    @cached_property
    def num_microbatches(self) -> int:
        """How many micro-batches flow through: one more than the highest number seen."""
        return 1 + max((a.microbatch for order in self.orders for a in order), default=-1)

    @cached_property
    def position(self) -> dict[Action, tuple[int, int]]:
        """For each action, its rank and its place in that rank's order."""
        return {a: (r, i) for r, order in enumerate(self.orders) for i, a in enumerate(order)}

    def stages_of(self, rank: int) -> tuple[int, ...]:
        """Return the stages that live on `rank`, in the order of the network."""
        return tuple(s for s, r in enumerate(self.stage_to_rank) if r == rank)

    def backward_of(self, stage: int, microbatch: int) -> Action:
        """Return the action that makes the input gradient: I where it is split, else B."""
        split = Action(stage, "I", microbatch)
        return split if split in self.position else Action(stage, "B", microbatch)

    def consumer(self, action: Action) -> Action | None:
        """Return the action of a neighbouring stage that waits for this one's message, if any."""
        stage, kind, microbatch = action
        if kind == "F":
            return Action(stage + 1, "F", microbatch) if stage + 1 < self.num_stages else None
        return self.backward_of(stage - 1, microbatch) if kind != "W" and stage > 0 else None

    def __str__(self) -> str:
        sizes = [(self.num_ranks, "rank"), (self.num_stages, "stage")]
        sizes.append((self.num_microbatches, "micro-batch"))
        plural = {"rank": "s", "stage": "s", "micro-batch": "es"}
        counts = ", ".join(f"{n} {word}{plural[word] if n != 1 else ''}" for n, word in sizes)
        lines = [f"rank {r}: {' '.join(map(str, order))}" for r, order in enumerate(self.orders)]
        return "\n".join([f"{self.name}: {counts}", *lines])

    def __repr__(self) -> str:
        return (
            f"Schedule(name={self.name!r}, num_ranks={self.num_ranks}, "
            f"num_stages={self.num_stages}, num_microbatches={self.num_microbatches})"
        )


def dependencies(action: Action, schedule: Schedule) -> tuple[Action, ...]:
    """Return the actions that must have ended before `action` can start.

    A forward needs the forward of the stage before it. A backward (B, or its input half I) needs
    the forward of its own stage and the backward of the stage after it. A weight gradient W needs
    the input half of its own stage.
    """
    stage, kind, microbatch = action
    if kind == "F":
        return (Action(stage - 1, "F", microbatch),) if stage > 0 else ()
    if kind == "W":
        return (Action(stage, "I", microbatch),)
    forward = Action(stage, "F", microbatch)
    if stage + 1 == schedule.num_stages:
        return (forward,)
    return forward, schedule.backward_of(stage + 1, microbatch)


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
        f"let one of these ranks run what it is waited for earlier"
    )


def validate(schedule: Schedule) -> Schedule:
    """Return the schedule if it can run, and raise otherwise.

    Raises:
        ScheduleError: which action is missing, doubled, impossible, on the wrong rank or out of
            order, or which ranks wait for each other in a circle.
    """
    if not isinstance(schedule, Schedule):
        raise ScheduleError(
            f"{schedule!r} is no Schedule: make one, such as build_schedule('1f1b', 2, 4)"
        )
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
