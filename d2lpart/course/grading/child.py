"""The child: it reads and runs one submission, then answers calls of its functions.

It answers three requests in this order: `cells`, which are only read; `allowed`, after which they
are run; and any number of `function`, each one call on arguments that came just now.
"""

import importlib
import json
import random
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch

from d2lpart.common.words import cut
from d2lpart.course.grading.plain_values import decode, encode
from d2lpart.course.grading.submitted_code import FirstWords, quietly, read, run
from d2lpart.course.grading.wire import LONGEST, Wire

TOKEN_BYTES = 16
TRIALS = "d2lpart.course.lessons."


def serve(fd: int, prevented: dict[str, bool]) -> None:
    """Answer requests on the socket until the parent hangs up."""
    end = socket.socket(fileno=fd)
    wire = Wire(end, end.recv(TOKEN_BYTES, socket.MSG_WAITALL))
    torch.set_num_threads(1)
    wire.send({"prevented": prevented})
    cells = [read(*cell) for cell in wire.receive()["cells"]]
    wire.send({"cells": [_report(cell) for cell in cells]})
    random.seed(0)
    torch.manual_seed(0)
    namespace, raised = run(cells, wire.receive()["allowed"])
    functions = [name for name, value in list(namespace.items()) if callable(value)]
    wire.send({"functions": functions, "raised": raised})
    while True:
        try:
            request = wire.receive()
        except EOFError:
            return
        wire.send(answer(namespace, request))


def _report(cell: Any) -> dict[str, Any]:
    told = ("number", "given", "defines", "imports", "trouble", "signatures")
    return {name: getattr(cell, name) for name in told}


def answer(namespace: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Call a function of the submission, or a trial of it; return what that did, as plain data.

    request: `function`, its name; `args`, coded; `trial`, "" or the "lesson_NN.trials.name" of a
    trial of the course, which then gets the function in front of the arguments.
    """
    function = namespace.get(request["function"])
    args = decode(request["args"])
    before = [json.dumps(encode(arg)) for arg in args]
    with quietly() as printed:
        done = _done(function, args, request["trial"])
    after = [encode(arg) for arg in args]
    done["changed"] = [
        [index, new]
        for index, (old, new) in enumerate(zip(before, after, strict=True))
        if json.dumps(new) != old
    ]
    done["printed"] = printed.kept
    return _fitting(done, printed)


def _done(function: Any, args: tuple[Any, ...], trial: str) -> dict[str, Any]:
    try:
        if trial:
            return {"value": encode(_trial(trial)(function, *args))}
        return {"value": encode(function(*args))}
    except BaseException as error:  # whatever it is, it is the answer
        return {"raised": _described(error)}


def _trial(name: str) -> Callable[..., Any]:
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(TRIALS + module), function)


def _described(error: BaseException) -> dict[str, Any]:
    """Say what was raised, and where in the submission's own lines: [cell, line, function]."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith("<cell ")]
    place = [int(own[-1].filename[6:-1]), own[-1].lineno, own[-1].name] if own else None
    first = error.args[0] if isinstance(error, KeyError) and error.args else error
    message = str(first) if error.args or str(error) else ""
    return {"type": type(error).__name__, "message": cut(message, 1000), "place": place}


def _fitting(done: dict[str, Any], printed: FirstWords) -> dict[str, Any]:
    if len(json.dumps(done)) < LONGEST:
        return done
    told = {"type": "ValueError", "message": "the output is too large to be read", "place": None}
    return {"raised": told, "changed": [], "printed": printed.kept}
