"""Stage: consecutive layers in one place, and what a rank does with them for one micro-batch.

Forward (F) runs the layers on a detached input, so every stage has an autograd graph of its own.
Backward (B) runs that graph from the gradient of the output to the gradient of the input; the
weights' gradients add up in `.grad` on the way.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from d2lpart.footprint import Footprint
from d2lpart.randomness import keyed_randomness, uses_randomness
from d2lpart.tied import Shadow, standing_in, take_gradients

Finish = Callable[[Tensor], Tensor]
Key = tuple[int, ...]


@dataclass
class Held:
    """What a stage holds of one micro-batch between its forward and its backward."""

    inputs: Tensor  # a leaf of the stage's graph
    key: Key
    finish: Finish | None
    edge: GradientEdge | None = None  # where the backward starts; None: there is nothing to learn
    nbytes: int = 0


class Stage:
    """Consecutive layers on one device.

    Args:
        index: which stage of the network this is, from 0.
        layers: the layers, on `device`.
        first_layer: the number of the first of them in the whole network.
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
        self.tied = {weight: weight for weight in homes} | {s.home: s.stand_in for s in shadows}
        self.recompute = recompute
        self._at: int | None = None  # the layer that runs now; None: a backward goes through all
        self._random = [False] * len(self.layers)
        self._footprint = Footprint(self.layers)

    @property
    def trains(self) -> bool:
        """Say whether any weight of the stage wants a gradient."""
        return any(p.requires_grad for layer in self.layers for p in layer.parameters())

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
        self._random = [uses_randomness(layer) for layer in self.layers]
        self._footprint.begin()
        return sum({s.stand_in: s.refresh() for s in self.shadows}.values())

    def walk(
        self, inputs: Tensor, key: Key, through_home: bool = False
    ) -> Iterator[tuple[int, nn.Module, Tensor]]:
        """Run the layers one after another, and yield each one's number, module and output.

        Args:
            inputs: the activation, on this stage's device.
            key: (seed, step, micro-batch): what dropout depends on, beside the layer.
            through_home: let gradients flow straight to tied weights, not to their shadows.
        """
        outputs = inputs
        with standing_in(self.shadows, through_home):
            for number, layer in enumerate(self.layers, self.first_layer):
                self._at = number
                if self._random[number - self.first_layer]:
                    with keyed_randomness(*key, number):
                        outputs = layer(outputs)
                else:
                    outputs = layer(outputs)
                if not isinstance(outputs, Tensor):
                    raise ValueError(
                        f"the layer returned {type(outputs).__name__}: a layer hands one tensor "
                        f"to the next"
                    )
                yield number, layer, outputs

    def run(self, inputs: Tensor, key: Key, through_home: bool = False) -> Tensor:
        """Return the output of the last layer; the arguments are those of `walk`."""
        last = deque(self.walk(inputs, key, through_home), maxlen=1)  # lets go of all before it
        return last[0][2]

    def forward(
        self, inputs: Tensor, wants_gradient: bool, key: Key, finish: Finish | None = None
    ) -> tuple[Tensor, Held]:
        """Run F, and return the output and what to hold for B.

        Args:
            inputs: the activation, on this stage's device.
            wants_gradient: whether an earlier stage waits for the gradient of `inputs`.
            key: as in `run`.
            finish: on the last stage, the loss as a function of the output.
        """
        continuous = inputs.is_floating_point() or inputs.is_complex()
        inputs = inputs.detach().requires_grad_(wants_gradient and continuous)
        held = Held(inputs, key, finish)
        if not self.recompute:
            return self._build(held), held
        held.nbytes, version = inputs.nbytes, inputs._version
        with torch.no_grad(), _no_cast_cache():
            outputs = self._compute(held)
        if inputs._version != version:
            self._at = None
            raise ValueError(
                f"stage {self.index} changes its input in place, so that its forward cannot run "
                f"again: use inplace=False in its first layers, or recompute=False"
            )
        return outputs, held

    def _compute(self, held: Held) -> Tensor:
        outputs = self.run(held.inputs, held.key)
        if held.finish is None:
            return outputs
        self._at = self.first_layer + len(self.layers)
        return held.finish(outputs)

    def _build(self, held: Held) -> Tensor:
        """Run the layers with a graph, and hold where its backward starts and what it keeps."""
        outputs, held.nbytes = self._footprint.measure(held.inputs, lambda: self._compute(held))
        held.edge = get_gradient_edge(outputs) if outputs.requires_grad else None
        return outputs

    def backward(
        self,
        held: Held,
        gradient: Tensor | None,
        arrived: dict[nn.Parameter, Tensor],
    ) -> tuple[Tensor | None, dict[nn.Parameter, Tensor]]:
        """Run B, and return the gradient of the input and those of the shadows.

        Args:
            held: what F returned.
            gradient: of the stage's output; None on the last stage, whose output is the loss.
            arrived: gradients of tied weights, from the later stages that use them.
        """
        if self.recompute:
            with torch.enable_grad():
                self._build(held)
        self._at = None
        edges = [get_gradient_edge(self.tied[weight]) for weight in arrived]
        gradients: list[Tensor | None] = list(arrived.values())
        if held.edge is not None and (gradient is not None or held.finish is not None):
            edges.append(held.edge)
            gradients.append(gradient)
        if edges:  # autograd adds up in this order, as if the later uses were in the same graph
            torch.autograd.backward(edges, gradients)
        return held.inputs.grad, take_gradients(self.shadows)


@contextmanager
def _no_cast_cache() -> Iterator[None]:
    """Keep autocast from storing casts of weights that were made without a graph."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
