"""Checks with limits: whatever a function does, the verdict comes in time; the kernel lives."""

import itertools
import os
import queue
import signal
import sys
import threading
import time

import pytest
import torch

from d2lpart.course.checks.alarm import TimeUp, time_limit
from d2lpart.course.checks.checker import judge
from d2lpart.course.checks.child import ChildFault, can_fork, forked
from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.checks.guard import guarded_judge
from d2lpart.course.checks.trials import HUGE
from d2lpart.machine.hardware import threads

FORKS = [pytest.param(True, id="child"), pytest.param(False, id="here")]
LIMIT = 0.6

if not can_fork():
    FORKS = [pytest.param(False, id="here")]


def total(numbers):
    return sum(numbers)


def cases(rng):
    yield ([],)
    yield ([1, 2],)
    yield ([rng.randint(3, 9) for _ in range(4)],)


TOTAL = Exercise("99.1", "t", total, cases=cases, otherwise="Add them up.", example=([3, 4],))


def guarded(function, fork, seconds=LIMIT, exercise=TOTAL):
    start = time.monotonic()
    result = guarded_judge(exercise, function, seconds=seconds, fork=fork)
    assert time.monotonic() - start < seconds + 60  # bounded; no measure of speed
    return result


def loops(numbers):
    while True:
        pass


def loops_and_catches(numbers):
    while True:
        try:
            while True:
                pass
        except:  # noqa: E722
            pass


def sleeps(numbers):
    time.sleep(600)


def waits_for_a_queue(numbers):
    return queue.Queue().get()


def waits_for_a_lock(numbers):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@pytest.mark.parametrize("fork", FORKS)
@pytest.mark.parametrize(
    "function", [loops, loops_and_catches, sleeps, waits_for_a_queue, waits_for_a_lock]
)
def test_what_does_not_end_is_endless(function, fork):
    result = guarded(function, fork)
    assert result.kind == "endless"
    assert result.call == "total([3, 4])"
    assert "still runs after" in result.sentence


@pytest.mark.parametrize("fork", FORKS)
def test_a_limit_between_cases_says_how_far_it_came(fork):
    many = Exercise("99.4", "t", total, cases=lambda rng: [([n],) for n in range(1000)])
    result = guarded(lambda numbers: time.sleep(0.02) or sum(numbers), fork, exercise=many)
    assert result.kind == "endless"
    assert "cases are done after" in result.sentence


def prints(numbers):
    print(sum(numbers))


def knows_the_example(numbers):
    return 7


def ends_the_program(numbers):
    sys.exit(0)


def changes_its_argument(numbers):
    found = sum(numbers)
    numbers.clear()
    return found


def is_no_number(numbers):
    return float("nan")


def is_a_text(numbers):
    return str(sum(numbers))


def calls_itself(numbers):
    return calls_itself(numbers)


def takes_two(numbers, start):
    return sum(numbers) + start


def returns_a_huge_list(numbers):
    return [0] * (HUGE + 1)


def floods(numbers):
    for _ in range(1000):
        print("x" * 1000)
    return sum(numbers) + 1


def asks(numbers):
    return input("total? ")


def changes_the_world(numbers):
    numbers.append(1)
    WORLD.append(1)
    return sum(numbers) - 1


WORLD: list[int] = []


KINDS = {
    prints: "none",
    knows_the_example: "hard-coded",
    ends_the_program: "raised",
    changes_its_argument: "mutated",
    is_no_number: "nan",
    is_a_text: "type",
    calls_itself: "raised",
    takes_two: "signature",
    returns_a_huge_list: "type",
    floods: "wrong",
    asks: "raised",
}


@pytest.mark.parametrize("fork", FORKS)
@pytest.mark.parametrize("function", KINDS, ids=lambda function: function.__name__)
def test_each_failure_is_told_apart_as_without_a_guard(function, fork):
    alone, result = judge(TOTAL, function), guarded(function, fork, seconds=20)
    assert (result.kind, result.sentence) == (alone.kind, alone.sentence)
    assert result.kind == KINDS[function]
    assert result.learner is function
    assert repr(result) == repr(alone)


