"""Mutants of the references: how they are made, and that none passes its check unexplained."""

from pathlib import Path

import pytest

from d2lpart.course import catalog
from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.mutation import mutation
from d2lpart.course.mutation.mutants import mutants_of
from d2lpart.course.mutation.mutation import survey
from d2lpart.course.notebooks.rehearsal import solutions


def steps(loads, count):
    """Return a number that has a bit of everything."""
    total = 0
    for load in reversed(loads):
        total += load - 1
    print(total)
    return [x for x in range(count) if x > 2], -total, min(loads), loads[1:]


def test_each_mistake_is_made_once():
    texts = [mutant.text for mutant in mutants_of(steps)]
    assert len(texts) == len(set(texts))
    for wanted in (
        "total = 0 -> total = 1",
        "for load in reversed(loads): -> for load in loads:",
        "total += load - 1 -> total += load + 1",
        "total += load - 1 -> total += 1 - load",
        "total += load - 1 -> total += load",
        "total += load - 1 -> pass",
        "print(total) -> pass",
    ):
        assert wanted in texts, texts
    changed = " ".join(text.partition(" -> ")[2] for text in texts)
    for part in ("range(count + 1)", "x >= 2", "x < 2", "max(loads)", "loads[1 + 1:]", ", total, "):
        assert part in changed
    assert any("[x for x in range(count)]" in text for text in texts)


def test_a_mutant_is_a_function_of_its_own():
    first = next(mutants_of(steps))
    assert first.function.__name__ == "steps"
    assert first.function is not steps
    assert first.text == "print(total) -> pass"
    assert first.line == 6


def double(n):
    return n + n


def endless(n):
    k = 0
    while k < n:
        k += 1
    return k


def test_a_weak_check_lets_mutants_survive(capsys, monkeypatch):
    weak = Exercise("99.1", "t", double, cases=lambda rng: [(0,)], otherwise="?")
    found = survey(weak)
    assert {mutant.text for mutant in found.survivors} >= {"return n + n -> return n - n"}
    assert found.unexplained == found.survivors
    assert "survive" in str(found)
    text = found.survivors[0].text
    monkeypatch.setitem(mutation.EQUIVALENT, "99.1", {text: "0 is 0", "gone -> gone": "old"})
    assert text not in [mutant.text for mutant in survey(weak).unexplained]
    assert survey(weak).stale == ["gone -> gone"]
    strong = Exercise("99.2", "t", double, cases=lambda rng: [(0,), (3,)], otherwise="?")
    assert survey(strong).survivors == []


def test_a_mutant_that_does_not_end_is_no_survivor(monkeypatch):
    monkeypatch.setattr(mutation, "EACH", 0.3)
    one = Exercise("99.3", "t", endless, cases=lambda rng: [(-2,), (3,)], otherwise="?")
    found = survey(one)
    assert found.count > 3
    assert found.survivors == []


@pytest.mark.parametrize("one", catalog.exercises(), ids=lambda one: one.id)
def test_no_mutant_survives_unexplained(one):
    found = survey(one)
    assert found.count > 0
    assert not found.unexplained, str(found)
    assert not found.stale, str(found)


SOURCES = sorted(Path(__file__).parents[3].glob("exercises/src/*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_no_mutant_of_a_model_solution_survives(source):
    """Where the reference asks the package, the notebook's solution has more to get wrong."""
    found = solutions(source)
    assert found
    for exercise_id, function in found.items():
        one = catalog.exercise(exercise_id)
        count = len(list(mutants_of(function)))
        if count == len(list(mutants_of(one.reference))):
            continue  # the same code, which is tried above
        survived = survey(one, function)
        assert not survived.survivors, str(survived)


def test_the_checks_that_ask_the_package_have_solutions_with_many_mutants():
    found = solutions(SOURCES[[source.stem[:2] for source in SOURCES].index("04")])
    for exercise_id in ("04.3", "04.4"):
        assert survey(catalog.exercise(exercise_id)).count < 5
        assert len(list(mutants_of(found[exercise_id]))) >= 20


def test_the_command_names_survivors(capsys):
    assert mutation.main(["03.1"]) == 0
    assert capsys.readouterr().out.startswith("03.1 events: ")
