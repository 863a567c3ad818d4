"""A check that ends, whatever the learner's function does: it judges with limits around it.

On Linux the function runs in a forked child, with limits of time and memory, and the kernel lives
on whatever becomes of the child. Elsewhere it runs in this process with a limit of time alone.
"""

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from d2lpart.course.checks.alarm import TimeUp, time_limit
from d2lpart.course.checks.bar import Show, bar_shown
from d2lpart.course.checks.checker import judge
from d2lpart.course.checks.child import ROOM, Say, can_fork, forked
from d2lpart.course.checks.exercise import Exercise
from d2lpart.course.checks.running import inline
from d2lpart.course.checks.verdict import RUNS, Result

LIMIT = 5.0
"""Seconds that a check lasts at most, where its exercise names no others."""

PATIENCE = 1.0
"""Seconds until a check that still runs says so."""

FIELDS = ("kind", "sentence", "call", "expected", "got", "printed", "layers", "cases", "right_call")
REASONS = {
    "SIGSEGV": "it crashes; is a recursion limit raised, or memory read that is not there?",
    "SIGBUS": "it reads memory that is not there.",
    "SIGABRT": "a library gives up, often over sizes that do not fit.",
    "SIGFPE": "a library divides by zero.",
    "SIGKILL": "it is killed from outside, most often because the machine's memory is full.",
    "": "does it send that signal to itself?",
}
"""What ends a process by a signal."""

GPU_IN_CHILD = "CUDA in forked subprocess"


def guarded_judge(
    exercise: Exercise,
    learner: Any,
    seed: int = 0,
    *,
    seconds: float | None = None,
    fork: bool | None = None,
) -> Result:
    """Return the verdict of `judge`, after `seconds` at the latest; 5 s or what the exercise says.

    fork: whether a child runs the function; by default where that is safe. What the function
    changes outside of itself, such as a global list, stays in the child. Where there is no child
    (macOS, Windows, a GPU in use), `alarm.time_limit` says what it cannot interrupt, memory has no
    limit, and `os._exit` ends this process.

    With D2LPART_CHECK_INLINE=1 in the environment the function runs here, without limits and with
    its prints shown, so that `breakpoint()` in it opens a debugger.

    The limits are for mistakes. They are no sandbox for hostile code.
    """
    if inline():
        return judge(exercise, learner, seed)
    limit = seconds or exercise.seconds or LIMIT
    if fork is None:
        fork = can_fork() and not (exercise.uses_gpu and torch.cuda.is_available())
    with _shown(exercise, limit) as show:
        if fork:
            result = _in_a_child(exercise, learner, seed, limit, show)
            if GPU_IN_CHILD not in result.got:
                return result
        return _in_this_process(exercise, learner, seed, limit, show)


@contextlib.contextmanager
def _shown(exercise: Exercise, limit: float) -> Iterator[Show]:
    """Show progress: at once where the exercise says that it takes its time, else after a while."""
    after = PATIENCE if exercise.seconds is None else 0.0
    with bar_shown(exercise.id, limit) as show:
        yield lambda *noted: show(*noted) if noted[-1] >= after else None


@dataclass
class _Progress:
    """What is known of a check that is under way: the call that runs, and the cases done."""

    show: Show
    start: float = field(default_factory=time.monotonic)
    call: str = ""
    since: float = 0.0
    done: int = 0
    total: int = 0

    def note(self, call: str, done: int, total: int) -> None:
        """Take down a call that is about to be made."""
        self.call, self.since = call, time.monotonic()
        if total:
            self.done, self.total = done, total
        self.tick()

    def tick(self) -> None:
        """Show how far the check has come."""
        self.show(self.done, self.total, time.monotonic() - self.start)

    def endless(self, exercise: Exercise, learner: Any, limit: float) -> Result:
        """Return the verdict on a check whose time is up."""
        running = time.monotonic() - (self.since or self.start)
        if self.done and running < limit / 2:
            sentence = (
                f"{self.done} of {self.total} cases are done after {limit:g} s, and there is no "
                "time for more: which work is done again and again?"
            )
        else:
            sentence = (
                f"This call still runs after {running:.1f} s. Look for a `while` whose condition "
                "never changes, a function that calls itself without end, or a wait for something "
                "that nobody sends."
            )
        return Result(
            exercise, learner, "endless", sentence, call=self.call, layers=((RUNS, False),)
        )


def _in_this_process(
    exercise: Exercise, learner: Any, seed: int, limit: float, show: Show
) -> Result:
    progress = _Progress(show)
    try:
        with time_limit(limit):
            return judge(exercise, learner, seed, watch=progress.note)
    except TimeUp:
        return progress.endless(exercise, learner, limit)


def _in_a_child(exercise: Exercise, learner: Any, seed: int, limit: float, show: Show) -> Result:
    progress = _Progress(show)
    verdict: dict[str, Any] = {}

    def work(say: Say) -> None:
        try:
            found = judge(exercise, learner, seed, watch=lambda *noted: say(noted=noted))
        except KeyboardInterrupt:  # Ctrl-C does not reach the child
            found = Result(exercise, learner, "raised", "Your function raises KeyboardInterrupt.")
        say(verdict={name: getattr(found, name) for name in FIELDS})

    def hear(message: dict[str, Any]) -> None:
        if "noted" in message:
            progress.note(*message["noted"])
        elif "verdict" in message:
            verdict.update(message["verdict"])
        else:
            progress.tick()

    ending = forked(work, limit, hear)
    if verdict:
        return _rebuilt(exercise, learner, verdict)
    if ending.kind == "late":
        return progress.endless(exercise, learner, limit)
    sentence = _died_sentence(ending.code)
    return Result(exercise, learner, "died", sentence, call=progress.call, layers=((RUNS, False),))


def _rebuilt(exercise: Exercise, learner: Any, verdict: dict[str, Any]) -> Result:
    """Return the child's verdict, with the exercise and the function of this process."""
    layers = tuple((claim, holds) for claim, holds in verdict["layers"])
    right, total = verdict["cases"]
    given = {**verdict, "layers": layers, "cases": (right, total)}
    result = Result(exercise, learner, **given)
    if result.kind != "memory":
        return result
    sentence = (
        f"It needs more memory than the {ROOM // 2**30} GiB that a check may take: which list or "
        "tensor grows so large?"
    )
    return replace(result, sentence=sentence)


def _died_sentence(code: int) -> str:
    """Say how the child ended; `code` is its exit code, or minus the signal that ended it."""
    if code >= 0:
        return f"It ends the whole process with exit code {code}: return the value instead."
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"The process it runs in ends by {name}: {REASONS.get(name, REASONS[''])}"
