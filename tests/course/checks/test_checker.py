"""The checker: every way to be wrong is told apart, with the smallest failing call."""

import math
import random
import threading
from itertools import pairwise

import pytest
import torch

from d2lpart import simulate
from d2lpart.course.checks.checker import judge
from d2lpart.course.checks.exercise import Exercise, Misconception


def idle_fraction(p: int, m: int) -> float:
    return (p - 1) / (m + p - 1)


def over_ideal(p: int, m: int) -> float:
    return (p - 1) / m


def without_first(p: int, m: int) -> float:
    return p / (m + p)


def grid(rng: random.Random):
    for p in range(1, 4):
        for m in range(1, 4):
            yield p, m
    for _ in range(5):
        yield rng.randint(2, 9), rng.randint(2, 32)


BUBBLE = Exercise(
    "99.1",
    "The bubble",
    idle_fraction,
    cases=grid,
    misconceptions=[
        Misconception(over_ideal, lambda p, m: f"The step lasts {m + p - 1} slots, not {m}."),
        (without_first, "The first slot counts too."),
    ],
    otherwise=lambda p, m: f"Draw {p} ranks and {m} micro-batches.",
)


def sentence(function, exercise=BUBBLE) -> tuple[str, str]:
    result = judge(exercise, function)
    assert not result.ok
    return result.kind, result.sentence


def test_a_right_function_is_told_how_many_cases_agree():
    result = judge(BUBBLE, lambda p, m: 1 - m / (m + p - 1))
    assert result.ok
    assert result.kind == "right"
    assert result.sentence.startswith("14 cases agree with the reference, the last of them `idle_f")


def test_a_misconception_gets_its_sentence_with_the_numbers_of_the_smallest_failing_case():
    result = judge(BUBBLE, over_ideal)
    assert result.kind == "misconception"
    assert result.sentence == "The step lasts 2 slots, not 1."
    assert (result.call, result.expected, result.got) == ("idle_fraction(2, 1)", "0.5", "1")
    assert sentence(without_first) == ("misconception", "The first slot counts too.")


def test_a_misconception_must_explain_every_output():
    def almost(p, m):
        return 0.125 if (p, m) == (3, 3) else over_ideal(p, m)

    assert sentence(almost) == ("wrong", "Draw 2 ranks and 1 micro-batches.")


def test_another_wrong_value_gets_the_general_sentence():
    assert sentence(lambda p, m: (p - 1) / (m + p)) == (
        "wrong",
        "Draw 2 ranks and 1 micro-batches.",
    )


def test_a_stub_is_told_what_is_missing():
    def stub(p, m):
        raise NotImplementedError

    kind, text = sentence(stub)
    assert kind == "missing"
    assert text.startswith("`idle_fraction` is still to be written")


def test_a_stub_is_called_once():
    calls = []

    def stub(p, m):
        calls.append((p, m))
        raise NotImplementedError

    judge(BUBBLE, stub)
    assert calls == [(1, 1)]


def test_nothing_can_be_the_right_answer():
    first = Exercise("99.2", "t", lambda c: c[0] if c else None, cases=lambda r: [([],), ([3],)])
    assert judge(first, lambda costs: None if not costs else 3).ok
    assert judge(first, lambda costs: None).call.endswith("([3])")


@pytest.mark.parametrize(
    "thing", [3, None, 0.5, "idle_fraction", [idle_fraction], idle_fraction(2, 3)]
)
def test_what_is_no_function_is_told_so(thing):
    kind, text = sentence(thing)
    assert kind == "not callable"
    assert text.startswith("`check` takes the function `idle_fraction` itself, not ")


def test_an_error_is_told_with_its_line():
    def divide(p, m):
        return m / (p - 1)

    result = judge(BUBBLE, divide)
    assert (result.kind, result.got) == ("raised", "ZeroDivisionError: division by zero")
    assert result.call == "idle_fraction(1, 1)"
    assert result.sentence.startswith("Your function raises ZeroDivisionError in line ")
    assert result.sentence.endswith(": `return m / (p - 1)`.")


def test_an_error_without_a_message_and_a_wrong_signature():
    def bare(p, m):
        raise KeyError

    assert judge(BUBBLE, bare).got == "KeyError"
    assert judge(BUBBLE, lambda p: p).got.startswith("TypeError: ")


def test_a_program_that_ends_or_calls_itself_for_ever():
    def leave(p, m):
        raise SystemExit

    def again(p, m):
        return again(p, m)

    assert sentence(leave) == (
        "raised",
        "It ends the program: return the value instead of calling `exit`.",
    )
    assert sentence(again) == (
        "raised",
        "`idle_fraction` calls itself without end: which case stops it?",
    )


