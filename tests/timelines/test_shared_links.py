"""Messages that share a wire, against a simulator that walks through time in small steps."""

from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from d2lpart.schedules.compiled_schedule import compiled
from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.timelines.shared_links import play
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.spans import Link

TICK = 1 / 8
EVEN = {"F": 1, "I": 1, "W": 1, "B": 2}


def walked(schedule, seconds, travel, shared):
    """Spans and transfers (start, end) by action, found tick by tick; actions take 1 tick or more.

    What ends at one moment queues in the order of the ranks.
    """
    rank_of, heads = schedule.stage_to_rank, [0] * schedule.num_ranks
    running, spans, sent, queues, there = {}, {}, {}, {}, set()
    now = 0.0
    while len(spans) < len(schedule.position) or running:
        for rank in sorted(running):
            action = running[rank]
            if spans[action][1] > now:
                continue
            del running[rank]
            there.add((action, rank))
            consumer = schedule.consumer(action)
            if consumer and rank_of[consumer.stage] != rank:
                target = rank_of[consumer.stage]
                wire = {"bus": 0, "pair": (rank, target), None: action}[shared]
                queues.setdefault(wire, []).append((action, target))
        for queue in queues.values():
            while queue:
                action, target = queue[0]
                sent.setdefault(action, (now, now + travel(action)))
                if sent[action][1] > now:
                    break
                there.add((action, target))
                queue.pop(0)
        for rank, order in enumerate(schedule.orders):
            if rank in running or heads[rank] == len(order):
                continue
            stage, kind, k = action = order[heads[rank]]
            if kind == "F":
                ready = stage == 0 or ((stage - 1, "F", k), rank) in there
            elif kind == "W":
                ready = True
            else:
                ready = stage + 1 == schedule.num_stages or any(
                    ((stage + 1, b, k), rank) in there for b in "BI"
                )
            if ready:
                heads[rank] += 1
                running[rank] = action
                spans[action] = now, now + seconds(action)
        now += TICK
    return spans, sent


def eighths(random, low):
    return random.randrange(low, 12) * TICK


@settings(max_examples=100)
@given(random=st.randoms(use_true_random=False), shared=st.sampled_from([None, "pair", "bus"]))
def test_queues_agree_with_a_walk_through_time(random, shared, random_schedule):
    schedule = random_schedule(random, most_microbatches=4)
    seconds = {action: eighths(random, 1) for action in schedule.position}
    sizes = {action: random.randrange(12) for action in schedule.position}
    latency = eighths(random, 0)
    link = Link(latency, 8.0, shared)
    timeline = simulate(schedule, seconds.__getitem__, link, boundary_bytes=sizes.__getitem__)
    spans, sent = walked(schedule, seconds.__getitem__, lambda a: latency + sizes[a] / 8, shared)
    assert {s.action: (s.start, s.end) for s in timeline.spans} == spans
    assert {t.action: (t.start, t.end) for t in timeline.transfers} == sent
    assert {t.wire for t in timeline.transfers} <= {shared}


@given(random=st.randoms(use_true_random=False))
def test_without_a_shared_wire_both_ways_of_placing_agree(random, random_schedule):
    schedule = random_schedule(random)
    program = compiled(schedule)
    seconds = {action: eighths(random, 0) for action in schedule.position}
    timeline = simulate(schedule, seconds.__getitem__, Link(0.5))
    count = len(program.actions)
    delays = [0.5 if maker < count else 0.0 for maker in program.source]
    own = [seconds[action] for action in program.actions]
    starts, ends, _, _ = play(program, own, delays, [None] * count)
    placed = zip(program.actions, zip(starts, ends, strict=True), strict=True)
    assert {s.action: (s.start, s.end) for s in timeline.spans} == dict(placed)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_bus_saturates(name):
    """With 2(p−1)m messages of 5 s on one bus, no step is shorter than their sum."""
    schedule = build_schedule(name, 4, 8)
    alone = simulate(schedule, EVEN, Link(5.0))
    pair = simulate(schedule, EVEN, Link(5.0, shared="pair"))
    bus = simulate(schedule, EVEN, Link(5.0, shared="bus"))
    assert alone.makespan <= pair.makespan <= bus.makespan
    assert bus.makespan >= 5 * len(bus.transfers)
    assert all(a.end <= b.start for a, b in pairwise(bus.transfers))


def test_a_link_may_depend_on_its_two_ranks():
    """Ranks 0, 1 and ranks 2, 3 are two nodes: fast inside, slow between."""
    asked = set()

    def link(source, target):
        asked.add((source, target))
        return Link(0.25) if source // 2 == target // 2 else Link(1.0, shared="bus")

    timeline = simulate(build_schedule("1f1b", 4, 3), EVEN, link)
    assert asked == {(0, 1), (1, 2), (2, 3), (3, 2), (2, 1), (1, 0)}
    for t in timeline.transfers:
        between = {t.source, t.target} == {1, 2}
        assert (t.seconds, t.wire) == ((1.0, "bus") if between else (0.25, None))


@pytest.mark.parametrize("link", [None, 0.5, "bus"])
def test_a_link_is_a_link(link):
    with pytest.raises(ValueError, match=r"link is .*: give a Link, or a function"):
        simulate(build_schedule("naive", 2, 1), EVEN, link)
    with pytest.raises(ValueError, match=r"the link from rank . to . is .*: give a Link"):
        simulate(build_schedule("naive", 2, 1), EVEN, lambda source, target: link)


def test_a_wire_is_shared_in_one_of_three_ways():
    with pytest.raises(ValueError, match="shared is 'all': use one of None, 'pair', 'bus'"):
        Link(shared="all")
    assert str(Link(shared="bus")) == "0 s and no limit, one bus for all"
    assert str(Link(shared="pair")) == "0 s and no limit, one message at a time each way"


def test_a_gap_names_the_wire_and_what_it_carries():
    timeline = simulate(build_schedule("gpipe", 3, 3), EVEN, Link(1.5, shared="bus"))
    queued = next(gap for gap in timeline.gaps(2) if gap.kind == "wire")
    assert (queued.start, queued.end) == (3.5, 5.5)
    assert queued.reason == "waits for the bus, busy with 0F2 from rank 0 to rank 1"
    timeline = simulate(build_schedule("gpipe", 2, 2), EVEN, Link(3.0, shared="pair"))
    queued = next(gap for gap in timeline.gaps(1) if gap.kind == "wire" or gap.start == 5)
    assert (queued.kind, queued.start, queued.end) == ("transfer", 5, 7)


@given(random=st.randoms(use_true_random=False), shared=st.sampled_from(["pair", "bus"]))
def test_gaps_and_paths_stay_whole_over_a_shared_wire(random, shared, random_schedule):
    schedule = random_schedule(random)
    seconds = {action: eighths(random, 0) for action in schedule.position}
    timeline = simulate(schedule, seconds.__getitem__, Link(eighths(random, 0), shared=shared))
    path = timeline.critical_path()
    assert (path[0].start, path[-1].end) == (0, timeline.end)
    assert all(a.end == b.start for a, b in pairwise(path))
    for rank in range(schedule.num_ranks):
        gaps = timeline.gaps(rank)
        assert sum(gap.seconds for gap in gaps) == timeline.idle(rank)
        for place, gap in enumerate(gaps):
            assert gap.kind != "overhead"
            chain = timeline.why(rank, place).chain
            assert chain[0].start <= gap.start < chain[0].end
            assert all(a.end == b.start for a, b in pairwise(chain))
            assert chain[-1].end == gap.end
