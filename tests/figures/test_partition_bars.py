"""The figure of a partition: each layer as long as it costs, the slowest stage marked in words."""

from collections import Counter

import pytest
from matplotlib.colors import to_hex

from d2lpart.common.display import VERMILLION
from d2lpart.figures.page import Picture
from d2lpart.figures.partition_bars import TINTS
from d2lpart.partitions.partitioning import Partition, PartitionError

COSTS = [4, 4, 4, 4] + [1] * 8


def cells(picture: Picture) -> list[str]:
    """What stands beside the bars: head, a cell for each stage, the name of the scale."""
    (axes,) = picture.axes
    column = [t for t in axes.texts if t.get_transform() == axes.get_yaxis_transform()]
    return [text.get_text() for text in sorted(column, key=lambda text: text.get_position()[1])]


def bars(picture: Picture) -> list[tuple[int, float, float]]:
    """The boxes of the layers in order: stage, left and right."""
    found = []
    for collection in picture.axes[0].collections:
        if collection.get_zorder() == 2:
            assert to_hex(collection.get_facecolor()[0]) in TINTS
            (box,) = (path.vertices for path in collection.get_paths())
            left, right = box[:, 0].min(), box[:, 0].max()
            found.append((round(box[:, 1].mean()), float(left), float(right)))
    return found


def framed(picture: Picture) -> list[int]:
    """The stages with a frame."""
    frames = [line for line in picture.axes[0].get_lines() if line.get_color() == VERMILLION]
    return [round(sum(line.get_ydata()[1:3]) / 2) for line in frames]


def test_layers_are_as_long_as_they_cost() -> None:
    assert bars(Partition([2, 1, 3], [1, 2, 3, 0.5, 0, 1]).plot()) == [
        (0, 0, 1), (0, 1, 3), (1, 0, 3), (2, 0, 0.5), (2, 0.5, 0.5), (2, 0.5, 1.5)
    ]  # fmt: skip


def test_layers_are_equally_long_without_costs() -> None:
    picture = Partition([2, 1]).plot()
    assert bars(picture) == [(0, 0, 1), (0, 1, 2), (1, 0, 1)]
    assert cells(picture) == ["layers", "2  most layers", "1", "layers"]


def test_loads_and_bottleneck_are_written_beside_the_bars() -> None:
    picture = Partition([4, 4, 4], COSTS).plot(unit="ms")
    assert cells(picture) == ["load", "16  bottleneck", "4", "4", "cost in ms"]
    assert framed(picture) == [0]
    assert Counter(t.get_text() for t in picture.axes[0].texts)["mean 8"] == 1
    (mean,) = [line for line in picture.axes[0].get_lines() if line.get_color() != VERMILLION]
    assert set(mean.get_xdata()) == {8}
    assert mean.get_linestyle() != "-"


def test_every_stage_with_the_largest_load_is_marked() -> None:
    picture = Partition([1, 2, 1], [3, 1, 2, 1]).plot()
    assert cells(picture)[1:4] == ["3  bottleneck", "3  bottleneck", "1"]
    assert framed(picture) == [0, 1]


@pytest.mark.parametrize("costs", [None, [1, 1, 1, 1], [0.1, 0.2, 0.3, 0.0], [0, 0, 0, 0]])
def test_equal_loads_have_no_bottleneck(costs: list[float] | None) -> None:
    picture = Partition([2, 2], costs).plot()
    assert framed(picture) == []
    assert not any("  " in cell for cell in cells(picture))


def test_costs_given_to_the_figure_replace_its_own() -> None:
    picture = Partition([4, 4, 4]).plot(costs=COSTS)
    assert picture.description == Partition([4, 4, 4], COSTS).describe()
    assert cells(picture)[1] == "16  bottleneck"
    with pytest.raises(PartitionError, match="2 costs for 3 layers"):
        Partition([1, 2]).plot(costs=[1, 2])


def test_names_stand_in_boxes_that_have_room() -> None:
    partition = Partition([2, 1], [1, 99, 100])
    found = {
        text.get_text()
        for text in partition.plot(names=["embedding", "block", "head"]).axes[0].texts
    }
    assert {"block", "head"} <= found
    assert "embedding" not in found
    assert {"1", "2"} <= {text.get_text() for text in partition.plot().axes[0].texts}
    with pytest.raises(ValueError, match="2 names for 3 layers: give each layer one name"):
        partition.plot(names=["a", "b"])


def test_stages_go_from_the_top_and_the_headline_is_the_descriptions() -> None:
    partition = Partition([3, 2, 2], [1] * 7)
    picture = partition.plot(title="Three stages")
    axes = picture.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["stage 0", "stage 1", "stage 2"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    lines = partition.describe().splitlines()
    assert [text.get_text() for text in picture.texts] == ["Three stages", lines[0], lines[-1]]
    assert picture.description == partition.describe()
