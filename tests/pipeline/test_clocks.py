"""The two clocks that measure, and what becomes of a step that fails while ranks work."""

import _thread
import contextlib
import gc
import itertools
import random
import signal
import sys
import threading
import time

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from d2lpart.machine import hardware
from d2lpart.models.decoder import Decoder
from d2lpart.pipeline import clocks
from d2lpart.pipeline.engine import PipelineError, Run
from d2lpart.pipeline.pipeline import Pipeline
from d2lpart.schedules.orders import build_schedule
from d2lpart.schedules.schedule import Action, Schedule, dependencies
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.spans import Link
from d2lpart.timelines.timeline import Timeline

CPU = "cpu"
CLOCKS = ["wall", "virtual"]
SAMPLES, POSITIONS, WIDTH, VOCABULARY = 6, 5, 8, 11
FLOAT = 4  # bytes


@pytest.fixture(autouse=True)
def quiet():
    """One intra-op thread; and no thread of a pipeline may outlive its test."""
    with hardware.threads(1):
        yield
    assert not ranks_alive()


def ranks_alive():
    """The ranks at work: a thread that has yet to begin finds its step stopped, and ends."""
    deadline = time.monotonic() + 5
    while True:
        alive = [t.name for t in threading.enumerate() if t.name.startswith("d2lpart")]
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.001)


def text():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(VOCABULARY, (2, SAMPLES, POSITIONS), generator=generator)


def layers():
    torch.manual_seed(0)
    return Decoder(VOCABULARY, WIDTH, 4, 2, POSITIONS).layers


def pipeline(sizes=(2, 2, 2), *, schedule="1f1b", m=3, on=None, **options):
    return Pipeline(
        options.pop("layers", None) or layers(), sizes, [CPU] * (on or len(sizes)),
        schedule=schedule, num_microbatches=m, **options,
    )  # fmt: skip


def spans(timeline):
    return {span.action: span for span in timeline.spans}


# ---- the timelines -----------------------------------------------------------------------------

SHAPES = [
    ((2, 2, 2), 3, "1f1b", 4),
    ((2, 2, 2), 3, "gpipe", 1),
    ((1, 1, 1, 3), 2, "gpipe", 3),
    ((1, 1, 1, 1, 1, 1), 2, "naive", 2),
    ((3, 3), 2, "naive", 6),
    ((6,), 1, "1f1b", 2),
]


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize(("sizes", "ranks", "schedule", "m"), SHAPES)
def test_every_action_runs_once_in_its_place_and_after_what_it_needs(
    clock, sizes, ranks, schedule, m
):
    run = pipeline(sizes, schedule=schedule, m=m, on=ranks, clock=clock)
    timeline = run.step(*text()).timeline
    found = spans(timeline)
    assert isinstance(timeline, Timeline)
    assert timeline.clock == clock
    assert timeline.start == 0
    assert len(timeline.spans) == len(found) == 2 * len(sizes) * m
    assert found.keys() == run.schedule.position.keys()
    for action, span in found.items():
        assert span.rank == run.schedule.stage_to_rank[action.stage]
        assert span.start <= span.end
        assert all(found[need].end <= span.start for need in dependencies(action, run.schedule))
    for rank, order in enumerate(run.schedule.orders):
        assert tuple(span.action for span in timeline.of_rank(rank)) == order
        for before, after in itertools.pairwise(timeline.of_rank(rank)):
            assert before.end <= after.start


def test_naive_lets_one_rank_work_at_a_time_on_the_wall_clock():
    timeline = pipeline(schedule="naive", clock="wall").step(*text()).timeline
    for before, after in itertools.pairwise(timeline.spans):
        assert before.end <= after.start
    assert timeline.idle_fraction() >= 2 / 3


class Meets(nn.Module):
    """Waits, in one of its calls, for the layer of another rank that waits too."""

    def __init__(self, barrier, call):
        super().__init__()
        self.barrier, self.call, self.calls = barrier, call, 0

    def forward(self, x):
        self.calls += 1
        if self.calls == self.call:
            self.barrier.wait(timeout=30)
        return x


