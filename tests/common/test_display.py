import base64
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, strategies as st

from d2lpart.common import display
from d2lpart.common.display import Drawable, set_painter, staircase


@pytest.fixture
def painter(monkeypatch):
    """A painter that draws nothing and notes what it was asked for."""
    monkeypatch.setattr(display, "_painters", [])
    asked = []

    class Figure:
        def savefig(self, file, **options):
            file.write(b"a picture")

    def paint(value, **options):
        asked.append((value, options))
        return Figure()

    set_painter(paint)
    return asked


class Note(Drawable):
    def __init__(self, text):
        self.text = text

    def describe(self):
        return self.text


# ---- figures


def test_a_value_prints_as_its_description():
    assert str(Note("two lines\nof text")) == "two lines\nof text"


def test_a_value_is_painted_with_the_options_given(painter):
    note = Note("text")
    note.plot(width=3)
    assert painter == [(note, {"width": 3})]


def test_the_last_painter_paints(painter):
    set_painter(lambda value, **options: "another figure")
    assert Note("text").plot() == "another figure"
    assert painter == []


def test_without_a_painter_the_way_out_is_named(monkeypatch):
    monkeypatch.setattr(display, "_painters", [])
    with pytest.raises(RuntimeError, match="import the package d2lpart"):
        Note("text").plot()


def test_a_notebook_gets_text_and_a_picture_that_carries_it(painter):
    text = 'idle 42.9% <of "all">\nrank 0 |F0  B0| & more'
    bundle = Note(text)._repr_mimebundle_()
    assert bundle["text/plain"] == text
    tags = {}

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags[tag] = dict(attributes)

        def handle_data(self, data):
            tags["text"] = tags.get("text", "") + data

    Reader().feed(bundle["text/html"])
    assert tags["img"]["alt"] == text
    assert tags["text"] == 'idle 42.9% <of "all">'
    kind, data = tags["img"]["src"].split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == b"a picture"


# ---- the staircase


def test_boxes_stand_where_their_time_is():
    lanes = [[("F0", 0, 1), ("F1", 1, 2), ("B0", 4, 6)], [("F0", 1, 2), ("B0", 2, 4)]]
    assert staircase(lanes, 0, 6) == ["F0F1    B0--", "  F0B0--    "]


def test_a_lane_may_be_empty():
    assert staircase([[("F0", 0, 1)], []], 0, 1) == ["F0", "  "]
    assert staircase([[], []], 0, 1) == ["", ""]


def test_equal_boxes_are_equally_wide():
    """Halves round one way: with Python's round, a box of 3 columns has 2 or 4 in places."""
    lanes = [[("F10", 2.5 * k, 2.5 * k + 1) for k in range(8)]]
    (line,) = staircase(lanes, 0, 20)
    assert re.findall(r"\S+", line) == ["F10"] * 8


def test_boxes_between_the_columns_are_never_cut():
    lanes = [[("F0", 0, 1), ("B0", 1, 2.7), ("F1", 2.7, 3.7), ("B1", 3.7, 5.4)]]
    assert staircase(lanes, 0, 5.4) == ["F0B0-F1B1--"]


def test_a_letter_alone_never_stands_before_a_number():
    """F and 1B0 side by side would read F1, another action."""
    lane = [("0F0-", 0, 1), ("1B0-", 1, 9), ("0B0-", 9, 17), ("1F0-", 17, 19), ("1W0-", 19, 28)]
    (line,) = staircase([lane], 0, 28, columns=28)
    assert line == "-1B0-----0B0-----F-1W0------"


def test_where_few_labels_fit_no_box_has_one():
    lane = [(f"F{k}", k, k + 1) for k in range(10)]
    assert staircase([lane], 0, 10, columns=20) == ["F0F1F2F3F4F5F6F7F8F9"]
    assert staircase([lane], 0, 10, columns=19) == ["FFFFFFFFFF"]
    assert staircase([lane], 0, 10, columns=5) == ["FFFFF"]


def test_a_column_shows_what_takes_most_of_it():
    lane = [("F0", 0, 6), ("B0", 6, 10), ("F1", 10, 12), ("B1", 15, 22), ("F2", 29, 30)]
    assert staircase([lane], 0, 30, columns=3) == ["FB "]
    assert staircase([[("F0", 0, 5), ("B0", 25, 30), *[("W0", 20, 20)] * 9]], 0, 30, columns=3) == [
        "F B"
    ]


def test_one_outlier_does_not_take_the_labels_from_the_rest():
    lane = [("F0", 0, 10), ("F1", 10, 10.001), ("B0", 11, 30), ("B1", 30, 50)]
    (line,) = staircase([lane], 0, 50, columns=50)
    assert line == "F0-------- B0-----------------B1" + "-" * 18


@given(
    gaps=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=30),
    columns=st.integers(1, 200),
)
def test_all_lines_are_equally_long_and_not_too_long(gaps, columns):
    lanes, now = [[], []], 0.0
    for number, (pause, length) in enumerate(gaps):
        start = now + pause
        now = start + length
        lanes[number % 2].append((f"F{number}", start, now))
    lines = staircase(lanes, 0, now, columns)
    assert len(lines) == 2
    assert len(lines[0]) == len(lines[1]) <= columns
    assert set("".join(lines)) <= set("F0123456789- ")
    for line, lane in zip(lines, lanes, strict=True):
        own = iter(label for label, _, _ in lane)
        assert all(label in own for label in re.findall(r"F\d+", line))
