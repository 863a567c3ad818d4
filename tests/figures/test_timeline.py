"""The figure of a timeline: every span in its place, and nothing that is not so."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgb

from d2lpart import Link, Schedule, build_schedule, simulate
from d2lpart.figures.page import Page, Picture, boxes
from d2lpart.figures.timeline import LANE, LOOKS
from d2lpart.timelines.timeline import Timeline

UNIT = {"F": 1.0, "B": 2.0}
SPLIT = Schedule(  # the backward of micro-batch 0 in halves, that of micro-batch 1 whole
    [["0F0", "0F1", "0I0", "0W0", "0B1"], ["1F0", "1I0", "1F1", "1B1", "1W0"]], [0, 1]
)


def timeline(
    name: str = "1f1b", ranks: int = 4, microbatches: int = 8, latency: float = 0.0, **options: Any
) -> Timeline:
    return simulate(build_schedule(name, ranks, microbatches, **options), UNIT, Link(latency))


def corners(collection: PathCollection) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each box, rounded."""
    (path,) = collection.get_paths()  # one for all: a hatch is drawn once
    boxes = path.vertices.reshape(-1, 5, 2)  # each closed
    return [tuple(round(float(v), 9) for v in (*b.min(axis=0), *b.max(axis=0))) for b in boxes]


