"""Pipeline: layers, a partition, devices and a schedule give loss, gradients and a timeline."""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from d2lpart.common.arguments import check_kind
from d2lpart.machine.transfer import Place
from d2lpart.models.layers import listed
from d2lpart.partitions.partitioning import Partition
from d2lpart.pipeline.clocks import CHOICES, measure
from d2lpart.pipeline.engine import Run
from d2lpart.pipeline.layout import arrange
from d2lpart.pipeline.step_memory import (
    accounts_kept,
    allocator_limits,
    check_capacity,
    keep_batch,
    ledgers,
    open_accounts,
)
from d2lpart.pipeline.step_result import StepResult
from d2lpart.schedules.schedule import Schedule
from d2lpart.stages.checks import (
    check_batch_independence,
    check_device,
    check_inputs,
    check_options,
    check_stage_inputs,
)
from d2lpart.stages.gradients import divide, gradients_kept
from d2lpart.stages.memory_account import Account
from d2lpart.stages.microbatch import Batch, LossFunction, cross_entropy
from d2lpart.stages.optimizer_state import listen, note, watch
from d2lpart.stages.stage import Key, Stage
from d2lpart.stages.tied import find_shadows
from d2lpart.timelines.simulator import FREE
from d2lpart.timelines.spans import Link


def check_loss(loss: float, stages: Sequence[Stage], batch: Batch, key: Key) -> None:
    """Raise a ValueError if the loss is not finite.

    The forward of the first bad micro-batch is run once more, with the same dropout, to name the
    layer in whose output the first bad number appears.
    """
    if math.isfinite(loss):
        return
    bad = [k for k, kept in sorted(batch.kept.items()) if not torch.isfinite(kept.loss)]
    microbatch = bad[0] if bad else 0
    with torch.no_grad():
        began = _origin(stages, batch.input(microbatch), (*key, microbatch))
    raise ValueError(
        f"the loss is {loss} in micro-batch {microbatch}: {began}. The gradients are left as they "
        f"were before this step"
    )


def _origin(stages: Sequence[Stage], activation: Tensor, key: Key) -> str:
    if not _finite(activation):
        return "it began in the inputs, which hold NaN or infinite numbers"
    for stage in stages:
        for number, layer, activation in stage.walk(activation.to(stage.device), key):  # noqa: B020
            if not _finite(activation):
                weights = [name for name, w in layer.named_parameters() if not _finite(w)]
                cause = f", whose weight {weights[0]} is not finite" if weights else ""
                name = type(layer).__name__
                return f"it began in layer {number} ({name}) of stage {stage.index}{cause}"
    return "the outputs of all layers are finite, so it began in loss_fn"


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


