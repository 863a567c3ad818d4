"""The command `d2lpart split`."""

import argparse
import json
from collections.abc import Callable
from typing import Any

import torch

from d2lpart.commands.splitting import split_model
from d2lpart.common.quantities import bytes_per_second, flops_per_second, nbytes, seconds, whole
from d2lpart.machine.hardware import as_device, devices
from d2lpart.models.by_name import choose_model
from d2lpart.timelines.spans import Link

TOO_FULL = 1


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `d2lpart split` to the commands."""
    parser = commands.add_parser(
        "split", help="cut a model over devices on paper: partition, memory, bubble, step"
    )
    add = parser.add_argument
    add(
        "--model",
        required=True,
        help="decoder:width=256,layers=8,heads=4 (also vocab, context); gpt2, 7b, 13b, 30b, 70b; "
        "or a path to a Hugging Face config.json",
    )
    add("--devices", required=True, help="how many, or their names: 4, or cuda:0,cuda:1")
    add("--micro-batches", metavar="M", help="in a step; 4 a device if not given")
    add("--micro-batch-size", metavar="B", default="1", help="samples in each (1)")
    add("--context", help="positions in a sample; as many as the model takes if not given")
    add("--schedule", default="1f1b", help="1f1b if not given")
    add("--chunks", metavar="V", help="stages a device, for interleaved; 1 if not given")
    add("--capacity", help="what a device can hold, such as 80GB or 40GiB")
    add("--link", help="bandwidth between devices, and latency: 25GB/s or 25GB/s,10us")
    add("--rate", help="of a device, such as 156TFLOP/s; with it nothing is run")
    add("--measure", action="store_true", help="time the layers here, however long it takes")
    add("--precision", help="fp32 or mixed; fp32 if the layers are timed, else mixed")
    add("--json", action="store_true", help="the same as JSON")
    parser.set_defaults(run=run)


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
    """Read "4", or "cuda:0,cuda:1"."""
    if text.strip()[:1].isalpha():
        return [as_device(name.strip()) for name in text.split(",")]
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
