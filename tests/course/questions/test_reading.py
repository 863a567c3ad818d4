"""How answers are read: what a learner would type is understood, and nothing else is guessed at."""

import math

import pytest
from hypothesis import given, strategies as st

from d2lpart.course.questions.reading import letters, number, one_of

OPTIONS = {"a": "about 1 s: they take turns", "b": "(n − 1)/n", "c": "Nowhere."}
TRUTH = {"true": "True", "false": "False"}


@pytest.mark.parametrize(
    "answer",
    ["b", "B", "b)", "(b)", "B.", " b. ", "[b]", "'b'", "option b", "Answer: B", "b) (n − 1)/n"],
)
def test_a_letter_is_read_in_any_dress(answer):
    assert one_of(answer, OPTIONS) == "b"


def test_an_option_may_be_given_in_its_own_words():
    assert one_of("nowhere", OPTIONS) == "c"
    assert one_of("a) About 1 s: they take turns", OPTIONS) == "a"
    assert one_of("about 1 s", OPTIONS) == "a"


@pytest.mark.parametrize(
    "answer", ["", " ", ")", "d", "ab", "a or b", "a) nowhere", None, 1, ["b"]]
)
def test_what_names_no_single_option_is_none(answer):
    assert one_of(answer, OPTIONS) is None


@pytest.mark.parametrize("answer", [True, "True", "true.", "T", "yes", "Yes."])
def test_true_has_its_names(answer):
    assert one_of(answer, TRUTH) == "true"


@pytest.mark.parametrize("answer", [False, "f", "No", "n", "FALSE"])
def test_false_has_its_names(answer):
    assert one_of(answer, TRUTH) == "false"


@pytest.mark.parametrize(
    ("answer", "value"),
    [("66 2/3", 200 / 3), ("66⅔", 200 / 3), ("2½", 2.5), ("½", 0.5), ("−½", -0.5), ("-2 1/2", -2.5),
     ("66 2/3 %", 2 / 3), ("1 024/3", 1024 / 3), ("2 / 3", 2 / 3), ("7/2", 3.5), ("5 3/0", None)],
)  # fmt: skip
def test_a_whole_number_may_have_a_fraction_behind_it(answer, value):
    found = number(answer)
    assert found is None if value is None else math.isclose(found, value)


def test_yes_is_no_letter():
    assert one_of("yes", OPTIONS) is None
    assert one_of(True, OPTIONS) is None


@pytest.mark.parametrize(
    "answer",
    ["ca", "c, a", "C A", "c) a)", "(c), (a)", "c and a", "c -> a", "c → a", "c > a", "c; a.",
     "c then a", ["c", "a"], ["c)", "a)"], ("C", "A"), "c & a", "c/a", "c_a"],
)  # fmt: skip
def test_letters_keep_their_order_and_lose_their_dress(answer):
    assert letters(answer, "abc") == ["c", "a"]


@pytest.mark.parametrize("answer", ["", ", ", "and", "d", "a, d", "a1", "all", None, 3, [], [0, 1]])
def test_letters_of_no_item_are_none(answer):
    assert letters(answer, "abc") is None


@pytest.mark.parametrize(
    ("answer", "value"),
    [("1e3", 1000), ("1E+3", 1000), ("1,000", 1000), ("1 000", 1000), ("1\u202f000", 1000),
     ("1'000", 1000), ("1_000", 1000), ("1,234,567.5", 1234567.5), ("1.5×10^3", 1500),
     ("1.5 * 10**3", 1500), ("−2", -2), ("–2", -2), ("-2", -2), ("+2", 2), ("12,5", 12.5),
     ("0,125", 0.125), (".5", 0.5), ("5.", 5), ("75.", 75), ("3/4", 0.75), ("½", 0.5),
     ("1,000/4", 250), ("~ 3", 3), ("about 3", 3), ("≈3", 3), ("= 3", 3), ("three", 3),
     ("Ten", 10), ("12 000", 12000), (7, 7), (0.5, 0.5), ("50 %", 0.5), ("2 x", 2),
     ("2 times", 2)],
)  # fmt: skip
def test_a_number_is_read_in_any_dress(answer, value):
    assert number(answer) == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer", "unit", "value"),
    [("75", "%", 75), ("75%", "%", 75), ("75 percent", "%", 75), ("75 per cent", "%", 75),
     ("3/4", "%", 75), ("150/2", "%", 75), ("1/2 %", "%", 0.5), ("0.75", "%", 0.75),
     ("6 messages", "messages", 6), ("1 message", "messages", 1), ("six messages", "messages", 6),
     ("88 gpus", "GPUs", 88), ("2 times", "times", 2), ("2x", "times", 2), ("0 ways", "ways", 0),
     ("none", "ways", 0),
     ("twice", "times", 2), ("7 barriers", "", 7), ("87 cards", "GPUs", 87), ("3 in all", "", 3),
     ("3 s", "s", 3), ("3 seconds", "s", 3), ("3 sec", "s", 3), ("30 ms", "s", 0.03),
     ("112 GB", "GB", 112), ("112gb", "GB", 112), ("0.112 TB", "GB", 112), ("112000 MB", "GB", 112),
     ("1 GiB", "GB", 2**30 / 1e9), ("102,400 bytes", "kB", 102.4), ("102.4 KB", "kB", 102.4),
     ("1 byte", "kB", 0.001), ("0.1 MB.", "kB", 100)],
)  # fmt: skip
def test_a_unit_is_taken_or_turned_into_the_one_asked_for(answer, unit, value):
    assert number(answer, unit) == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer", "unit"),
    [("many", ""), ("", ""), (None, ""), (True, ""), ("1/0", ""), ([75], ""), ("1.000,5", ""),
     ("1,2,3", ""), ("nan", ""), (math.nan, ""), (math.inf, ""), ("1e999", ""), (10**400, ""),
     ("75 MB", "%"), ("3 s", "GB"), ("3 GB", "s"), ("50 %", "GB"), ("3 GB", "messages"),
     ("3 s", ""), ("3 apples", "GB"),
     ("3 or more", ""), ("50 %", "ways"),
     ("3 or 4", ""), ("3 4/5 6 GB", "s"), ("-", ""), ("/", ""), ("%", "%"), ("GB", "GB")],
)  # fmt: skip
def test_what_is_no_number_of_the_unit_is_none(answer, unit):
    assert number(answer, unit) is None


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["", "%", "GB", "s"]))
def test_every_float_is_read_as_itself(value, unit):
    assert number(value, unit) == value
    assert number(f"{value!r} {unit}".strip(), unit) == value


@given(st.text())
def test_no_text_raises(text):
    for unit in ("", "%", "GB", "s", "GPUs"):
        assert number(text, unit) is None or math.isfinite(number(text, unit))
    assert one_of(text, OPTIONS) in (None, *OPTIONS)
    assert letters(text, "ab") is None or set(letters(text, "ab")) <= set("ab")