def rounded(places: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    return sorted(tuple(round(value, 9) for value in place) for place in places)


def filled(picture: Picture, axes: int = 0) -> dict[tuple[str, str], list[Any]]:
    """The boxes of the actions, by their colour and hatch."""
    found = [c for c in picture.axes[axes].collections if c.get_zorder() == 2]
    return {(to_hex(c.get_facecolor()[0]), c.get_hatch() or ""): corners(c) for c in found}


def labels(picture: Picture, axes: int = 0) -> Counter[str]:
    return Counter(text.get_text() for text in picture.axes[axes].texts)


def legend(picture: Picture, axes: int = 0) -> list[str]:
    return [text.get_text() for text in picture.axes[axes].get_legend().get_texts()]


def words(picture: Picture) -> str:
    return "\n".join(text.get_text() for text in picture.texts)


def pale(colour: str) -> float:
    return sum(to_rgb(colour))


def test_every_span_has_its_box_on_its_lane() -> None:
    drawn = simulate(SPLIT, {"F": 1, "B": 3, "I": 1, "W": 2})
    boxes = filled(drawn.plot())
    assert len(boxes) == 4
    for kind, look in LOOKS.items():
        wanted = [
            (span.start, span.rank - LANE / 2, span.end, span.rank + LANE / 2)
            for span in drawn.spans
            if span.action.kind == kind
        ]
        assert sorted(boxes[look.face.lower(), look.hatch]) == rounded(wanted)


def test_kinds_differ_in_colour_and_in_hatch() -> None:
    assert len({look.face for look in LOOKS.values()}) == 4
    assert len({look.hatch for look in LOOKS.values()}) == 4
    assert len({look.name for look in LOOKS.values()}) == 4


@pytest.mark.parametrize("look", LOOKS.values())
def test_black_numbers_are_readable_on_each_colour(look: Any) -> None:
    linear = [((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(look.face)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert (luminance + 0.05) / 0.05 > 6  # WCAG 2 asks for 4.5


def test_hatch_is_lighter_than_its_box() -> None:
    for collection in timeline().plot().axes[0].collections:
        if collection.get_hatch():
            line, face = (
                to_hex(c[0]) for c in (collection.get_edgecolor(), collection.get_facecolor())
            )
            assert pale(line) > pale(face)


def test_edges_of_any_number_of_boxes_lie_on_whole_pixels() -> None:
    page = Page(4.03)
    axes = page.axes(0.5, 0.4, 0.4)
    axes.set(xlim=(0, 600), ylim=(0, 1), xticks=[], yticks=[])
    boxes(axes, [(2 * n + 0.3, 0, 1, 1) for n in range(300)], "#0000ff")
    canvas = FigureCanvasAgg(page.picture("many"))
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    assert set(map(tuple, pixels.reshape(-1, 3).tolist())) == {(0, 0, 255), (255, 255, 255)}


def test_idle_time_is_a_white_lane_with_a_frame() -> None:
    axes = timeline("gpipe", 3, 2).plot().axes[0]
    lane, frame = (c for c in axes.collections if c.get_zorder() < 2)
    assert to_hex(lane.get_facecolor()[0]) == "#ffffff"
    wanted = [(0, rank - LANE / 2, 12, rank + LANE / 2) for rank in range(3)]
    assert corners(lane) == corners(frame) == rounded(wanted)
    assert frame.get_linewidth()[0] > 0


def test_lanes_go_by_rank_from_the_top() -> None:
    axes = timeline(ranks=5).plot().axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == [f"rank {r}" for r in range(5)]
    bottom, top = axes.get_ylim()
    assert bottom > top


def test_microbatch_stands_in_each_box() -> None:
    found = labels(timeline("gpipe", 3, 5).plot())
    assert {found[str(k)] for k in range(5)} == {2 * 3}


@pytest.mark.parametrize("ranks", [2, 12])
def test_numbers_lie_inside_their_boxes(ranks: int) -> None:
    picture = timeline("1f1b", ranks, 12).plot()
    renderer = FigureCanvasAgg(picture).get_renderer()
    picture.draw_without_rendering()
    axes = picture.axes[0]
    numbers = [text for text in axes.texts if text.get_text().isdigit()]
    assert numbers
    boxes = [box for group in filled(picture).values() for box in group]
    for text in numbers:
        x, y = text.get_position()
        (box,) = [b for b in boxes if b[0] < x < b[2] and b[1] < y < b[3]]
        left, low = axes.transData.transform(box[:2])
        right, high = axes.transData.transform(box[2:])
        extent = text.get_window_extent(renderer)
        assert left <= extent.x0 < extent.x1 <= right
        assert min(low, high) <= extent.y0 < extent.y1 <= max(low, high)


def test_narrow_boxes_have_no_number_and_wide_ones_keep_theirs() -> None:
    one = simulate(build_schedule("gpipe", 1, 2), lambda a: 0.01 if a.microbatch else 5.0)
    found = labels(one.plot())
    assert (found["0"], found["1"]) == (2, 0)


def test_large_timeline_has_no_numbers_edges_hatches_or_transfers() -> None:
    picture = timeline("1f1b", 24, 96, latency=0.01).plot()
    assert picture.axes[0].get_lines() == []
    assert not [text for text in labels(picture) if text.isdigit()]
    assert {hatch for _, hatch in filled(picture)} == {""}
    assert not [c for c in picture.axes[0].collections if 2 < c.get_zorder() < 3]
    assert sum(map(len, filled(picture).values())) == 2 * 24 * 96
    marked = [text.get_text() for text in timeline("gpipe", 48, 2).plot().axes[0].get_yticklabels()]
    assert marked == [f"rank {rank}" for rank in range(0, 48, 2)]


def test_stages_of_a_rank_are_named_and_told_apart() -> None:
    picture = timeline("gpipe", 2, 2, chunks=2).plot()
    names = [text.get_text() for text in picture.axes[0].get_yticklabels()]
    assert names == ["rank 0\nstages 0, 2", "rank 1\nstages 1, 3"]
    assert {"0F0", "2F1", "1B0", "3B1"} <= set(labels(picture))
    forward = [face for face, hatch in filled(picture) if not hatch]
    assert len(forward) == 2
    (early,) = [face for face in forward if face == LOOKS["F"].face.lower()]
    (late,) = [face for face in forward if face != early]
    assert pale(late) > pale(early)
    assert legend(picture) == ["forward", "backward", "paler: a later stage"]


def test_stages_out_of_order_are_named() -> None:
    swapped = Schedule([["1F0", "1B0"], ["0F0", "0B0"]], [1, 0])
    names = [t.get_text() for t in simulate(swapped, UNIT).plot().axes[0].get_yticklabels()]
    assert names == ["rank 0\nstage 1", "rank 1\nstage 0"]


def test_boxes_too_narrow_for_actions_hold_numbers() -> None:
    found = labels(timeline("gpipe", 3, 6, chunks=2).plot(width=7))
    assert found["5"] > 0
    assert "0F0" not in found


def test_legend_names_what_is_there() -> None:
    assert legend(timeline().plot()) == ["forward", "backward"]
    every = ["forward", "backward", "input gradient", "weight gradient"]
    assert legend(simulate(SPLIT, {"F": 1, "B": 3, "I": 1, "W": 2}).plot()) == every
    assert legend(timeline(latency=0.2).plot()) == ["forward", "backward", "transfer"]


def test_transfers_that_take_time_are_lines_from_lane_to_lane() -> None:
    assert timeline(latency=0).plot().axes[0].get_lines() == []
    drawn = timeline("gpipe", 2, 1, latency=0.5)
    lines = [line for line in drawn.plot().axes[0].get_lines() if line.get_marker() == "None"]
    assert [line.get_xdata()[:2].tolist() for line in lines] == [[1, 1.5], [4.5, 5]]
    edges = [line.get_ydata()[:2].tolist() for line in lines]
    assert edges == [[LANE / 2, 1 - LANE / 2], [1 - LANE / 2, LANE / 2]]


def test_time_begins_at_zero_in_a_fitting_unit() -> None:
    schedule = build_schedule("gpipe", 2, 2)
    for scale, unit in ((1.0, "s"), (2e-3, "ms"), (3e-6, "µs"), (1e-10, "µs"), (0.0, "s")):
        predicted = simulate(schedule, {"F": scale, "B": 2 * scale})
        late = [span._replace(start=span.start + 7, end=span.end + 7) for span in predicted.spans]
        axes = Timeline(late, [], "wall", schedule).plot().axes[0]
        assert labels(axes.figure)[f"time in {unit}"] == 1
        assert min(min(boxes) for boxes in filled(axes.figure).values())[0] == 0
        factor = {"s": 1, "ms": 1e3, "µs": 1e6}[unit]
        assert axes.get_xlim() == pytest.approx((0, 9 * scale * factor or 1), abs=1e-8)


def test_headline_clock_note_and_title_are_there() -> None:
    noted = simulate(build_schedule("naive", 2, 1), UNIT, clock="virtual", note="on a CPU")
    lines = words(noted.plot(title="What it shows")).splitlines()
    assert lines == ["What it shows", noted.headline(), "on a CPU"]
    assert "virtual clock" in lines[1]


def test_each_lane_has_its_idle_share() -> None:
    uneven = simulate(build_schedule("naive", 3, 1), [UNIT, {"F": 2, "B": 4}, UNIT])
    axes = uneven.plot().axes[0]
    shares = [(t.get_text(), t.get_position()[1]) for t in axes.texts if "%" in t.get_text()]
    assert shares == [("75.0%", 0), ("50.0%", 1), ("75.0%", 2)]
    assert labels(uneven.plot())["idle/total"] == 1


def test_reasons_are_lettered_in_the_gaps_and_listed() -> None:
    drawn = timeline("gpipe", 2, 2)
    picture = drawn.plot(reasons=True)
    gaps = [(rank, gap) for rank in range(2) for gap in drawn.gaps(rank)]
    assert len(gaps) == 3
    for letter, (rank, gap) in zip("abc", gaps, strict=True):
        assert f"{letter}  rank {rank}, {gap.seconds:g} s: {gap.reason}" in words(picture)
        (text,) = [t for t in picture.axes[0].texts if t.get_text() == letter]
        assert text.get_position() == ((gap.start + gap.end) / 2, rank)


def test_reasons_of_one_rank() -> None:
    drawn = timeline("gpipe", 3, 3)
    listed = words(drawn.plot(reasons=1))
    assert listed.count("rank 1, ") == len(drawn.gaps(1))
    assert "  rank 0, " not in listed
    assert "  rank 0, " in words(drawn.plot(reasons=0))
    assert words(drawn.plot()) == drawn.headline()
    with pytest.raises(ValueError, match="no rank 3: this timeline has ranks 0 to 2"):
        drawn.plot(reasons=3)


def test_short_gaps_are_counted_not_lettered() -> None:
    drawn = timeline("gpipe", 3, 2, latency=0.001)
    short = [gap for rank in range(3) for gap in drawn.gaps(rank) if gap.seconds < 0.1]
    assert len(short) == 4
    listed = words(drawn.plot(reasons=True))
    assert "too short for a letter: 4 gaps, together 4 ms" in listed
    assert "\nf  rank" in listed
    assert "\ng  rank" not in listed
    busy = timeline("gpipe", 1, 2).plot(reasons=True)
    assert words(busy).endswith("no idle time")


def test_memory_strip_shows_what_each_rank_holds() -> None:
    drawn = timeline("1f1b", 3, 6)
    picture = drawn.plot(memory=True)
    lanes, strip = picture.axes
    assert strip.get_xlim() == lanes.get_xlim()
    assert strip.get_position().intervalx == pytest.approx(lanes.get_position().intervalx)
    assert labels(picture, 1) == Counter(["peak", "3", "2", "1", "micro-batches in flight"])
    for rank, line in enumerate(strip.get_lines()):
        peak = max(rank + 1 - line.get_ydata())
        assert peak == pytest.approx(LANE * (3 - rank) / 3)  # all ranks on one scale


def test_in_flight_counts_a_split_backward_until_its_weight_gradient() -> None:
    drawn = simulate(SPLIT, {"F": 1, "B": 3, "I": 1, "W": 2})
    # rank 1 runs 1F0 1-2, 1I0 2-3, 1F1 3-4, 1B1 4-7, 1W0 7-9
    assert drawn.in_flight(1) == [(0, 0), (1, 1), (3, 2), (7, 1), (9, 0)]


def test_comparison_draws_both_on_one_axis() -> None:
    both = timeline("naive", 4, 4).compare(timeline("gpipe", 2, 4, latency=0.1))
    picture = both.plot()
    first, second = picture.axes
    assert first.get_xlim() == second.get_xlim() == (0, both.first.makespan)
    assert first.get_position().intervalx == pytest.approx(second.get_position().intervalx)
    lines = words(picture).splitlines()
    assert lines[:2] == [both.first.headline(), both.second.headline()]
    assert lines[2] == both.describe().splitlines()[0]
    assert sum(map(len, filled(picture, 0).values())) == 32
    assert sum(map(len, filled(picture, 1).values())) == 16


def test_comparison_keeps_the_longer_second_step_inside() -> None:
    both = timeline("gpipe", 2, 2).compare(timeline("naive", 2, 2))
    assert [axes.get_xlim()[1] for axes in both.plot().axes] == [both.second.makespan] * 2
