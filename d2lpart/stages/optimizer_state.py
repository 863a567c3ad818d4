"""The state of optimizers, found by the weights it belongs to.

A pipeline never sees the optimizer that trains it. So every optimizer that takes a step is noted,
by a hook that torch has for all of them; it is noted weakly, and forgotten when the program lets go
of it.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Protocol
from weakref import WeakSet

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook


class Watcher(Protocol):
    """What is told of every step of an optimizer."""

    def after_optimizer(self, optimizer: Optimizer) -> None:
        """Take note that the optimizer has stepped, and has its state."""


_seen: WeakSet[Optimizer] = WeakSet()
_watchers: WeakSet[Any] = WeakSet()


@cache
def listen() -> None:
    """Note every optimizer that steps from now on."""

    def after(optimizer: Optimizer, *_: Any) -> None:
        note(optimizer)
        for watcher in list(_watchers):
            watcher.after_optimizer(optimizer)

    register_optimizer_step_post_hook(after)


def note(optimizer: Optimizer) -> None:
    """Count the state of an optimizer that has not stepped yet, such as one that was loaded."""
    _seen.add(optimizer)


def watch(watcher: Watcher) -> None:
    """Tell `watcher` of every step, for as long as the program keeps it."""
    _watchers.add(watcher)


def state_of(weights: Iterable[nn.Parameter]) -> Iterator[Tensor]:
    """Yield every tensor that an optimizer keeps for one of these weights."""
    optimizers = list(_seen)
    for weight in weights:
        for optimizer in optimizers:
            yield from _tensors(optimizer.state.get(weight))


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