def test_printing_instead_of_returning():
    result = judge(BUBBLE, lambda p, m: print("idle\n", idle_fraction(p, m), "\n3\n4"))
    assert result.kind == "none"
    assert result.sentence.startswith("It prints its value and returns nothing")
    assert result.printed == "idle /  0.0  / 3 / …"


def test_returning_nothing():
    kind, text = sentence(lambda p, m: None)
    assert (kind, text.split(":")[0]) == ("none", "It returns nothing")
    half = judge(BUBBLE, lambda p, m: idle_fraction(p, m) if p < 3 else None)
    assert (half.kind, half.call) == ("none", "idle_fraction(3, 1)")


def test_a_wrong_type_and_nan():
    assert sentence(lambda p, m: str(idle_fraction(p, m))) == (
        "type",
        "Expected a number, not text.",
    )
    kind, text = sentence(lambda p, m: math.nan)
    assert (kind, text.split(":")[0]) == ("nan", "NaN is not a number")


def test_a_constant_is_hard_coded():
    kind, text = sentence(lambda p, m: 0.5)
    assert (kind, text.split(":")[0]) == ("hard-coded", "It returns the same value for every case")


def test_two_equal_outputs_are_no_sign_of_a_hard_coded_answer():
    two = Exercise("99.2", "t", idle_fraction, cases=lambda rng: [(2, 1), (3, 1)], otherwise="No.")
    assert sentence(lambda p, m: 0.1, two) == ("wrong", "No.")


def test_right_on_the_example_alone_is_hard_coded():
    with_example = Exercise(
        "99.2", "t", idle_fraction, cases=grid, example=(4, 4), otherwise="Compute it."
    )
    kind, text = sentence(lambda p, m: 3 / 7 if (p, m) == (4, 4) else 0.1, with_example)
    assert kind == "hard-coded"
    assert text == "Right on the example in the text, but not on these arguments. Compute it."
    wrong = judge(with_example, lambda p, m: p / (m + 1))
    assert (wrong.kind, wrong.call) == ("wrong", "idle_fraction(4, 4)")


def in_order(costs: list[int]) -> list[int]:
    return sorted(costs)


SORT = Exercise(
    "99.3", "t", in_order, cases=lambda rng: [([1],), ([2, 1],), ([3, 1, 2],)], otherwise="Sort."
)


def test_changing_an_argument_is_told_even_when_the_value_is_right():
    def sort_in_place(costs):
        costs.sort()
        return costs

    result = judge(SORT, sort_in_place)
    assert (result.kind, result.call) == ("mutated", "in_order([2, 1])")
    assert "changes its argument `costs`" in result.sentence
    assert sentence(lambda costs: costs.sort(), SORT) == (
        "none",
        "It returns nothing: does every way through the function end in a `return`?",
    )
    unsorted_first = Exercise("99.4", "t", in_order, cases=lambda rng: [([2, 1],)], otherwise="S.")
    assert sentence(lambda costs: costs.sort(), unsorted_first) == (
        "none",
        "It changes `costs` and returns nothing: `return` the value.",
    )


def test_the_right_answer_in_any_container():
    for container in (list, tuple, torch.tensor):
        assert judge(SORT, lambda costs, c=container: c(sorted(costs))).ok


def test_where_a_list_differs_is_said_before_the_general_sentence():
    assert sentence(lambda costs: costs, SORT) == ("wrong", "Item 0 differs. Sort.")
    assert sentence(lambda costs: sorted(costs)[:2], SORT) == (
        "wrong",
        "Expected 3 items, not 2. Sort.",
    )


def half(x: torch.Tensor) -> torch.Tensor:
    return x / 2


def test_the_largest_difference_of_tensors():
    tensors = Exercise("99.5", "t", half, cases=lambda rng: [(torch.tensor([1.0, 2.0]),)])
    result = judge(tensors, lambda x: x / 4)
    assert result.call == "half(torch.tensor([1.0, 2.0]))"
    assert result.expected == "tensor of shape (2,): [0.5, 1]"
    assert result.sentence == "Largest difference 0.5, at [1]."
    assert judge(tensors, lambda x: x / 2 + 1e-6).ok


def a_cut(costs: list[int]) -> list[int]:
    return [len(costs) - 1, 1]


def must_add_up(args, sizes) -> str | None:
    (costs,) = args
    return None if sum(sizes) == len(costs) else f"{sum(sizes)} layers are placed of {len(costs)}"


CUT = Exercise(
    "99.6",
    "any cut",
    a_cut,
    cases=lambda rng: [([1, 1],), ([1, 2, 3],), ([1, 2, 3, 4],)],
    judge=must_add_up,
    misconceptions=[(lambda costs: [len(costs), 1], lambda costs: f"One of {len(costs)} twice.")],
    otherwise="Every layer once.",
)