def test_ranks_work_at_once_on_the_wall_clock():
    """The second forward of rank 0 and the first of rank 1 wait for each other."""
    barrier = threading.Barrier(2)
    own = [nn.Linear(4, 4), Meets(barrier, 2), nn.Linear(4, 4), Meets(barrier, 1)]
    run = pipeline((2, 2), m=4, clock="wall", layers=own, probe=False)
    found = spans(run.step(torch.randn(4, 4), torch.zeros(4, dtype=torch.long)).timeline)
    ahead, behind = found[Action(0, "F", 1)], found[Action(1, "F", 0)]
    assert ahead.start < behind.end
    assert behind.start < ahead.end


@pytest.mark.parametrize("link", [Link(), Link(latency=0.001, bandwidth=1e6)])
@pytest.mark.parametrize(("sizes", "ranks", "schedule", "m"), SHAPES)
def test_the_virtual_clock_places_its_own_durations_by_the_rule(sizes, ranks, schedule, m, link):
    run = pipeline(sizes, schedule=schedule, m=m, on=ranks, clock="virtual", link=link)
    timeline = run.step(*text()).timeline
    seconds = {action: span.seconds for action, span in spans(timeline).items()}
    sizes_sent = {transfer.action: transfer.nbytes for transfer in timeline.transfers}
    again = simulate(run.schedule, seconds.__getitem__, link, boundary_bytes=sizes_sent.__getitem__)
    assert min(seconds.values()) > 0
    for action, span in spans(again).items():
        assert span.start == pytest.approx(spans(timeline)[action].start, abs=1e-9)
    for one, other in zip(again.transfers, timeline.transfers, strict=True):
        assert one._replace(start=0, end=0) == other._replace(start=0, end=0)
        assert (one.start, one.end) == pytest.approx((other.start, other.end), abs=1e-9)


def test_the_virtual_clock_models_transfers_over_the_link():
    link = Link(latency=0.5, bandwidth=1e3)
    timeline = pipeline(clock="virtual", link=link, m=2).step(*text()).timeline
    size = SAMPLES // 2 * POSITIONS * WIDTH * FLOAT
    for transfer in timeline.transfers:
        assert transfer.nbytes == size
        assert transfer.seconds == pytest.approx(0.5 + size / 1e3)
    assert timeline.makespan > 4 * (0.5 + size / 1e3)
    assert str(link) in timeline.note


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize(("sizes", "ranks", "schedule", "m"), SHAPES)
def test_bytes_moved_are_exact(clock, sizes, ranks, schedule, m):
    run = pipeline(sizes, schedule=schedule, m=m, on=ranks, clock=clock)
    result = run.step(*text())
    crossings = len(sizes) - 1 if ranks > 1 else 0  # round-robin: every cut lies between two ranks
    assert len(result.timeline.transfers) == 2 * crossings * m
    assert result.bytes_moved == 2 * crossings * SAMPLES * POSITIONS * WIDTH * FLOAT
    places = run.schedule.stage_to_rank
    for transfer in result.timeline.transfers:
        consumer = run.schedule.consumer(transfer.action)
        assert transfer.source == places[transfer.action.stage]
        assert transfer.target == places[consumer.stage] != transfer.source
        found = spans(result.timeline)
        assert found[transfer.action].end <= transfer.start <= transfer.end
        assert transfer.end <= found[consumer].start


def test_neighbouring_stages_on_one_rank_move_nothing():
    orders = ["0F0 1F0 1B0 0B0", "2F0 2B0"]
    run = pipeline((2, 2, 2), schedule=Schedule(orders, [0, 0, 1]), m=1, on=2, clock="wall")
    result = run.step(*text())
    assert result.bytes_moved == 2 * SAMPLES * POSITIONS * WIDTH * FLOAT
    assert [str(t.action) for t in result.timeline.transfers] == ["1F0", "2B0"]


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_frozen_front_is_sent_no_gradients(clock):
    run = pipeline((2, 1, 1, 2), clock=clock)
    for layer in run.layers[:3]:
        layer.requires_grad_(False)
    result = run.step(*text())
    one = SAMPLES // 3 * POSITIONS * WIDTH * FLOAT
    sizes = {str(t.action): t.nbytes for t in result.timeline.transfers}
    assert [sizes[f"{s}F0"] for s in (0, 1, 2)] == [one] * 3
    assert [sizes[f"{s}B0"] for s in (1, 2, 3)] == [0, 0, one]  # stage 2 learns, those before not
    assert result.bytes_moved == 3 * (3 * one + one)
    assert run.layers[2].attention.output.weight.grad is None


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_skipped_microbatch_moves_nothing(clock):
    inputs, targets = text()
    targets[2:4] = -100
    result = pipeline(clock=clock).step(inputs, targets)
    one = SAMPLES // 3 * POSITIONS * WIDTH * FLOAT
    moved = {str(t.action): t.nbytes for t in result.timeline.transfers}
    assert {moved[f"0F{k}"] for k in (0, 2)} == {one}
    assert moved["0F1"] == moved["1F1"] == moved["1B1"] == moved["2B1"] == 0
    assert result.bytes_moved == 4 * 2 * one


