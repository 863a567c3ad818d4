"""Stage: consecutive layers in one place, and what a rank does with them for one micro-batch.

Forward (F) runs the layers on a detached input, so every stage has an autograd graph of its own.
Backward (B) runs that graph from the gradient of the output to the gradient of the input; the
weights' gradients add up in `.grad` on the way. Or it runs in two halves: I makes the gradient of
the input, W adds up those of the weights.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from d2lpart.stages.footprint import Footprint
from d2lpart.stages.generators import keyed_generators, no_draws
from d2lpart.stages.keyed_dropout import keyed_randomness, uses_randomness
from d2lpart.stages.layer_call import call
from d2lpart.stages.layer_state import Entry, copies, standing_in_for, write
from d2lpart.stages.memory_account import Account
from d2lpart.stages.saved import Saved, no_cast_cache
from d2lpart.stages.split_backward import Part, SplitBackward, accumulate
from d2lpart.stages.tied import Shadow, standing_in, take_gradients

Finish = Callable[[Tensor], Tensor]
Key = tuple[int, ...]


class Seen(NamedTuple):
    """What one forward of a layer was seen to do; see `probe`."""

    drops: bool = False  # dropout that `keyed_randomness` reaches
    draws: tuple[str, ...] = ()  # the other generators that it draws from
    keeps: tuple[str, ...] = ()  # what of its buffers and attributes it changes


@dataclass
class Held:
    """What a stage holds of one micro-batch between its forward and its backward."""

    inputs: Tensor  # a leaf of the stage's graph
    key: Key
    finish: Finish | None
    saved: Saved | None = None  # what I and W need; None: the backward is not split
    edge: GradientEdge | None = None  # where the backward starts; None: there is nothing to learn
    trunk_end: GradientEdge | None = None  # where I ends
    halves: SplitBackward | None = None  # between I and W
    nbytes: int = 0
    peak_nbytes: int = 0  # while the action runs that has run last
    counted: list[object] = field(default_factory=list)  # in the rank's account, beside `saved`
    kept: list[Entry] = field(default_factory=list)  # by the layers before F, to recompute it


class Stage:
    """Consecutive layers on one device.

    Args:
        index: of the stage in the network, from 0.
        layers: the layers, on `device`.
        first_layer: the number of the first of them in the network.
        device: where they are.
        shadows: the tied weights whose home is another stage.
        homes: the tied weights whose home is this one.
        recompute: hold the input alone, and run the forward once more before the backward.
    """

    def __init__(
        self,
        index: int,
        layers: Sequence[nn.Module],
        first_layer: int,
        device: torch.device,
        shadows: Sequence[Shadow] = (),
        homes: Sequence[nn.Parameter] = (),
        recompute: bool = False,
    ) -> None:
        self.index = index
        self.layers = list(layers)
        self.first_layer = first_layer
        self.device = device
        self.shadows = list(shadows)
        self.homes = {weight: weight for weight in homes}
        self.aways = {shadow.home: shadow.stand_in for shadow in shadows}
        self.tied = self.homes | self.aways
        self.recompute = recompute
        self.account: Account | None = None  # of the rank, while a step is counted
        self._at: int | None = None  # the layer that runs now; None: a backward goes through all
        self.seen = [Seen()] * len(self.layers)
        self.loss_draws = False
        self._drops = [False] * len(self.layers)
        self._swapped: list[Entry] = []  # what others stand in for, at the moment
        self._footprint = Footprint(self.layers)

    @property
    def trains(self) -> bool:
        """Say whether any weight of the stage wants a gradient."""
        return any(p.requires_grad for layer in self.layers for p in layer.parameters())

    @property
    def draws(self) -> bool:
        """Say whether anything here draws random numbers that have to be keyed."""
        return any(self._drops) or any(seen.draws for seen in self.seen) or self.loss_draws

    @property
    def doing(self) -> str:
        """Say which layer runs now, or which ones a backward goes through."""
        last = self.first_layer + len(self.layers) - 1
        if self._at is None and len(self.layers) > 1:
            return f"layers {self.first_layer} to {last}"
        if self._at is not None and self._at > last:
            return "loss_fn"
        number = self.first_layer if self._at is None else self._at
        return f"layer {number} ({type(self.layers[number - self.first_layer]).__name__})"

    def begin(self) -> int:
        """Make ready for a step, and return the bytes that the shadows of tied weights moved."""
        self.note_dropout()
        self._footprint.begin()
        return sum({s.stand_in: s.refresh() for s in self.shadows}.values())

    def note_dropout(self) -> None:
        """Note which layers have dropout, by what they are made of or were seen to do."""
        pairs = zip(self.layers, self.seen, strict=True)
        self._drops = [seen.drops or uses_randomness(layer) for layer, seen in pairs]

    def walk(
        self, inputs: Tensor, key: Key, through_home: bool = False
    ) -> Iterator[tuple[int, nn.Module, Tensor]]:
        """Run the layers one after another, and yield each one's number, module and output.

        Args:
            inputs: the activation, on this stage's device.
            key: (seed, step, micro-batch): what dropout depends on, beside the layer.
            through_home: let gradients flow to tied weights, not to their shadows.
        """
        outputs = inputs
        with standing_in(self.shadows, through_home):
            for number, layer in enumerate(self.layers, self.first_layer):
                self._at = number
                place = number - self.first_layer
                with self._keyed(self._drops[place], self.seen[place].draws, *key, number):
                    outputs = call(layer, outputs)
                yield number, layer, outputs

    def _keyed(self, drops: bool, draws: object, *key: int) -> AbstractContextManager[object]:
        """Return a context in which what draws random numbers does so by its key."""
        if not drops and not draws:
            return nullcontext()
        around = ExitStack()
        if draws:
            around.enter_context(keyed_generators(self.device, *key, 1))  # unlike dropout's
        around.enter_context(keyed_randomness(*key))
        return around

    def run(self, inputs: Tensor, key: Key, through_home: bool = False) -> Tensor:
        """Return the output of the last layer; the arguments are those of `walk`."""
        return deque(self.walk(inputs, key, through_home), maxlen=1)[0][2]  # holds the last alone

    def forward(
        self,
        inputs: Tensor,
        wants_gradient: bool,
        key: Key,
        finish: Finish | None = None,
        split: bool = False,
    ) -> tuple[Tensor, Held]:
        """Run F, and return the output and what to hold for B.

        Args:
            inputs: the activation, on this stage's device.
            wants_gradient: whether an earlier stage waits for the gradient of `inputs`.
            key: as in `run`.
            finish: on the last stage, the loss as a function of the output.
            split: whether I and W follow, in place of B.
        """
        continuous = inputs.is_floating_point() or inputs.is_complex()
        inputs = inputs.detach().requires_grad_(wants_gradient and continuous)
        held = Held(inputs, key, finish, self._saved(split))
        if self.account is not None:
            held.counted.append(self.account.hold("activations", inputs))
        if not self.recompute:
            return self._build(held), held
        held.nbytes = held.peak_nbytes = inputs.nbytes
        held.kept = self._changing()
        version = inputs._version
        with torch.no_grad(), no_cast_cache():
            outputs = self._compute(held)
        if inputs._version != version:
            self._at = None
            raise ValueError(
                f"stage {self.index} changes its input in place, so that its forward cannot run "
                f"again: use inplace=False in its first layers, or recompute=False"
            )
        return outputs, held

    def _changing(self) -> list[Entry]:
        """Return copies of what the layers keep and a forward changes."""
        pairs = zip(self.layers, self.seen, strict=True)
        return [entry for layer, seen in pairs if seen.keeps for entry in copies(layer, seen.keeps)]

    def _saved(self, split: bool) -> Saved | None:
        """Return where to save what the backward needs; None: autograd does it by itself."""
        if self.account is not None:
            return Saved(self.account.hold_saved, split)
        return Saved() if split else None

    def _compute(self, held: Held) -> Tensor:
        inputs = held.inputs
        held.trunk_end = None
        graph = torch.is_grad_enabled()  # without it a view of the input still wants a gradient
        if inputs.requires_grad and graph:
            if held.saved and held.saved.splits:
                inputs = inputs.view_as(inputs)  # I ends at no leaf: torch's counter refuses one
            held.trunk_end = get_gradient_edge(inputs)
        elif inputs.requires_grad:  # a hook that a layer puts on it is to go with this run
            inputs = inputs.detach().requires_grad_()
        for _, _, outputs in self.walk(inputs, held.key):
            if graph and held.trunk_end is None and outputs.requires_grad:
                held.trunk_end = get_gradient_edge(outputs)
        if held.finish is None:
            return outputs
        self._at = self.first_layer + len(self.layers)
        with self._keyed(False, self.loss_draws, *held.key, self._at):
            return held.finish(outputs)

    def _build(self, held: Held) -> Tensor:
        """Run the layers with a graph, and hold where its backward starts and what it keeps."""
        outputs, held.nbytes = self._footprint.measure(
            held.inputs, lambda: self._compute(held), held.saved
        )
        held.peak_nbytes = held.nbytes
        held.edge = get_gradient_edge(outputs) if outputs.requires_grad else None
        return outputs

    def backward(
        self,
        held: Held,
        gradient: Tensor | None,
        arrived: Mapping[nn.Parameter, Tensor],
    ) -> tuple[Tensor | None, dict[nn.Parameter, Tensor]]:
        """Run B, and return the gradient of the input and those of the shadows.

        Args:
            held: what F returned.
            gradient: of the stage's output; None on the last stage, whose output is the loss.
            arrived: gradients of tied weights, from the later stages that use them.
        """
        self._resume(held)
        parts = self._enter(arrived)
        if held.edge is not None and self._begins(held, gradient):
            parts.append((held.edge, gradient))
        with self._watched():
            accumulate(parts)  # in this order, as if the later uses were in the same graph
        held.peak_nbytes, held.nbytes = held.nbytes, 0
        return held.inputs.grad, self._take_gradients()

    def backward_input(
        self,
        held: Held,
        gradient: Tensor | None,
        arrived: Mapping[nn.Parameter, Tensor],
    ) -> tuple[Tensor | None, dict[nn.Parameter, Tensor]]:
        """Run I, and return what `backward` returns; what only I needs is let go.

        Args:
            held, gradient: as `backward` takes them.
            arrived: gradients of the weights that this stage has shadows of, from later stages.
        """
        assert held.saved is not None, "F was told that the backward is split"
        self._resume(held)
        parts = self._enter(arrived)
        if held.edge is None or held.trunk_end is None or not self._begins(held, gradient):
            with self._watched():
                accumulate(parts)
            return None, self._take_gradients()
        held.halves = SplitBackward(
            held.edge,
            held.trunk_end,
            held.inputs.requires_grad,
            held.saved,
            self.tied.values(),
            self.aways.values(),
        )
        held.edge = held.trunk_end = None
        with self._watched():
            found = held.halves.run_input(gradient, parts)
        waiting = held.halves.held()
        if self.account is not None:
            held.counted += [self.account.hold("activations", g) for g in waiting]
        left = self._footprint.measure_left(held.inputs, waiting, held.saved.let_go())
        held.peak_nbytes = held.nbytes + left.gradients
        held.nbytes = left.total
        return found, self._take_gradients()

    def backward_weight(self, held: Held, arrived: Mapping[nn.Parameter, Tensor]) -> None:
        """Run W: add up the gradients of the weights that are at home here.

        Args:
            held: what F returned, after I.
            arrived: gradients of these weights, from later stages.
        """
        self._at = None
        parts = self._enter(arrived)
        with self._watched():
            if held.halves is None:
                accumulate(parts)
            else:
                held.halves.run_weights(parts)
        held.peak_nbytes, held.nbytes = held.nbytes, 0

    def put_back(self) -> None:
        """Put weights, and what else something stood in for, back into the layers' modules."""
        self.account = None
        for shadow in self.shadows:
            stands = shadow.module._parameters[shadow.name]
            if stands is shadow.stand_in or not isinstance(stands, nn.Parameter):
                shadow.module._parameters[shadow.name] = shadow.home
        write(self._swapped)

    def _watched(self) -> AbstractContextManager[object]:
        """Return a context for a backward, in which nothing may draw random numbers again."""
        return no_draws(self.device) if self.draws else nullcontext()

    def _take_gradients(self) -> dict[nn.Parameter, Tensor]:
        """Take the gradients off the shadows, to be sent home."""
        if self.account:
            self.account.drop_gradients(self.aways.values())
        return take_gradients(self.shadows)

    def _resume(self, held: Held) -> None:
        """Make ready for a backward, with the forward run once more where it was not held."""
        if self.recompute:
            self._swapped = [(table, name, table[name]) for table, name, _ in held.kept]
            with torch.enable_grad(), standing_in_for(self._swapped, held.kept):
                self._build(held)
            self._swapped = []
        self._at = None

    @staticmethod
    def _begins(held: Held, gradient: Tensor | None) -> bool:
        """Say whether a gradient comes from the next stage, or from the loss."""
        return gradient is not None or held.finish is not None

    def _enter(self, arrived: Mapping[nn.Parameter, Tensor]) -> list[Part]:
        """Return where the gradients of tied weights enter the graph."""
        return [(get_gradient_edge(self.tied[weight]), g) for weight, g in arrived.items()]
