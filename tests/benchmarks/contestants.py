"""Ways to perform one step: forward and backward of the same decoder on the same micro-batches.

contest.py starts this program, once for each process of a contestant, and tells it by its standard
input what to do. Every rank computes with one thread; nobody has an optimizer.
"""

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from d2lpart import Decoder, Pipeline
from d2lpart.machine.allocator import keep_freed_memory
from d2lpart.stages.losses import cross_entropy

VOCABULARY = 256
PATIENCE = timedelta(minutes=3)  # for a process whose partner has failed


@dataclass(frozen=True)
class Setup:
    """What is trained, on how much, and this process's place among those of its contestant."""

    ranks: int
    process: int
    processes: int
    width: int
    blocks: int
    samples: int
    context: int
    microbatches: int

    def model(self) -> Decoder:
        """Return the decoder, with the same weights for everybody."""
        torch.manual_seed(0)
        heads = max(1, self.width // 64)
        return Decoder(VOCABULARY, self.width, self.blocks, heads, self.context)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return inputs and targets, the same for everybody."""
        generator = torch.Generator().manual_seed(1)
        shape = 2, self.samples, self.context
        inputs, targets = torch.randint(VOCABULARY, shape, generator=generator)
        return inputs, targets

    def sizes(self) -> list[int]:
        """Return the layers of each rank; embedding and head, on the ends, are light."""
        layers = self.blocks + 2
        return [layers // self.ranks + (k < layers % self.ranks) for k in range(self.ranks)]


@dataclass
class Work:
    """A step to time: what to call, where its gradients lie, and how to begin it together."""

    step: Callable[[], float]  # returns the loss, 0 where another process has it
    parameters: list[nn.Parameter]
    gather: Callable[[], object] = lambda: None


def loop(model: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor], m: int) -> float:
    """Train on one micro-batch after another: what everyone does who does not overlap."""
    losses = []
    for x, y in zip(*(part.chunk(m) for part in batch), strict=True):
        loss = cross_entropy(model(x), y) / m
        loss.backward()
        losses.append(loss.detach())
    return sum(map(float, losses))


def plain(setup: Setup) -> Work:
    """The uncut model."""
    model = setup.model()
    step = partial(loop, model, setup.batch(), setup.microbatches)
    return Work(step, list(model.parameters()))


def threads(setup: Setup) -> Work:
    """Two uncut models that know nothing of each other, each on a thread of this process."""
    models, batch = [setup.model() for _ in range(setup.ranks)], setup.batch()
    losses = [0.0] * setup.ranks

    def work(rank: int) -> None:
        losses[rank] = loop(models[rank], batch, setup.microbatches)

    def step() -> float:
        workers = [threading.Thread(target=work, args=(rank,)) for rank in range(setup.ranks)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(losses)

    return Work(step, [weight for model in models for weight in model.parameters()])


def ours(setup: Setup, schedule: str) -> Work:
    """A Pipeline of this package, by the wall clock, a thread a rank."""
    pipeline = Pipeline(
        setup.model(),
        setup.sizes(),
        ["cpu"] * setup.ranks,
        schedule=schedule,
        num_microbatches=setup.microbatches,
        clock="wall",
    )
    return Work(lambda: pipeline.step(*setup.batch()).loss, list(pipeline.parameters()))


def torch_pipelining(setup: Setup, schedule: str, store: str) -> Work:
    """`torch.distributed.pipelining` over gloo, a process a rank."""
    import torch.distributed as dist
    from torch.distributed import pipelining

    if not dist.is_initialized():
        dist.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=setup.process,
            world_size=setup.ranks,
            timeout=PATIENCE,
        )
    ends = [sum(setup.sizes()[:k]) for k in range(setup.ranks + 1)]
    layers = setup.model()[ends[setup.process] : ends[setup.process + 1]]
    stage = pipelining.PipelineStage(layers, setup.process, setup.ranks, torch.device("cpu"))
    kind = {"1f1b": pipelining.Schedule1F1B, "gpipe": pipelining.ScheduleGPipe}[schedule]
    order = kind(stage, setup.microbatches, loss_fn=cross_entropy)
    inputs, targets = setup.batch()

    def step() -> float:
        losses: list[Tensor] = []
        given = [inputs] if stage.is_first else []
        wanted = {"target": targets, "losses": losses} if stage.is_last else {}
        order.step(*given, **wanted)
        return sum(map(float, losses)) / setup.microbatches

    return Work(step, list(layers.parameters()), dist.barrier)


def torchgpipe(setup: Setup) -> Work:
    """torchgpipe, as it comes; it cuts the mini-batch itself, and checkpoints nothing here."""
    from torchgpipe import GPipe

    model = GPipe(
        nn.Sequential(*setup.model().layers),
        balance=setup.sizes(),
        devices=["cpu"] * setup.ranks,
        chunks=setup.microbatches,
        checkpoint="never",
    )
    inputs, targets = setup.batch()

    def step() -> float:
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        return float(loss)

    return Work(step, list(model.parameters()))


def accelerate(setup: Setup) -> Work:
    """The layers dispatched by a device map; the hooks move what enters each layer."""
    from accelerate import dispatch_model

    model = setup.model()
    places = {str(number): "cpu" for number in range(len(model.layers))}
    model = dispatch_model(model, device_map=places, force_hooks=True)
    step = partial(loop, model, setup.batch(), setup.microbatches)
    return Work(step, list(model.parameters()))


WAYS = {
    "plain": plain,
    "processes": plain,  # one in each of several processes
    "threads": threads,
    "torchgpipe": torchgpipe,
    "accelerate": accelerate,
}


def build(name: str, setup: Setup, store: str) -> Work:
    """Return a contestant's work.

    A name is one of the ways above, its schedule if it has one, and "kept" if freed memory is kept,
    which otherwise only our own pipeline sees to.
    """
    way, *more = name.split()
    if "kept" in more:
        keep_freed_memory()
    if way == "torch":
        return torch_pipelining(setup, more[0], store)
    if way == "ours":
        return ours(setup, more[0])
    return WAYS[way](setup)


def timed(work: Work) -> dict[str, Any]:
    """Perform one step from empty gradients, and return how long it took."""
    for weight in work.parameters:
        weight.grad = None
    work.gather()
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    loss = work.step()
    end = time.perf_counter()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "start": start,
        "end": end,
        "cpu": after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime,
        "faults": after.ru_minflt - before.ru_minflt,
        "loss": loss,
    }


def squares(parameters: Iterable[nn.Parameter]) -> float:
    """Return the sum of the squares of all gradients; a weight without one is an error."""
    found = 0.0
    for weight in parameters:
        assert weight.grad is not None
        found += float(weight.grad.double().square().sum())
    return found


def serve(name: str, ranks: int, process: int, processes: int, store: str) -> None:
    """Do as the standard input says; what libraries print goes to the log."""
    torch.set_num_threads(1)
    answer = os.fdopen(os.dup(1), "w")
    work = None
    with redirect_stdout(sys.stderr):
        for line in sys.stdin:
            order, reply = json.loads(line), {}
            try:
                if order == "go":
                    assert work is not None
                    reply = timed(work)
                elif order == "squares":
                    assert work is not None
                    reply = {"squares": squares(work.parameters)}
                else:
                    work = None
                    work = build(name, Setup(ranks, process, processes, **order), store)
            except Exception as error:
                reply = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(reply), file=answer, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5])
