"""Pipeline: layers, a partition, devices and a schedule give loss, gradients and a timeline."""

import operator
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from threading import Thread, current_thread
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from d2lpart.common.arguments import check_kind
from d2lpart.common.interrupts import OneAtATime
from d2lpart.machine.transfer import Place
from d2lpart.memory.failures import PipelineError, told
from d2lpart.models.layers import listed
from d2lpart.partitions.partitioning import Partition
from d2lpart.pipeline.clocks import CHOICES, measure
from d2lpart.pipeline.engine import Run
from d2lpart.pipeline.layout import arrange
from d2lpart.pipeline.nonfinite import check_loss
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
from d2lpart.stages.generators import UnkeyedDraw, give_back, nothing_drawn
from d2lpart.stages.gradients import divide, gradients_kept
from d2lpart.stages.layer_parts import Makeup
from d2lpart.stages.losses import LossFunction, cross_entropy
from d2lpart.stages.memory_account import Account
from d2lpart.stages.microbatch import Batch
from d2lpart.stages.optimizer_state import listen, note, watch
from d2lpart.stages.probe import try_out
from d2lpart.stages.stage import Key, Stage
from d2lpart.stages.thread_settings import settings_kept
from d2lpart.stages.tied import find_shadows
from d2lpart.timelines.simulator import FREE
from d2lpart.timelines.spans import Link
from d2lpart.timelines.timeline import Timeline

