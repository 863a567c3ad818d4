"""Several of several, an order, a placement: what each accepts, explains and refuses."""

from itertools import permutations, product

import ipywidgets
import pytest

from d2lpart import check_placement
from d2lpart.course.questions import widget
from d2lpart.course.questions.arrangements import Ordering, Placing
from d2lpart.course.questions.choices import Option, Several

THREE_HINTS = ("Look.", "Look again.", "Look here.")
SEVERAL = Several(
    "99.q1",
    "Which cross a cut?",
    {
        "a": Option("activations", "They do."),
        "b": Option("gradients", "They do, too."),
        "c": Option("weights", "They stay."),
    },
    answer="ab",
    hints=THREE_HINTS,
    worked="Of two stages:\n    0F0 -> 1F0",
)
ORDER = Ordering(
    "99.q2",
    "In which order?",
    {"a": "1F0", "b": "0B0", "c": "0F0", "d": "1B0", "e": "read the clock"},
    answer="cadbe",
    explain="There and back.",
    before=[("c", "a"), ("a", "d"), ("d", "b")],
    because={("d", "b"): "The loss is behind stage 1."},
)
PLACE = Placing(
    "99.q3",
    "4 layers on 2 devices.",
    4,
    2,
    judge_placement=lambda p: None if (v := check_placement(p, 2)).ok else v.reason,
    answer=(0, 0, 1, 1),
    explain="One crossing.",
)


@pytest.mark.parametrize("answer", ["ab", "b a", "A,B", ["a", "b"], {"b", "a"}, ("a", "b", "a")])
def test_several_takes_every_form_of_the_right_answer(answer):
    assert SEVERAL.check(answer).ok


@pytest.mark.parametrize("picked", [set(c) for c in product("abc", repeat=2)] + [set("abc")])
def test_several_explains_each_wrong_pick_and_counts_what_is_missing(picked):
    reply = SEVERAL.judge(picked)
    assert reply.ok == (picked == {"a", "b"})
    if not reply.ok:
        assert ("c) They stay." in reply.text) == ("c" in picked)
        missing = len({"a", "b"} - picked)
        words = {0: "", 1: "One more is", 2: "2 more are"}[missing]
        assert words in reply.text
        assert "to be found" in reply.text or not missing
        assert "They do." not in reply.text  # it does not give away what is right


@pytest.mark.parametrize("answer", ["", "abd", None, 3, [], [None], "e", b"ab"])
def test_several_asks_for_the_form_of_an_answer(answer):
    reply = SEVERAL.check(answer)
    assert not reply.understood
    assert "the letters of all that are right, of a, b, c" in reply.text


def test_an_order_is_free_where_no_rule_stands():
    rules = [("c", "a"), ("a", "d"), ("d", "b")]
    for order in permutations("abcde"):
        legal = all(order.index(x) < order.index(y) for x, y in rules)
        assert ORDER.judge(order).ok == legal == ORDER.judge(" > ".join(order)).ok


def test_the_most_telling_pair_of_an_order_is_explained():
    reply = ORDER.check("bdcae")
    assert "0B0 stands before d) 1B0. The loss is behind stage 1." in reply.text
    assert ORDER.check("acdbe").text == "a) 1F0 stands before c) 0F0."


def test_an_order_without_rules_has_one_right_answer():
    one = Ordering("99.q4", "?", {"a": "x", "b": "y", "c": "z"}, answer="bca", explain="So.")
    assert [order for order in permutations("abc") if one.judge(order).ok] == [("b", "c", "a")]


@pytest.mark.parametrize("answer", ["abc", "aabcd", 7, None, [1, 2, 3, 4, 5]])
def test_an_order_wants_each_letter_once(answer):
    assert "all of a, b, c, d, e, each once" in ORDER.check(answer).text


@pytest.mark.parametrize(
    "answer",
    [
        "0f0 1F0, 1B0",
        "0F0 -> 1F0 -> 1B0",
        "0F0→1F0→1B0",
        " 0F0 > 1F0 > 1B0 ",
        ["0F0", "1F0", "1B0"],
    ],
)
def test_an_order_may_name_the_events_themselves(answer):
    three = Ordering("99.q5", "?", {"a": "1B0", "b": "0F0", "c": "1F0"}, answer="bca", explain="")
    assert three.judge(answer).ok
    backwards = answer[::-1] if isinstance(answer, list) else "1B0 1F0 0F0"
    assert three.judge(backwards).understood
    assert not three.judge(backwards).ok


@pytest.mark.parametrize("answer", ["0F0 1F0", "0F0 1F0 2B0", "0F0 0F0 1F0", ["0F0", None], [""]])
def test_an_order_of_other_events_is_no_answer(answer):
    three = Ordering("99.q5", "?", {"a": "1B0", "b": "0F0", "c": "1F0"}, answer="bca", explain="")
    assert not three.judge(answer).understood


def test_the_static_page_shows_the_events_that_are_to_be_put_in_order():
    page, _, folded = ORDER._repr_html_().partition("<details>")
    assert all(f"{key}) {text}" in page for key, text in ORDER.items.items())
    assert "Show a right order" in folded
    assert PLACE.given() == SEVERAL.given() == []  # what they give stands in stem and folds


