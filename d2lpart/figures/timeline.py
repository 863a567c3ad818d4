"""The figures of a timeline and of a comparison: lanes, and under them what is asked for.

A lane is a rank; colour and hatch say the kind of work, idle time is left blank. Below may stand
why each rank stands idle, and how many micro-batches it holds.
"""

import math
import string
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

from d2lpart.common.display import GREEN, OF_KIND
from d2lpart.common.quantities import count, seconds_text, unit_of_seconds
from d2lpart.figures.page import (
    FRAME,
    GREY,
    INK,
    MARGIN,
    NORMAL,
    SMALL,
    Box,
    Page,
    Picture,
    boxes,
    line_width,
    mixed,
    number_width,
    sample,
)
from d2lpart.schedules.schedule import KINDS
from d2lpart.timelines.gap_reasons import Gap
from d2lpart.timelines.spans import Span
from d2lpart.timelines.timeline import Comparison, Timeline


class Look(NamedTuple):
    """How the boxes of one kind of action look."""

    name: str
    face: str
    hatch: str


HATCHES = {"F": "", "B": "///", "I": "\\\\\\", "W": "..."}
LOOKS = {kind: Look(name, OF_KIND[kind], HATCHES[kind]) for kind, name in KINDS.items()}
PALER = 0.6  # how much white the last stage of a rank has in its colour
LANE = 0.78  # height of a lane; the next lane is 1 further down
RIGHT = 0.95  # inches right of the lanes
ROW = 0.17  # inches that a line of text needs
LETTERS = string.ascii_lowercase


def timeline_picture(
    timeline: Timeline,
    *,
    title: str = "",
    width: float = 9.0,
    memory: bool = False,
    reasons: bool | int = False,
) -> Picture:
    """Draw a timeline.

    Args:
        timeline: of any clock and size. Boxes too small for a number have none.
        title: a line over the headline.
        width: of the figure, in inches.
        memory: draw under the lanes how many micro-batches each rank holds.
        reasons: say under the lanes why each rank stands idle; a rank's number: that rank alone.
    """
    page = Page(width, title)
    lanes = panel(page, timeline, timeline.makespan, [timeline])
    if memory:
        _memory(page, lanes)
    if reasons is not False:
        ranks = range(timeline.num_ranks) if reasons is True else [reasons]
        _reasons(page, lanes, [(rank, gap) for rank in ranks for gap in timeline.gaps(rank)])
    if timeline.note:
        page.text(timeline.note, SMALL, GREY)
    return page.picture(timeline.describe())


def comparison_picture(comparison: Comparison, *, title: str = "", width: float = 9.0) -> Picture:
    """Draw both timelines of a comparison, one under the other, on axes of the same length.

    Args:
        comparison: from `Timeline.compare`.
        title: a line over both.
        width: of the figure, in inches.
    """
    page = Page(width, title)
    both = [comparison.first, comparison.second]
    length = max(timeline.makespan for timeline in both)
    for timeline in both:
        panel(page, timeline, length, both)
        if timeline.note:
            page.text(timeline.note, SMALL, GREY)
        page.space(0.12)
    page.text(comparison.describe().splitlines()[0], bold=True)
    return page.picture(comparison.describe())


@dataclass(frozen=True)
class Lanes:
    """A timeline on axes: lane r lies around y = r, x is the time since the step began."""

    timeline: Timeline
    axes: Any
    inches: float  # width of the axes
    pitch: float  # inches from one lane to the next
    length: float  # seconds from the left to the right end of the axes
    unit: tuple[float, str]  # of the axes: its seconds, and its name

    @property
    def narrow(self) -> bool:
        """Whether the boxes are too narrow for edges and hatches, a few pixels each."""
        each = len(self.timeline.spans) / self.timeline.num_ranks
        return self.wide(self.timeline.makespan) < 0.04 * each

    def x(self, seconds: float) -> float:
        """Return the place of a moment of the timeline."""
        return (seconds - self.timeline.start) / self.unit[0]

    def wide(self, seconds: float) -> float:
        """Return the inches that a duration takes."""
        return seconds * self.inches / self.length if self.length else 0.0

    def box(self, rank: int, start: float, end: float) -> Box:
        """Return the box of `rank` from `start` to `end`."""
        return self.x(start), rank - LANE / 2, self.x(end) - self.x(start), LANE


