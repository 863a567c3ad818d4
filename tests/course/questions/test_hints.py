"""Hints, predictions, variants and what of them is written down."""

import random
from types import SimpleNamespace

import pytest

from d2lpart.course import catalog, hint, hints, predict, question
from d2lpart.course.progress.store import load
from d2lpart.course.questions.choices import NumberQuestion
from d2lpart.course.questions.hints import Hints, get_hint, hints_html, paragraphs
from d2lpart.course.questions.prediction import Guess, Prediction


def halves(rng: random.Random) -> NumberQuestion:
    n = rng.randint(2, 1000)
    return NumberQuestion("99.q1", f"Half of {n}?", n / 2, f"{n} / 2.")


QUESTION = NumberQuestion(
    "99.q1",
    "Half of 8?",
    4,
    "8 / 2.",
    hints=("Divide.", lambda: f"By {1 + 1}.", "8 by 2."),
    worked="Half of 6:\n    6 / 2 = 3",
)
BARE = NumberQuestion("99.q2", "One?", 1, "1.")
PREDICTION = Prediction(
    "99.p1", "How much is idle?", "%", 3, ideas=[(25, "That is busy.")], lesson="So it is."
)


@pytest.fixture(autouse=True)
def course(monkeypatch, tmp_path):
    """A course of one lesson, and a progress file of its own."""
    lesson = SimpleNamespace(
        QUESTIONS=[QUESTION, BARE],
        EXERCISES=[],
        PREDICTIONS=[PREDICTION],
        VARIANTS={"99.q1": halves},
    )
    monkeypatch.setattr(catalog, "LESSONS", (lesson,))
    monkeypatch.setenv("D2LPART_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.delenv("D2LPART_SEED", raising=False)


def test_each_call_gives_the_next_hint_and_the_last_one_stays():
    texts = [hint("99.q1").text for _ in range(5)]
    assert texts[:3] == ["Divide.", "By 2.", "8 by 2."]
    assert texts[3] == texts[4] == QUESTION.worked
    assert load()["99.q1"].hints_seen == 4


def test_a_hint_of_a_level_is_written_down():
    assert hint("99.q1", 2).text == "By 2."
    assert load()["99.q1"].hints_seen == 2
    assert 'hint("99.q1", 3)' in repr(hint("99.q1", 2))


@pytest.mark.parametrize("level", [0, 5, -1])
def test_there_is_no_other_level(level):
    with pytest.raises(ValueError, match=f"hints 1 to 4, not {level}"):
        get_hint(QUESTION, level)


def test_what_has_no_hints_says_so():
    with pytest.raises(ValueError, match=r"99\.q2 has no hints"):
        hint("99.q2")
    with pytest.raises(ValueError, match="no question or exercise '98'"):
        hint("98")
    assert hints_html(BARE) == ""
    assert repr(Hints(BARE)) == "99.q2 has no hints"


def test_folded_hints_lie_one_inside_the_other():
    page = hints("99.q1")._repr_html_()
    places = [page.index(text) for text in ("Divide.", "By 2.", "8 by 2.", "6 / 2 = 3")]
    assert places == sorted(places)
    assert page.startswith("<details>")
    assert page.endswith("</div></details>" * 4)
    assert page in QUESTION._repr_html_()


def test_code_in_a_worked_solution_is_escaped():
    assert paragraphs("So:\n    a < b\n    c\nand on") == "So:<pre>a &lt; b\nc</pre>and on"


def test_equal_seeds_give_equal_variants_and_others_differ():
    stems = {question("99.q1", seed=name).stem for name in ("anna", "ben", 1, 2, 3)}
    assert len(stems) == 5
    assert question("99.q1", seed="anna").stem == question("99.q1", seed="anna").stem
    assert question("99.q1") is QUESTION


def test_a_class_has_its_own_seed(monkeypatch):
    monkeypatch.setenv("D2LPART_SEED", "class 4b")
    assert question("99.q1").stem == question("99.q1", seed="class 4b").stem != QUESTION.stem
    assert question("99.q2") is BARE


def test_a_question_without_variants_says_so():
    with pytest.raises(ValueError, match=r"99\.q2 has no variants; those that have: 99\.q1"):
        question("99.q2", seed=1)


def test_answers_are_written_down():
    question("99.q1").check(3)
    question("99.q1").check("?")  # not an answer
    question("99.q1").check(4)
    entry = load()["99.q1"]
    assert (entry.tries, entry.tries_to_pass, entry.kind) == (2, 2, "right")


def test_a_guess_is_noted_and_answered():
    guess = predict("99.p1", 25)
    assert "Noted: 25 %" in repr(guess)
    assert load()["99.p1"].guess == 25
    text = repr(guess.against(75.25))
    assert text == "You said 25 %; it is 75.25 %, 50.25 points more. That is busy. So it is."
    assert load()["99.p1"].measured == 75.25
    assert load()["99.p1"].near is False


def test_a_near_guess_is_right_and_strict_mode_minds_none(monkeypatch):
    monkeypatch.setenv("D2LPART_STRICT", "1")
    assert predict("99.p1", 74).against(75).ok
    assert "1 points less" not in repr(predict("99.p1", 76).against(75))
    assert not predict("99.p1", 90).against(75)
    assert "15 points less" in repr(predict("99.p1", 90).against(75))


def test_no_guess_runs_on_and_nothing_is_written():
    guess = predict("99.p1")
    assert "in place of None" in repr(guess)
    assert repr(guess.against(75)) == "It is 75 %. You had noted no guess. So it is."
    assert load() == {}


def test_a_guess_may_be_text_and_a_part_is_noticed():
    assert Guess(PREDICTION, "75 %").against(75)
    assert Guess(PREDICTION, "3/4").against(75)
    assert "Noted: 0.75 % (a part of 0.75 would be 75 %)" in repr(Guess(PREDICTION, 0.75))
    assert "would be" not in repr(Guess(PREDICTION, 75))


@pytest.mark.parametrize("guess", ["much", float("nan"), float("inf"), True, [1]])
def test_a_guess_is_a_number(guess):
    with pytest.raises(ValueError, match=r"99\.p1: your guess is .*; write one number in %"):
        Guess(PREDICTION, guess)
