"""A timeline as a trace file: one lane a rank, arrows for transfers, in Chrome's trace format.

Source: "Trace Event Format", the JSON that chrome://tracing and ui.perfetto.dev read.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from d2lpart.common.files import write_whole
from d2lpart.schedules.schedule import KINDS, Schedule
from d2lpart.timelines.spans import Span, Transfer


def write(
    path: str | Path,
    spans: Iterable[Span],
    transfers: Iterable[Transfer],
    schedule: Schedule,
    title: str,
) -> Path:
    """Write the trace to `path`, whole or not at all, and return the path."""
    events = list(_events(spans, transfers, schedule, title))
    return write_whole(path, json.dumps({"traceEvents": events}))


def _events(
    spans: Iterable[Span], transfers: Iterable[Transfer], schedule: Schedule, title: str
) -> Iterator[dict[str, Any]]:
    """Yield the events; their times are in microseconds.

    Process and thread numbers begin at 1: viewers take 0 for the idle process of an operating
    system.
    """
    yield {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": title}}
    for rank in range(schedule.num_ranks):
        stages = ", ".join(map(str, schedule.stages_of(rank)))
        name = {"name": f"rank {rank} (stage {stages})"}
        yield {"ph": "M", "name": "thread_name", "pid": 1, "tid": rank + 1, "args": name}
    of = {}
    for span in spans:
        of[span.action] = span
        stage, kind, microbatch = span.action
        yield {
            "ph": "X", "name": str(span.action), "cat": KINDS[kind], "pid": 1,
            "tid": span.rank + 1,
            "ts": span.start * 1e6, "dur": span.seconds * 1e6,
            "args": {"stage": stage, "micro-batch": microbatch},
        }  # fmt: skip
    for number, message in enumerate(transfers):
        consumer = schedule.consumer(message.action)
        assert consumer is not None, "a message goes to the stage that waits for it"
        common = {"name": "transfer", "cat": "transfer", "id": number, "pid": 1}
        # An arrow leaves late in the sender's span, for it must be inside, and ends where the
        # receiver's starts.
        sender, receiver = of[message.action], of[consumer]
        leaves = sender.start + 0.9 * sender.seconds
        sent = {"ph": "s", "tid": message.source + 1, "ts": leaves * 1e6}
        got = {"ph": "f", "bp": "e", "tid": message.target + 1, "ts": receiver.start * 1e6}
        yield {**common, **sent, "args": {"bytes": message.nbytes, "seconds": message.seconds}}
        yield {**common, **got}
