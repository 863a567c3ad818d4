"""Every question and exercise of the course: it explains itself, and tells wrong ideas apart."""

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from d2lpart.course import catalog, check, exercise, question
from d2lpart.course.checks import guard
from d2lpart.course.checks.checker import judge
from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.progress.store import load
from d2lpart.course.questions.choices import BaseQuestion, NumberQuestion, Option, Question, Several
from d2lpart.course.questions.feedback import CheckFailed
from d2lpart.course.questions.hints import levels

QUESTIONS = [pytest.param(item, id=item.id) for item in catalog.questions()]
EXERCISES = [pytest.param(item, id=item.id) for item in catalog.exercises()]
MISCONCEPTIONS = [
    pytest.param(item, index, id=f"{item.id}-{wrong.__name__}")
    for item in catalog.exercises()
    for index, (wrong, _) in enumerate(item.misconceptions)
]


def number(lesson) -> str:
    return lesson.__name__.removeprefix("d2lpart.course.lessons.lesson_")


@pytest.mark.parametrize("lesson", catalog.LESSONS, ids=number)
def test_ids_begin_with_the_number_of_their_lesson_and_are_unique(lesson):
    for item in lesson.QUESTIONS:
        assert re.fullmatch(rf"{number(lesson)}\.q\d+", item.id)
    for item in getattr(lesson, "EXERCISES", ()):
        assert re.fullmatch(rf"{number(lesson)}\.\d+", item.id)
    every = Counter(item.id for item in [*lesson.QUESTIONS, *getattr(lesson, "EXERCISES", ())])
    assert every == Counter(set(every))


@pytest.mark.parametrize("item", QUESTIONS)
def test_each_answer_is_explained_with_a_number_and_differs_from_the_others(item: BaseQuestion):
    if isinstance(item, NumberQuestion):
        assert item.check(item.value()).ok
        replies = [item.check(item.value())]
        for wrong, _ in item.misconceptions:
            replies.append(item.check(wrong() if callable(wrong) else wrong))
    elif isinstance(item, Question):
        replies = [item.check(key) for key in item.options]
        assert len({option.text for option in item.options.values()}) == len(item.options)
    else:
        replies = [reply for _, reply in item.folded()]
        if isinstance(item, Several):
            assert {reply.ok for reply in replies} == {True, False}
        assert all(re.search(r"\d", reply.text) for reply in replies), item.folded()
        return
    assert [reply.ok for reply in replies].count(True) == 1
    assert all(reply.understood for reply in replies)
    assert len({reply.text for reply in replies}) == len(replies)
    assert all(re.search(r"\d", reply.text) for reply in replies), [r.text for r in replies]


@pytest.mark.parametrize("item", QUESTIONS)
def test_each_question_shows_itself_as_text_and_as_a_page(item: BaseQuestion):
    assert item.id in repr(item)
    assert item.stem in repr(item)
    assert len(item.folded()) > 0
    assert item._repr_html_().count("<details>") == len(item.folded()) + levels(item)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("item", EXERCISES)
def test_the_reference_passes(item: Exercise, seed: int):
    result = judge(item, item.reference, seed)
    assert result.ok, result
    says = item.otherwise or item.examine or item.judge  # the last two answer with a sentence
    assert says, "a wrong answer without a known idea gets no sentence"


@pytest.mark.parametrize(("item", "index"), MISCONCEPTIONS)
def test_each_misconception_gets_its_own_sentence(item: Exercise, index: int):
    wrong, _ = item.misconceptions[index]
    result = judge(item, wrong)
    assert result.kind == "misconception", result
    alone = judge(replace(item, misconceptions=[item.misconceptions[index]]), wrong)
    assert result.sentence == alone.sentence, "an idea that stands before it has the same outputs"
    assert "None" not in result.sentence


@pytest.mark.parametrize("item", EXERCISES)
def test_an_empty_answer_and_a_stub_fail(item: Exercise):
    def stub(*args):
        raise NotImplementedError

    assert not judge(item, lambda *args: None).ok
    assert judge(item, stub).kind == "missing"


def identity(n):
    return n


SAMPLE_QUESTION = Question("99.q1", "?", {"a": Option("yes", "1"), "b": Option("no", "0")}, "a")
SAMPLE_EXERCISE = Exercise("99.1", "identity", identity, cases=lambda rng: [(1,), (2,)])


@pytest.fixture
def sample(monkeypatch):
    class Lesson:
        QUESTIONS = (SAMPLE_QUESTION,)
        EXERCISES = (SAMPLE_EXERCISE,)

    monkeypatch.setattr(catalog, "LESSONS", (Lesson,))
    monkeypatch.delenv("D2LPART_STRICT", raising=False)


def test_found_by_id(sample):
    assert question("99.q1") is SAMPLE_QUESTION
    assert exercise("99.1") is SAMPLE_EXERCISE
    assert check("99.1", identity).ok
    assert not check("99.1", lambda n: n + 1).ok


def test_an_unknown_id_names_those_there_are(sample):
    with pytest.raises(ValueError, match=r"no exercise '99.7'; those there are: 99\.1"):
        check("99.7", identity)
    with pytest.raises(ValueError, match=r"no question '5'; those there are: 99\.q1"):
        question("5")


def test_strict_mode_raises_the_verdict(sample, monkeypatch):
    monkeypatch.setenv("D2LPART_STRICT", "1")
    assert check("99.1", identity).ok
    with pytest.raises(CheckFailed, match=r"99\.1 Not yet\.\n  call      identity\(1\)") as caught:
        check("99.1", lambda n: n + 1)
    assert caught.value.check_id == "99.1"


def test_the_seed_draws_other_cases(monkeypatch):
    class Lesson:
        QUESTIONS = ()
        EXERCISES = (Exercise("99.2", "t", identity, cases=lambda rng: [(rng.randint(0, 10**9),)]),)

    monkeypatch.setattr(catalog, "LESSONS", (Lesson,))
    calls = [check("99.2", lambda n: n + 1, seed=seed).call for seed in (0, 0, 1)]
    assert calls[0] == calls[1] != calls[2]


def test_a_check_writes_down_what_was_tried(sample, monkeypatch, tmp_path):
    monkeypatch.setenv("D2LPART_PROGRESS", str(tmp_path / "progress.json"))

    def unwritten(n):
        raise NotImplementedError

    assert check("99.1", unwritten).kind == "missing"
    assert check("99.1", 3).kind == "not callable"
    assert load() == {}
    check("99.1", lambda n: n + 1, seed=5)
    entry = load()["99.1"]
    assert (entry.tries, entry.passed, entry.seed) == (1, None, 5)
    check("99.1", identity)
    entry = load()["99.1"]
    assert (entry.tries, entry.tries_to_pass, entry.kind) == (2, 2, "right")


def test_an_endless_function_is_told_in_bounded_time(sample, monkeypatch):
    monkeypatch.setattr(guard, "LIMIT", 0.5)

    def endless(n):
        while True:
            pass

    result = check("99.1", endless)
    assert (result.kind, result.call) == ("endless", "identity(1)")


def test_a_learners_kernel_loads_neither_the_builder_nor_widgets():
    probe = "import sys, d2lpart.course; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "d2lpart.course.checks.checker" in loaded
    tools = {"jupytext", "nbformat", "nbclient", "ipywidgets", "IPython", "hypothesis"}
    assert tools & set(loaded) == set()
