"""A tensor from one rank to another: bytes counted, copies overlapped with computation.

On CUDA every rank computes on one stream and copies on another, so a copy that leaves a GPU runs
while the rank already computes its next action. An event orders the copy behind the work that makes
the tensor, and the receiver behind the copy. `record_stream` keeps the caching allocator from
handing out the memory while another stream still reads it.
"""

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from d2lpart.machine.allocator import keep_freed_memory

Mark = float | torch.cuda.Event
"""A moment: seconds of the host's clock, or an event in a CUDA stream."""


class Place:
    """Where a rank works: a device and, on CUDA, a stream to compute on and one to copy on.

    On the CPU the process keeps the memory that it frees: see `keep_freed_memory`.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type == "cpu":
            keep_freed_memory()
        self.device = device
        self.compute = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.copy = torch.cuda.Stream(device) if device.type == "cuda" else None

    def working(self) -> AbstractContextManager[object]:
        """Return a context in which this thread launches work on the rank's compute stream."""
        return torch.cuda.stream(self.compute) if self.compute else nullcontext()

    def mark(self, stream: torch.cuda.Stream | None = None) -> Mark:
        """Mark this moment: on the host, or in a stream (the compute stream by default)."""
        if self.compute is None:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(stream or self.compute)
        return event

    def begin(self) -> None:
        """Let the rank's streams start behind what the caller has launched on the device."""
        if self.compute and self.copy:
            for stream in (self.compute, self.copy):
                stream.wait_stream(torch.cuda.current_stream(self.device))

    def finish(self) -> None:
        """Let the caller's stream go on behind what the rank has launched."""
        if self.compute and self.copy:
            for stream in (self.compute, self.copy):
                torch.cuda.current_stream(self.device).wait_stream(stream)


@dataclass
class Parcel:
    """A tensor on its way to another rank, already on that rank's device; it is opened once."""

    tensor: Tensor | None  # None: there is no gradient to send
    nbytes: int
    sent: Mark
    arrived: Mark

    def open(self, target: Place) -> Tensor | None:
        """Give the tensor away, safe to use on the target's compute stream."""
        if isinstance(self.arrived, torch.cuda.Event):
            if target.compute is None:
                self.arrived.synchronize()
            else:
                target.compute.wait_event(self.arrived)
        tensor, self.tensor = self.tensor, None  # the parcel outlives the step's use of the tensor
        if tensor is not None and target.compute is not None:
            tensor.record_stream(target.compute)
        return tensor


def send(tensor: Tensor | None, source: Place, target: Place, made: Mark | None = None) -> Parcel:
    """Move `tensor` from one rank to another, and return it as a parcel without waiting for it.

    The tensor is detached: each stage has an autograd graph of its own. Ranks on one device pass
    the tensor on as it is: it arrives the moment it was `made` (now, if not given). Its bytes count
    all the same: they are what a link would carry.
    """
    if tensor is None or source.device == target.device:
        now = source.mark() if made is None else made
        moved = None if tensor is None else tensor.detach()
        return Parcel(moved, 0 if moved is None else moved.nbytes, now, now)
    with ExitStack() as streams:
        for place in (source, target):  # a copy between GPUs is ordered by both current streams
            if place.copy is not None:
                streams.enter_context(torch.cuda.stream(place.copy))
        if source.compute is not None and source.copy is not None:
            source.copy.wait_stream(source.compute)
            tensor.record_stream(source.copy)
        copier = source if source.copy is not None else target
        sent = copier.mark(copier.copy)
        moved = _copy(tensor.detach(), target.device)
        arrived = copier.mark(copier.copy)
    return Parcel(moved, moved.nbytes, sent, arrived)


def _copy(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy without blocking the host: towards the CPU that needs page-locked memory."""
    if device.type == "cpu":
        landing = torch.empty_like(tensor, device=device, pin_memory=True)
        return landing.copy_(tensor, non_blocking=True)
    return tensor.to(device, non_blocking=True)


class Clock:
    """Reads marks that were made on different devices on one axis, in seconds."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._origin: dict[torch.device, tuple[torch.cuda.Event, float]] = {}
        for place in places:
            if place.compute is not None and place.device not in self._origin:
                torch.cuda.synchronize(place.device)
                event = place.mark()
                assert isinstance(event, torch.cuda.Event)
                event.synchronize()
                self._origin[place.device] = event, time.perf_counter()

    def read(self, mark: Mark) -> float:
        """Return the time of a mark; the devices have been synchronised since."""
        if isinstance(mark, float):
            return mark
        event, origin = self._origin[mark.device]
        return origin + event.elapsed_time(mark) / 1e3
