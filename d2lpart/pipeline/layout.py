"""Which layers, devices and schedule fit together, and what stands in for those not given."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from d2lpart.common.quantities import count
from d2lpart.costs.profiler import compute_weights
from d2lpart.machine import hardware
from d2lpart.partitions.partitioning import Partition, partition
from d2lpart.schedules.orders import build_schedule
from d2lpart.schedules.schedule import Schedule
from d2lpart.schedules.validation import validate
from d2lpart.stages.checks import COMPUTES, check_numbers


def arrange(
    layers: Sequence[nn.Module],
    sizes: Partition | Sequence[int] | None,
    devices: Sequence[Any] | None,
    schedule: str | Schedule,
    num_microbatches: int,
) -> tuple[Partition, list[torch.device], Schedule]:
    """Return the partition, one device a rank, and a valid schedule for them.

    Raises:
        ValueError: two of them contradict each other; the message names both numbers.
    """
    check_numbers(layers)
    given = None if sizes is None else _checked(sizes, len(layers))
    num_stages = given.num_stages if given else None
    places = _devices(devices, num_stages, schedule, len(layers))
    orders = _schedule(schedule, num_stages, len(places), num_microbatches)
    found = given or partition(compute_weights(layers), orders.num_stages)
    return found, places, orders


def _checked(sizes: Partition | Sequence[int], num_layers: int) -> Partition:
    checked = sizes if isinstance(sizes, Partition) else Partition(sizes)
    if checked.num_layers != num_layers:
        raise ValueError(
            f"the partition {checked.sizes} is for {count(checked.num_layers, 'layer')}, but there "
            f"are {num_layers}: the sizes must add up to the number of layers"
        )
    return checked


def _devices(
    devices: Sequence[Any] | None,
    num_stages: int | None,
    schedule: str | Schedule,
    num_layers: int,
) -> list[torch.device]:
    """Return one device a rank: those given, or the best for as many ranks as are called for."""
    if devices is not None:
        if isinstance(devices, str) or not isinstance(devices, Sequence) or not devices:
            raise ValueError(f"devices is {devices!r}: give a list with one device a rank")
        if any(str(device).partition(":")[0] == "meta" for device in devices):
            raise ValueError(f"devices has meta, which holds no numbers, {COMPUTES}")
        return [hardware.as_device(device) for device in devices]
    if isinstance(schedule, Schedule):
        return hardware.devices(schedule.num_ranks)
    return hardware.devices(num_stages or hardware.default_ranks(num_layers))


def _schedule(
    schedule: str | Schedule, num_stages: int | None, num_ranks: int, num_microbatches: int
) -> Schedule:
    """Return a valid schedule for the ranks and stages there are."""
    if isinstance(schedule, str):
        if num_stages is None:  # as many as the schedule has by itself
            return validate(build_schedule(schedule, num_ranks, num_microbatches))
        if num_stages % num_ranks:
            raise ValueError(
                f"{num_stages} stages for {num_ranks} ranks: every rank holds the same number of "
                f"stages; use a multiple of {num_ranks} stages, or {num_stages} devices"
            )
        chunks = num_stages // num_ranks
        return validate(build_schedule(schedule, num_ranks, num_microbatches, chunks=chunks))
    validate(schedule)
    for what, has, wanted in (
        ("ranks", schedule.num_ranks, num_ranks),
        ("stages", schedule.num_stages, num_stages),
        ("micro-batches", schedule.num_microbatches, num_microbatches),
    ):
        # num_microbatches=1 is the default: then the schedule's own number counts
        if has != wanted and wanted is not None and (what, wanted) != ("micro-batches", 1):
            raise ValueError(
                f"the schedule has {has} {what}, the pipeline {wanted}: make them equal"
            )
    return schedule
