"""The two clocks that measure: how a step's actions are performed, and how their times are read.

The wall clock lets every rank work on a thread of its own, and reads starts and ends. The virtual
clock performs the actions one at a time, reads how long each takes, and lets the simulator place
them as if every rank had the hardware to itself.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import torch

from d2lpart.common.interrupts import end, uninterrupted
from d2lpart.common.quantities import count
from d2lpart.machine.hardware import cores, crowded, synchronize, threads, threads_per_rank
from d2lpart.machine.transfer import Clock
from d2lpart.pipeline.engine import Run, Stopped
from d2lpart.schedules.validation import execution_order
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.spans import Link, Span, Transfer
from d2lpart.timelines.timeline import Timeline

CHOICES = ("auto", "virtual", "wall")


def measure(run: Run, clock: str, link: Link) -> Timeline:
    """Perform all actions of `run` and return their timeline.

    Args:
        run: a step that has not begun.
        clock: "virtual", "wall", or "auto": wall where each rank has a device or a core.
        link: what the virtual clock sends messages over.
    """
    if clock == "auto":
        clock = "virtual" if crowded([place.device for place in run.places]) else "wall"
    for place in run.places:
        place.begin()
    reader = Clock(run.places)
    try:
        (_together if clock == "wall" else _alone)(run)
    finally:
        for place in run.places:
            place.finish()
        synchronize(place.device for place in run.places)
    return _wall(run, reader) if clock == "wall" else _virtual(run, reader, link)


def _alone(run: Run) -> None:
    """Perform every action by itself, with the threads that a rank would have."""
    with threads(threads_per_rank([place.device for place in run.places])):
        for action in execution_order(run.schedule):
            place = run.places[run.schedule.stage_to_rank[action.stage]]
            with place.working():
                run.perform(action)
            synchronize(other.device for other in run.places)


def _together(run: Run) -> None:
    """Perform every rank's order on a thread of its own; a single rank needs none."""
    if len(run.places) == 1:
        with run.places[0].working():
            for action in run.schedule.orders[0]:
                run.perform(action)
        return
    failures: list[BaseException] = []
    number = threads_per_rank([place.device for place in run.places])
    enter = ambient({place.device.type for place in run.places})

    def work(rank: int) -> None:
        try:
            torch.set_num_threads(number)
            with enter(), run.places[rank].working():
                for action in run.schedule.orders[rank]:
                    run.perform(action)
        except Stopped:
            pass
        except BaseException as error:
            failures.append(error)
            run.stop()

    _on_threads(work, run)
    if failures:
        raise failures.pop(0)  # in the list it would hold itself, and with it the whole step


def _on_threads(work: Callable[[int], None], run: Run) -> None:
    """Call `work(rank)` on one thread a rank; after an interrupt none begins another action.

    Every thread reports its end by an event: before Python 3.13 a `join` that was interrupted takes
    the thread for ended. One whose layer goes on after an interrupt is left in `run.late`.
    """
    before = torch.get_num_threads()
    ended = [threading.Event() for _ in run.places]

    def live(rank: int) -> None:
        try:
            work(rank)
        finally:
            ended[rank].set()

    workers = [
        threading.Thread(target=live, args=(rank,), name=f"d2lpart-rank-{rank}", daemon=True)
        for rank in range(len(run.places))
    ]
    try:
        for worker in workers:
            worker.start()
        for event in ended:
            event.wait()
    except BaseException:  # an interrupt, or no more threads to be had
        run.stop()
        with uninterrupted():
            run.late += end([worker for worker in workers if worker.is_alive()], Stopped)
            run.refuse_gradients()
        raise
    finally:
        torch.set_num_threads(before)
    for worker in workers:
        worker.join()


def ambient(device_types: set[str]) -> Callable[[], AbstractContextManager[object]]:
    """Return the caller's autocast, to be entered by other threads; torch keeps one a thread."""
    settings = [
        (kind, torch.get_autocast_dtype(kind))
        for kind in sorted(device_types)
        if torch.is_autocast_enabled(kind)
    ]
    cache = torch.is_autocast_cache_enabled()

    def enter() -> AbstractContextManager[object]:
        stack = ExitStack()
        for kind, dtype in settings:
            stack.enter_context(torch.autocast(kind, dtype=dtype, cache_enabled=cache))
        return stack

    return enter


def _wall(run: Run, reader: Clock) -> Timeline:
    """Read every mark; the step begins when its first action does."""
    ranks = run.schedule.stage_to_rank
    times = {a: (reader.read(begin), reader.read(end)) for a, (begin, end) in run.marks.items()}
    zero = min(begin for begin, _ in times.values())
    spans = [Span(ranks[a.stage], a, b - zero, e - zero) for a, (b, e) in times.items()]
    transfers = []
    for action, parcel in run.sent.items():
        consumer = run.schedule.consumer(action)
        assert consumer is not None, "only what a stage waits for is sent"
        source, target = ranks[action.stage], ranks[consumer.stage]
        if source != target:
            sent, arrived = reader.read(parcel.sent) - zero, reader.read(parcel.arrived) - zero
            transfers.append(Transfer(source, target, parcel.nbytes, sent, arrived, action))
    note = f"wall clock on {_where(run)}: starts and ends are measured"
    for device, ranks_there, room in crowded([place.device for place in run.places]):
        shared = f"{room} cores" if device.type == "cpu" else str(device)
        note += (
            f"; {ranks_there} ranks share {shared}: where more than {room} work at once, they slow "
            f"each other down"
        )
    return Timeline(spans, transfers, "wall", run.schedule, note)


def _virtual(run: Run, reader: Clock, link: Link) -> Timeline:
    """Place the measured durations by the dependency rule."""
    seconds = {a: reader.read(end) - reader.read(begin) for a, (begin, end) in run.marks.items()}
    note = (
        f"virtual clock on {_where(run)}: durations are measured one action at a time; starts are "
        f"placed by the dependency rule, transfers modelled ({link})"
    )
    return simulate(
        run.schedule,
        seconds.__getitem__,
        link,
        boundary_bytes=lambda action: run.sent[action].nbytes,
        clock="virtual",
        note=note,
    )


def _where(run: Run) -> str:
    names = sorted({str(place.device) for place in run.places})
    number = threads_per_rank([place.device for place in run.places])
    at_once = f" ({cores()} cores, {count(number, 'thread')} a rank)"
    return ", ".join(name + at_once * (name == "cpu") for name in names)
