"""On CUDA devices: copies against the link's limit, what overlaps, and who waits without saying so.

Without a CUDA device the tables say so, and nothing is measured.
"""

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from report import Row, Table
from spread import Spread, ratios
from torch import Tensor, nn

from d2lpart import Pipeline, Timeline
from d2lpart.machine.hardware import existing
from d2lpart.machine.transfer import Place, send

MEGABYTES = 1, 16, 256
WIDTH, LAYERS, SAMPLES, MICROBATCHES = 4096, 8, 4096, 8


def tables(quick: bool) -> list[Table]:
    """Return what only a CUDA device can tell."""
    print("CUDA", file=sys.stderr)
    if not torch.cuda.is_available():
        words = "Not measured: this machine has no CUDA device."
        return [Table("Copies, overlap and hidden synchronisation on CUDA", words, (), ())]
    repeats = 3 if quick else 15
    return [copies(repeats), hidden_by_work(repeats), synchronisations()]


def pairs() -> list[tuple[torch.device, torch.device]]:
    """Return a pair of devices for each kind of copy that this machine can make."""
    cpu, first = torch.device("cpu"), torch.device("cuda", 0)
    found = [(cpu, first), (first, cpu)]
    return found + [(first, other) for other in existing()[1:-1]]


def copies(repeats: int) -> Table:
    """Compare `send` with a copy between tensors that are ready for it, in turns."""
    rows = []
    for source, target in pairs():
        for size in MEGABYTES:
            ours, bare = [], []
            tensor = torch.empty(size << 18, device=source)
            tensor = tensor.pin_memory() if source.type == "cpu" else tensor
            landing = torch.empty_like(tensor, device=target, pin_memory=target.type == "cpu")
            for _ in range(repeats + 2):
                bare.append(seconds(source, target, lambda t=tensor, to=landing: to.copy_(t, True)))
                ours.append(sending(tensor, Place(source), Place(target)))
            rates = [Spread.of(size / 1024 / took for took in times[2:]) for times in (ours, bare)]
            ratio = Spread.of(ratios(bare[2:], ours[2:]))
            cells = [*(rate.written(1) for rate in rates), ratio.written()]
            data = {"send": rates[0], "bare": rates[1], "ratio": ratio}
            rows.append(Row(f"{size} MiB, {source} to {target}", cells, data, f"copy-{len(rows)}"))
    return Table(
        "Copies against the link's limit",
        "GiB a second of the package's `send`, and of a bare copy from and to memory that is "
        "page-locked where it is the host's and was there before.",
        ("copy", "send", "bare copy", "share of the limit"),
        rows,
    )


def sending(tensor: Tensor, source: Place, target: Place) -> float:
    """Return the seconds that a parcel is on its way."""
    return seconds(source.device, target.device, lambda: send(tensor, source, target))


def seconds(source: torch.device, target: torch.device, copy: Callable[[], object]) -> float:
    """Return the seconds of a copy by the clock of a CUDA device that takes part in it."""
    device = source if source.type == "cuda" else target
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    with torch.cuda.device(device):
        begin.record()
        copy()
        for other in (source, target):
            if other.type == "cuda":
                torch.cuda.synchronize(other)
        end.record()
        end.synchronize()
    return begin.elapsed_time(end) / 1e3


def pipeline() -> tuple[Pipeline, Tensor]:
    """Return two ranks of wide layers on the two best places, and inputs for them."""
    places = existing()[:2] if torch.cuda.device_count() > 1 else [torch.device("cuda", 0)] * 2
    layers = [nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)]
    made = Pipeline(
        layers,
        [LAYERS // 2] * 2,
        places,
        num_microbatches=MICROBATCHES,
        loss_fn=lambda outputs, targets: outputs.square().mean(),
        clock="wall",
    )
    return made, torch.randn(SAMPLES, WIDTH, device=places[0])


def overlap(timeline: Timeline) -> float:
    """Return the share of all transfer time in which the sending rank computes.

    >>> from d2lpart import build_schedule, simulate, Link
    >>> link = Link(latency=0.5)
    >>> naive, gpipe = (build_schedule(name, 2, 4) for name in ("naive", "gpipe"))
    >>> [overlap(simulate(order, {"F": 1, "B": 1}, link)) for order in (naive, gpipe)]
    [0.0, 0.75]
    """
    both = total = 0.0
    for transfer in timeline.transfers:
        total += transfer.end - transfer.start
        both += covered(
            (transfer.start, transfer.end),
            ((span.start, span.end) for span in timeline.spans if span.rank == transfer.source),
        )
    return both / total if total else 0.0


def covered(part: tuple[float, float], spans: Iterable[tuple[float, float]]) -> float:
    """Return how much of `part` lies within spans that do not overlap each other.

    >>> covered((1, 4), [(0, 2), (3, 3.5), (5, 9)])
    1.5
    """
    return sum(max(0, min(part[1], end) - max(part[0], start)) for start, end in spans)


def hidden_by_work(repeats: int) -> Table:
    """Return how much of the transfers goes on while the sender computes."""
    made, inputs = pipeline()
    found = [overlap(made.step(inputs, inputs).timeline) for _ in range(repeats + 2)][2:]
    where = " and ".join(map(str, made.devices))
    words = (
        "The share of transfer time in which the sending rank already computes its next action. On "
        "one device a transfer takes no time, and the share is 0."
    )
    share = Spread.of(found)
    row = Row(f"1F1B on {where}", [share.written()], {"share": share}, "overlap")
    return Table("Overlap of copies and computation", words, ("step", "overlapped"), [row])


def synchronisations() -> Table:
    """Return the operations in one step that make the host wait for a device, by their place."""
    made, inputs = pipeline()
    made.step(inputs, inputs)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made.step(inputs, inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    places = [(warning.filename, warning.lineno) for warning in caught if is_wait(warning.message)]
    return Table(
        "Hidden synchronisation",
        "Operations in one step of "
        f"{2 * 2 * MICROBATCHES} actions at which the host waits for a device, as torch's "
        "debugging of synchronisation reports them. None is best: a rank launches its work ahead.",
        ("where", "times"),
        by_place(places),
    )


def is_wait(message: Warning | str) -> bool:
    """Say whether a warning is torch's word on a synchronising operation."""
    return "synchronizing CUDA operation" in str(message)


def by_place(places: Sequence[tuple[str, int]]) -> list[Row]:
    """Return a row for each place, the most frequent first; one row if there is none.

    >>> [(row.name, row.cells) for row in by_place([("a/b.py", 3), ("a/b.py", 3)])]
    [('b.py, line 3', ['2'])]
    """
    counted = Counter((Path(name).name, line) for name, line in places).most_common()
    rows = [
        Row(f"{name}, line {line}", [str(times)], {"times": times})
        for (name, line), times in counted
    ]
    return rows or [Row("nowhere", ["0"], {"times": 0})]