class Pipeline(nn.Module):
    """A network cut between its layers, each stage in its place, trained by a schedule.

    Args:
        layers: modules, each taking and returning one tensor. They are moved in place, not copied.
        partition: layers a stage, as a `Partition` or a list of sizes; by default the partition
            that `partition` finds best for the layers' matrix weights.
        devices: one device a rank; several ranks may share one, and kinds may be mixed. By default
            the best there are: one rank for each CUDA device, else for each core.
        schedule: the name of a schedule, or a `Schedule`.
        num_microbatches: m, how many slices a mini-batch is cut into.
        loss_fn: `loss_fn(outputs, targets)` returns a mean, or a pair (sum, count); by default
            cross-entropy. A mean is weighed by the number of targets that are not −100 where
            targets are integers, else by samples; a micro-batch of weight 0 is skipped.
        clock: "wall", "virtual", or "auto": wall where every rank has a device or a core.
        link: what the virtual clock models transfers with.
        recompute: hold only each stage's input, and run the forward again before the backward;
            dropout then draws the same masks, other random layers (`nn.RReLU`) do not.
        seed: of dropout; by default a new one is drawn from torch's generator for every step.
        capacity: bytes that a rank may hold, one number for all or one a rank; then every step is
            counted, and one that asks for more fails. On CUDA the allocator is limited as well.

    Ranks on threads of their own take over the caller's autocast and grad mode; other settings that
    torch keeps for each thread (hooks on saved tensors, function modes, `with torch.device`) stay
    with the caller.

    Raises:
        ValueError: sizes that do not fit together, a device that does not exist, or a layer that
            cannot be cut from its mini-batch.
        OutOfMemoryError: the weights of a rank exceed its capacity.

    >>> pipeline = Pipeline([nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)], [2, 1], ["cpu"] * 2)
    >>> result = pipeline.step(torch.randn(8, 4), torch.zeros(8, dtype=torch.long))
    >>> result.bytes_moved  # (8, 4) floats, forward and backward
    256
    """

    def __init__(
        self,
        layers: Iterable[nn.Module],
        partition: Partition | Sequence[int] | None = None,
        devices: Sequence[Any] | None = None,
        *,
        schedule: str | Schedule = "1f1b",
        num_microbatches: int = 1,
        loss_fn: LossFunction | None = None,
        clock: str = "auto",
        link: Link = FREE,
        recompute: bool = False,
        seed: int | None = None,
        capacity: float | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.layers = listed(layers)
        check_options(loss_fn, link, seed)
        if clock not in CHOICES:
            raise ValueError(f"clock is {clock!r}: use one of {', '.join(CHOICES)}")
        self.partition, self.devices, self.schedule = arrange(
            self.layers, partition, devices, schedule, num_microbatches
        )
        self.recompute = recompute
        self.capacity = check_capacity(capacity, self.schedule.num_ranks)
        self._check_layers()
        self.loss_fn = loss_fn or cross_entropy
        self.clock, self.link, self.seed = clock, link, seed
        self.stages = self._place_layers()
        self.places = [Place(device) for device in self.devices]
        self._steps = 0
        listen()
        if self.capacity is not None:
            watch(self)
        for number, layer in enumerate(self.layers):
            self.add_module(str(number), layer)  # the keys of nn.Sequential(*layers)

    def _place_layers(self) -> list[Stage]:
        """Move every layer to its stage's device, and return the stages."""
        cut = [[self.layers[i] for i in stage] for stage in self.partition.stages]
        check_stage_inputs(cut)
        where = [self.devices[rank] for rank in self.schedule.stage_to_rank]
        shadows, homes = find_shadows(cut, where)
        stages = [
            Stage(i, cut[i], stage.start, where[i], shadows[i], homes[i], self.recompute)
            for i, stage in enumerate(self.partition.stages)
        ]
        if self.capacity is not None:
            open_accounts(stages, self.schedule, self.capacity, "building the pipeline")
        for stage in reversed(stages):
            for layer in stage.layers:
                layer.to(stage.device)  # backwards, so that a tied weight ends up at its first one
        return stages

    def step(self, inputs: Tensor, targets: Tensor, *, memory: bool = False) -> StepResult:
        """Run forward and backward of one mini-batch, and leave the gradients in the parameters.

        The gradients are those that one full-batch backward would leave; they are added to what is
        in `.grad`. If the step fails, `.grad` is as it was.

        Args:
            inputs: (samples, …), on the device of stage 0.
            targets: (samples, …), on any device.
            memory: count which storages are alive on each rank; a step that is not counted does
                nothing for it. An optimizer's state is in it once the optimizer has stepped.

        Raises:
            ValueError: inputs that do not fit, or a loss that is not a finite scalar.
            PipelineError: a layer failed; the message names rank, stage, action and micro-batch.
            OutOfMemoryError: a rank has no room left; a smaller batch may still fit.
        """
        self._check_step(inputs, targets)
        targets = targets.to(self.stages[-1].device)
        batch = Batch(inputs, targets, self.schedule.num_microbatches, self.loss_fn)
        refreshed = self._begin()
        key = self._draw_key()
        self._steps += 1
        run = Run(self.stages, self.places, self.schedule, batch, key)
        with ExitStack() as around:
            accounts = None
            if memory or self.capacity is not None:
                accounts = self._count(run, around)
            fresh = around.enter_context(gradients_kept(list(self.parameters())))
            timeline = measure(run, self.clock, self.link)
            loss, divisor = batch.total()
            check_loss(loss, self.stages, batch, key)
            divide(fresh, divisor)
        self._finish_inputs(run, inputs, divisor)
        moved = sum(transfer.nbytes for transfer in timeline.transfers)
        counted = ledgers(accounts) if accounts else None
        peaks, tied = tuple(run.peak_bytes), refreshed + sum(run.tied_bytes)
        return StepResult(loss, timeline, moved, peaks, tied, counted)

    def _count(self, run: Run, around: ExitStack) -> list[Account]:
        """Count what is alive on each rank, as long as `around` lasts."""
        accounts = open_accounts(self.stages, self.schedule, self.capacity, "beginning a step")
        around.enter_context(allocator_limits(self.devices, accounts))
        around.enter_context(accounts_kept(self.stages, self.schedule, accounts))
        keep_batch(self.schedule, accounts, run.batch)
        return accounts

    def count(self, optimizer: Optimizer) -> None:
        """Count the state of an optimizer that has not stepped, such as one that was loaded.

        One that steps is counted from then on by itself, and until the program lets go of it.
        """
        check_kind(optimizer, Optimizer, "give the one that trains the pipeline")
        note(optimizer)

    def after_optimizer(self, optimizer: Optimizer) -> None:
        """Raise an OutOfMemoryError if the state that an optimizer has made does not fit."""
        check_kind(optimizer, Optimizer, "give the one that trains the pipeline")
        own = {id(weight) for weight in self.parameters()}
        if any(id(weight) in own for weight in optimizer.state):
            open_accounts(self.stages, self.schedule, self.capacity, "after optimizer.step()")

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs for `inputs`, on the last stage's device; autograd can follow it."""
        check_device(inputs, self.stages[0])
        self._begin()
        key = (*self._draw_key(), 0)
        for stage in self.stages:
            inputs = stage.run(inputs.to(stage.device), key, through_home=True)
        return inputs

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> Self:
        """Change the type of the layers; a change of device is refused, and changes nothing."""
        for stage in self.stages:
            target = fn(torch.empty(0, device=stage.device)).device
            if target != stage.device:
                raise ValueError(
                    f"stage {stage.index} is on {stage.device} and would move to {target}: a "
                    f"pipeline's layers stay in their places; build a new Pipeline with the "
                    f"devices you want"
                )
        return super()._apply(fn, recurse)

    def _check_layers(self) -> None:
        check_batch_independence(self.layers, self.schedule.num_microbatches, self.recompute)

    def _check_step(self, inputs: Tensor, targets: Tensor) -> None:
        check_inputs(inputs, targets, self.stages[0])
        self._check_layers()
        if not torch.is_grad_enabled():
            raise ValueError(
                "step makes gradients, but they are switched off here (torch.no_grad): call "
                "pipeline(inputs) to get outputs alone"
            )
        if not any(stage.trains for stage in self.stages) and not inputs.requires_grad:
            raise ValueError("every parameter is frozen: leave at least one to train")

    def _begin(self) -> int:
        """Make all stages ready, and return the bytes that the shadows of tied weights moved."""
        return sum([stage.begin() for stage in self.stages])

    def _draw_key(self) -> Key:
        """Return (seed, step) of dropout; torch's generator advances only if there is dropout.

        A seed drawn anew tells the steps apart by itself: reset the generator, and the masks recur.
        """
        if self.seed is not None:
            return self.seed, self._steps
        if any(stage.draws for stage in self.stages):
            return int(torch.randint(2**62, ())), 0
        return 0, 0

    @staticmethod
    def _finish_inputs(run: Run, inputs: Tensor, divisor: float) -> None:
        """Hand the gradient on to inputs that want one."""
        if inputs.requires_grad:
            parts = [
                run.input_gradients.get(k, torch.zeros_like(run.batch.input(k)))
                for k in range(run.schedule.num_microbatches)
            ]
            inputs.backward(torch.cat(parts) / divisor)

    def extra_repr(self) -> str:
        """Say how the layers below are cut, and where the stages are."""
        where = ", ".join(map(str, self.devices))
        sizes = list(self.partition.sizes)
        return f"partition={sizes}, devices=[{where}], schedule={self.schedule!r}"
