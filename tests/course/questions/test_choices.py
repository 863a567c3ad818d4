"""Questions: every sort of answer gets a sentence, and each question shows itself three ways."""

import math

import pytest

from d2lpart.common import display
from d2lpart.course.questions.choices import NumberQuestion, Option, Question, true_or_false
from d2lpart.course.questions.feedback import CheckFailed

CHOICE = Question(
    "99.q1",
    "Which part of `n` ranks is idle?",
    {
        "a": Option("1/n", lambda: f"{1 / 4:.0%} is what works."),
        "b": Option("(n − 1)/n", lambda: f"One works: {3 / 4:.0%} is idle."),
        "c": Option("n < 1", "0."),
    },
    answer="b",
)
TRUTH = true_or_false("99.q2", "All work.", answer=False, when_true="No: 1.", when_false="Only 1.")
NUMBER = NumberQuestion(
    "99.q3",
    "How much is idle?",
    answer=lambda: 75,
    explain=lambda: f"{3 / 4:.0%}.",
    unit="%",
    tolerance=0.5,
    misconceptions=[
        (0.5, "Nothing?"),
        (lambda: 25, lambda: f"{1 / 4:.0%} works."),
        (50, "Half of 2."),
    ],
    otherwise=lambda given: f"Off by {abs(given - 75):g}.",
)


@pytest.fixture(autouse=True)
def not_strict(monkeypatch):
    monkeypatch.delenv("D2LPART_STRICT", raising=False)


@pytest.mark.parametrize("answer", ["b", "B", " b ", "b\n", "b)", "(b)", "B."])
def test_the_right_letter_in_any_dress(answer):
    assert repr(CHOICE.check(answer)) == "Right. One works: 75% is idle."


def test_each_wrong_letter_gets_its_own_sentence():
    assert repr(CHOICE.check("a")) == "Not yet. 25% is what works."
    assert repr(CHOICE.check("c")) == "Not yet. 0."


@pytest.mark.parametrize("answer", ["e", "", "ab", None, 3, 1.5, ["b"], object(), ..., print])
def test_an_answer_that_is_none_of_the_letters_is_told_the_letters(answer):
    feedback = CHOICE.check(answer)
    assert repr(feedback) == "99.q1: answer with one of a, b, c"
    assert not feedback
    assert not feedback.understood


@pytest.mark.parametrize("answer", [False, "false", "False", "FALSE "])
def test_true_or_false_takes_the_values_and_their_names(answer):
    assert repr(TRUTH.check(answer)) == "Right. Only 1."
    assert repr(TRUTH.check(True)) == "Not yet. No: 1."
    assert repr(TRUTH.check("maybe")) == "99.q2: answer with one of true, false"


def test_a_choice_needs_two_options_and_one_right_one():
    one = {"a": Option("x", "1")}
    with pytest.raises(ValueError, match=r"99\.q9: 1 options; a choice needs two at least"):
        Question("99.q9", "?", one, answer="a")
    with pytest.raises(ValueError, match="the answer 'd' is none of the options a, b"):
        Question("99.q9", "?", one | {"b": Option("y", "2")}, answer="d")


@pytest.mark.parametrize("answer", [75, 75.0, 74.5, 75.5, "75", "75%", " 75.2 ", "150/2", "3/4"])
def test_a_number_within_the_tolerance_is_right(answer):
    assert repr(NUMBER.check(answer)) == "Right. 75%."


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (25, "25% works."),
        ("50 %", "Half of 2."),
        (0.75, "Give it in %: 0.75 is 75 %."),
        (0.25, "Give it in %: 0.25 is 25 %. 25% works."),
        (0.8, "Nothing?"),
        (-0.25, "-0.25 % is too small. Off by 75.25."),
        ("1/4", "25% works."),
        (74.4, "74.4 % is too small. Off by 0.6."),
        (75.6, "75.6 % is too large. Off by 0.6."),
        (-75, "-75 % is too small. Off by 150."),
    ],
)
def test_a_wrong_number_gets_the_sentence_of_its_idea(answer, text):
    assert repr(NUMBER.check(answer)) == f"Not yet. {text}"


@pytest.mark.parametrize(
    "answer", ["many", "", None, True, math.nan, math.inf, "1/0", [75], "75 MB", 10**400, ...]
)
def test_what_is_no_number_is_told_the_form(answer):
    feedback = NUMBER.check(answer)
    assert repr(feedback) == "99.q3: answer with one number in %, such as 12.5"
    assert not feedback.understood


def test_without_a_tolerance_one_percent_is_allowed():
    question = NumberQuestion("99.q4", "?", answer=200.0, explain="200.")
    assert question.check(198.01)
    assert question.check("202")
    assert not question.check(197.9)
    assert repr(question.check(210)) == "Not yet. 210 is too large."
    assert repr(question.check("x")) == "99.q4: answer with one number, such as 12.5"


def test_zero_can_be_the_answer():
    question = NumberQuestion("99.q5", "?", answer=0, explain="0.", otherwise="Count again.")
    assert question.check(0)
    assert repr(question.check(0.1)) == "Not yet. 0.1 is too large. Count again."


def test_strict_mode_raises_for_a_wrong_answer(monkeypatch):
    monkeypatch.setenv("D2LPART_STRICT", "1")
    assert CHOICE.check("b")
    with pytest.raises(CheckFailed, match="25% is what works"):
        CHOICE.check("a")
    assert not CHOICE.judge("a"), "judging alone never raises"


def test_as_text_a_question_lists_its_answers_and_says_how_to_answer():
    assert repr(CHOICE).splitlines() == [
        "99.q1  Which part of `n` ranks is idle?",
        "  a) 1/n",
        "  b) (n − 1)/n",
        "  c) n < 1",
        'Answer with question("99.q1").check("a")',
    ]
    assert repr(NUMBER).splitlines()[1:] == [
        "  (one number in %)",
        'Answer with question("99.q3").check(12.5)',
    ]
    assert "true) True" in repr(TRUTH)


def test_as_a_page_each_answer_unfolds_to_its_feedback():
    page = CHOICE._repr_html_()
    assert 'role="group" aria-label="Question 99.q1"' in page
    assert "Which part of <code>n</code> ranks" in page
    assert page.count("<details>") == 3
    assert "<summary>c) n &lt; 1</summary>" in page
    assert page.index("25% is what works") < page.index("One works: 75%")
    assert page.count("<b>Right.</b>") == 1
    assert "<summary>Show the answer</summary>" in NUMBER._repr_html_()
    assert "75 %. 75%." in NUMBER._repr_html_()


def test_without_a_kernel_the_bundle_holds_text_and_page():
    bundle = CHOICE._repr_mimebundle_()
    assert bundle == {"text/plain": repr(CHOICE), "text/html": CHOICE._repr_html_()}


def test_with_a_kernel_the_bundle_holds_the_widget_too(monkeypatch):
    monkeypatch.setattr(display, "live_kernel", lambda: True)
    monkeypatch.delenv("D2LPART_STATIC", raising=False)
    view = CHOICE._repr_mimebundle_()[display.VIEW]
    assert isinstance(view, dict)
    assert view["version_major"] == 2
    assert view["model_id"]
