"""What README.md says about speed: each figure is a row of the results, and links to it.

A full run of bench.py writes these lines between two marks in README.md, so that no figure there is
older than the page behind it.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

BEGIN, END = "<!-- written by make bench -->\n", "<!-- end of what make bench writes -->\n"
PAGE = "tests/benchmarks/RESULTS.md"


class Claim(NamedTuple):
    """A line of the table: what is measured, the row it stands in, and which number of that row."""

    words: str
    anchor: str
    key: str
    written: Callable[[float], str]


def times(value: float) -> str:
    """Write a ratio: "1.03×"."""
    return f"{value:.2f}×"


def share(value: float) -> str:
    """Write a share: "8.1%"."""
    return f"{value:.1%}"


def error(value: float) -> str:
    """Write an error with its sign: "-1.2%"."""
    return f"{value:+.1%}"


def speed(value: float) -> str:
    """Write a number a second in three digits: "1,150,000"."""
    return f"{float(f'{value:.3g}'):,.0f}"


CLAIMS = (
    Claim("a step of one rank, over the plain loop", "step-ours-1f1b-1", "ratio_256", times),
    Claim("a step of two ranks, over the bound", "step-ours-1f1b-2", "ratio_256", times),
    Claim(
        "the same, over the bound on cores that share as these do",
        "shared-ours",
        "ratio_256",
        times,
    ),
    Claim("the same, `torch.distributed.pipelining`", "step-torch-1f1b-2", "ratio_256", times),
    Claim("the same, torchgpipe on the CPU", "step-torchgpipe-2", "ratio_256", times),
    Claim("the same, accelerate's device map", "step-accelerate-2", "ratio_256", times),
    Claim("two plain loops in two processes, over one", "shared-processes", "ratio_256", times),
    Claim("two threads over two processes (the GIL), width 128", "shared-gil", "ratio_128", times),
    Claim("the virtual clock, over the wall clock, less 1", "virtual-256", "error", error),
    Claim("random partitions missed by `partition`", "random-d2lpart", "missed", share),
    Claim("the same, DeepSpeed's rule", "random-DeepSpeed", "missed", share),
    Claim("the same, torchgpipe's balancer", "random-torchgpipe", "missed", share),
    Claim("the same, accelerate's balanced memory", "random-accelerate", "missed", share),
    Claim("actions a second, `simulate`", "dry-run-8-128", "ours", speed),
    Claim("the same, torch's dry run", "dry-run-8-128", "torch", speed),
)


def lines(content: Mapping[str, Any]) -> str:
    """Return the table for the content of results.json; a row that is not there is left out."""
    rows = {row["anchor"]: row for table in content["tables"] for row in table["rows"]}
    where = content["circumstances"]
    found = [
        f"| {claim.words} | [{claim.written(number(rows[claim.anchor][claim.key]))}]"
        f"({PAGE}#{claim.anchor}) |\n"
        for claim in CLAIMS
        if claim.key in rows.get(claim.anchor, ())
    ]
    head = (
        f"\nMedians of one run on {where['processor']} with {where['cores']} cores, "
        f"{where['date'].split()[0]}, torch {where['versions']['torch']}. Steps are those of a "
        "decoder of width 256 with 8 micro-batches, one thread a rank.\n"
        f"The load of the machine was {where['load_before']} before it (0: nobody else works).\n\n"
        "| what | measured |\n| --- | --- |\n"
    )
    return head + "".join(found) + "\n"


def number(value: Any) -> float:
    """Return a number, or the median of a spread."""
    return float(value["middle"] if isinstance(value, dict) else value)


def replaced(text: str, new: str) -> str:
    """Return a text with what stands between the marks replaced.

    Raises:
        ValueError: the marks are not there, once each and in order.

    >>> replaced(f"a\\n{BEGIN}old\\n{END}b\\n", "new\\n") == f"a\\n{BEGIN}new\\n{END}b\\n"
    True
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the marks {BEGIN.strip()} and {END.strip()} belong once in the text")
    before, rest = text.split(BEGIN)
    return before + BEGIN + new + END + rest.split(END)[1]


def anchors(page: str) -> Iterable[str]:
    """Return the anchors that a page of results has."""
    return [part.split('"')[0] for part in page.split('<a id="')[1:]]


def write(readme: Path, content: Mapping[str, Any]) -> None:
    """Bring README.md up to date with the results."""
    readme.write_text(replaced(readme.read_text("utf-8"), lines(content)), "utf-8")
