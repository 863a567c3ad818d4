"""One call of a learner's function: what it is given, and all that is kept of what it does."""

import sys
import threading

import pytest
import torch

from d2lpart.course.checks.running import run, same_outcome


def call(text: str, name: str = "f"):
    """Define a learner's function as a cell does."""
    namespace: dict = {}
    exec(compile(text, "<cell>", "exec"), namespace)
    return namespace[name]


def test_the_value_and_the_prints_are_kept(capsys):
    outcome = run(call("def f(n):\n    print('n is', n)\n    return 2 * n"), (3,))
    assert (outcome.kind, outcome.value, outcome.printed) == ("returned", 6, "n is 3\n")
    assert capsys.readouterr().out == ""


def test_prints_before_an_error_are_kept():
    outcome = run(call("def f():\n    print('here')\n    return 1 / 0"), ())
    assert (outcome.kind, outcome.printed) == ("raised", "here\n")


def test_the_arguments_are_copies():
    costs, weights = [3, 1], torch.ones(2)
    outcome = run(lambda c, w: (c.sort(), w.zero_())[0], (costs, weights))
    assert costs == [3, 1]
    assert weights.sum() == 2
    assert outcome.changed == ("c", "w")


@pytest.mark.parametrize(
    ("function", "args", "changed"),
    [
        (lambda costs: sum(costs), ([1, 2],), ()),
        (lambda costs, n: costs.append(n), ([1, 2], 3), ("costs",)),
        (lambda table: table["a"].pop(), ({"a": [1, 2]},), ("table",)),
        (lambda pair: pair[1].clear(), ((1, [2]),), ("pair",)),
        (lambda n, seen: seen.add(n), (1, {2}), ("seen",)),
        (lambda *args: args[1].clear(), (1, [2]), ("number 2",)),
        (lambda x: x.mul_(2), (torch.ones(2),), ("x",)),
        (lambda layer: setattr(layer, "bias", None), (torch.nn.Linear(1, 1),), ()),
    ],
)
def test_changed_plain_data_is_named_by_its_argument(function, args, changed):
    assert run(function, args).changed == changed


def test_the_learners_line_is_named():
    text = "import json\ndef f(n):\n    m = n - 1\n    return json.loads('{')[m]"
    outcome = run(call(text), (1,))
    assert (outcome.kind, outcome.where) == ("raised", "line 4 of `f`")


def test_the_text_of_the_line_is_shown_where_it_is_known():
    def divide(n):
        return n / (n - 1)

    assert run(divide, (1,)).where.endswith(": `return n / (n - 1)`")


def test_a_callable_without_code_of_its_own_has_no_line():
    assert run(int, ("x",)).where == ""


@pytest.mark.parametrize("ending", ["raise SystemExit(3)", "import sys; sys.exit()", "exit()"])
def test_the_end_of_the_program_is_caught(ending):
    outcome = run(call(f"def f():\n    {ending}"), ())
    assert outcome.kind == "raised"
    assert isinstance(outcome.error, SystemExit)


def test_an_interrupt_is_not_caught():
    with pytest.raises(KeyboardInterrupt):
        run(call("def f():\n    raise KeyboardInterrupt"), ())


def test_a_stub_is_missing_but_an_operation_torch_lacks_is_an_error():
    assert run(call("def f():\n    raise NotImplementedError"), ()).kind == "missing"
    lacking = call("def f():\n    raise NotImplementedError('softmax not implemented for Int')")
    assert run(lacking, ()).kind == "raised"


def test_a_wrong_number_of_arguments_is_an_error_of_the_call():
    outcome = run(lambda a: a, (1, 2))
    assert isinstance(outcome.error, TypeError)


def test_standard_output_is_given_back():
    before = sys.stdout
    run(call("def f():\n    return 1 / 0"), ())
    assert sys.stdout is before


def outcome_of(function, *args):
    return run(function, args)


def test_outcomes_are_the_same_by_value_or_by_type_of_error():
    half = outcome_of(lambda: 0.5)
    assert same_outcome(half, outcome_of(lambda: 0.5 + 1e-9), 1e-6)
    assert not same_outcome(half, outcome_of(lambda: 0.6), 1e-6)
    zero, other_zero = outcome_of(lambda: 1 / 0), outcome_of(lambda: 2 % 0)
    assert same_outcome(zero, other_zero, 1e-6)
    assert not same_outcome(zero, outcome_of(lambda: [][0]), 1e-6)
    assert not same_outcome(zero, half, 1e-6)
    stub = outcome_of(call("def f():\n    raise NotImplementedError"))
    assert not same_outcome(stub, stub, 1e-6)


def test_threads_that_stay_behind_are_counted():
    stop = threading.Event()

    def leave(count):
        for _ in range(count):
            threading.Thread(target=stop.wait).start()
        return count

    def finish(count):
        threads = [threading.Thread(target=int) for _ in range(count)]
        for thread in threads:
            thread.start()
        return count

    class OfALibrary(threading.Thread):
        pass

    try:
        assert run(leave, (2,)).threads == 2
        assert run(leave, (0,)).threads == 0  # those of the call before are not its own
        assert run(finish, (2,)).threads == 0
        assert run(lambda: OfALibrary(target=stop.wait).start(), ()).threads == 0
        outcome = run(lambda: leave(1) / 0, ())
        assert (outcome.kind, outcome.threads) == ("raised", 1)
    finally:
        stop.set()
