"""StepResult: what one step of a pipeline returns."""

from dataclasses import dataclass, field
from typing import Any

from d2lpart.memory.ledger import Ledgers
from d2lpart.timelines.timeline import Timeline


@dataclass(frozen=True)
class StepResult:
    """What a step returns, beside the gradients that it leaves in the parameters.

    Attributes:
        loss: of the whole mini-batch.
        timeline: what every rank did, and when.
        bytes_moved: activations and their gradients that crossed from one rank to another.
        peak_bytes: for each rank, the most bytes that autograd held for it at once: what each
            micro-batch in flight holds, counted the first time an input of its kind comes by.
        tied_bytes: weights sent to shadows, and the gradients that these sent home.
        counted: the measured ledgers of a step that was counted; `memory` returns them.
        joined: the outputs of a step that was asked for them; `outputs` returns them.
    """

    loss: float
    timeline: Timeline
    bytes_moved: int
    peak_bytes: tuple[int, ...]
    tied_bytes: int
    counted: Ledgers | None = field(default=None, repr=False)
    joined: Any = field(default=None, repr=False, compare=False)

    @property
    def memory(self) -> Ledgers:
        """What each rank held: weights, gradients, optimizer, activations, measured.

        Raises:
            ValueError: the step was not counted.
        """
        if self.counted is None:
            raise ValueError(
                "this step was not counted: call step(inputs, targets, memory=True), or build the "
                "Pipeline with a capacity"
            )
        return self.counted

    @property
    def outputs(self) -> Any:
        """What the last stage made of the mini-batch: a tensor (samples, …) on its device.

        Raises:
            ValueError: the step kept none.
        """
        if self.joined is None:
            raise ValueError("this step kept no outputs: call step(inputs, targets, outputs=True)")
        return self.joined
