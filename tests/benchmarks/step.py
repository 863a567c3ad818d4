"""What a pipelined step costs: one rank against the plain model, two ranks against their bound.

Run `make bench`. Every repeat measures all contestants one after another, so that a noisy machine
disturbs them alike; the ratios are taken within a repeat, and their median is reported.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from d2lpart import Decoder, Pipeline
from d2lpart.hardware import cores
from d2lpart.microbatch import cross_entropy

BATCH, CONTEXT, VOCABULARY, BLOCKS, MICROBATCHES = 16, 64, 256, 8, 8


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(width: int, repeats: int) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    inputs = torch.randint(VOCABULARY, (BATCH, CONTEXT))
    targets = torch.randint(VOCABULARY, (BATCH, CONTEXT))
    plain, one, two = (
        Decoder(VOCABULARY, width, BLOCKS, max(1, width // 64), CONTEXT) for _ in range(3)
    )
    single = Pipeline(one, devices=["cpu"], num_microbatches=MICROBATCHES, clock="wall")
    double = Pipeline(two, devices=["cpu"] * 2, num_microbatches=MICROBATCHES, clock="wall")

    def loop() -> None:
        pairs = zip(inputs.chunk(MICROBATCHES), targets.chunk(MICROBATCHES), strict=True)
        losses = []
        for x, y in pairs:
            loss = cross_entropy(plain(x), y) / MICROBATCHES
            loss.backward()
            losses.append(loss.detach())
        sum(map(float, losses))

    contestants = {
        "plain": (plain, loop),
        "one rank": (one, lambda: single.step(inputs, targets)),
        "two ranks": (two, lambda: double.step(inputs, targets)),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for repeat in range(repeats + 2):
        for name, (model, call) in contestants.items():
            model.zero_grad(set_to_none=True)
            elapsed = seconds(call)
            if repeat >= 2:
                times[name].append(elapsed)
    report(width, times)


def report(width: int, times: dict[str, list[float]]) -> None:
    p, m = 2, MICROBATCHES
    pairs = list(zip(times["plain"], times["one rank"], times["two ranks"], strict=True))
    overhead = [one / plain for plain, one, _ in pairs]
    bound = [two / ((m + p - 1) / m * plain / p) for plain, _, two in pairs]
    for name, ratios in (("one rank / plain", overhead), ("two ranks / bound", bound)):
        quartiles = statistics.quantiles(ratios, n=4)
        print(
            f"width {width:4}  {name:18} median {statistics.median(ratios):.3f}  "
            f"quartiles {quartiles[0]:.3f} to {quartiles[2]:.3f}  "
            f"({len(ratios)} repeats, plain step {statistics.median(times['plain']) * 1e3:.0f} ms)"
        )


def import_cost(repeats: int) -> None:
    def cost(statement: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, "-c", statement], check=True))

    pairs = [(cost("import torch"), cost("import torch, d2lpart")) for _ in range(repeats)]
    added = statistics.median(ours - torch_alone for torch_alone, ours in pairs)
    alone = statistics.median(torch_alone for torch_alone, _ in pairs)
    print(f"import d2lpart adds {added:.2f} s to import torch ({alone:.2f} s, {repeats} repeats)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 256, 512])
    options = parser.parse_args()
    print(f"torch {torch.__version__}, Python {sys.version.split()[0]}, {cores()} cores")
    for width in options.widths:
        compare(width, options.repeats)
    import_cost(5)
