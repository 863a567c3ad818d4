"""What all pictures have in common: legible, described, drawn without global state."""

import base64
import io
import re
import struct
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from d2lpart import Link, build_schedule, figures, simulate
from d2lpart.figures.page import Picture
from d2lpart.partitions.partitioning import Partition
from d2lpart.timelines.timeline import Timeline

UNIT = {"F": 1.0, "B": 2.0}
LONG_NOTE = "measured one at a time on 2 threads of a CPU; transfers modelled by bytes. " * 4


def timeline(
    name: str = "1f1b",
    ranks: int = 4,
    microbatches: int = 8,
    latency: float = 0.0,
    chunks: int = 1,
    seconds: float = 1.0,
    note: str = "",
) -> Timeline:
    durations = {kind: length * seconds for kind, length in UNIT.items()}
    schedule = build_schedule(name, ranks, microbatches, chunks=chunks)
    return simulate(schedule, durations, Link(latency), note=note)


HEAVY_HEAD = Partition([4, 5, 4, 1], [1] + [10] * 12 + [40])
PICTURES = {
    "1f1b": lambda: figures.plot(timeline()),
    "gpipe": lambda: figures.plot(timeline("gpipe"), memory=True, title="Fill, then drain"),
    "naive, every reason": lambda: figures.plot(timeline("naive", 4, 4), reasons=True),
    "link, all options": lambda: figures.plot(
        timeline("1f1b", 4, 4, 0.3, note=LONG_NOTE), memory=True, reasons=True, title="All of it"
    ),
    "milliseconds": lambda: figures.plot(timeline(seconds=0.001), reasons=0),
    "one rank": lambda: figures.plot(timeline("gpipe", 1, 3), memory=True, reasons=True),
    "two stages a rank": lambda: figures.plot(timeline("gpipe", 3, 4, 0.2, chunks=2), memory=True),
    "two stages, wide boxes": lambda: figures.plot(timeline("gpipe", 2, 2, chunks=2)),
    "16 ranks": lambda: figures.plot(timeline("1f1b", 16, 32), memory=True),
    "40 ranks": lambda: figures.plot(timeline("1f1b", 40, 4), memory=True),
    "narrow": lambda: figures.plot(timeline("1f1b", 4, 8, 0.3), width=6.5, reasons=True),
    "comparison": lambda: figures.plot(
        timeline("naive", 4, 4).compare(timeline("gpipe", 2, 4, 0.3))
    ),
    "comparison with notes": lambda: figures.plot(
        timeline(note=LONG_NOTE).compare(timeline("gpipe", 3, 4, chunks=2, note="short")), title="A"
    ),
    "partition": lambda: figures.plot(Partition([6, 6, 6, 6])),
    "heavy head": lambda: figures.plot(
        HEAVY_HEAD, names=["embedding", *map(str, range(12)), "head"], unit="ms", title="Heavy"
    ),
    "large costs": lambda: figures.plot(Partition([2, 1], [2e9, 1e9, 3.5e9 + 1]), unit="FLOP"),
    "free layers": lambda: figures.plot(Partition([1, 2], [0, 0, 0])),
    "one stage": lambda: figures.plot(Partition([3])),
    "16 stages": lambda: figures.plot(Partition([3] * 16, [0.1 * n for n in range(48)])),
    "curves": lambda: figures.curves(
        range(1, 9),
        {
            "measured": [(n - 1) / n for n in range(1, 9)],
            "(n−1)/n": [1 - 1 / n for n in range(1, 9)],
        },
        xlabel="ranks",
        ylabel="idle/total",
        description="idle over ranks",
        bounds={"measured": [(0.9 * (n - 1) / n, 1.0) for n in range(1, 9)]},
        title="More ranks, more idle time",
    ),
    "large numbers": lambda: figures.curves(
        [1, 2, 3],
        {"bytes": [-9_000_000, 0, 123_456_789]},
        xlabel="ranks",
        ylabel="bytes",
        description="bytes over ranks",
    ),
    "many curves": lambda: figures.curves(
        [1, 10, 100],
        {f"a series with a long name, number {n}": [n, n, n] for n in range(7)},
        xlabel="x",
        ylabel="y",
        description="seven lines",
        width=6.0,
    ),
}


