"""The generators that a forward may draw from beside keyed dropout: who drew, and keys for them.

They belong to the whole process: torch has one for each device, Python and numpy have one each. A
layer that draws from them gets them to itself, seeded by its key, and they are put back after it.
"""

import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._guards import detect_fake_mode
from torch.overrides import TorchFunctionMode

from d2lpart.stages.keyed_dropout import generator_seed

State = dict[str, Any]
"""The states of generators, each under what it is called."""

_alone = threading.RLock()
_lent: list[tuple[State, torch.device, threading.Thread]] = []
"""What the generators were before a layer got them, where that is, and whose thread it runs on."""


def read(device: torch.device) -> State:
    """Return the states of all generators that a layer on `device` may draw from."""
    found: State = {"torch's generator of the CPU": torch.get_rng_state()}
    if device.type == "cuda":
        found[f"torch's generator of {device}"] = torch.cuda.get_rng_state(device)
    found["Python's random"] = random.getstate()
    if numpy := sys.modules.get("numpy"):
        found["numpy's random"] = numpy.random.get_state()
    return found


def torch_states(device: torch.device) -> list[torch.Tensor]:
    """Return the states of torch's generators alone, as often as is wanted in one forward."""
    states = [torch.default_generator.get_state()]
    return states + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])


def put_back(state: State, device: torch.device) -> None:
    """Let the generators go on from where they were."""
    torch.set_rng_state(state["torch's generator of the CPU"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[f"torch's generator of {device}"], device)
    random.setstate(state["Python's random"])
    if "numpy's random" in state:
        sys.modules["numpy"].random.set_state(state["numpy's random"])


def drawn_from(before: State, after: State) -> list[str]:
    """Return the names of the generators that have been drawn from in between."""
    return [name for name, state in before.items() if not _same(state, after[name])]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple):
        return all(map(_same, one, other))
    return bool((one == other) if not hasattr(one, "tobytes") else one.tobytes() == other.tobytes())


@contextmanager
def keyed_generators(device: torch.device, seed: int, *key: int) -> Iterator[None]:
    """Seed the generators by whole numbers for as long as the context lasts; one thread at a time.

    Args:
        device: where the layer is.
        seed: the seed of the run.
        key: what tells the draws apart, for example step, micro-batch, layer.

    >>> with keyed_generators(torch.device("cpu"), 0, 3):
    ...     first = torch.rand(2)
    >>> with keyed_generators(torch.device("cpu"), 0, 3):
    ...     again = torch.rand(2)
    >>> torch.equal(first, again)
    True
    """
    number = generator_seed(seed, *key)
    with _alone:
        before = read(device)
        _lent.append((before, device, threading.current_thread()))
        try:
            torch.default_generator.manual_seed(number)
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(number)
            random.seed(number)
            if "numpy's random" in before:
                sys.modules["numpy"].random.seed(number % 2**32)
            yield
        finally:
            _return([one for one in _lent if one[0] is before])


def give_back(threads: Iterable[threading.Thread]) -> None:
    """Put the generators back where an interrupt has kept these threads from doing so."""
    threads = list(threads)
    _return([one for one in _lent if one[2] in threads])


def _return(loans: Sequence[tuple[State, torch.device, threading.Thread]]) -> None:
    for loan in loans[:1]:  # of several, one inside the other, the first is what there was
        put_back(*loan[:2])
    _lent[:] = [one for one in _lent if not any(one is loan for loan in loans)]


class UnkeyedDraw(ValueError):
    """Random numbers were drawn where no key determines them, from the generators `names`."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = sorted(names)
        super().__init__(
            f"{' and '.join(self.names)} went on during the step, which no key determines: a layer "
            f"has begun to draw random numbers since the first step, or another thread draws some; "
            f"the next step looks at the layers anew (probe=False looks at none)"
        )


@contextmanager
def nothing_drawn(devices: Iterable[torch.device]) -> Iterator[None]:
    """Raise at the end of the context if a generator of these devices has gone on in it.

    Raises:
        UnkeyedDraw: one has.
    """
    before = {device: read(device) for device in devices}
    yield
    names = {name for device, old in before.items() for name in drawn_from(old, read(device))}
    if names:
        raise UnkeyedDraw(names)


class no_draws(TorchFunctionMode):
    """A context for a backward: raises where a layer draws random numbers again in it.

    A forward that is repeated in the backward (`torch.utils.checkpoint`) would have to draw what it
    drew before, but its key is not at hand there.

    Args:
        device: where the layers are.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function, and raise if a generator has gone on."""
        if detect_fake_mode() is not None:  # a compiler looks at the backward: nothing is drawn
            return func(*args, **(kwargs or {}))
        with _alone:  # no other rank has the generators meanwhile
            return self._call(func, args, kwargs or {})

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        before = read(self.device)
        try:
            return func(*args, **kwargs)
        finally:  # a checkpoint may end its forward by an exception
            if drawn := drawn_from(before, read(self.device)):
                raise ValueError(
                    f"a layer draws from {' and '.join(drawn)} in its backward, where it repeats "
                    f"its forward (torch.utils.checkpoint): the numbers would be others than in "
                    f"the forward; take the checkpoint off and use Pipeline(recompute=True), which "
                    f"keys them, or leave out what is random (dropout p=0)"
                )