# ---- peak bytes follow the schedule ------------------------------------------------------------


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("m", [1, 2, 3, 6])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_peak_bytes_count_the_microbatches_in_flight(clock, p, m):
    def peaks(schedule, count=m):
        samples = SAMPLES // m * count  # micro-batches of one size throughout
        inputs, targets = text()[:, :samples]
        return pipeline([6 // p] * p, schedule=schedule, m=count, clock=clock).step(
            inputs, targets
        ).peak_bytes  # fmt: skip

    footprint = peaks("naive", 1)
    assert peaks("naive") == footprint
    assert peaks("gpipe") == tuple(m * size for size in footprint)
    assert peaks("1f1b") == tuple(min(m, p - rank) * size for rank, size in enumerate(footprint))
    assert peaks("interleaved") == peaks("1f1b")


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize(("name", "held"), [("zb-h1", 3), ("zb-h2", 5)])
def test_a_microbatch_is_held_until_its_weight_gradient(clock, name, held):
    """Rank 0 runs W right behind I, and holds the gradients in between; later ranks hold less."""
    m, sizes = 6, [2, 2, 2]
    whole = pipeline(sizes, schedule="naive", m=m, clock=clock).step(*text()).peak_bytes
    split = pipeline(sizes, schedule=name, m=m, clock=clock).step(*text()).peak_bytes
    assert held * whole[0] < split[0] < (held + 1) * whole[0]
    for peak, one in zip(split[1:], whole[1:], strict=True):
        assert one < peak <= 1.5 * held * one  # gradients that wait for W are held as well


@pytest.mark.parametrize("clock", CLOCKS)
def test_recompute_holds_inputs_and_one_footprint(clock):
    run = pipeline(schedule="gpipe", clock=clock)
    again = pipeline(schedule="gpipe", clock=clock, recompute=True)
    plain, light = run.step(*text()).peak_bytes, again.step(*text()).peak_bytes
    one = SAMPLES // 3 * POSITIONS * WIDTH * FLOAT
    assert light[1] == 3 * one + (plain[1] // 3 - one)
    assert all(few < many for few, many in zip(light, plain, strict=True))


# ---- which clock, and what the timeline says of it ---------------------------------------------


@pytest.mark.parametrize(("have", "chosen"), [(1, "virtual"), (2, "virtual"), (3, "wall")])
def test_auto_takes_the_wall_clock_where_each_rank_has_a_core(monkeypatch, have, chosen):
    monkeypatch.setattr(hardware, "cores", lambda: have)
    monkeypatch.setattr(clocks, "cores", lambda: have)
    assert pipeline().step(*text()).timeline.clock == chosen


@pytest.mark.parametrize("have", [1, 2, 8])
def test_the_wall_clock_says_where_ranks_outnumber_cores(monkeypatch, have):
    monkeypatch.setattr(hardware, "cores", lambda: have)
    monkeypatch.setattr(clocks, "cores", lambda: have)
    timeline = pipeline(clock="wall").step(*text()).timeline
    note = f"wall clock on cpu ({have} cores, 1 thread a rank): starts and ends are measured"
    if have < 3:
        note += (
            f"; 3 ranks share {have} cores: where more than {have} work at once, they slow each "
            f"other down"
        )
    assert timeline.note == note
    assert timeline.note in timeline.describe()


def test_the_virtual_clock_says_what_it_models():
    timeline = pipeline(clock="virtual").step(*text()).timeline
    assert "virtual clock on cpu" in timeline.note
    assert "durations are measured one action at a time" in timeline.note
    assert "transfers modelled (0 s and no limit)" in timeline.note
    assert "virtual clock" in timeline.headline()


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize(("threads", "ranks", "each"), [(4, 2, 2), (4, 3, 1), (5, 2, 2), (4, 1, 4)])
def test_ranks_share_the_threads_there_are(clock, threads, ranks, each):
    class Threads(nn.Module):
        def forward(self, x):
            seen.append(torch.get_num_threads())
            return x

    seen = []
    run = pipeline(
        [2] * ranks, clock=clock, m=1,
        layers=[part for _ in range(ranks) for part in (nn.Linear(4, 4), Threads())],
    )  # fmt: skip
    torch.set_num_threads(threads)
    run.step(torch.randn(2, 4), torch.zeros(2, dtype=torch.long))
    assert seen == [each] * ranks
    assert torch.get_num_threads() == threads


# ---- a step that fails -------------------------------------------------------------------------


class Fuse(nn.Module):
    """Burns in the forward or the backward of one of its calls, then works again."""

    def __init__(self, where, call, error=RuntimeError):
        super().__init__()
        self.where, self.call, self.error, self.calls = where, call, error, {"F": 0, "B": 0}

    def burn(self, where):
        self.calls[where] += 1
        if self.where == where and self.calls[where] == self.call:
            raise self.error("the fuse has burnt")

    def forward(self, x):
        self.burn("F")
        return _Passing.apply(x, self)


class _Passing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, fuse):
        ctx.fuse = fuse
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.fuse.burn("B")
        return gradient, None


def with_fuse(where, call, error=RuntimeError):
    """Six layers for stages of two; the fuse is layer 3, in stage 1. Both ends share a weight."""
    torch.manual_seed(0)
    own = Decoder(VOCABULARY, WIDTH, 3, 2, POSITIONS, tied=True).layers
    return [*own[:3], Fuse(where, call, error), *own[3:]]


def gradients(run):
    return [weight.grad for weight in run.parameters()]


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("schedule", ["naive", "gpipe", "1f1b"])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("where", "microbatch"), [("F", 0), ("F", 2), ("B", 0), ("B", 2)])
def test_a_failing_layer_is_named_and_leaves_nothing_behind(
    clock, schedule, recompute, where, microbatch
):
    run = pipeline(schedule=schedule, clock=clock, recompute=recompute, layers=with_fuse("", 0))
    run.step(*text())
    kept = gradients(run)
    numbers = [gradient.clone() for gradient in kept]
    fuse = run.layers[3]
    fuse.where, fuse.calls = where, {"F": 0, "B": 0}
    again = recompute and schedule != "gpipe"  # forwards that run again come between
    fuse.call = microbatch + 1 if where == "B" or not again else 2 * microbatch + 1
    if where == "F" and schedule == "1f1b" and again:
        fuse.call = microbatch + 1 + max(0, microbatch - 1)  # one forward ahead of the backwards
    with pytest.raises(PipelineError) as caught:
        run.step(*text())
    layer = r"layer 3 \(Fuse\)" if where == "F" else "layers 2 to 3"
    assert caught.match(
        rf"^rank 1, stage 1, action 1{where}{microbatch} \(micro-batch {microbatch}\), {layer}: "
        r"RuntimeError: the fuse has burnt$"
    )
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, RuntimeError)
    assert type(caught.value.__cause__) is RuntimeError
    assert not ranks_alive()
    assert all(now is before for now, before in zip(gradients(run), kept, strict=True))
    assert all(map(torch.equal, kept, numbers))
    run.zero_grad()
    run.step(*text())
    whole = pipeline((6,), schedule="naive", clock="virtual", layers=with_fuse("", 0))
    whole.step(*text())
    assert all(map(torch.equal, gradients(run), gradients(whole)))


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_failing_loss_is_told_from_a_failing_layer(clock):
    def loss_fn(outputs, targets):
        raise KeyError("no loss today")

    with pytest.raises(PipelineError, match=r"rank 2, stage 2, action 2F0.*, loss_fn: KeyError"):
        pipeline(clock=clock, loss_fn=loss_fn).step(*text())


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_failing_forward_of_a_recomputed_backward_names_its_layer(clock):
    run = pipeline(clock=clock, recompute=True, m=1, layers=with_fuse("F", 2), probe=False)
    with pytest.raises(PipelineError, match=r"stage 1, action 1B0 .*, layer 3 \(Fuse\)"):
        run.step(*text())


