"""Whose the processor seconds of a kernel are: the imports', the models', or the pictures'.

This runs inside the kernel that is measured. What nests is charged once, to the innermost: an
import while a picture is drawn counts as an import, and a forward inside a question as a model's.
"""

import builtins
import functools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

IMPORTS, MODELS, PICTURES = "imports", "models", "pictures"

START = sum(os.times()[:2])
"""Seconds that the kernel has taken before it came here."""

spent: Counter[str] = Counter()
"""Seconds by whose they are; what is charged to nobody is not in it."""


class _Thread(threading.local):
    """Who is at work in a thread, the innermost last, and since which of its own seconds."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.since = 0.0


_thread = _Thread()
_lock = threading.Lock()


def begin(name: str) -> None:
    """Charge this thread's seconds to `name` from now on, until `end`."""
    _settle()
    _thread.names.append(name)


def end() -> None:
    """Charge them again to whom they were charged before."""
    _settle()
    _thread.names.pop()


def _settle() -> None:
    now = time.thread_time()
    if _thread.names:
        with _lock:
            spent[_thread.names[-1]] += now - _thread.since
    _thread.since = now


def charge(owner: Any, function: str, name: str) -> None:
    """Let every call of `owner.function` be charged to `name`."""
    called: Callable[..., Any] = getattr(owner, function)

    @functools.wraps(called)
    def charged(*args: Any, **options: Any) -> Any:
        if _thread.names[-1:] == [name]:
            return called(*args, **options)
        begin(name)
        try:
            return called(*args, **options)
        finally:
            end()

    setattr(owner, function, charged)


def watch() -> None:
    """Charge imports, forwards, backwards, optimizers and pictures from now on."""
    charge(builtins, "__import__", IMPORTS)
    import torch
    from torch.optim import optimizer

    charge(torch.nn.Module, "__call__", MODELS)
    for owner in (torch.autograd, torch.Tensor):
        charge(owner, "backward", MODELS)
    charge(torch.autograd, "grad", MODELS)
    optimizer.register_optimizer_step_pre_hook(lambda *_: begin(MODELS))
    optimizer.register_optimizer_step_post_hook(lambda *_: end())

    import matplotlib.figure

    from d2lpart import figures

    charge(matplotlib.figure.Figure, "savefig", PICTURES)
    for function in ("plot", "curves"):
        charge(figures, function, PICTURES)


def seconds() -> dict[str, float]:
    """Return all seconds of the process up to now: of its start, of each name, and of the rest."""
    own = {name: spent[name] for name in (IMPORTS, MODELS, PICTURES)}
    return {
        "start": START,
        **own,
        "rest": sum(os.times()[:2]) - START - sum(own.values()),
    }