def panel(page: Page, timeline: Timeline, length: float, shown: list[Timeline]) -> Lanes:
    """Add one of the timelines `shown`: headline, legend, lanes, an axis of `length` seconds."""
    page.text(timeline.headline(), NORMAL + 1)
    page.space(0.26)
    names = {id(each): _names(each) for each in shown}
    lines = [line for own in names.values() for name in own for line in name.split("\n")]
    left = MARGIN + 0.05 + max(line_width(line, NORMAL) for line in lines)
    pitch = max(0.11, min(0.4, 5.0 / timeline.num_ranks))
    axes = page.axes(timeline.num_ranks * pitch, left, RIGHT)
    lanes = Lanes(timeline, axes, page.width - left - RIGHT, pitch, length, unit_of_seconds(length))
    axes.set_xlim(0, length / lanes.unit[0] or 1)
    rows(axes, names[id(timeline)], 0, pitch)
    shares = [f"{timeline.idle_fraction(rank):.1%}" for rank in range(timeline.num_ranks)]
    right_column(lanes, axes, "idle/total", shares, 0, pitch)
    below = timeline.num_ranks - 0.5 + 0.09 / pitch
    _beside(lanes, axes, below, f"time in {lanes.unit[1]}", va="top", color=GREY)
    _draw(lanes)
    if not lanes.narrow:
        _numbers(lanes)
        _transfers(lanes)
    _legend(lanes, shown)
    page.space(0.34)
    return lanes


def _names(timeline: Timeline) -> list[str]:
    """Return the name of each lane, with the stages where they are not plain from the rank."""
    schedule = timeline.schedule
    names = [f"rank {rank}" for rank in range(timeline.num_ranks)]
    if schedule.stage_to_rank == tuple(range(schedule.num_ranks)) or len(names) > 12:
        return names
    stages = [schedule.stages_of(rank) for rank in range(timeline.num_ranks)]
    return [
        f"{name}\nstage{'s' * (len(own) > 1)} {', '.join(map(str, own))}"
        for name, own in zip(names, stages, strict=True)
    ]


def rows(axes: Any, names: list[str], middle: float, pitch: float) -> None:
    """Name rows of height 1 at the left, as many of them as there is room for."""
    marked = range(0, len(names), math.ceil(ROW / pitch))
    axes.set_ylim(len(names) - 0.5 + middle, middle - 0.5)
    axes.set_yticks([rank + middle for rank in marked], [names[rank] for rank in marked])
    axes.tick_params(axis="y", length=0)


def right_column(
    lanes: Lanes, axes: Any, head: str, cells: list[str], middle: float, pitch: float
) -> None:
    """Write at the right end of rows of height 1 a cell each, and a head over all."""
    _beside(lanes, axes, middle - 0.5 - 0.06 / pitch, head, va="bottom", color=GREY)
    for rank in range(0, len(cells), math.ceil(ROW / pitch)):
        _beside(lanes, axes, rank + middle, cells[rank], va="center_baseline", color=INK)


def _beside(lanes: Lanes, axes: Any, y: float, text: str, **style: Any) -> None:
    right = 1 + (RIGHT - MARGIN) / lanes.inches
    place = axes.get_yaxis_transform()
    axes.text(right, y, text, transform=place, ha="right", size=NORMAL, **style)


def _draw(lanes: Lanes) -> None:
    """Draw the lanes, white with a thin frame, and in them the actions as boxes."""
    timeline, schedule = lanes.timeline, lanes.timeline.schedule
    ranks = range(timeline.num_ranks)
    whole = [lanes.box(rank, timeline.start, timeline.end) for rank in ranks]
    boxes(lanes.axes, whole, "white", FRAME, depth=1)
    nth = {stage: n for rank in ranks for n, stage in enumerate(schedule.stages_of(rank))}
    groups: dict[tuple[str, int], list[Box]] = defaultdict(list)
    for span in timeline.spans:
        box = lanes.box(span.rank, span.start, span.end)
        groups[span.action.kind, nth[span.action.stage]].append(box)
    for (kind, place), group in groups.items():
        look = LOOKS[kind]
        face = mixed(look.face, "white", PALER * place / max(1, *nth.values()))
        edge, hatch = mixed(look.face, INK, 0.6), look.hatch
        if lanes.narrow:
            edge = hatch = ""
        boxes(lanes.axes, group, face, edge, hatch)


def _numbers(lanes: Lanes) -> None:
    """Write its micro-batch into each box that has room for it.

    Where ranks have several stages, the boxes hold whole actions if all of them have room.
    """
    timeline = lanes.timeline
    size = min(NORMAL, 40 * lanes.pitch)
    if size < SMALL:
        return
    several = timeline.schedule.num_stages > timeline.num_ranks
    whole = several and all(_fits(lanes, span, str(span.action), size) for span in timeline.spans)
    for span in timeline.spans:
        label = str(span.action if whole else span.action.microbatch)
        if _fits(lanes, span, label, size):
            style = {"ha": "center", "va": "center_baseline", "size": size, "color": "black"}
            lanes.axes.text(lanes.x((span.start + span.end) / 2), span.rank, label, **style)


