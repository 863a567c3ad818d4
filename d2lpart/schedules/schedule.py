"""Action, Schedule and `dependencies`: who runs what in which order, and what waits for what.

A schedule is order and nothing else: no time, no device, no model enters. `dependencies` is the
one place that knows what waits for what; validation, simulation and execution all ask it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import index
from typing import Any, NamedTuple

from d2lpart.common.arguments import check_kind
from d2lpart.common.quantities import count

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
        """Read an action from its written form, the inverse of `str`.

        Raises:
            ScheduleError: it is not written so.
        """
        match = _READABLE.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ScheduleError(
                f"{text!r} is no action: write the stage, one of {', '.join(KINDS)} and the "
                f"micro-batch, such as '2F0'"
            )
        return cls(int(match[1]), match[2], int(match[3]))


def _as_action(item: object) -> Action:
    if type(item) is Action and type(item[0]) is type(item[2]) is int and type(item[1]) is str:
        return item  # it is one already: this is most of the work for a large schedule
    if isinstance(item, str):
        return Action.parse(item)
    if isinstance(item, tuple) and len(item) == 3:
        stage, kind, microbatch = item
        try:
            return Action(index(stage), str(kind), index(microbatch))
        except TypeError:
            pass
    raise ScheduleError(f"{item!r} is no action: give an Action or its written form, such as '2F0'")


def _as_items(order: object) -> Iterable[object]:
    if isinstance(order, str):
        return order.split()
    return _several(order, "order: give the actions of a rank, such as '0F0 0B0'")


def _several(things: object, rule: str) -> Iterable[Any]:
    try:
        return iter(things)  # type: ignore[call-overload]
    except TypeError:
        raise ScheduleError(f"{things!r} is no {rule}") from None


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
        lanes = _several(orders, "list of orders: give one for each rank, as a function returns it")
        places = _several(stage_to_rank, "list of ranks: give one for each stage, such as range(4)")
        actions = tuple(tuple(map(_as_action, _as_items(order))) for order in lanes)
        object.__setattr__(self, "orders", actions)
        object.__setattr__(self, "stage_to_rank", tuple(map(_as_rank, places)))
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
        counts = ", ".join(count(number, noun) for number, noun in sizes)
        lines = [f"rank {r}: {' '.join(map(str, order))}" for r, order in enumerate(self.orders)]
        return "\n".join([f"{self.name}: {counts}", *lines])

    def __repr__(self) -> str:
        return (
            f"Schedule(name={self.name!r}, num_ranks={self.num_ranks}, "
            f"num_stages={self.num_stages}, num_microbatches={self.num_microbatches})"
        )


def check_schedule(schedule: object) -> None:
    """Raise unless this is a schedule, legal or not."""
    remedy = "make one, such as build_schedule('1f1b', 2, 4)"
    check_kind(schedule, Schedule, remedy, ScheduleError)


def dependencies(action: Action | str, schedule: Schedule) -> tuple[Action, ...]:
    """Return the actions that must have ended before `action` can start.

    A forward needs the forward of the stage before it. A backward (B, or its input half I) needs
    the forward of its own stage and the backward of the stage after it. A weight gradient W needs
    the input half of its own stage.

    Args:
        action: or its written form, such as "2F0".
        schedule: legal or not.

    Raises:
        ScheduleError: one of the two is none.
    """
    check_schedule(schedule)
    stage, kind, microbatch = _as_action(action)
    if kind == "F":
        return (Action(stage - 1, "F", microbatch),) if stage > 0 else ()
    if kind == "W":
        return (Action(stage, "I", microbatch),)
    forward = Action(stage, "F", microbatch)
    if stage + 1 == schedule.num_stages:
        return (forward,)
    return forward, schedule.backward_of(stage + 1, microbatch)