STEPS = "d2lpart steps"
"""Under which name a state dict notes, beside its keys, how many steps there were."""


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
            cross-entropy. Torch's own losses are weighed by their reduction, weight and
            ignore_index; any other mean by the number of targets that are not −100 where targets
            are integers, else by samples. A micro-batch of weight 0 is skipped.
        clock: "wall", "virtual", or "auto": wall where every rank has a device or a core.
        link: what the virtual clock models transfers with.
        recompute: hold only each stage's input, and run the forward again before the backward;
            what is random draws the same numbers, and what a layer keeps changes once.
        seed: of all that layers draw; by default a new one is drawn from torch's generator for
            every step. With a seed the number of `steps` counts too; a state dict carries it.
        capacity: bytes that a rank may hold, one number for all or one a rank; then every step is
            counted, and one that asks for more fails. On CUDA the allocator is limited as well.
        probe: try layers and loss once, in the first step: whether each sample is computed by
            itself, and what is drawn and kept. That takes the forwards of four micro-batches, and
            calls loss_fn four times more.

    `step` runs the backward itself, so a `GradScaler` goes in there: `step(inputs, targets,
    scaler=scaler)`, then `scaler.unscale_(optimizer)` where gradients are to be clipped,
    `scaler.step(optimizer)` and `scaler.update()` as ever. Gradients that overflow are left as they
    are, so that the scaler skips the step and scales less; a loss that is not finite before it is
    scaled raises.

    Ranks on threads of their own take over the caller's autocast and grad mode; other settings that
    torch keeps for each thread (hooks on saved tensors, function modes, `with torch.device`) stay
    with the caller.

    Raises:
        ValueError: sizes that do not fit together, a device that does not exist, or a layer that
            cannot be cut from its mini-batch; `step` says so of what only a forward shows.
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
        probe: bool = True,
    ) -> None:
        super().__init__()
        given = listed(layers)
        for number, layer in enumerate(given):
            self.add_module(str(number), layer)  # the keys of nn.Sequential(*layers)
        check_options(loss_fn, link, seed)
        if clock not in CHOICES:
            raise ValueError(f"clock is {clock!r}: use one of {', '.join(CHOICES)}")
        self.partition, self.devices, self.schedule = arrange(
            listed(self._modules.values()), partition, devices, schedule, num_microbatches
        )
        self.recompute, self.probe = recompute, probe
        self.capacity = check_capacity(capacity, self.schedule.num_ranks)
        self._check_layers()
        self.clock, self.link, self.seed = clock, link, seed
        self.steps = 0
        self._place_layers()
        self._take_loss(loss_fn or cross_entropy)
        self.places = [Place(device) for device in self.devices]
        self._turn = OneAtATime(
            PipelineError,
            "this pipeline is at work already, in another thread or further up in this one: one "
            "step or forward at a time; let the first end, or build a pipeline for each thread",
        )
        self._late: list[Thread] = []  # threads of an interrupted step that have yet to end,
        self._fences: list[RemovableHandle] = []  # and what keeps them from adding to gradients
        listen()
        if self.capacity is not None:
            watch(self)

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """All layers in their order; `setattr(pipeline, "2", layer)` puts another in a place."""
        return tuple(self.get_submodule(str(i)) for i in range(self.partition.num_layers))

    def _take_loss(self, loss_fn: LossFunction) -> None:
        """Take over the loss; one without parameters is no part of the network and its state."""
        if isinstance(loss_fn, nn.Module):
            loss_fn.to(self.stages[-1].device)
            if not list(loss_fn.parameters()):
                object.__setattr__(self, "loss_fn", loss_fn)
                return
        self.loss_fn = loss_fn

    def _place_layers(self) -> None:
        """Make stages of the layers, and move every layer to its stage's device."""
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
        self.stages = stages
        self._made_of = Makeup(self.layers)
        self._probed: list[object] | None = None  # modes of layers, and the loss, when looked at

    def _take_over(self) -> None:
        """Cut and place anew where a layer, or a part or weight of one, has been replaced.

        Raises:
            ValueError: a weight that stages share is not shared any more.
        """
        placed = [layer for stage in self.stages for layer in stage.layers]
        if all(map(operator.is_, placed, self.layers)):
            if self._made_of == Makeup(self.layers):
                return
            for stage in self.stages:
                for shadow in stage.shadows:
                    shadow.check()
        self._place_layers()

    def step(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        memory: bool = False,
        outputs: bool = False,
        scaler: GradScaler | None = None,
    ) -> StepResult:
        """Run forward and backward of one mini-batch, and leave the gradients in the parameters.

        The gradients are those that one full-batch backward would leave; they are added to what is
        in `.grad`. If the step fails, `.grad` is as it was.

        Args:
            inputs: (samples, …), on the device of stage 0.
            targets: (samples, …), on any device.
            memory: count which storages are alive on each rank; a step that is not counted does
                nothing for it. An optimizer's state is in it once the optimizer has stepped.
            outputs: keep what the last stage makes, for `StepResult.outputs`. A micro-batch that
                is skipped, since none of its targets counts, then runs forward after the others.
            scaler: scales what the backward starts from, so that gradients in half precision do not
                vanish. The loss of the result is not scaled.

        Raises:
            ValueError: inputs that do not fit, or a loss that is not a finite scalar.
            PipelineError: a layer failed; the message names rank, stage, action and micro-batch.
            OutOfMemoryError: a rank has no room left; a smaller batch may still fit.
        """
        with self._turn.entered(), settings_kept(self._repair):
            self._check_late()
            self._take_over()
            return self._step(inputs, targets, memory, outputs, scaler)

    def _step(
        self,
        inputs: Tensor,
        targets: Tensor,
        memory: bool,
        outputs: bool,
        scaler: GradScaler | None,
    ) -> StepResult:
        self._check_step(inputs, targets)
        targets = targets.to(self.stages[-1].device)
        batch = Batch(inputs, targets, self.schedule.num_microbatches, self.loss_fn)
        if outputs:
            batch.outputs = {}
        if scaler is not None:
            check_kind(scaler, GradScaler, "give a torch.amp.GradScaler")
            batch.scale = scaler.scale
        refreshed = self._begin()
        self._probe(batch)
        key = self._draw_key()
        run = Run(self.stages, self.places, self.schedule, batch, key)
        with ExitStack() as around:
            accounts = None
            if memory or self.capacity is not None:
                accounts = self._count(run, around)
            fresh = around.enter_context(gradients_kept(list(self.parameters())))
            timeline = self._measure(run)
            loss, divisor = batch.total()
            check_loss(loss, self.stages, batch, key)
            joined = batch.joined(lambda k: self._skipped(batch, k, key))
            divide(fresh, divisor)
            run.finish_inputs(inputs, divisor)
            moved = sum(transfer.nbytes for transfer in timeline.transfers)
            counted = ledgers(accounts) if accounts else None
            peaks, tied = tuple(run.peak_bytes), refreshed + sum(run.tied_bytes)
            result = StepResult(loss, timeline, moved, peaks, tied, counted, joined)
            self.steps += 1
        return result

    def _skipped(self, batch: Batch, microbatch: int, key: Key) -> Tensor:
        """Return the outputs of a micro-batch that the step has skipped."""
        try:
            return self._run(batch.input(microbatch), (*key, microbatch))
        except Exception as error:
            doing = " or ".join(stage.doing for stage in self.stages)
            raise PipelineError(
                f"outputs of micro-batch {microbatch}, {doing}: {told(error)}"
            ) from error

    def _probe(self, batch: Batch) -> None:
        """Look once at what the layers do, and once more when one has changed its mode."""
        repeats = self.recompute or self.seed is not None
        modes = [*self._made_of.modes(), self.loss_fn]
        if not self.probe or modes == self._probed or not (repeats or batch.num_microbatches > 1):
            return
        if try_out(self.stages, batch, repeats):
            self._probed = modes

    def _repair(self) -> None:
        """Leave layers and generators as they were, after a failure in the middle of a change."""
        for stage in self.stages:
            stage.put_back()
        give_back([current_thread(), *self._late])

    def _measure(self, run: Run) -> Timeline:
        """Run all actions; a forward that has to be repeatable may draw from no other generator."""
        repeats = self.probe and (self.recompute or self.seed is not None)
        try:
            with nothing_drawn(stage.device for stage in self.stages if repeats):
                return measure(run, self.clock, self.link)
        except UnkeyedDraw:
            self._probed = None
            raise
        finally:
            self._late, self._fences = run.late, run.fences

    def _check_late(self) -> None:
        """Raise while a thread of an interrupted step is in its layer yet."""
        self._late = [worker for worker in self._late if worker.is_alive()]
        if self._late:
            names = ", ".join(worker.name for worker in self._late)
            raise PipelineError(
                f"{names} of an interrupted step has not ended, because its layer is still "
                f"running: wait for it, or restart the program"
            )
        for fence in self._fences:
            fence.remove()
        self._fences = []

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
        with self._turn.entered(), settings_kept(self._repair):
            self._check_late()
            self._take_over()
            check_device(inputs, self.stages[0])
            self._begin()
            return self._run(inputs, (*self._draw_key(), 0), through_home=True)

    def _run(self, activation: Tensor, key: Key, through_home: bool = False) -> Tensor:
        """Run all stages forward, one after another."""
        for stage in self.stages:
            activation = stage.run(activation.to(stage.device), key, through_home)
        return activation

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Note beside the weights how many steps there were: dropout's masks depend on that."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]][STEPS] = self.steps

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)
        self.steps = local_metadata.get(STEPS, self.steps)

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
        blind = self.recompute and not self.probe  # who looks puts running statistics back
        check_batch_independence(self.layers, self.schedule.num_microbatches, blind)

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
            return self.seed, self.steps
        if any(stage.draws for stage in self.stages):
            return int(torch.randint(2**62, ())), 0
        return 0, 0

    def extra_repr(self) -> str:
        """Say how the layers below are cut, and where the stages are."""
        where = ", ".join(map(str, self.devices))
        sizes = list(self.partition.sizes)
        return f"partition={sizes}, devices=[{where}], schedule={self.schedule!r}"
