"""Variants of the number questions: well-posed for any seed, and other ones for other seeds."""

import re

import pytest

from d2lpart.course import catalog, hint, question
from d2lpart.course.questions.choices import NumberQuestion
from d2lpart.course.questions.hints import get_hint

EACH = pytest.mark.parametrize("key", sorted(catalog.variants()))


@EACH
def test_a_variant_is_well_posed(key):
    stems = set()
    for seed in range(50):
        drawn = question(key, seed=seed)
        assert isinstance(drawn, NumberQuestion)
        assert drawn.id == key
        right = drawn.judge(drawn.value())
        assert right.ok
        texts = {right.text}
        for wrong, _ in drawn.misconceptions:
            reply = drawn.judge(wrong() if callable(wrong) else wrong)
            assert not reply.ok, (drawn.stem, wrong)
            assert re.search(r"\d", reply.text), reply.text
            texts.add(reply.text)
        assert len(texts) == 1 + len(drawn.misconceptions), (drawn.stem, texts)
        stems.add(drawn.stem)
    assert len(stems) >= 3


@EACH
def test_equal_seeds_draw_equal_questions(key):
    for seed in (3, "ada"):
        one, other = question(key, seed=seed), question(key, seed=seed)
        assert (one.stem, one.value()) == (other.stem, other.value())


@EACH
def test_the_printed_question_tells_its_ideas_apart(key):
    assert question(key).tells_apart


@EACH
def test_hints_serve_every_variant(key):
    """They have no number that is in the printed question alone."""
    printed = question(key)
    numbers = set(re.findall(r"\d+", printed.stem)) - {"0", "1", "2"}
    for level in (1, 2, 3):
        text = get_hint(printed, level).text
        assert not numbers & set(re.findall(r"\d+", text)), text
        assert get_hint(question(key, seed=1), level).text == text
    assert question(key, seed=1).worked == ""
    assert hint(key, 4).text


def test_a_variant_says_how_it_is_answered_without_a_widget():
    """Else the answer would be held against the question with the printed numbers."""
    drawn = question("05.q9", seed="ada")
    call = drawn.how.removesuffix(f".check({drawn.example()})")
    assert call == "question(\"05.q9\", seed='ada')"
    assert eval(call).stem == drawn.stem
    assert call in repr(drawn)
    assert "seed" not in question("05.q9").how


def test_the_seed_of_a_class_is_in_no_answer(monkeypatch):
    monkeypatch.setenv("D2LPART_SEED", "class-2026")
    assert "seed" not in question("05.q9").how


def test_a_class_has_a_seed_of_its_own(monkeypatch):
    key = "05.q9"
    monkeypatch.setenv("D2LPART_SEED", "class-2026")
    assert question(key).stem == question(key, seed="class-2026").stem
    monkeypatch.setenv("D2LPART_SEED", "")
    assert question(key).stem != question(key, seed="class-2026").stem


def test_a_question_without_variants_says_which_have_some():
    with pytest.raises(ValueError, match=r"05\.q1 has no variants; those that have: 00\.q1"):
        question("05.q1", seed=3)
