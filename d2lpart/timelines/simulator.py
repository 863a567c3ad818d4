"""`simulate`: a schedule, durations and a link give a timeline, without any hardware.

One rule places every span: an action starts as soon as its rank is free and everything it depends
on has arrived. The virtual clock uses the same rule with measured durations, and `undisturbed` with
the shortest durations of several steps.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from d2lpart.common.arguments import listed_of
from d2lpart.common.quantities import count
from d2lpart.schedules.compiled_schedule import CompiledSchedule, compiled
from d2lpart.schedules.schedule import KINDS, Action, Schedule
from d2lpart.timelines import shared_links
from d2lpart.timelines.spans import Columns, Link, Messages
from d2lpart.timelines.timeline import Timeline

Durations = Mapping[str, float] | Sequence[Mapping[str, float]] | Callable[[Action], float]
Sizes = float | Sequence[float] | Callable[[Action], float]
Links = Link | Callable[[int, int], Link]

FREE = Link()


def simulate(
    schedule: Schedule,
    durations: Durations,
    link: Links = FREE,
    *,
    boundary_bytes: Sizes = 0,
    clock: str = "predicted",
    note: str = "",
) -> Timeline:
    """Place every action of `schedule` in time.

    Args:
        schedule: any valid schedule.
        durations: seconds by kind, `{"F": 1, "B": 2}`; or one such mapping for each stage; or a
            function from an `Action` to seconds. B defaults to I + W.
        link: what carries a message between ranks; sends do not block. One for all; or a function
            from the ranks (source, target) to their `Link`, such as a fast one inside a node and a
            slow one between nodes.
        boundary_bytes: the size of a message: one for all cuts, one for each cut (after stage 0,
            after stage 1, …), or a function from the `Action` that sends it.
        clock, note: how the timeline is labelled; the pipeline passes "virtual" with durations
            that it has measured.

    Returns:
        A `Timeline` whose first action starts at 0.

    Raises:
        ScheduleError: the schedule cannot run; see `validate`.
        ValueError: a duration is missing, negative or not finite, a size is not a whole number
            of bytes, or what should be a link is none.

    >>> from d2lpart.schedules.orders import build_schedule
    >>> print(simulate(build_schedule("gpipe", 2, 3), {"F": 1, "B": 2}))
    gpipe, 2 ranks, 3 micro-batches, predicted clock: step 12 s, idle 25.0% (idle/total)
    rank 0 |F0F1F2      B0--B1--B2--| idle 25.0%
    rank 1 |  F0F1F2B0--B1--B2--    | idle 25.0%
    """
    program = compiled(schedule)
    seconds = _seconds(durations, schedule, program)
    sizes = _sizes(boundary_bytes, schedule, program)
    links = _links(link, program)
    delays = [own.seconds(size) for own, size in zip(links, sizes, strict=True)]
    shared = [own.shared for own in links]
    if any(shared):
        starts, ends, sent, arrived = shared_links.play(
            program, seconds, delays, _wires(shared, program)
        )
    else:
        starts, ends, sent, arrived = _place(program, seconds, delays)
    messages = Messages(sizes, shared, sent, arrived)
    return Timeline.of_columns(Columns(program, starts, ends, messages), clock, schedule, note)


def _place(
    program: CompiledSchedule, seconds: Sequence[float], delays: Sequence[float]
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Return starts and ends, and when the message that each action waits for leaves and arrives.

    No message waits for another one, so any order of execution will do.
    """
    total = len(program.actions)
    source, before = program.source, program.before
    starts, ends, arrived = [0.0] * total, [0.0] * (total + 1), [0.0] * total
    for number in program.order:
        start = ends[before[number]]
        arrived[number] = there = ends[source[number]] + delays[number]
        if there > start:
            start = there
        starts[number] = start
        ends[number] = start + seconds[number]
    sent = [ends[maker] for maker in source]
    ends.pop()
    return starts, ends, sent, arrived


def _links(link: Any, program: CompiledSchedule) -> list[Link]:
    """Return for each action the link of the message that it waits for; a free one for none."""
    if not (isinstance(link, Link) or callable(link)):
        raise ValueError(
            f"link is {link!r}: give a Link, or a function from two ranks to their Link"
        )
    table = [FREE] * len(program.ranks)
    for code, number in program.sample.items():
        maker = program.source[number]
        if maker < len(program.actions):
            source, target = program.ranks[program.codes[maker]], program.ranks[code]
            table[code] = own = link if isinstance(link, Link) else link(source, target)
            if not isinstance(own, Link):
                raise ValueError(f"the link from rank {source} to {target} is {own!r}: give a Link")
    return [table[code] for code in program.codes]


def _wires(shared: Sequence[str | None], program: CompiledSchedule) -> list[Hashable]:
    """Return for each action the wire of the message that it waits for: what is equal is shared."""
    ranks, codes = program.ranks, program.codes
    pairs: list[Hashable] = [None] * len(codes)
    for number, kind in enumerate(shared):
        maker = program.source[number]
        if kind == "bus":
            pairs[number] = kind
        elif kind == "pair":
            pairs[number] = ranks[codes[maker]], ranks[codes[number]]
    return pairs


