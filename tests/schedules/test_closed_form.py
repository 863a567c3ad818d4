import pytest
from hypothesis import assume, given, settings, strategies as st

from d2lpart.schedules.closed_form import BUBBLE_RATE, DEFINITIONS, FORMS, Sizes, bubble_formula
from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.schedule import Schedule
from d2lpart.timelines.bubble_table import bubbles
from d2lpart.timelines.simulator import simulate

KNOWN = sorted(FORMS.keys() & SCHEDULES.keys())
CHUNKS = {"1f1b": [1], "zb-h1": [1], "zb-h2": [1], "zb-v": [2]}


@settings(max_examples=300)
@given(
    name=st.sampled_from(KNOWN),
    p=st.integers(1, 7),
    m=st.integers(1, 21),
    data=st.data(),
)
def test_even_stages_have_the_bubble_of_the_formula(name, p, m, data):
    """In the formula's range the simulation agrees, in each definition that it has."""
    v = data.draw(st.sampled_from(CHUNKS.get(name, [1, 2, 3])))
    f, i, w = (data.draw(st.integers(1, 9)) * 6 for _ in "FIW")
    seconds = {"forward": f, "input_gradient": i, "weight_gradient": w}
    sizes = Sizes(p, m, v, f, i, w)
    assume(FORMS[name].holds(sizes))
    expected = {
        definition: bubble_formula(name, p, m, definition=definition, chunks=v, **seconds)
        for definition in FORMS[name].definitions
    }
    schedule = build_schedule(name, p, m, chunks=v)
    timeline = simulate(schedule, {"F": f / v, "I": i / v, "W": w / v})
    table = bubbles(timeline)
    for definition, value in expected.items():
        assert table.value(definition, timeline) == pytest.approx(value, abs=1e-12)
        assert table.closed[definition] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "p", "m", "seconds"),
    [
        ("zb-h1", 4, 3, (1, 1, 1)),
        ("zb-h1", 4, 8, (1, 2, 2)),
        ("zb-h2", 4, 6, (1, 1, 1)),
        ("zb-h2", 4, 8, (1, 2, 2)),
        ("zb-v", 4, 6, (1, 1, 1)),
        ("zb-v", 4, 8, (2, 1, 1)),
        ("interleaved", 4, 6, (1, 1, 1)),
        ("gpipe", 4, 3, (1, 1, 1)),
    ],
)
def test_just_outside_its_range_a_formula_is_wrong(name, p, m, seconds):
    """So nothing is refused without a reason: here is a case beyond each bound."""
    v = 1 if name in ("zb-h1", "zb-h2") else 2
    sizes, form = Sizes(p, m, v, *seconds), FORMS[name]
    assert not form.holds(sizes)
    each = dict(zip("FIW", (s / v for s in seconds), strict=True))
    timeline = simulate(build_schedule(name, p, m, chunks=v), each)
    idle = timeline.longest_rank_span() - m * sum(seconds)
    assert idle != pytest.approx(form.seconds(sizes))
    assert form.holds(sizes._replace(m=8, F=2, I=2, W=2))


def test_figures_of_the_formulas():
    assert bubble_formula("naive", 4, 9) == pytest.approx(3 / 4)
    assert bubble_formula("gpipe", 4, 4) == pytest.approx(3 / 7)
    assert bubble_formula("1f1b", 4, 8, definition="idle/ideal") == pytest.approx(3 / 8)
    assert bubble_formula("interleaved", 4, 8, chunks=2) == pytest.approx(3 / 19)
    assert bubble_formula("zb-h1", 8, 24, definition=BUBBLE_RATE) == pytest.approx(7 / (72 + 7))
    assert bubble_formula("zb-h2", 8, 24, definition=BUBBLE_RATE) == 0
    assert bubble_formula("zb-v", 4, 8, chunks=2, definition=BUBBLE_RATE) == 0


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("mine", 2, 2), {}, "'mine' has no closed form: choose from naive"),
        (("1f1b", 2, 2), {"chunks": 2}, r"holds for v = 1, but here .*v=2"),
        (("gpipe", 4, 2), {"chunks": 2}, "holds for m ≥ p or v = 1"),
        (("interleaved", 4, 6), {"chunks": 2}, "holds for m a multiple of p"),
        (("zb-h1", 4, 8), {}, "zb-h1 has no closed form of 'idle/total'"),
        (("zb-h1", 4, 3), {"definition": BUBBLE_RATE}, "holds for m ≥ p"),
        (("zb-h2", 4, 6), {"definition": BUBBLE_RATE}, "holds for m ≥ 2p−1"),
        (("zb-v", 4, 8), {"definition": BUBBLE_RATE, "chunks": 2, "forward": 2}, "F = I = W"),
        (("naive", 0, 1), {}, "give p, m and v of at least 1"),
        (("naive", 2, 1), {"forward": -1}, "and seconds of 0 or more"),
    ],
)
def test_outside_its_range_a_formula_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        bubble_formula(*arguments, **options)


def test_nothing_that_takes_time_has_no_bubble():
    zero = {"forward": 0, "input_gradient": 0, "weight_gradient": 0}
    assert [bubble_formula("gpipe", 4, 2, definition=d, **zero) for d in DEFINITIONS] == [0, 0, 0]


# ---- the table


def test_formula_simulation_and_measurement_side_by_side():
    schedule = build_schedule("gpipe", 4, 8)
    simulated = simulate(schedule, {"F": 1, "B": 2})
    slower = [{"F": 1, "B": 2}, {"F": 2, "B": 4}, {"F": 1, "B": 2}, {"F": 1, "B": 2}]
    measured = simulate(schedule, slower, clock="virtual")
    rows = [line.split(" | ") for line in str(bubbles(simulated, measured)).splitlines()[:4]]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert cells[0] == ["", "closed form", "simulated", "measured (virtual)"]
    assert cells[1][:3] == ["idle/total", "27.27%", "27.27%"]
    assert cells[2][:3] == ["idle/ideal", "37.50%", "37.50%"]
    assert cells[3][:3] == [BUBBLE_RATE, "27.27%", "27.27%"]
    assert cells[1][3] == f"{measured.idle_fraction():.2%}"
    assert len({len(" | ".join(row)) for row in rows}) == 1


def test_where_there_is_no_formula_the_table_says_why():
    timeline = simulate(Schedule(["0F0 0B0"], [0]), {"F": 1, "B": 1})
    text = str(bubbles(timeline))
    assert "-: 'custom' has no closed form" in text
    assert set(bubbles(timeline).closed.values()) == {None}


def test_a_table_is_of_one_schedule():
    one, two = (simulate(build_schedule("naive", p, 2), {"F": 1, "B": 1}) for p in (1, 2))
    for wrong in ([], [one, two]):
        with pytest.raises(ValueError, match="bubbles compares timelines of one schedule"):
            bubbles(*wrong)


def test_a_rank_that_ends_early_shortens_the_longest_span():
    """Rank 1 starts when rank 0 has ended: the step takes 2 s, no rank is there longer than 1 s."""
    schedule = Schedule(["0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1"], [0, 1])
    timeline = simulate(schedule, {"F": 1, "B": 2})
    assert timeline.makespan == 9
    assert timeline.longest_rank_span() == 9
    late = simulate(schedule, lambda a: 0 if a.stage == 0 and a.kind == "B" else 1)
    assert late.makespan == 5
    assert late.longest_rank_span() == max(
        own[-1].end - own[0].start for own in map(late.of_rank, range(2))
    )
    assert late.bubble_rate() == pytest.approx(1 - 4 / late.longest_rank_span())