def texts(picture: Picture) -> list[tuple[Text, Bbox]]:
    """Every text that can be seen, and where it lies."""
    renderer = FigureCanvasAgg(picture).get_renderer()
    picture.draw_without_rendering()
    outside = set()
    for axes in picture.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
            outside |= {label for tick in ticks for label in (tick.label1, tick.label2)}
    found = [t for t in picture.findobj(Text) if t.get_visible() and t.get_text()]
    return [(t, t.get_window_extent(renderer)) for t in found if t not in outside]


@pytest.mark.parametrize("name", PICTURES)
def test_texts_are_legible(name: str) -> None:
    picture = PICTURES[name]()
    seen = texts(picture)
    page = picture.bbox
    assert len(seen) > 3
    for text, box in seen:
        assert text.get_fontsize() >= 8, text
        assert contrast(text.get_color(), "white") >= 4.5, text
        assert box.x0 >= page.x0, f"{text} leaves the page"
        assert box.x1 <= page.x1, f"{text} leaves the page"
        assert box.y0 >= page.y0, f"{text} leaves the page"
        assert box.y1 <= page.y1, f"{text} leaves the page"
    for (one, a), (other, b) in combinations(seen, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or down <= 2, f"{one} lies on {other}"


@pytest.mark.parametrize("name", ["1f1b", "comparison", "partition", "curves"])
def test_picture_shows_itself_with_text_and_alt_text(name: str) -> None:
    picture = PICTURES[name]()
    bundle = picture._repr_mimebundle_()
    first = picture.description.splitlines()[0]
    assert bundle["text/plain"] == picture.description
    assert f'<img alt="{first}' in bundle["text/html"]
    assert f"<figcaption>{first}</figcaption>" in bundle["text/html"]
    data = re.search(r"base64,([^\"]+)", bundle["text/html"])
    assert data is not None
    assert base64.b64decode(data[1]).startswith(b"\x89PNG")


def test_a_picture_is_shown_and_saved_as_large_as_its_page(tmp_path: Path) -> None:
    inches = timeline().plot().get_size_inches()
    data = re.search(r"base64,([^\"]+)", timeline()._repr_mimebundle_()["text/html"])
    assert data is not None
    saved = timeline().save(tmp_path / "a.png").read_bytes()
    for png, dpi in ((base64.b64decode(data[1]), 110), (saved, 150)):
        pixels = struct.unpack(">II", png[16:24])
        assert pixels == pytest.approx(inches * dpi, abs=1)


def test_picture_is_a_figure_that_saves_to_any_format() -> None:
    for form, head in {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}.items():
        file = io.BytesIO()
        figures.plot(timeline()).savefig(file, format=form)
        assert file.getvalue().startswith(head)


def test_repr_is_the_first_line_of_the_description() -> None:
    assert repr(figures.plot(Partition([2, 2]))) == f"<Picture {Partition([2, 2]).describe()}>"


def test_values_draw_and_show_themselves() -> None:
    for value in (timeline(), timeline().compare(timeline("gpipe")), HEAVY_HEAD):
        picture = value.plot(width=8)
        assert picture.description == value.describe()
        assert picture.get_size_inches()[0] == 8
    bundle = timeline()._repr_mimebundle_()
    assert bundle["text/plain"] == timeline().describe()
    assert f"<figcaption>{timeline().headline()}</figcaption>" in bundle["text/html"]


def test_drawing_needs_no_pyplot_and_leaves_no_figure_open() -> None:
    script = """
import sys
from d2lpart import build_schedule, simulate
timeline = simulate(build_schedule("1f1b", 2, 2), {"F": 1, "B": 2})
assert "matplotlib" not in sys.modules
timeline._repr_mimebundle_()
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_markup_in_names_stays_text() -> None:
    picture = figures.plot(Partition([1, 1]), names=["$x", "y$"], title="costs $1 or $2")
    assert {"$x", "y$", "costs $1 or $2"} <= {text.get_text() for text, _ in texts(picture)}


def test_only_known_values_are_drawn() -> None:
    with pytest.raises(ValueError, match="no figure of a list: give a Timeline"):
        figures.plot([1, 2])
    with pytest.raises(TypeError, match="colour"):
        figures.plot(timeline(), colour="red")


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2: from 1 (none) to 21 (black on white)."""

    def luminance(colour: str) -> float:
        linear = [
            c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