def _seconds(durations: Durations, schedule: Schedule, program: CompiledSchedule) -> list[float]:
    """Return the duration of each action, checked."""
    if callable(durations):
        given = [0.0] * len(program.actions)
        for number in program.order:
            action = program.actions[number]
            given[number] = _checked(durations(action), str(action))
        return given
    if isinstance(durations, Mapping):
        durations = [durations] * schedule.num_stages
    if not (isinstance(durations, Sequence) and all(isinstance(d, Mapping) for d in durations)):
        raise ValueError(
            f"durations is {durations!r}: give seconds by kind, such as {{'F': 1, 'B': 2}}, one "
            f"such mapping for each stage, or a function from an Action to seconds"
        )
    if len(durations) != schedule.num_stages:
        raise ValueError(
            f"durations for {count(len(durations), 'stage')}, but the schedule has "
            f"{schedule.num_stages}: give one mapping for each stage, or one for all"
        )
    kinds = {program.actions[number].kind for number in program.sample.values()}
    by_stage = [_complete(own, kinds, stage) for stage, own in enumerate(durations)]
    table = [own.get(kind, 0.0) for own in by_stage for kind in KINDS]
    return [table[code] for code in program.codes]


def _complete(given: Mapping[str, Any], kinds: set[str], stage: int) -> dict[str, float]:
    own = {kind: _checked(value, f"{kind} of stage {stage}") for kind, value in given.items()}
    if "B" not in own and {"I", "W"} <= own.keys():
        own["B"] = own["I"] + own["W"]
    missing = [kind for kind in KINDS if kind in kinds and kind not in own]
    if missing:
        raise ValueError(
            f"stage {stage} has no duration for {' and '.join(missing)}: the schedule runs "
            f"{', '.join(k for k in KINDS if k in kinds)}; give the seconds of each "
            f"(B defaults to I + W)"
        )
    return own


def _checked(seconds: Any, what: str) -> float:
    try:
        value = float(seconds)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"the duration of {what} is {seconds!r}: give seconds, 0 or more")
    return value


def _sizes(boundary_bytes: Sizes, schedule: Schedule, program: CompiledSchedule) -> list[int]:
    """Return for each action the bytes of the message that it waits for; 0 where there is none."""
    actions, total = program.actions, len(program.actions)
    if callable(boundary_bytes):
        own = [0] * total
        for number in program.order:
            if program.source[number] < total:
                maker = actions[program.source[number]]
                own[number] = _whole(boundary_bytes(maker), f"the message of {maker}")
        return own
    cuts = schedule.num_stages - 1
    given: list[Any] = [boundary_bytes] * cuts
    if isinstance(boundary_bytes, Iterable):
        given = list(boundary_bytes)
    if len(given) != cuts:
        raise ValueError(
            f"{count(len(given), 'size')} in boundary_bytes, but the schedule has "
            f"{count(cuts, 'cut')}: give one size for each cut, or one for all"
        )
    sizes = [_whole(size, f"the message over cut {cut}") for cut, size in enumerate(given)]
    table = [0] * len(program.ranks)
    for code, number in program.sample.items():
        if program.source[number] < total:
            cut = min(actions[number].stage, actions[program.source[number]].stage)
            table[code] = sizes[cut]
    return [table[code] for code in program.codes]


def _whole(nbytes: Any, what: str) -> int:
    try:
        whole = int(nbytes)
    except (TypeError, ValueError, OverflowError):
        whole = -1
    if whole < 0 or whole != nbytes:
        raise ValueError(f"{what} has {nbytes!r} bytes: give a whole number, 0 or more")
    return whole


def undisturbed(timelines: Iterable[Timeline], link: Links = FREE) -> Timeline:
    """Return the step in which each action takes the shortest time that was measured for it.

    Whatever else runs on a machine makes actions longer, never shorter, and now this one, now that.

    Args:
        timelines: several of one schedule, on the virtual clock, which measures each action alone.
        link: the one that they were placed with.

    Raises:
        ValueError: no timeline, several schedules, or a clock that does not place its actions.

    >>> from d2lpart.schedules.orders import build_schedule
    >>> schedule = build_schedule("naive", 2, 1)
    >>> calm = [simulate(schedule, {"F": f, "B": 2}, clock="virtual") for f in (3, 1, 2)]
    >>> undisturbed(calm).makespan
    6.0
    """
    several = listed_of(Timeline, timelines, "give the timelines of some steps")
    if not several or any(t.schedule != several[0].schedule for t in several):
        raise ValueError("undisturbed takes timelines of one schedule: give at least one")
    if any(t.clock != "virtual" for t in several):
        clocks = ", ".join(sorted({t.clock for t in several}))
        raise ValueError(
            f"timelines of clock {clocks}: undisturbed places actions anew, as the virtual clock "
            f"does; run the pipeline with clock='virtual'"
        )
    first = several[0]
    seconds: dict[Any, float] = {}
    for timeline in several:
        for span in timeline.spans:
            seconds[span.action] = min(span.seconds, seconds.get(span.action, span.seconds))
    sizes = {message.action: message.nbytes for message in first.transfers}
    note = f"{first.note}; each duration is the shortest of {len(several)} steps"
    return simulate(
        first.schedule,
        seconds.__getitem__,
        link,
        boundary_bytes=sizes.__getitem__,
        clock="virtual",
        note=note.removeprefix("; "),
    )
