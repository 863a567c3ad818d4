"""`ranking`: a schedule of one's own beside the named ones, the shortest step first.

A cap on memory leaves out of the race what holds too much. All run with the same seconds on the
same link, those with several stages a rank with stages as much shorter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from d2lpart.common.arguments import check_number, check_whole
from d2lpart.common.quantities import seconds_text
from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.recognition import recognize
from d2lpart.schedules.schedule import KINDS, Schedule
from d2lpart.timelines.simulator import FREE, simulate
from d2lpart.timelines.spans import Link
from d2lpart.timelines.timeline import Timeline


class Entry(NamedTuple):
    """A schedule in a ranking; `held` is the most micro-batches that any rank holds at once."""

    name: str
    seconds: float
    held: float
    timeline: Timeline


@dataclass(frozen=True, repr=False)
class Ranking:
    """The schedules within the cap, and those that hold too much; each the shortest step first."""

    mine: Entry
    within: tuple[Entry, ...]
    over: tuple[Entry, ...]
    most_held: float | None

    @property
    def par(self) -> Entry | None:
        """The best named schedule within the cap, if there is one."""
        return next((entry for entry in self.within if entry is not self.mine), None)

    def __str__(self) -> str:
        width = max(len(entry.name) for entry in (*self.within, *self.over))
        lines = [f"    {'':{width}}      step  idle/total   held"]
        for place, entry in enumerate(self.within, 1):
            lines.append(f"{place:2}. {self._cells(entry, width)}")
        lines += [f" -  {self._cells(entry, width)}, too much" for entry in self.over]
        return "\n".join([*lines, self._words()])

    def _cells(self, entry: Entry, width: int) -> str:
        idle, mine = entry.timeline.idle_fraction(), "  <- mine" * (entry is self.mine)
        step = seconds_text(entry.seconds)
        return f"{entry.name:{width}}  {step:>8}  {idle:10.1%}  {entry.held:5.4g}{mine}"

    def _words(self) -> str:
        """Say how far mine is from par, what the cap is, and whether mine has a name."""
        name, known = self.mine.name, recognize(self.mine.timeline.schedule)
        words = ["no named schedule keeps to the cap"]
        if self.par is not None:
            ratio = self.par.timeline.compare(self.mine.timeline).ratio
            words = [f"par is {self.par.name}; {name} takes {ratio:.3f} times as long"]
        if self.most_held is not None:
            words.append(f"no rank may hold more than {self.most_held:g}")
        if known and known != name:
            words.append(f"{name} is {known}")
        return "; ".join(words)

    def __repr__(self) -> str:
        return str(self)


def ranking(
    schedule: Schedule,
    seconds: Mapping[str, float],
    link: Link = FREE,
    *,
    most_held: float | None = None,
    chunks: int = 2,
) -> Ranking:
    """Rank a schedule among the named ones for as many ranks and micro-batches.

    Args:
        schedule: any that can run.
        seconds: of each kind for one micro-batch on a rank's whole share, `{"F": 1, "I": 1,
            "W": 1}`; B defaults to I + W, and without I and W no backward is split.
        link: what carries a message between ranks.
        most_held: the most micro-batches that a rank may hold at once, in whole-stage units.
        chunks: the most stages a rank that a named schedule may have.

    Raises:
        ScheduleError: the schedule cannot run; see `validate`.
        ValueError: a duration is missing, negative or not finite; `most_held` or `chunks` is no
            number that serves.

    >>> mine = Schedule(["0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1"], [0, 1], "mine")
    >>> print(ranking(mine, {"F": 1, "B": 2}, most_held=1, chunks=1))
                   step  idle/total   held
     1. naive      12 s       50.0%      1
     -  mine        9 s       33.3%      2  <- mine, too much
     -  gpipe       9 s       33.3%      2, too much
     -  1f1b        9 s       33.3%      2, too much
    par is naive; mine takes 0.750 times as long; no rank may hold more than 1; mine is 1f1b
    """
    if not isinstance(seconds, Mapping):
        raise ValueError(
            f"seconds is {seconds!r}: give seconds by kind, such as {{'F': 1, 'B': 2}}"
        )
    check_whole("chunks", chunks)
    if most_held is not None:
        check_number("most_held", most_held)
    simulate(schedule, seconds, link)  # says what is wrong with any of them
    mine = _entry(schedule, seconds, link)
    sizes = schedule.num_ranks, schedule.num_microbatches
    entries = sorted([mine, *named(*sizes, seconds, link, chunks)], key=_order)
    cap = float("inf") if most_held is None else most_held
    within = tuple(entry for entry in entries if entry.held <= cap)
    return Ranking(mine, within, tuple(e for e in entries if e.held > cap), most_held)


def named(
    num_ranks: int,
    num_microbatches: int,
    seconds: Mapping[str, float],
    link: Link = FREE,
    chunks: int = 2,
) -> list[Entry]:
    """Return the named schedules that `seconds` and `chunks` allow, the shortest step first.

    The arguments are those of `ranking`. With one stage a rank, interleaved is 1F1B, and left out.
    """
    kinds = {*seconds, *("B" if {"I", "W"} <= seconds.keys() else "")}
    entries = []
    for name in SCHEDULES:
        several = chunks if name == "interleaved" else None
        schedule = build_schedule(name, num_ranks, num_microbatches, chunks=several)
        stages = schedule.num_stages // num_ranks
        runs = {action.kind for action in schedule.position}
        if stages <= chunks and runs <= kinds and (name, stages) != ("interleaved", 1):
            entries.append(_entry(schedule, seconds, link))
    return sorted(entries, key=_order)


def _entry(schedule: Schedule, seconds: Mapping[str, float], link: Link) -> Entry:
    share = schedule.num_ranks / schedule.num_stages
    each = {kind: share * seconds[kind] for kind in KINDS if kind in seconds}
    timeline = simulate(schedule, each, link)
    return Entry(schedule.name, timeline.makespan, timeline.peak_in_flight(), timeline)


def _order(entry: Entry) -> tuple[float, float]:
    """Order by time, then by memory; who comes first of equals stays first."""
    return entry.seconds, entry.held