def test_a_stage_of_one_layer_names_it_in_its_backward_too():
    run = pipeline((3, 1, 2), clock="virtual", layers=with_fuse("B", 1))
    with pytest.raises(PipelineError, match=r"action 1B0 \(micro-batch 0\), layer 3 \(Fuse\): Run"):
        run.step(*text())


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("clock", CLOCKS)
def test_every_kind_of_error_ends_the_step(clock, error):
    run = pipeline(clock=clock, layers=with_fuse("F", 2, error), probe=False)
    expected = PipelineError if error is MemoryError else error
    with pytest.raises(expected, match="the fuse has burnt"):
        run.step(*text())
    assert gradients(run) == [None] * len(gradients(run))
    run.step(*text())


@pytest.mark.parametrize("fails", [1, 2, 3])
def test_after_a_failure_no_rank_begins_another_action(fails, monkeypatch):
    """Rank 0 has 48 forwards ahead that need nobody when it hears of the failure."""
    stopped, stop = threading.Event(), Run.stop

    def heard(run):
        stop(run)
        stopped.set()

    class Counted(nn.Module):
        def __init__(self, rank):
            super().__init__()
            self.rank, self.weight = rank, nn.Parameter(torch.ones(1))

        def forward(self, x):
            calls.append(self.rank)
            if self.rank == fails:
                raise RuntimeError("stop here")
            if self.rank == 0 and calls.count(0) == 2:
                assert stopped.wait(timeout=30)
            return x * self.weight

    monkeypatch.setattr(Run, "stop", heard)
    calls = []
    counted = [Counted(r) for r in range(4)]
    run = pipeline((1, 1, 1, 1), schedule="gpipe", m=50, clock="wall", layers=counted, probe=False)
    with pytest.raises(PipelineError, match=f"rank {fails}, .*stop here"):
        run.step(torch.randn(50, 4), torch.zeros(50, dtype=torch.long))
    assert calls.count(0) <= 2  # the failure may come before rank 0 gets to its second forward
    assert calls.count(fails) == 1


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("where", ["F", "B"])
def test_a_failed_step_is_freed_without_the_garbage_collector(clock, where):
    class Noted(nn.Module):
        def forward(self, x):
            outputs.append(StorageWeakRef(x.untyped_storage()))
            return x

    outputs = []
    *front, head = layers()
    last = nn.Sequential(Noted(), Fuse(where, 2), head)  # when it burns, others are still held
    run = pipeline(schedule="gpipe", clock=clock, layers=[*front, last])
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(PipelineError):
            run.step(*text())
        assert outputs
        assert all(output.expired() for output in outputs)
    finally:
        gc.enable()


