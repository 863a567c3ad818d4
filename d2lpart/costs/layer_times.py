"""How long the layers take, one after another as in a step: forwards down, backwards up.

Each layer has a graph of its own, so that its F, B, I and W can be timed apart. But they run in
sequence: a layer finds in the caches what its neighbours have left there, and its gradients are
added to those of the micro-batch before. Two micro-batches are in flight, and the first to come is
the first to go: so memory is given back in another order than it was taken, as in a step, and the
allocator has as much to do. On CUDA a pass is launched as a whole, and events in the stream say
when each layer began and ended; nothing waits in between.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from d2lpart.costs.layer_cost import SPLIT_F
from d2lpart.costs.layer_facts import Entry, halves_of, run
from d2lpart.machine.hardware import synchronize, threads
from d2lpart.machine.transfer import Clock, Mark, Place
from d2lpart.stages.keyed_dropout import uses_randomness
from d2lpart.stages.saved import Saved
from d2lpart.stages.split_backward import accumulate

IN_FLIGHT = 2

KINDS = {False: ("F", "B"), True: (SPLIT_F, "I", "W")}
"""What a micro-batch is timed in, by whether its backward is split."""

Times = dict[str, list[float]]
"""For each kind of action, the seconds of all runs."""

Marks = dict[tuple[str, int], tuple[Mark, Mark]]
"""For each kind of action and layer, its beginning and its end in one micro-batch."""


@dataclass
class Ran:
    """A layer that has run forward, and what its backward needs."""

    place: Place
    layer: int
    entry: Entry
    output: Tensor
    saved: Saved | None  # None: the backward is not split


@dataclass
class Chain:
    """The layers to be timed, where they are, and what they start from and end in.

    Args:
        layers: in order.
        places: one for each layer; layers on one device share one.
        sample: the input of the first layer.
        wants: for each layer, whether its input wants a gradient.
        finish: the loss as a function of the last output; None: the backward starts with ones.
    """

    layers: Sequence[nn.Module]
    places: Sequence[Place]
    sample: Tensor
    wants: Sequence[bool]
    finish: Callable[[Tensor], Tensor] | None = None
    random: list[bool] = field(init=False)

    def __post_init__(self) -> None:
        self.random = [uses_randomness(layer) for layer in self.layers]

    def time(self, passes: int, at_once: int) -> list[Times]:
        """Return the seconds of every layer, two numbers a pass, after one pass to warm up.

        A pass with B and one with I and W take turns, so that what disturbs one disturbs both. The
        loss is part of the last layer's times. Where there is no gradient, a backward takes 0 s. On
        the CPU `at_once` threads compute.
        """
        found: list[Times] = [defaultdict(list) for _ in self.layers]
        with threads(at_once):
            for number in range(-1, passes):
                for split, kinds in KINDS.items():
                    for seconds in self._pass(number, split):
                        for layer, times in enumerate(found if number >= 0 else []):
                            for kind in kinds:
                                times[kind].append(seconds.get((kind, layer), 0.0))
        return found

    def _pass(self, number: int, split: bool) -> list[dict[tuple[str, int], float]]:
        """Run the micro-batches forward, then backward, and return the seconds of each action."""
        for place in set(self.places):
            place.begin()
        clock = Clock(self.places)
        in_flight = [self._forwards(number, split) for _ in range(IN_FLIGHT)]
        made = []
        while in_flight:
            marks, ran = in_flight.pop(0)
            _backwards(ran, marks)
            made.append(marks)
        synchronize(place.device for place in self.places)
        return [
            {key: clock.read(end) - clock.read(begin) for key, (begin, end) in marks.items()}
            for marks in made
        ]

    def _forwards(self, number: int, split: bool) -> tuple[Marks, list[Ran]]:
        """Run all layers on one micro-batch."""
        marks, ran, tensor = Marks(), list[Ran](), self.sample
        for layer, place in enumerate(self.places):
            with place.working():
                entry = Entry.of(_brought(tensor, place), self.wants[layer])
                saved = Saved() if split else None
                begin = place.mark()
                with saved.saving() if saved else nullcontext():
                    random = self.random[layer]
                    tensor = run(self.layers[layer], entry.tensor, random, number, layer)
                    if self.finish and layer == len(self.layers) - 1:
                        tensor = self.finish(tensor)
                marks[KINDS[split][0], layer] = begin, place.mark()
            ran.append(Ran(place, layer, entry, tensor, saved))
        return marks, ran


def _backwards(ran: list[Ran], marks: Marks) -> None:
    """Run all layers backward, and let each go; layers that no gradient gets to do nothing."""
    with ran[-1].place.working():  # filled and read on the same stream
        gradient: Tensor | None = torch.ones_like(ran[-1].output)
    while ran and gradient is not None:
        gradient = _backward(ran.pop(), gradient, marks)


def _backward(ran: Ran, gradient: Tensor, marks: Marks) -> Tensor | None:
    """Run B, or I and W, and return the gradient of the input."""
    if not ran.output.requires_grad:
        return None
    place = ran.place
    with place.working():
        gradient = _brought(gradient, place)
        begin = place.mark()
        if ran.saved is None:
            accumulate([(get_gradient_edge(ran.output), gradient)])
            marks["B", ran.layer] = begin, place.mark()
            return ran.entry.leaf.grad
        halves = halves_of(ran.output, ran.entry, ran.saved)
        found = halves.run_input(gradient)
        ran.saved.let_go()
        middle = place.mark()
        halves.run_weights()
        marks["I", ran.layer], marks["W", ran.layer] = (begin, middle), (middle, place.mark())
        return found


def _brought(tensor: Tensor, place: Place) -> Tensor:
    """Return the tensor on a layer's device; the device that it comes from is waited for."""
    if tensor.device != place.device:
        synchronize([tensor.device])
    return tensor.to(place.device)
