"""LayerCost: what a layer costs for one micro-batch, in weights, bytes, operations, seconds."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from d2lpart.common.arguments import check_number, listed_of

Quartiles = tuple[float, float]

SPLIT_F = "F, split"
"""A forward that I and W are to follow: it saves its tensors in boxes, which takes longer."""

FIELD = {
    "F": "forward_seconds",
    SPLIT_F: "split_forward_seconds",
    "B": "backward_seconds",
    "I": "input_seconds",
    "W": "weight_seconds",
}


class TiedWeight(NamedTuple):
    """A weight of a layer that an earlier layer has as well, and which counts there."""

    layer: int  # the first that has it
    position: int  # among the weights of that layer
    parameters: int
    trainable: int  # of these, how many want a gradient: all or none


class WeightCopy(NamedTuple):
    """A copy of a weight in low precision: autocast makes it once, for all micro-batches."""

    layer: int  # the first that has the weight
    position: int  # among the weights of that layer
    nbytes: int


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs for one sample input.

    Everything but the seconds can be had without running a layer. Where nothing was timed, all
    seconds are None, and so is each spread.

    Attributes:
        name: the class of the layer.
        parameters: how many weights it has, frozen ones too. A parameter that several layers
            share counts in the first of them alone, as do its bytes.
        parameter_bytes: their size.
        activation_bytes: what the forward leaves held for the backward, in bytes: every storage
            that autograd keeps, once, beyond the layer's input and its weights. The input is the
            boundary of the layer before, so a stage holds the sum of `activation_bytes` over its
            layers, plus the size of every layer's input.
        boundary_bytes: the size of the layer's output, which a cut after it has to carry.
        forward_flops: floating-point operations of the matrix products of one forward, a
            multiply-add counted as 2 (torch.utils.flop_counter). Attention counts every pair of
            positions, also those that a causal mask hides.
        forward_seconds: the median of some forwards (F).
        backward_seconds: the same for the whole backward (B); 0 where nothing wants a gradient.
        waiting_bytes: what is held between the two halves of a split backward, I and W, beyond the
            layer's input.
        gradient_bytes: the gradients among these, which wait for W.
        trainable: how many of the `parameters` want a gradient.
        input_flops: the operations of I, which makes the gradient of the input. Attention computes
            its scores once more.
        weight_flops: the operations of W, which makes those of the weights.
        split_forward_seconds: the median of forwards that I and W are to follow: they save their
            tensors in boxes, which takes longer.
        input_seconds: the median of some I.
        weight_seconds: the same for W.
        forward_spread: the quartiles of the forwards: a quarter of them took less than the first
            number, a quarter more than the second.
        backward_spread: the same for the backwards.
        timing: where the seconds come from, in words; "" where there are none.
        buffer_bytes: what a layer keeps beside its weights, such as the means of a BatchNorm. A
            buffer that several layers share counts in the first of them.
        tied: the weights that count in an earlier layer.
        copies: the weights of which the forward leaves a copy in low precision held.
        loss_bytes: what the loss keeps of the last layer's output, in bytes, beyond what the layer
            keeps; None for the other layers.
        keeps_input: whether the backward needs the layer's input.
        keeps_output: whether it needs the layer's output, which `activation_bytes` then contains.
        waits_with_input: whether W needs the input.
        is_view: whether the output is the input in another shape, and takes no memory.
    """

    name: str
    parameters: int
    parameter_bytes: int
    activation_bytes: int
    boundary_bytes: int
    forward_flops: int
    forward_seconds: float | None = None
    backward_seconds: float | None = None
    waiting_bytes: int = 0
    gradient_bytes: int = 0
    trainable: int = 0
    input_flops: int = 0
    weight_flops: int = 0
    split_forward_seconds: float | None = None
    input_seconds: float | None = None
    weight_seconds: float | None = None
    forward_spread: Quartiles | None = None
    backward_spread: Quartiles | None = None
    timing: str = ""
    buffer_bytes: int = 0
    tied: tuple[TiedWeight, ...] = ()
    copies: tuple[WeightCopy, ...] = ()
    loss_bytes: int | None = None
    keeps_input: bool = True
    keeps_output: bool = False
    waits_with_input: bool = True
    is_view: bool = False

    @property
    def backward_flops(self) -> int:
        """The operations of a whole backward: about twice those of the forward."""
        return self.input_flops + self.weight_flops

    @property
    def seconds(self) -> float:
        """Forward and backward together.

        Raises:
            ValueError: the layer was not timed.
        """
        return self.seconds_of("F") + self.seconds_of("B")

    def seconds_of(self, kind: str) -> float:
        """Return the seconds of an action: F, B, I, W, or "F, split" before an I.

        Raises:
            ValueError: there is no such kind, or its seconds are not known.
        """
        if not isinstance(kind, str) or kind not in FIELD:
            raise ValueError(f"kind is {kind!r}: use one of {', '.join(FIELD)}")
        value: float | None = getattr(self, FIELD[kind])
        if value is None:
            raise ValueError(
                f"the seconds of {kind} of this {self.name} are not known, since it was costed "
                f"without running: profile the layers on a device that computes, or state a rate: "
                f"at_rate(costs, flops_per_second)"
            )
        return value


def at_rate(costs: Iterable[LayerCost], flops_per_second: float) -> list[LayerCost]:
    """Return the costs with seconds that are computed: operations divided by a rate.

    This is what a device would take that computes at the same rate all the time. Layers that only
    move memory take 0 s, small ones less than on any real device. `timing` says what was done.

    Args:
        costs: of a profile; seconds that are there are replaced.
        flops_per_second: the rate, such as 312e12 * 0.4 for an A100 that reaches 40% of its peak.

    Raises:
        ValueError: the rate is not above 0, or the costs are none.

    >>> (cost,) = at_rate([LayerCost("Linear", 8, 32, 0, 8, 400, weight_flops=400)], 100)
    >>> cost.forward_seconds, cost.backward_seconds, cost.timing
    (4.0, 4.0, 'computed from operations at 100 FLOP/s')
    """
    check_number("flops_per_second", flops_per_second)
    if not 0 < flops_per_second < float("inf"):
        raise ValueError(
            f"flops_per_second is {flops_per_second!r}: give operations a second, above 0, such "
            f"as 312e12 * 0.4"
        )
    return [
        replace(
            cost,
            forward_seconds=cost.forward_flops / flops_per_second,
            split_forward_seconds=cost.forward_flops / flops_per_second,
            backward_seconds=cost.backward_flops / flops_per_second,
            input_seconds=cost.input_flops / flops_per_second,
            weight_seconds=cost.weight_flops / flops_per_second,
            forward_spread=None,
            backward_spread=None,
            timing=f"computed from operations at {flops_per_second:.3g} FLOP/s",
        )
        for cost in listed_of(LayerCost, costs, "give the costs of a profile, one a layer")
    ]