class Blocks(nn.Module):
    """Interrupts the caller while this rank works and the others wait."""

    def __init__(self, how):
        super().__init__()
        self.how, self.armed, self.working = how, True, False

    def forward(self, x):
        if self.armed:
            self.armed = False
            if self.how == "main":
                _thread.interrupt_main()
            else:
                signal.setitimer(signal.ITIMER_REAL, 0.01)
            self.working = True
            try:
                time.sleep(0.05)
            finally:
                self.working = False
        return x


@pytest.fixture
def alarm(monkeypatch):
    """The alarm clock raises KeyboardInterrupt, as Ctrl-C does, in a background job too.

    One that comes while Python clears a weak reference is dropped by Python itself, with a word.
    """

    def interrupt(*_):
        raise KeyboardInterrupt

    def hear(unraisable, others=sys.unraisablehook):
        if unraisable.exc_type is not KeyboardInterrupt:
            others(unraisable)

    monkeypatch.setattr(sys, "unraisablehook", hear)
    signals = (signal.SIGALRM, signal.SIGINT)  # a shell's background jobs ignore the second
    before = [signal.signal(number, interrupt) for number in signals]
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in zip(signals, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("how", ["main", "alarm"])
@pytest.mark.parametrize("place", [1, 3, 5])
def test_an_interrupt_ends_every_rank_and_the_next_step_is_right(clock, how, place):
    torch.manual_seed(0)
    own = Decoder(VOCABULARY, WIDTH, 3, 2, POSITIONS, tied=True).layers
    run = pipeline(clock=clock, layers=[*own[:place], Blocks(how), *own[place:]], probe=False)
    with pytest.raises(KeyboardInterrupt):
        run.step(*text())
    assert not run.layers[place].working
    assert not ranks_alive()
    assert gradients(run) == [None] * len(gradients(run))
    run.step(*text())
    whole = pipeline((6,), schedule="naive", clock="virtual", layers=with_fuse("", 0))
    whole.step(*text())
    assert all(map(torch.equal, gradients(run), gradients(whole)))


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("clock", CLOCKS)
def test_an_interrupt_at_any_moment_spoils_no_later_step(clock):
    chance = random.Random(0)
    whole = pipeline((6,), schedule="naive", clock="virtual", layers=with_fuse("", 0))
    whole.step(*text())
    run = pipeline(clock=clock, layers=with_fuse("", 0))
    caught = 0
    for _ in range(15):
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0005, 0.01))
            run.step(*text())
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            caught += 1
        assert not ranks_alive()
        run.zero_grad()
        run.step(*text())
        assert all(map(torch.equal, gradients(run), gradients(whole)))
    assert caught


