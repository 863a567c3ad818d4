"""Curves: points with their spread, lines, and clear errors."""

from typing import Any

import pytest
from matplotlib.collections import LineCollection

from d2lpart.figures.plotting import Picture, curves

X = [1, 2, 4]
SERIES = {"measured": [0.1, 0.5, 0.7], "formula": [0.0, 0.5, 0.75], "other": [0.2, 0.3, 0.4]}


def drawn(**options: Any) -> Picture:
    given = {
        "xlabel": "ranks",
        "ylabel": "idle/total",
        "description": "idle\nover ranks",
        **options,
    }
    return curves(given.pop("x", X), given.pop("series", SERIES), **given)


def styles(picture: Picture) -> list[tuple[str, str, str]]:
    lines = picture.axes[0].get_lines()
    looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines]
    return [look for look in looks if look[1] != "_" and look[1] != "|"]


def test_series_are_lines_or_points_as_asked() -> None:
    looks = styles(drawn(markers=["measured"]))
    assert [marker != "None" for _, marker, _ in looks] == [True, False, False]
    assert [line != "None" for _, _, line in looks] == [False, True, True]
    data = [line.get_ydata().tolist() for line in drawn().axes[0].get_lines()]
    assert data == list(SERIES.values())


def test_series_differ_in_more_than_colour() -> None:
    seven = {str(n): [n, n, n] for n in range(7)}
    for markers in ((), tuple(seven)):
        looks = styles(drawn(series=seven, markers=markers))
        assert len({look[0] for look in looks}) == len(set(looks)) == 7
        assert len({look[1:] for look in looks[:4]}) == 4


def test_bounds_are_bars_from_the_lowest_to_the_highest() -> None:
    seen = [(0.05, 0.2), (0.5, 0.5), (0.6, 0.75)]
    axes = drawn(bounds={"measured": seen}).axes[0]
    (bars,) = [c for c in axes.collections if isinstance(c, LineCollection)]
    ends = [tuple(round(float(y), 9) for y in bar[:, 1]) for bar in bars.get_segments()]
    assert ends == seen
    assert styles(axes.figure)[0][1] == "o"


def test_labels_legend_title_and_description() -> None:
    picture = drawn(title="More ranks", bounds={"formula": [(0, 1)] * 3})
    axes = picture.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("ranks", "idle/total")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(SERIES)
    assert [text.get_text() for text in picture.texts] == ["More ranks"]
    assert picture.description == "idle\nover ranks"
    assert picture._repr_mimebundle_()["text/plain"] == "idle\nover ranks"


def test_axis_begins_at_zero_unless_values_are_below() -> None:
    assert drawn(series={"loss": [5.0, 4.0, 3.0]}).axes[0].get_ylim()[0] == 0
    assert drawn().axes[0].get_ylim()[0] == 0
    assert drawn(series={"change": [-1.0, 0.0, 1.0]}).axes[0].get_ylim()[0] < -1


def test_ticks_stand_at_few_whole_numbers() -> None:
    assert drawn().axes[0].get_xticks().tolist() == X
    many = drawn(x=range(100), series={"loss": range(100)})
    assert len(many.axes[0].get_xticks()) < 15


def test_gaps_in_a_series_are_allowed() -> None:
    assert len(drawn(series={"measured": [1.0, float("nan"), 2.0]}).axes[0].get_lines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"series": {}}, "no series: give at least one"),
        ({"series": {"a": [1, 2]}}, "'a' has 2 values for 3 values of x"),
        ({"bounds": {"measured": [(0, 1)]}}, "'measured' has 1 bounds for 3 values of x"),
        ({"bounds": {"b": [(0, 1)] * 3}}, "no series 'b': choose from measured, formula, other"),
        ({"markers": ["c"]}, "no series 'c': choose from"),
        (
            {"bounds": {"measured": [(0.2, 1)] * 3}},
            "'measured': 0.1 lies outside its bounds 0.2 to 1",
        ),
    ],
)
def test_errors_name_what_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drawn(**options)
