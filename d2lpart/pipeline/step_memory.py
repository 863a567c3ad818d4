"""Counting a step: an account for each rank, from the first weight to the last activation."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from math import inf
from typing import Any

import torch
from torch import nn

from d2lpart.common.quantities import count
from d2lpart.memory.failures import Full
from d2lpart.memory.ledger import Ledgers
from d2lpart.schedules.schedule import Schedule
from d2lpart.stages.memory_account import Account
from d2lpart.stages.microbatch import Batch
from d2lpart.stages.optimizer_state import state_of
from d2lpart.stages.stage import Stage


def check_capacity(capacity: Any, num_ranks: int) -> tuple[float, ...] | None:
    """Return the capacity of each rank, from one for all or one a rank; None stays None.

    Raises:
        ValueError: no number above 0, or not one a rank.
    """
    if capacity is None:
        return None
    limits: list[Any] = [capacity] * num_ranks
    if isinstance(capacity, list | tuple):
        limits = list(capacity)
    if len(limits) != num_ranks:
        raise ValueError(
            f"capacity has {count(len(limits), 'number')} for {count(num_ranks, 'rank')}: give one "
            f"number of bytes for all ranks, or one a rank"
        )
    for rank, limit in enumerate(limits):
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
            raise ValueError(
                f"the capacity of rank {rank} is {limit!r}: give a number of bytes above 0; "
                f"math.inf counts without a limit"
            )
    return tuple(float(limit) for limit in limits)


def open_accounts(
    stages: Sequence[Stage], schedule: Schedule, capacity: Sequence[float] | None, where: str
) -> list[Account]:
    """Return an account for each rank with its weights, gradients and optimizer state in it.

    A tied weight counts at its home; where another stage uses it, its shadow counts.

    Args:
        stages, schedule: of the pipeline.
        capacity: of each rank; None is no limit.
        where: when this is, for the error.

    Raises:
        OutOfMemoryError: they do not fit.
    """
    accounts = [Account(r, capacity[r] if capacity else inf) for r in range(schedule.num_ranks)]
    for stage, rank in zip(stages, schedule.stage_to_rank, strict=True):
        try:
            _keep_state(stage, accounts[rank])
        except Full:
            gc.collect()  # a reference cycle may still hold an optimizer that was let go of
            try:
                _keep_state(stage, accounts[rank])
            except Full as full:
                raise full.error(f"rank {rank}, stage {stage.index}, {where}") from None
    return accounts


def _keep_state(stage: Stage, account: Account) -> None:
    weights = _weights(stage)
    account.keep("weights", weights)
    account.keep("weights", (b for layer in stage.layers for b in layer.buffers()))
    account.keep("gradients", (w.grad for w in weights if w.grad is not None))
    account.keep("optimizer", state_of(weights))


def _weights(stage: Stage) -> list[nn.Parameter]:
    """Return the weights that a stage computes with, its shadows in the place of their homes."""
    weights = dict.fromkeys(w for layer in stage.layers for w in layer.parameters())
    return [stage.aways.get(weight, weight) for weight in weights]


@contextmanager
def accounts_kept(
    stages: Sequence[Stage], schedule: Schedule, accounts: Sequence[Account]
) -> Iterator[None]:
    """Count what the stages hold and the gradients they make, as long as the context lasts."""
    with ExitStack() as hooks:
        for stage, rank in zip(stages, schedule.stage_to_rank, strict=True):
            stage.account = account = accounts[rank]
            hooks.callback(setattr, stage, "account", None)
            for weight in _weights(stage):
                if weight.requires_grad:
                    note = partial(_note, account)
                    hooks.callback(weight.register_post_accumulate_grad_hook(note).remove)
        yield


def keep_batch(schedule: Schedule, accounts: Sequence[Account], batch: Batch) -> None:
    """Count the mini-batch on the first stage's rank, its targets and outputs on the last one's.

    Raises:
        OutOfMemoryError: there is no room for it.
    """
    ranks = schedule.stage_to_rank
    batch.hold = partial(accounts[ranks[-1]].hold, "activations")
    for what, rank, data in (
        ("inputs", ranks[0], batch.inputs),
        ("targets", ranks[-1], batch.targets),
    ):
        try:
            accounts[rank].keep_data(data)
        except Full as full:
            raise full.error(f"rank {rank}, with the {what} of the mini-batch") from None


def _note(account: Account, weight: torch.Tensor) -> None:
    assert isinstance(weight, nn.Parameter)
    account.note_gradient(weight)


def ledgers(accounts: Sequence[Account]) -> Ledgers:
    """Return the peaks of all ranks."""
    return Ledgers([a.peaks() for a in accounts], [a.capacity for a in accounts])


@contextmanager
def allocator_limits(
    devices: Sequence[torch.device], accounts: Sequence[Account]
) -> Iterator[None]:
    """Let the allocator of each CUDA device hold what its ranks may, beside what is there already.

    What operations need while they run counts here, too. The allocator takes memory in pieces of
    2 to 20 MiB. Its limits are as before when the context ends.
    """
    with ExitStack() as limits:
        for device in {place for place in devices if place.type == "cuda"}:
            own = [a for a, place in zip(accounts, devices, strict=True) if place == device]
            room = sum(account.capacity for account in own)
            if room < inf:
                torch.cuda.synchronize(device)
                torch.cuda.empty_cache()
                others = torch.cuda.memory_reserved(device) - sum(a.now().total for a in own)
                whole = torch.cuda.get_device_properties(device).total_memory
                before = torch.cuda.get_per_process_memory_fraction(device)
                limits.callback(torch.cuda.set_per_process_memory_fraction, before, device)
                share = min(before, (max(others, 0) + room) / whole)
                torch.cuda.set_per_process_memory_fraction(share, device)
        yield
