"""The figures of a timeline and of a comparison: lanes, and under them what is asked for.

That is why each rank stands idle, and how many micro-batches it holds.
"""

import string

from d2lpart.common.palette import GREEN
from d2lpart.common.quantities import count, seconds_text
from d2lpart.draw_lanes import LANE, RIGHT, Lanes, panel, right_column, rows
from d2lpart.draw_page import (
    GREY,
    LARGE,
    NORMAL,
    SMALL,
    Page,
    Picture,
    number_width,
)
from d2lpart.timelines.gaps import Gap
from d2lpart.timelines.timeline import Comparison, Timeline

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
    page = Page(width)
    if title:
        page.text(title, LARGE, bold=True)
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
    page = Page(width)
    if title:
        page.text(title, LARGE, bold=True)
    both = [comparison.first, comparison.second]
    length = max(timeline.makespan for timeline in both)
    for timeline in both:
        panel(page, timeline, length, both)
        if timeline.note:
            page.text(timeline.note, SMALL, GREY)
        page.space(0.12)
    page.text(comparison.describe().splitlines()[0], bold=True)
    return page.picture(comparison.describe())


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