def test_the_sentences_of_the_failures_differ():
    assert len({judge(TOTAL, function).sentence for function in KINDS}) == len(KINDS)


@pytest.mark.parametrize("fork", FORKS)
def test_right_is_right(fork):
    result = guarded(total, fork, seconds=5)
    assert result.ok
    assert result.or_reference() is total


@pytest.mark.parametrize("fork", FORKS)
def test_an_endless_iterator_is_not_read(fork):
    result = guarded(lambda numbers: itertools.count(), fork, seconds=5)
    assert result.kind == "type"
    assert "iterator" in result.sentence


# ---- what only a child survives

needs_a_child = pytest.mark.skipif(not can_fork(), reason="no safe fork on this system")


def exits(numbers):
    os._exit(3)


def kills_itself(numbers):
    os.kill(os.getpid(), signal.SIGKILL)


def crashes(numbers):
    import ctypes

    return ctypes.string_at(0)


def takes_all_memory(numbers):
    return bytearray(2**34)


def forks(numbers):
    os.fork()
    return sum(numbers)


def leaves_a_thread(numbers):
    threading.Thread(target=time.sleep, args=(600,)).start()
    return sum(numbers)


@needs_a_child
@pytest.mark.parametrize(
    ("function", "kind", "word"),
    [
        (exits, "died", "exit code 3"),
        (kills_itself, "died", "SIGKILL"),
        (crashes, "died", "SIGSEGV"),
        (takes_all_memory, "memory", "2 GiB"),
        (forks, "right", ""),
        (leaves_a_thread, "threads", "a thread that it has started still runs"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_child_costs_the_kernel_nothing(function, kind, word):
    result = guarded(function, True, seconds=20)
    assert result.kind == kind
    assert word in result.sentence
    with pytest.raises(ChildProcessError):  # no child is left, not even a dead one
        os.waitpid(-1, os.WNOHANG)


@needs_a_child
def test_what_a_function_changes_outside_stays_in_the_child():
    guarded(changes_the_world, True, seconds=5)
    assert WORLD == []


@needs_a_child
def test_torch_computes_in_a_child_of_a_process_that_has_used_its_threads():
    a = torch.randn(256, 256)
    with threads(2):
        expected = (a @ a).sum().item()
        one = Exercise(
            "99.2", "t", lambda n: (a @ a).sum().item(), cases=lambda rng: [(1,)], otherwise="?"
        )
        assert guarded_judge(one, lambda n: (a @ a).sum().item(), fork=True, seconds=10).ok
        assert (a @ a).sum().item() == pytest.approx(expected)


@needs_a_child
def test_a_fault_of_the_course_is_not_the_learners():
    def broken(numbers):
        raise OSError("the course's own fault")

    one = Exercise("99.3", "t", broken, cases=lambda rng: [(1,)], otherwise="?")
    with pytest.raises(ChildFault, match="the reference fails"):
        guarded_judge(one, total, fork=True)


@needs_a_child
def test_a_child_speaks_and_ends():
    heard = []
    ending = forked(lambda say: say(number=1) or say(number=2), 5, heard.append)
    assert ending.kind == "done"
    assert [message for message in heard if message] == [{"number": 1}, {"number": 2}]


# ---- the limit within the process


def test_a_limit_leaves_what_ends_in_time_alone():
    with time_limit(5):
        assert sum(range(10)) == 45
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_limit_interrupts_and_is_over():
    tracer = sys.gettrace()
    with pytest.raises(TimeUp), time_limit(0.05):
        loops_and_catches([])
    assert sys.gettrace() is tracer
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_in_another_thread_there_is_no_limit():
    seen = []

    def work():
        with time_limit(0.01):
            time.sleep(0.05)
        seen.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]


def test_inline_runs_here_without_limits(monkeypatch, capsys):
    monkeypatch.setenv("D2LPART_CHECK_INLINE", "1")
    WORLD.clear()
    assert guarded_judge(TOTAL, changes_the_world).kind == "mutated"
    assert WORLD
    WORLD.clear()
