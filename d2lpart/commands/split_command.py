"""The command `d2lpart split`."""

import argparse
import json
from collections.abc import Callable
from typing import Any

import torch

from d2lpart.commands.splitting import split_model
from d2lpart.common.quantities import bytes_per_second, flops_per_second, nbytes, seconds, whole
from d2lpart.machine.hardware import devices, named
from d2lpart.models.by_name import choose_model
from d2lpart.timelines.spans import Link

TOO_FULL = 1


def run(options: argparse.Namespace) -> int:
    """Print the report; the status is 1 where a rank would be too full."""
    places = _places(options.devices)
    report = split_model(
        choose_model(options.model),
        places,
        num_microbatches=_optional(whole, "--micro-batches", options) or 4 * len(places),
        samples=whole("--micro-batch-size", options.micro_batch_size),
        context=_optional(whole, "--context", options),
        schedule=options.schedule,
        chunks=_optional(whole, "--chunks", options),
        capacity=_optional(nbytes, "--capacity", options),
        link=_link(options.link),
        rate=_optional(flops_per_second, "--rate", options),
        measure=options.measure,
        precision=options.precision,
    )
    print(json.dumps(report.to_dict(), indent=1) if options.json else report)
    return 0 if report.fits else TOO_FULL


def _places(text: str) -> list[torch.device]:
    """Read "4", or "cuda:0,cuda:1", which need not exist as long as nothing is run."""
    if text.strip()[:1].isalpha():
        return [named(name.strip()) for name in text.split(",")]
    return devices(whole("--devices", text))


def _link(text: str | None) -> Link:
    """Read "25GB/s" or "25GB/s,10us"; without a link messages take no time."""
    if text is None:
        return Link()
    bandwidth, _, latency = text.partition(",")
    return Link(
        latency=seconds("--link's latency", latency) if latency else 0.0,
        bandwidth=bytes_per_second("--link's bandwidth", bandwidth),
    )


def _optional(read: Callable[[str, str], Any], option: str, options: argparse.Namespace) -> Any:
    """Return what `read` makes of an option, or None where it was not given."""
    text = getattr(options, option.removeprefix("--").replace("-", "_"))
    return None if text is None else read(option, text)
