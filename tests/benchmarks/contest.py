"""Contestants in processes of their own, who work in turns.

A contestant is one process, or one for each of its ranks. It waits at its standard input, builds
its model when told a setup, and performs one step when told to go; all others wait meanwhile. So no
contestant inherits the memory allocator, the threads or the garbage of another.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from d2lpart.common.quantities import count

PROGRAM = Path(__file__).with_name("contestants.py")
WARM = 0.5  # seconds; a shorter step is preceded by one that does not count


@dataclass(frozen=True)
class Turn:
    """One step: wall and processor seconds, page faults, and the loss."""

    seconds: float
    cpu_seconds: float
    faults: int
    loss: float


class Contestant:
    """Processes that perform one step together, each time they are told to.

    Args:
        name: of the way to perform a step, as contestants.py knows it.
        ranks: among how many the network is cut.
        processes: how many there are; ranks on threads share one.
    """

    def __init__(self, name: str, ranks: int, processes: int = 1) -> None:
        self.name, self.ranks = name, ranks
        self.error = ""
        self._folder = tempfile.TemporaryDirectory()
        store = Path(self._folder.name) / "store"
        self._logs = [Path(self._folder.name) / f"log{k}" for k in range(processes)]
        self._processes = [
            self._start([name, str(ranks), str(k), str(processes), str(store)], log)
            for k, log in enumerate(self._logs)
        ]

    def _start(self, arguments: Sequence[str], log: Path) -> "subprocess.Popen[str]":
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        if sys.platform == "linux":
            environment["GLOO_SOCKET_IFNAME"] = "lo"
        with log.open("w") as errors:
            return subprocess.Popen(
                [sys.executable, str(PROGRAM), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )

    def build(self, setup: Mapping[str, int]) -> None:
        """Let every process build its model; how it fails is kept in `error`."""
        self._tell(dict(setup))

    def ready(self) -> bool:
        """Wait for the models, and say whether all are there."""
        return self._hear() is not None

    def step(self) -> Turn | None:
        """Perform one step, and return how it went; None if it fails, which ends the contestant.

        The time is from the start of the first process to the end of the last.
        """
        self._tell("go")
        heard = self._hear()
        if heard is None:
            return None
        return Turn(
            max(h["end"] for h in heard) - min(h["start"] for h in heard),
            sum(h["cpu"] for h in heard),
            sum(h["faults"] for h in heard),
            sum(h["loss"] for h in heard),
        )

    def norm(self) -> float | None:
        """Return the norm of the gradients that the last step left."""
        self._tell("squares")
        heard = self._hear()
        return None if heard is None else sum(h["squares"] for h in heard) ** 0.5

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                _close(pipe)
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._folder.cleanup()

    def _tell(self, order: Any) -> None:
        for process in self._processes if not self.error else ():
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps(order) + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass  # it has ended; what it says last is heard below

    def _hear(self) -> list[dict[str, Any]] | None:
        """Return what every process answers; None, and why in `error`, if one does not."""
        if self.error:
            return None
        answers = []
        for process, log in zip(self._processes, self._logs, strict=True):
            assert process.stdout is not None
            line = process.stdout.readline()
            answer = json.loads(line) if line else {"error": _last_line(log)}
            if "error" in answer:
                self.error = answer["error"]
                for other in self._processes:
                    other.kill()  # one of a pair would wait for the other
                return None
            answers.append(answer)
        return answers


def _close(pipe: IO[str] | None) -> None:
    try:
        if pipe is not None:
            pipe.close()
    except BrokenPipeError:
        pass


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it ended without a word"


def rounds(contestants: Sequence[Contestant], number: int) -> list[dict[str, Turn]]:
    """Let everyone take a turn in every round, each round begun by another.

    Returns:
        For each round the turns, by the contestant's key; who failed in any round is left out.
    """
    found = []
    for start in range(number):
        turns = {}
        for place in range(len(contestants)):
            contestant = contestants[(start + place) % len(contestants)]
            turn = contestant.step()
            if turn is not None and turn.seconds < WARM:
                turn = contestant.step()
            if turn is not None:
                turns[key(contestant)] = turn
        found.append(turns)
    complete = set.intersection(*map(set, found)) if found else set()
    return [{name: turns[name] for name in turns if name in complete} for turns in found]


def key(contestant: Contestant) -> str:
    """Return the name under which a contestant's turns are kept: "ours-1f1b, 2 ranks"."""
    return name_of(contestant.name, contestant.ranks)


def name_of(way: str, ranks: int) -> str:
    """Return how a way to perform a step is told from others: "ours 1f1b, 2 ranks"."""
    return f"{way}, {count(ranks, 'rank')}"
