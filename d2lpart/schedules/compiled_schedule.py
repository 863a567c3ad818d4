"""A legal schedule as columns of numbers, so that its actions are placed in one pass.

`compiled` asks `dependencies` once for each kind of micro-batch, not for each action: what an
action waits for belongs to its own micro-batch, so micro-batches that run the same kinds at the
same stages are alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain

from d2lpart.schedules.schedule import (
    KINDS,
    Action,
    Schedule,
    ScheduleError,
    check_schedule,
    dependencies,
)
from d2lpart.schedules.validation import validate

_KIND = {kind: place for place, kind in enumerate(KINDS)}


@dataclass(frozen=True, eq=False)
class CompiledSchedule:
    """The actions of a schedule, numbered rank by rank in the order in which each rank runs them.

    With n actions, the number n stands for the start of the step, which nothing precedes.
    """

    actions: Sequence[Action]  # n
    codes: list[int]  # n: alike for the actions of one stage and kind
    ranks: list[int]  # for each code, the rank of its stage
    first: list[int]  # for each rank its first number, and n
    source: list[int]  # n: the number whose message from another rank an action waits for, or n
    order: list[int]  # all numbers, each after the ones that it waits for

    @cached_property
    def before(self) -> list[int]:
        """For each action, the number of the one that its rank runs just before, or n."""
        numbers = list(range(-1, len(self.actions) - 1))
        for first in self.first[:-1]:
            numbers[first] = len(self.actions)
        return numbers

    @cached_property
    def sample(self) -> dict[int, int]:
        """For each code, the number of one action that has it."""
        return dict(zip(self.codes, range(len(self.codes)), strict=True))


def compiled(schedule: Schedule) -> CompiledSchedule:
    """Return a schedule compiled; that is done once, and kept with the schedule.

    Raises:
        ScheduleError: the schedule cannot run; see `validate`.
    """
    check_schedule(schedule)
    program = schedule.__dict__.get("_compiled") or _compile(schedule)
    if program is None:
        validate(schedule)
        raise AssertionError("what cannot be compiled is illegal, and validate says why")
    object.__setattr__(schedule, "_compiled", program)
    return program


def _compile(schedule: Schedule) -> CompiledSchedule | None:
    """Return the schedule compiled, or None for an illegal one."""
    width, count = len(KINDS) * schedule.num_stages, sum(map(len, schedule.orders))
    microbatches = schedule.num_microbatches
    placed = set(schedule.stage_to_rank) == set(range(schedule.num_ranks))
    if not placed or not 2 * schedule.num_stages * microbatches <= count > 0:
        return None
    keys = _keys(schedule, width)
    if keys is None or len(set(keys)) < count:
        return None
    at = [count] * (width * microbatches + 1)  # for each key its number; the last is for no key
    for number, key in enumerate(keys):
        at[key] = number
    wanted = _wanted(schedule, at, width)
    if wanted is None:
        return None
    source = [at[wanted[key]] for key in keys]
    first = [0, *accumulate(map(len, schedule.orders))]
    order = _execution_order(first, source)
    if order is None:
        return None
    ranks = [rank for rank in schedule.stage_to_rank for _ in KINDS]
    actions = tuple(chain.from_iterable(schedule.orders))
    return CompiledSchedule(actions, [key % width for key in keys], ranks, first, source, order)


def _keys(schedule: Schedule, width: int) -> list[int] | None:
    """Return for each action a number of its own: micro-batch × width + code; None if misplaced."""
    keys: list[int] = []
    for rank, order in enumerate(schedule.orders):
        codes = {
            (stage, kind): stage * len(KINDS) + place
            for stage in schedule.stages_of(rank)
            for kind, place in _KIND.items()
        }
        try:
            keys += [codes[stage, kind] + width * k for stage, kind, k in order]
        except KeyError:  # no such kind, or no such stage on this rank
            return None
    return keys if min(keys) >= 0 else None


def _wanted(schedule: Schedule, at: list[int], width: int) -> list[int] | None:
    """Return for each key the key of the action on another rank that it waits for, or -1.

    None where a micro-batch of some kind is illegal by itself, or a rank runs an action before
    one of its own that it needs.
    """
    missing = at[-1]
    shapes: dict[bytes, int] = {}  # which stages run which kinds: the first such micro-batch
    like = []  # for each micro-batch, the first one that is like it
    for k in range(schedule.num_microbatches):
        shape = bytes(number != missing for number in at[k * width : (k + 1) * width])
        like.append(shapes.setdefault(shape, k))
    needs = {}
    for k, alone in _alone(schedule, set(like)).items():
        try:
            needs[k] = _needs(validate(alone), width)
        except ScheduleError:
            return None
    wanted: list[int] = []
    for k, first in enumerate(like):
        messages, own = needs[first]
        numbers = at[k * width : (k + 1) * width]
        if any(numbers[need] > numbers[code] for need, code in own):
            return None
        wanted += [k * width + code if code >= 0 else -1 for code in messages]
    return wanted


def _alone(schedule: Schedule, chosen: set[int]) -> dict[int, Schedule]:
    """Return each chosen micro-batch as a schedule of its own, in which its number is 0."""
    orders: dict[int, list[list[Action]]] = {k: [[] for _ in schedule.orders] for k in chosen}
    for rank, order in enumerate(schedule.orders):
        for stage, kind, k in order:
            if k in chosen:
                orders[k][rank].append(Action(stage, kind, 0))
    return {k: Schedule(own, schedule.stage_to_rank) for k, own in orders.items()}


def _needs(alone: Schedule, width: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Return what waits for what in a micro-batch, in codes.

    First, for each code, the one on another rank that it waits for, or -1; then all pairs (needed,
    needing) of one rank.
    """
    messages, own = [-1] * width, []
    for action in chain.from_iterable(alone.orders):
        code = action.stage * len(KINDS) + _KIND[action.kind]
        for need in dependencies(action, alone):
            needed = need.stage * len(KINDS) + _KIND[need.kind]
            if alone.stage_to_rank[need.stage] == alone.stage_to_rank[action.stage]:
                own.append((needed, code))
            else:
                assert messages[code] < 0, "an action waits for one message at most"
                messages[code] = needed
    return messages, own


def _execution_order(first: list[int], source: list[int]) -> list[int] | None:
    """Return all numbers, each after its source and its rank's; None for a deadlock.

    What an action needs from its own rank is known to stand before it.
    """
    count = len(source)
    done = bytearray(count + 1)
    done[count] = 1
    order: list[int] = []
    head, waiting, ready = first[:-1], [-1] * count, list(range(len(first) - 1))
    while ready:
        rank = ready.pop()
        end = first[rank + 1]
        for number in range(head[rank], end):
            if not done[source[number]]:
                waiting[source[number]], end = rank, number
                break
            done[number] = 1
            order.append(number)
            if waiting[number] >= 0:
                ready.append(waiting[number])
        head[rank] = end
    return order if len(order) == count else None