def test_no_thread_is_left_when_there_are_no_more_to_be_had(monkeypatch):
    start, started = threading.Thread.start, []

    def limited(thread):
        if thread.name == "d2lpart-rank-2":
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    run = pipeline(clock="wall")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", limited)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            run.step(*text())
    assert len(started) == 2
    assert not any(thread.is_alive() for thread in started)
    run.step(*text())


# ---- threads under stress ----------------------------------------------------------------------


@pytest.mark.parametrize("interval", [1e-6, 0.005, 0.1])
def test_how_often_threads_switch_changes_nothing(interval):
    before = sys.getswitchinterval()
    whole = pipeline((6,), schedule="naive", clock="virtual", layers=with_fuse("", 0))
    whole.step(*text())
    sys.setswitchinterval(interval)
    try:
        for schedule in ("gpipe", "1f1b"):
            run = pipeline((1,) * 6, schedule=schedule, clock="wall", layers=with_fuse("", 0))
            run.step(*text())
            assert all(map(torch.equal, gradients(run), gradients(whole)))
    finally:
        sys.setswitchinterval(before)


def test_two_hundred_steps_leave_no_thread_and_no_tensor():
    run = pipeline((1, 1, 1), m=2, clock="wall", layers=[nn.Linear(4, 4) for _ in range(3)])
    inputs, targets = torch.randn(4, 4), torch.zeros(4, dtype=torch.long)
    for _ in range(2):
        run.step(inputs, targets)
    gc.collect()
    threads, tensors = set(threading.enumerate()), count_tensors()
    gc.disable()
    try:
        for _ in range(200):
            run.step(inputs, targets)
        assert count_tensors() == tensors
    finally:
        gc.enable()
    assert not set(threading.enumerate()) - threads


def count_tensors():
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_two_pipelines_may_run_at_the_same_time():
    whole = pipeline((6,), schedule="naive", clock="virtual", layers=with_fuse("", 0))
    whole.step(*text())
    runs = [pipeline(clock="wall", layers=with_fuse("", 0)) for _ in range(2)]
    callers = [threading.Thread(target=run.step, args=tuple(text())) for run in runs]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for run in runs:
        assert all(map(torch.equal, gradients(run), gradients(whole)))


@pytest.mark.parametrize("seed", range(6))
def test_random_orders_on_the_wall_clock_keep_to_the_rule(seed, random_schedule):
    schedule = random_schedule(random.Random(seed))
    orders = [
        [a._replace(kind="B" if a.kind == "I" else a.kind) for a in order if a.kind != "W"]
        for order in schedule.orders
    ]
    schedule = Schedule(orders, schedule.stage_to_rank)
    sizes = [1] * (schedule.num_stages - 1) + [7 - schedule.num_stages]
    run = Pipeline(layers(), sizes, schedule=schedule, clock="wall")
    found = spans(run.step(*text()).timeline)
    for action, span in found.items():
        assert all(found[need].end <= span.start for need in dependencies(action, schedule))


def test_the_schedule_itself_may_be_given():
    schedule = build_schedule("gpipe", 3, 2)
    timeline = pipeline(schedule=schedule, m=1, clock="wall").step(*text()).timeline
    assert timeline.schedule == schedule