def _fits(lanes: Lanes, span: Span, label: str, size: float) -> bool:
    return number_width(label, size) < lanes.wide(span.seconds)


def _transfers(lanes: Lanes) -> None:
    """Draw each message that takes time as an arrow from the sender's lane to the receiver's."""
    for marker, down in (("v", 1), ("^", -1)):
        xs, ys = [], []
        for message in lanes.timeline.transfers:
            if message.seconds > 0 and (message.target - message.source) * down > 0:
                edge = down * LANE / 2
                xs += [lanes.x(message.start), lanes.x(message.end), math.nan]
                ys += [message.source + edge, message.target - edge, math.nan]
        if xs:
            style = {"color": INK, "linewidth": 0.8, "label": "transfer"}
            lanes.axes.plot(xs, ys, zorder=1.5, **style)
            heads = [y - 0.05 * down for y in ys[1::3]]
            lanes.axes.plot(xs[1::3], heads, marker, color=INK, markersize=3, zorder=3)


def _legend(lanes: Lanes, shown: list[Timeline]) -> None:
    """Say over the lanes what their boxes and lines mean; of what can be seen, no more."""
    present = {span.action.kind for timeline in shown for span in timeline.spans}
    looks = [look for kind, look in LOOKS.items() if kind in present]
    handles: list[Any] = [
        sample(look.name, look.face, "" if lanes.narrow else look.hatch) for look in looks
    ]
    if any(timeline.schedule.num_stages > timeline.num_ranks for timeline in shown):
        handles.append(sample("paler: a later stage", mixed(looks[0].face, "white", PALER)))
    handles += lanes.axes.get_lines()[:1]  # an arrow, where one is drawn
    height = lanes.timeline.num_ranks * lanes.pitch
    lanes.axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1 + 0.05 / height),
        ncols=len(handles), fontsize=NORMAL, frameon=False, borderpad=0, borderaxespad=0,
        handlelength=1.8, handleheight=1.1, columnspacing=1.4, labelspacing=0,
    )  # fmt: skip


def _memory(page: Page, lanes: Lanes) -> None:
    """Add how many micro-batches each rank holds at each moment, all on one scale."""
    timeline = lanes.timeline
    peaks = [timeline.peak_in_flight(rank) for rank in range(timeline.num_ranks)]
    pitch = max(0.11, 0.75 * lanes.pitch)
    page.space(0.22)
    axes = page.axes(pitch * timeline.num_ranks, page.width - lanes.inches - RIGHT, RIGHT)
    axes.set_xlim(lanes.axes.get_xlim())
    axes.set_xticks([])
    rows(axes, [f"rank {rank}" for rank in range(timeline.num_ranks)], 0.5, pitch)
    right_column(lanes, axes, "peak", [f"{peak:g}" for peak in peaks], 0.5, pitch)
    axes.text(0, -0.06 / pitch, "micro-batches in flight", va="bottom", size=NORMAL, color=GREY)
    for rank in range(timeline.num_ranks):
        course = timeline.in_flight(rank)
        course.append((timeline.end, course[-1][1]))
        xs = [lanes.x(moment) for moment, _ in course]
        ys = [rank + 1 - LANE * held / max(peaks) for _, held in course]
        axes.fill_between(xs, ys, rank + 1, step="post", color=GREEN, alpha=0.35, linewidth=0)
        axes.step(xs, ys, where="post", color=GREEN, linewidth=1.2, clip_on=False)
    page.space(0.15)


def _reasons(page: Page, lanes: Lanes, idle: list[tuple[int, Gap]]) -> None:
    """Letter the longest gaps, and list under the lanes what each of them waits for."""
    by_length = sorted(idle, key=lambda pair: pair[1].seconds, reverse=True)
    room = [pair for pair in by_length if lanes.wide(pair[1].seconds) > number_width("m", SMALL)]
    chosen = sorted(room[: len(LETTERS)], key=lambda pair: (pair[0], pair[1].start))
    lines = []
    for letter, (rank, gap) in zip(LETTERS, chosen, strict=False):
        style = {"ha": "center", "va": "center_baseline", "size": SMALL, "style": "italic"}
        lanes.axes.text(lanes.x((gap.start + gap.end) / 2), rank, letter, color=GREY, **style)
        lines.append(f"{letter}  rank {rank}, {seconds_text(gap.seconds)}: {gap.reason}")
    rest = [pair[1].seconds for pair in idle if pair not in chosen]
    if rest:
        lines.append(
            f"too short for a letter: {count(len(rest), 'gap')}, together {seconds_text(sum(rest))}"
        )
    page.columns(lines or ["no idle time"], 1 if len(lines) <= 4 else 2, SMALL)
    page.space(0.06)