def test_a_rule_of_its_own_accepts_every_right_answer():
    assert judge(CUT, lambda costs: [1, len(costs) - 1]).ok
    assert judge(CUT, lambda costs: [len(costs)]).ok
    result = judge(CUT, lambda costs: [2])
    assert result.kind == "hard-coded"
    assert result.sentence.endswith("2 layers are placed of 3. Every layer once.")
    assert sentence(lambda costs: [max(costs)], CUT)[0] == "wrong"
    assert (result.call, result.expected) == ("a_cut([1, 2, 3])", "for example [2, 1]")
    assert sentence(lambda costs: (len(costs), 1), CUT) == ("misconception", "One of 2 twice.")


def test_an_output_that_the_rule_cannot_read_is_of_the_wrong_type():
    assert sentence(lambda costs: 3, CUT) == ("type", "Expected a list, not a number.")
    assert sentence(lambda costs: ["a"], CUT) == ("type", "The output is of another kind.")
    assert sentence(lambda costs: None, CUT)[0] == "none"


def rising(n: int) -> list[int]:
    return list(range(n))


def examine_rising(function, rng) -> str | None:
    found = function(rng.randint(3, 5))
    return None if all(a < b for a, b in pairwise(found)) else f"{found} does not rise"


RISING = Exercise("99.7", "t", rising, examine=examine_rising)


def test_an_examination_says_its_own_sentence():
    assert judge(RISING, lambda n: [10 * i for i in range(n)]).ok
    assert sentence(lambda n: [1, 0], RISING) == ("wrong", "[1, 0] does not rise")


def test_an_examination_tells_stubs_and_errors_as_every_check_does():
    def stub(n):
        raise NotImplementedError

    def broken(n):
        print("so far")
        return [][n]

    assert judge(RISING, stub).kind == "missing"
    result = judge(RISING, broken)
    assert (result.kind, result.printed) == ("raised", "so far")
    assert result.got == "IndexError: list index out of range"
    assert result.sentence.endswith(": `return [][n]`.")


def test_cases_are_drawn_afresh_and_equal_for_equal_seeds():
    first, again, other = (BUBBLE.draw_cases(seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first is not again


def test_the_verdict_does_not_depend_on_what_ran_before():
    random.seed(1)
    before = repr(judge(BUBBLE, over_ideal))
    random.seed(2)
    assert repr(judge(BUBBLE, over_ideal)) == before


def test_a_reference_that_fails_is_the_authors_error():
    broken = Exercise("99.8", "t", lambda n: 1 // n, cases=lambda rng: [(0,)])
    with pytest.raises(AssertionError, match=r"99\.8: the reference fails on \(0,\)"):
        judge(broken, lambda n: n)


def test_an_exercise_is_either_compared_or_examined():
    with pytest.raises(ValueError, match=r"99\.9: give either cases or examine"):
        Exercise("99.9", "t", rising)
    with pytest.raises(ValueError, match=r"99\.9: give either cases or examine"):
        Exercise("99.9", "t", rising, cases=grid, examine=examine_rising)
    with pytest.raises(ValueError, match="misconceptions need cases"):
        Exercise("99.9", "t", rising, examine=examine_rising, misconceptions=[(rising, "x")])


def test_a_learner_with_the_wrong_argument_for_simulate_keeps_the_packages_message():
    exercise = Exercise("99.10", "t", lambda n: 1.0, cases=lambda rng: [(1,)])
    result = judge(exercise, lambda n: simulate(n, {}))
    assert result.kind == "raised"
    assert result.got


def test_a_function_that_leaves_threads_is_called_once_and_told_so():
    stop, calls = threading.Event(), []

    def leave(costs):
        calls.append(costs)
        for _ in range(3):
            threading.Thread(target=stop.wait, daemon=True).start()
        return sorted(costs)

    try:
        result = judge(SORT, leave)
        assert (result.kind, len(calls)) == ("threads", 1)
        assert "3 threads that it has started still run: `join` each" in result.sentence
        assert result.layers[-1] == ("its threads end", False)
        looked_at = Exercise(
            "99.5", "t", in_order, examine=lambda function, rng: function([]) or None
        )
        assert judge(looked_at, leave).kind == "threads"
    finally:
        stop.set()


def test_no_rule_says_more_than_a_reader_can_read():
    def says_all(args, output):
        return f"{output} is not it"

    one = Exercise("99.6", "t", in_order, cases=lambda rng: [([1],), ([2],)], judge=says_all)
    assert len(judge(one, lambda costs: [1] * 10**5).sentence) < 1100
    looked_at = Exercise("99.7", "t", in_order, examine=lambda function, rng: "x" * 10**5)
    assert len(judge(looked_at, sorted).sentence) == 1000
