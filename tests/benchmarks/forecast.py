"""How far a step predicted from a profile is from the step that is measured.

Run `python tests/benchmarks/forecast.py`. Decoders of about 1, 10 and 100 million parameters are
cut for 1, 2 and 4 ranks. Each repeat profiles the layers and then measures a step, so that whatever
else the machine does disturbs both alike; the error is taken within a repeat, and the median of the
errors is reported with its quartiles. Ranks are measured on the virtual clock, one of them also on
the wall clock. Every rank has one thread.

On a machine that others use, too, an action is interrupted the more often the longer it is, and the
layers of a profile less than whole stages. `--processor-time` replaces the seconds of the host's
clock, in the profile and in the step alike, by those in which the processor worked for this thread.
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass

import torch

from d2lpart import (
    Decoder,
    Pipeline,
    Timeline,
    forecast,
    forecast_error,
    partition,
    profile,
)
from d2lpart.common.quantities import count
from d2lpart.machine import transfer
from d2lpart.machine.hardware import cores

VOCABULARY, CONTEXT, MICROBATCHES = 1024, 64, 4


@dataclass(frozen=True)
class Case:
    """A decoder, and the samples in a micro-batch."""

    width: int
    blocks: int
    samples: int


CASES = {
    "1M": Case(width=128, blocks=4, samples=4),
    "10M": Case(width=384, blocks=5, samples=2),
    "100M": Case(width=960, blocks=9, samples=1),
}


def errors(case: Case, ranks: int, clock: str, schedule: str, repeats: int) -> list[float]:
    """Return the relative error of each repeat, and print what the last one says."""
    torch.manual_seed(0)
    decoder = Decoder(VOCABULARY, case.width, case.blocks, case.width // 64, CONTEXT)
    inputs, targets = torch.randint(VOCABULARY, (2, MICROBATCHES * case.samples, CONTEXT))
    one = inputs[: case.samples], targets[: case.samples]
    costs = profile(decoder, one[0], targets=one[1], ranks=ranks, passes=1)
    cut = partition([cost.seconds for cost in costs], ranks)
    pipeline = Pipeline(
        decoder,
        cut,
        ["cpu"] * ranks,
        schedule=schedule,
        num_microbatches=MICROBATCHES,
        clock=clock,
    )

    def step() -> Timeline:
        decoder.zero_grad(set_to_none=True)
        return pipeline.step(inputs, targets).timeline

    step()
    found = []
    for _ in range(repeats):
        before = step()
        costs = profile(decoder, one[0], targets=one[1], ranks=ranks, passes=2)
        predicted = forecast(costs, cut, pipeline.schedule)
        found.append(forecast_error(predicted, before, step()).relative)
    parameters = sum(weight.numel() for weight in decoder.parameters()) / 1e6
    low, middle, high = statistics.quantiles(found, n=4, method="inclusive")
    print(
        f"{parameters:6.1f}M parameters  {schedule:5} {count(ranks, 'rank')} "
        f"{list(cut.sizes)!s:14} {clock:7} clock: error {middle:+6.1%}, "
        f"quartiles {low:+.1%} to {high:+.1%} ({repeats} repeats, "
        f"step {predicted.makespan * 1e3:.0f} ms)",
        flush=True,
    )
    return found


class ProcessorTime:
    """Stands in for the module `time` where marks are made."""

    perf_counter = staticmethod(time.thread_time)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--sizes", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--schedules", nargs="+", default=["1f1b"])
    parser.add_argument("--processor-time", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seconds = "seconds of the host's clock"
    if options.processor_time:
        transfer.time = ProcessorTime
        seconds = "seconds of processor time"
    print(f"torch {torch.__version__}, Python {sys.version.split()[0]}, {cores()} cores; {seconds}")
    for size in options.sizes:
        for schedule in options.schedules:
            for ranks in options.ranks:
                for clock in ("virtual", "wall") if ranks == 1 else ("virtual",):
                    errors(CASES[size], ranks, clock, schedule, options.repeats)
