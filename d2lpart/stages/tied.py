"""A weight that several stages share: one Parameter at home, shadows elsewhere.

The home of a tied weight is the first stage that uses it. Every other stage computes with a shadow:
the same numbers, on the stage's own device, with a gradient of its own. The shadow stands in the
module only while the stage computes, so that to the rest of the program there is one Parameter.
In the backward of a micro-batch its gradient comes home by way of all stages that use the weight:
each adds its own uses and hands the sum on, in the order in which an undivided model adds them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Shadow:
    """A stand-in for the parameter `home`, under `name` in `module`."""

    module: nn.Module
    name: str
    home: nn.Parameter
    stand_in: nn.Parameter

    def check(self) -> None:
        """Raise a ValueError if the module has another parameter by now."""
        if self.module._parameters[self.name] is not self.home:
            raise ValueError(
                f"the tied {self.name} of {type(self.module).__name__} has been replaced since the "
                f"pipeline was built: build it anew, or change the numbers alone (load_state_dict "
                f"without assign=True)"
            )

    def refresh(self) -> int:
        """Take over the numbers of the parameter, and return the bytes that this moves.

        Raises:
            ValueError: the module has another parameter by now.
        """
        self.check()
        self.stand_in.grad = None  # a step that failed may have left one
        self.stand_in.requires_grad_(self.home.requires_grad)
        self.stand_in.data = self.home.data.to(self.stand_in.device)
        return 0 if self.stand_in.device == self.home.device else self.home.nbytes


@contextmanager
def standing_in(shadows: Sequence[Shadow], through_home: bool = False) -> Iterator[None]:
    """Let the shadows take their parameters' places for as long as the context lasts.

    With `through_home`, copies that autograd follows back to the parameters stand there instead.
    """
    try:
        for shadow in shadows:
            stand_in: Tensor = shadow.stand_in
            if through_home:
                stand_in = shadow.home.to(stand_in.device)
            shadow.module._parameters[shadow.name] = stand_in  # type: ignore[assignment]
        yield
    finally:
        for shadow in shadows:
            shadow.module._parameters[shadow.name] = shadow.home


def find_shadows(
    stages: Sequence[Sequence[nn.Module]], places: Sequence[torch.device]
) -> tuple[list[list[Shadow]], list[list[nn.Parameter]]]:
    """Return, for each stage, the shadows it computes with and the tied weights it is home to.

    Raises:
        ValueError: two stages hold the same module, not only the same weight, or hold its buffers
            on two devices.
    """
    home_of: dict[nn.Parameter, int] = {}
    stand_ins: dict[tuple[nn.Parameter, int], nn.Parameter] = {}
    owner: dict[nn.Module, int] = {}
    shadows: list[list[Shadow]] = [[] for _ in stages]
    for index, layers in enumerate(stages):
        for module in dict.fromkeys(m for layer in layers for m in layer.modules()):
            first = owner.setdefault(module, index)
            held: list[Tensor] = list(module.parameters())
            if places[first] != places[index]:
                held += module.buffers()
            if first != index and held:
                raise ValueError(
                    f"stages {first} and {index} hold the same module "
                    f"{type(module).__name__}: keep both uses in one stage, or build two modules "
                    f"and share the weight (second.weight = first.weight)"
                )
            for name, weight in module._parameters.items():
                if weight is not None and home_of.setdefault(weight, index) != index:
                    if (weight, index) not in stand_ins:
                        copy = nn.Parameter(weight.data.to(places[index]), weight.requires_grad)
                        stand_ins[weight, index] = copy
                    stand_in = stand_ins[weight, index]
                    shadows[index].append(Shadow(module, name, weight, stand_in))
    tied = {weight for weight, _ in stand_ins}
    homes = [
        [w for w, home in home_of.items() if home == i and w in tied] for i in range(len(stages))
    ]
    return shadows, homes


def take_gradients(shadows: Sequence[Shadow]) -> dict[nn.Parameter, Tensor]:
    """Take the gradients off the shadows, each under the parameter that it belongs to."""
    taken = {}
    for shadow in shadows:
        if shadow.stand_in.grad is not None:
            taken[shadow.home] = shadow.stand_in.grad
            shadow.stand_in.grad = None
    return taken
