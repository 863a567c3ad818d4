"""Interrupts at random moments of a step: no gradient is lost or half added, and nothing hangs.

    python tests/benchmarks/soak.py [INTERRUPTS]

Gradients are there before each step, as when they are gathered over several. After the interrupt
they are what they were, or that and the whole of the step's, to the last bit.
"""

import argparse
import faulthandler
import itertools
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from d2lpart import Decoder, Pipeline

VOCABULARY, POSITIONS, SAMPLES, MICROBATCHES = 11, 4, 6, 3
HANGS = 3600  # seconds after which the whole is taken to hang
SETTINGS = [
    {"clock": clock, "schedule": schedule, "recompute": recompute}
    for clock in ("wall", "virtual")
    for schedule, recompute in (("1f1b", False), ("zb-h1", False), ("gpipe", True))
]


@dataclass
class Found:
    """What became of the steps.

    tried: how many interrupts there were. interrupted, whole: how many of them left the gradients
    as before, or with the whole step's in them. unhurt: how many steps ended before theirs came.
    lost: what was found wrong, in words. longest: seconds from an interrupt to the end of its step.
    """

    tried: int = 0
    interrupted: int = 0
    whole: int = 0
    unhurt: int = 0
    lost: list[str] = field(default_factory=list)
    longest: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.tried} interrupts: {self.interrupted} left the gradients as "
            f"they were, {self.whole} came when all were added, {self.unhurt} after the step; "
            f"{len(self.lost)} lost; the longest took {self.longest:.3f} s to end its step"
        )


class Clock:
    """Raises KeyboardInterrupt at a moment to come, as Ctrl-C does, and knows when it did."""

    def __init__(self) -> None:
        self.rang = 0.0

    def ring(self, *_: Any) -> None:
        """Interrupt the main thread."""
        self.rang = time.monotonic()
        raise KeyboardInterrupt

    def set(self, seconds: float) -> None:
        """Ring in that many seconds; 0 is never."""
        signal.setitimer(signal.ITIMER_REAL, seconds)


@contextmanager
def alarm() -> Iterator[Clock]:
    """Yield a clock; what was set before is as before at the end."""
    clock, quiet = Clock(), sys.unraisablehook

    def hear(unraisable: Any) -> None:  # Python drops an interrupt while it clears a weak reference
        if unraisable.exc_type is not KeyboardInterrupt:
            quiet(unraisable)

    before, sys.unraisablehook = signal.signal(signal.SIGALRM, clock.ring), hear
    try:
        yield clock
    finally:
        clock.set(0)
        signal.signal(signal.SIGALRM, before)
        sys.unraisablehook = quiet


def gradients(pipeline: Pipeline) -> list[Tensor]:
    """Return copies of all gradients."""
    return [weight.grad.clone() for weight in pipeline.parameters()]


class Trial:
    """One pipeline that is stepped again and again from the same gradients."""

    def __init__(self, **options: Any) -> None:
        torch.manual_seed(0)
        layers = Decoder(VOCABULARY, 8, 4, 2, POSITIONS, tied=True, dropout=0.1).layers
        places = ["cpu"] * 3
        self.pipeline = Pipeline(
            layers, [2, 2, 2], places, num_microbatches=MICROBATCHES, seed=1, **options
        )
        self.tokens = torch.randint(VOCABULARY, (2, SAMPLES, POSITIONS))
        self.step()
        self.before = gradients(self.pipeline)
        start = time.perf_counter()
        self.reset()
        self.step()
        self.seconds = time.perf_counter() - start
        self.after = gradients(self.pipeline)

    def reset(self) -> None:
        """Put the gradients of before the step into place, and let its dropout be drawn again."""
        self.pipeline.steps = 1
        if hasattr(self, "before"):
            for weight, gradient in zip(self.pipeline.parameters(), self.before, strict=True):
                weight.grad = gradient.clone()

    def step(self) -> None:
        """Run one step."""
        self.pipeline.step(*self.tokens)

    def verdict(self) -> str:
        """Say what the gradients are: those of "before" the step, of "after" it, or neither: ""."""
        now = gradients(self.pipeline)
        for name, wanted in (("before", self.before), ("after", self.after)):
            if all(map(torch.equal, now, wanted)):
                return name
        return ""


def soak(interrupts: int, seed: int = 0, settings: list[dict[str, Any]] = SETTINGS) -> Found:
    """Interrupt that many steps, each of the settings in turn, at random moments."""
    torch.set_num_threads(1)
    ctrl_c = signal.getsignal(signal.SIGINT)
    chance, found = random.Random(seed), Found()
    trials = itertools.cycle([(options, Trial(**options)) for options in settings])
    with alarm() as clock:
        while found.tried < interrupts:
            options, trial = next(trials)
            trial.reset()
            ended = _interrupted(trial, clock, chance.uniform(1e-4, 1.2 * trial.seconds))
            verdict = trial.verdict()
            if not ended:
                found.unhurt += 1
                found.lost += [f"{options}: a whole step"] * (verdict != "after")
                continue
            found.tried += 1
            found.longest = max(found.longest, time.monotonic() - clock.rang)
            found.interrupted += verdict == "before"
            found.whole += verdict == "after"
            if not verdict:
                found.lost.append(f"{options}: neither as before nor as after the step")
            if signal.getsignal(signal.SIGINT) is not ctrl_c:
                found.lost.append(f"{options}: what Ctrl-C does")
    return found


def _interrupted(trial: Trial, clock: Clock, seconds: float) -> bool:
    """Run a step that is interrupted after some seconds; say whether it was."""
    try:
        try:
            clock.set(seconds)
            trial.step()
        finally:
            clock.set(0)
    except KeyboardInterrupt:
        return True
    return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("interrupts", nargs="?", type=int, default=5000)
    faulthandler.dump_traceback_later(HANGS, exit=True)
    result = soak(parser.parse_args().interrupts)
    print(result, *result.lost[:20], sep="\n")
    sys.exit(bool(result.lost))