def test_every_placement_is_judged_by_the_package():
    for placement in product(range(2), repeat=4):
        assert PLACE.judge(placement).ok == check_placement(placement, 2).ok
    assert check_placement((0, 1, 0, 1), 2).reason in PLACE.check("0 1 0 1").text


@pytest.mark.parametrize(
    "answer", ["0 0 1 1", "0011", " 0011 ", "0,0,1,1", [0, 0, 1, 1], "[0,0]+[1,1]"]
)
def test_a_placement_is_read_with_separators_and_without(answer):
    assert PLACE.check(answer).ok


def test_digits_alone_are_no_placement_where_a_device_may_have_two():
    def judge(placement):
        return None

    wide = Placing("99.q6", "?", 2, 11, judge_placement=judge, answer=(0, 10), explain="Yes.")
    assert wide.check("0 10").ok
    assert not wide.check("01").understood


@pytest.mark.parametrize(
    "answer",
    ["001", "00111", "0012", "0 0 1", "0 0 1 2", "0 0 -1 1", None, 5, ["x"] * 4, "0 0 1 1 1"],
)
def test_a_placement_has_a_device_that_is_there_for_each_layer(answer):
    assert "4 device numbers, one for each layer, each from 0 to 1" in PLACE.check(answer).text


@pytest.mark.parametrize("question", [SEVERAL, ORDER, PLACE], ids=lambda q: type(q).__name__)
def test_the_example_in_the_text_is_readable_and_not_right(question):
    reply = question.judge(eval(question.example()))
    assert reply.understood
    assert question is SEVERAL or not reply.ok
    assert question.how in repr(question)
    assert question.stem in question._repr_html_()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Several("x", "?", {"a": Option("", "")}, "a"), "1 options"),
        (lambda: Several("x", "?", {"a": Option("", ""), "bb": Option("", "")}, "a"), "single"),
        (lambda: Several("x", "?", {"a": Option("", ""), "b": Option("", "")}, ""), "no choice"),
        (lambda: Several("x", "?", {"a": Option("", ""), "b": Option("", "")}, "c"), "no choice"),
        (lambda: Ordering("x", "?", {"a": ""}, "a", ""), "two at least"),
        (lambda: Ordering("x", "?", {"a": "", "b": ""}, "a", ""), "does not order"),
        (lambda: Ordering("x", "?", {"a": "", "b": ""}, "ab", "", [("b", "a")]), "its own rule"),
        (
            lambda: Ordering("x", "?", {"a": "", "b": ""}, "ab", "", because={("a", "z"): ""}),
            "no items",
        ),
        (lambda: Placing("x", "?", 2, 2, lambda p: "no", (0, 1), ""), "not right by its own rule"),
        (lambda: Placing("x", "?", 2, 2, lambda p: None, (0, 2), ""), "not right by its own rule"),
        (lambda: Placing("x", "?", 1, 1, lambda p: None, (0,), "", hints=("a",)), "1 hints"),
        (lambda: Placing("x", "?", 1, 1, lambda p: None, (0,), "", worked="a"), "without hints"),
    ],
)
def test_a_question_that_cannot_be_right_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def parts(box, kind):
    found = [box] if isinstance(box, kind) else []
    return found + [part for child in getattr(box, "children", ()) for part in parts(child, kind)]


def click(box, description):
    next(b for b in parts(box, ipywidgets.Button) if b.description == description).click()


def feedback(box):
    return parts(box, ipywidgets.HTML)[-1].value


def test_ticking_boxes():
    box = widget.build(SEVERAL)
    click(box, "Check")
    assert "answer with the letters" in feedback(box)
    for tick in parts(box, ipywidgets.Checkbox)[:2]:
        tick.value = True
    click(box, "Check")
    assert "Right." in feedback(box)


def test_putting_events_in_order():
    box = widget.build(ORDER)
    for key in "bcade":
        click(box, key)
    click(box, "Check")
    assert "Not yet." in feedback(box)
    click(box, "Start again")
    for key in "ecadb":
        click(box, key)
    click(box, "Check")
    assert "Right." in feedback(box)


def test_choosing_devices():
    box = widget.build(PLACE)
    choosers = parts(box, ipywidgets.Dropdown)
    assert [chooser.description for chooser in choosers] == [f"layer {i}" for i in range(4)]
    click(box, "Check")
    assert "Not yet." in feedback(box)
    for chooser in choosers[2:]:
        chooser.value = 1
    click(box, "Check")
    assert "Right." in feedback(box)


def test_hints_come_one_by_one_and_end():
    box = widget.build(SEVERAL)
    for name, text in [("Hint 1", "Look."), ("Hint 2", "again"), ("Hint 3", "here")]:
        assert not any(text in part.value for part in parts(box, ipywidgets.HTML))
        click(box, name)
        assert any(text in part.value for part in parts(box, ipywidgets.HTML))
    click(box, "A worked example")
    assert any("<pre>0F0 -&gt; 1F0</pre>" in part.value for part in parts(box, ipywidgets.HTML))
    assert parts(box, ipywidgets.Button)[-1].disabled
