"""One step under way: ranks perform actions, and pass what they make to each other.

`Run.perform` is the whole of it: wait for what the action depends on, do the work, send the
result on. It does not know when it is called, or on which thread; that is the clock's business.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from queue import SimpleQueue
from threading import Thread

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from d2lpart.machine.transfer import Mark, Parcel, Place, send
from d2lpart.memory.failures import Full, PipelineError, allocator_error, told
from d2lpart.schedules.schedule import Action, Schedule, dependencies
from d2lpart.stages.microbatch import Batch, sharing
from d2lpart.stages.stage import Held, Key, Stage


class Stopped(Exception):
    """Another rank failed, so this one waits in vain."""


class Run:
    """One step of a pipeline.

    Args:
        stages: all stages of the network, ready for a step.
        places: one place a rank.
        schedule: a valid schedule.
        batch: the micro-batches and their losses.
        key: (seed, step), what dropout depends on beside micro-batch and layer.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        places: Sequence[Place],
        schedule: Schedule,
        batch: Batch,
        key: Key,
    ) -> None:
        self.stages = stages
        self.places = places
        self.schedule = schedule
        self.batch = batch
        self.key = key
        self.marks: dict[Action, tuple[Mark, Mark]] = {}
        self.sent: dict[Action, Parcel] = {}
        self.input_gradients: dict[int, Tensor] = {}
        self.peak_bytes = [0] * len(places)
        self.tied_bytes = [0] * len(places)  # gradients that a rank has sent to a weight's home
        self.late: list[Thread] = []  # threads that go on after an interrupt
        self.fences: list[RemovableHandle] = []  # keep these from adding to gradients
        self._stopped = False
        self._bytes = [0] * len(places)
        self._held: dict[tuple[int, int], Held] = {}
        self._slots: dict[Action, SimpleQueue[Parcel | None]] = {
            action: SimpleQueue() for action in schedule.position if schedule.consumer(action)
        }
        self._home_coming: dict[tuple[nn.Parameter, int, int], Parcel] = {}
        self._users: dict[nn.Parameter, list[int]] = defaultdict(list)
        for stage in stages:
            for weight in stage.tied:
                self._users[weight].append(stage.index)
        learns = batch.inputs.requires_grad
        self._wants_gradient = []
        for stage in stages:
            self._wants_gradient.append(learns)
            learns = learns or stage.trains

    def perform(self, action: Action) -> None:
        """Do one action; the calling thread is the rank's."""
        if self._stopped:
            raise Stopped
        rank = self.schedule.stage_to_rank[action.stage]
        place = self.places[rank]
        try:
            received = self._receive(action, place)
            begin = place.mark()
            made = None
            if not self.batch.skipped(action.microbatch):
                made = self._work(action, received)
            end = place.mark()
            self.marks[action] = begin, end
            self._send(action, made, end)
        except Stopped as stopped:
            if self._stopped:
                raise
            raise PipelineError(
                f"{self._where(action, rank)}: a thread of an interrupted step still runs in these "
                f"layers; wait until it ends, or restart the program"
            ) from stopped
        except Full as full:
            raise full.error(self._where(action, rank)) from None
        except torch.OutOfMemoryError as error:
            raise self._allocator_error(action, rank, error) from error
        except Exception as error:
            where = self._where(action, rank)
            raise PipelineError(f"{where}: {told(error)}") from error

    def _receive(self, action: Action, place: Place) -> Tensor | None:
        """Wait for the message of a neighbouring stage, if the action depends on one."""
        for need in dependencies(action, self.schedule):
            if need.stage != action.stage:
                parcel = self._slots[need].get()
                if parcel is None:
                    raise Stopped
                return parcel.open(place)
        return None

    def _send(self, action: Action, tensor: Tensor | None, made: Mark) -> None:
        consumer = self.schedule.consumer(action)
        if consumer is not None:
            ranks = self.schedule.stage_to_rank
            source, target = self.places[ranks[action.stage]], self.places[ranks[consumer.stage]]
            self.sent[action] = send(tensor, source, target, made)
            self._slots[action].put(self.sent[action])

    def _work(self, action: Action, received: Tensor | None) -> Tensor | None:
        with sharing(self.batch.share(action.microbatch)):
            if action.kind == "F":
                return self._forward(action, received)
            if action.kind in "BI":
                return self._backward(action, received)
            self._weights(action)
            return None

    def _forward(self, action: Action, received: Tensor | None) -> Tensor | None:
        number, _, microbatch = action
        stage, last = self.stages[number], number == len(self.stages) - 1
        inputs = self.batch.input(microbatch) if number == 0 else received
        assert inputs is not None, "every forward hands on an activation"
        finish = partial(self.batch.loss, microbatch) if last else None
        key = (*self.key, microbatch)
        split = self.schedule.backward_of(number, microbatch).kind == "I"
        outputs, held = stage.forward(inputs, self._wants_gradient[number], key, finish, split)
        self._held[number, microbatch] = held
        self._account(number, held, 0)
        return outputs

    def _backward(self, action: Action, received: Tensor | None) -> Tensor | None:
        """Do B, or the half of it that hands gradients on."""
        number, kind, microbatch = action
        stage, held = self.stages[number], self._held[number, microbatch]
        before = held.nbytes
        if kind == "I":
            arrived = self._arrived(stage, microbatch, stage.aways)
            gradient, tied = stage.backward_input(held, received, arrived)
        else:
            arrived = self._arrived(stage, microbatch, stage.tied)
            gradient, tied = stage.backward(held, received, arrived)
            del self._held[number, microbatch]
        self._account(number, held, before)
        for weight, total in tied.items():
            self._send_home(number, weight, microbatch, total)
        if number == 0 and gradient is not None:
            self.input_gradients[microbatch] = gradient
        return gradient

    def _weights(self, action: Action) -> None:
        number, _, microbatch = action
        stage, held = self.stages[number], self._held.pop((number, microbatch))
        before = held.nbytes
        stage.backward_weight(held, self._arrived(stage, microbatch, stage.homes))
        self._account(number, held, before)

    def _arrived(
        self, stage: Stage, microbatch: int, weights: Iterable[nn.Parameter]
    ) -> dict[nn.Parameter, Tensor]:
        """Return the gradients of tied `weights` that later stages have sent to this one."""
        place = self.places[self.schedule.stage_to_rank[stage.index]]
        arrived = {}
        for weight in weights:
            parcel = self._home_coming.pop((weight, stage.index, microbatch), None)
            gradient = parcel.open(place) if parcel else None
            if gradient is not None:
                arrived[weight] = gradient
        return arrived

    def _send_home(self, stage: int, weight: nn.Parameter, microbatch: int, total: Tensor) -> None:
        """Send a tied weight's gradient to the stage before this one that uses it."""
        before = max(user for user in self._users[weight] if user < stage)
        source, target = (self.schedule.stage_to_rank[s] for s in (stage, before))
        parcel = send(total, self.places[source], self.places[target])
        self.tied_bytes[source] += parcel.nbytes if source != target else 0
        self._home_coming[weight, before, microbatch] = parcel

    def _account(self, stage: int, held: Held, before: int) -> None:
        """Count what a stage holds of a micro-batch after an action, and held at most in it."""
        rank = self.schedule.stage_to_rank[stage]
        others = self._bytes[rank] - before
        self.peak_bytes[rank] = max(self.peak_bytes[rank], others + held.peak_nbytes)
        self._bytes[rank] = others + held.nbytes

    def _allocator_error(self, action: Action, rank: int, error: Exception) -> PipelineError:
        where, account = self._where(action, rank), self.stages[action.stage].account
        if account is None:
            return allocator_error(where, rank, error)
        return allocator_error(where, rank, error, account.now(), account.capacity)

    def _where(self, action: Action, rank: int) -> str:
        return (
            f"rank {rank}, stage {action.stage}, action {action} (micro-batch "
            f"{action.microbatch}), {self.stages[action.stage].doing}"
        )

    def finish_inputs(self, inputs: Tensor, divisor: float) -> None:
        """Hand the gradient on to inputs that want one."""
        if inputs.requires_grad:
            parts = [
                self.input_gradients.get(k, torch.zeros_like(self.batch.input(k)))
                for k in range(self.schedule.num_microbatches)
            ]
            inputs.backward(torch.cat(parts) / divisor)

    def stop(self) -> None:
        """Let every rank end before its next action, and wake those that wait."""
        self._stopped = True
        for slot in self._slots.values():
            slot.put(None)

    def refuse_gradients(self) -> None:
        """Let no thread that goes on after an interrupt add to a gradient."""

        def refuse(_: Tensor) -> None:
            if any(worker.is_alive() for worker in self.late):
                raise Stopped

        if self.late:
            layers = [layer for stage in self.stages for layer in stage.layers]
            weights = {weight for layer in layers for weight in layer.parameters()}
            self.fences = [w.register_hook(refuse) for w in weights if w.requires_grad]
