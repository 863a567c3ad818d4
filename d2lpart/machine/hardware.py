"""The places that this machine has: CPU cores and CUDA devices, found, named and waited for."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def existing() -> list[torch.device]:
    """Return the devices of this machine: every CUDA device, then the CPU."""
    found = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [*found, torch.device("cpu")]


def devices(n: int) -> list[torch.device]:
    """Return the `n` best places this machine has for `n` ranks.

    Ranks are spread over the CUDA devices, neighbours side by side where several share one;
    without CUDA every rank gets the CPU.

    Raises:
        ValueError: `n` is no whole number, or below 1.

    >>> len(devices(4))
    4
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"devices({n!r}): ask for a whole number of places, at least 1")
    best = existing()[:-1] or existing()
    return [best[rank * len(best) // n if n > len(best) else rank] for rank in range(n)]


def named(name: object) -> torch.device:
    """Return the device of that name, whether this machine has it or not.

    Raises:
        ValueError: this is no name of a device.
    """
    try:
        return torch.device(name)  # type: ignore[call-overload]
    except (RuntimeError, TypeError):
        raise ValueError(f"{name!r} names no device: this machine has {_have()}") from None


def as_device(name: object) -> torch.device:
    """Return the device of that name, if this machine has it.

    Raises:
        ValueError: there is no such device; the message lists those that exist.
    """
    device = named(name)
    if device.type == "cuda" and device.index is None and torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
    if device.type == "cpu":
        return torch.device("cpu")
    if device not in existing():
        raise ValueError(f"device {device} does not exist: this machine has {_have()}")
    return device


def _have() -> str:
    return ", ".join(str(device) for device in existing())


def default_ranks(num_layers: int) -> int:
    """Return how many ranks can really work at once here: the CUDA devices, else the cores."""
    return min(num_layers, torch.cuda.device_count() or cores())


def crowded(places: Sequence[torch.device]) -> list[tuple[torch.device, int, int]]:
    """Return (device, ranks, room) where more ranks are than can work at once.

    The CPU has room for one rank a core, a GPU for one.
    """
    room = {device: cores() if device.type == "cpu" else 1 for device in existing()}
    shares = Counter(places).items()
    return [(device, ranks, room[device]) for device, ranks in shares if ranks > room[device]]


def threads_per_rank(places: Sequence[torch.device]) -> int:
    """Return the intra-op threads of each rank when the ranks on the CPU share those there are."""
    on_cpu = sum(device.type == "cpu" for device in places)
    return max(1, torch.get_num_threads() // max(1, on_cpu))


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with this many intra-op threads as long as the context lasts.

    >>> with threads(1):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def synchronize(places: Iterable[torch.device]) -> None:
    """Wait until everything that was launched on these devices has ended."""
    for device in set(places):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
