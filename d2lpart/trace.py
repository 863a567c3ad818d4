"""A timeline as a trace file: one lane a rank, arrows for transfers, in Chrome's trace format.

Source: "Trace Event Format", the JSON that chrome://tracing and ui.perfetto.dev read.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from d2lpart.schedule import Schedule
from d2lpart.span import Span, Transfer

_NAMES = {"F": "forward", "B": "backward", "I": "input gradient", "W": "weight gradient"}


def write(
    path: str | Path,
    spans: Iterable[Span],
    transfers: Iterable[Transfer],
    schedule: Schedule,
    title: str,
) -> Path:
    """Write the trace to `path`, whole or not at all, and return the path."""
    path = Path(path)
    content = {"traceEvents": list(_events(spans, transfers, schedule)), "otherData": {"of": title}}
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=path.name, text=True)
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(content, file)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
    return path


def _events(
    spans: Iterable[Span], transfers: Iterable[Transfer], schedule: Schedule
) -> Iterator[dict[str, Any]]:
    """Yield the events; their times are in microseconds."""
    for rank in range(schedule.num_ranks):
        stages = ", ".join(map(str, schedule.stages_of(rank)))
        name = {"name": f"rank {rank} (stage {stages})"}
        yield {"ph": "M", "name": "thread_name", "pid": 0, "tid": rank, "args": name}
    start_of = {}
    for span in spans:
        start_of[span.action] = span.start
        stage, kind, microbatch = span.action
        yield {
            "ph": "X", "name": str(span.action), "cat": _NAMES[kind], "pid": 0, "tid": span.rank,
            "ts": span.start * 1e6, "dur": span.seconds * 1e6,
            "args": {"stage": stage, "micro-batch": microbatch},
        }  # fmt: skip
    for number, message in enumerate(transfers):
        consumer = schedule.consumer(message.action)
        assert consumer is not None, "a message goes to the stage that waits for it"
        common = {"name": "transfer", "cat": "transfer", "id": number, "pid": 0}
        # An arrow leaves from inside the sender's span and ends where the receiver's starts.
        sent = {"ph": "s", "tid": message.source, "ts": start_of[message.action] * 1e6}
        got = {"ph": "f", "bp": "e", "tid": message.target, "ts": start_of[consumer] * 1e6}
        yield {**common, **sent, "args": {"bytes": message.nbytes}}
        yield {**common, **got}
