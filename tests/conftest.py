"""What several test modules share: random legal schedules, the rule of what may run, call counts.

The rule is written out here a second time, on purpose and without `dependencies`, so that a fault
in the package does not hide itself.
"""

import os
import sys

import pytest

from d2lpart.schedules.schedule import Schedule

ONE_WORKER = ("tests/test_front_end.py", "tests/costs/test_profile_meta.py")
"""Files whose tests share what takes long to make: a browser, a model of 70 billion weights."""


def _scope(nodeid):
    """What goes to a test process as one piece: a file of `ONE_WORKER`, or a single test."""
    file = nodeid.partition("::")[0]
    return file if file in ONE_WORKER else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Begin with the pieces of `ONE_WORKER`, which are the longest; the rest fills both processes.

    Marks of pytest-xdist's own, `xdist_group`, are not heeded from pytest 9.2 on.
    """
    from xdist.scheduler import LoadScopeScheduling

    class InPieces(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _scope(nodeid)

    return InPieces(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_configure():
    """Keep every test, and every process that one starts, away from the learner's own progress."""
    os.environ["D2LPART_PROGRESS"] = "off"


def _may_run(action, done, num_stages):
    stage, kind, microbatch = action
    if kind == "F":
        return stage == 0 or (stage - 1, "F", microbatch) in done
    if kind == "W":
        return (stage, "I", microbatch) in done
    if (stage, "F", microbatch) not in done:
        return False
    last = stage == num_stages - 1
    return last or any((stage + 1, kind, microbatch) in done for kind in "BI")


def _random_schedule(random, most_ranks=4, most_stages=6, most_microbatches=5):
    """Any legal schedule: any placement, any order, B or I and W by the toss of a coin."""
    num_stages = random.randint(1, most_stages)
    num_ranks = random.randint(1, min(most_ranks, num_stages))
    num_microbatches = random.randint(1, most_microbatches)
    places = list(range(num_ranks))
    places += [random.randrange(num_ranks) for _ in range(num_stages - num_ranks)]
    random.shuffle(places)
    left = [(stage, "F", k) for stage in range(num_stages) for k in range(num_microbatches)]
    left += [
        (stage, kind, k)
        for stage in range(num_stages)
        for k in range(num_microbatches)
        for kind in random.choice(["B", "IW"])
    ]
    orders = [[] for _ in range(num_ranks)]
    done = set()
    while left:
        action = random.choice([a for a in left if _may_run(a, done, num_stages)])
        left.remove(action)
        done.add(action)
        orders[places[action[0]]].append(action)
    return Schedule(orders, places)


def _count_calls(function):
    count = 0

    def tick(frame, event, arg):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(tick)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


@pytest.fixture(scope="session")
def count_calls():
    """`count_calls(function)`: how many functions it calls, of Python and of C."""
    return _count_calls


@pytest.fixture(scope="session")
def may_run():
    """`may_run(action, done, num_stages)`: whether all that an action needs is in `done`."""
    return _may_run


@pytest.fixture(scope="session")
def random_schedule():
    """`random_schedule(random, most_ranks, most_stages, most_microbatches)`, always legal."""
    return _random_schedule
