"""What a benchmark hands on: tables, written as Markdown and kept as JSON."""

import datetime
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spread import Spread

from d2lpart.machine.hardware import cores, existing

PACKAGES = "d2lpart", "torch", "torchgpipe", "accelerate", "numpy"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        name: what is measured, without its anchor.
        cells: what stands in the other columns, as it is to be read.
        data: the same as numbers, for whoever computes with it.
        anchor: where a link to the row goes; unique on the whole page.
    """

    name: str
    cells: Sequence[str]
    data: Mapping[str, Any] = field(default_factory=dict)
    anchor: str = ""


@dataclass(frozen=True)
class Table:
    """A title, what is to be known before reading, and rows under columns."""

    title: str
    words: str
    columns: Sequence[str]
    rows: Sequence[Row]
    figure: str = ""  # a path beside the page, with its description in `words`

    def markdown(self) -> str:
        """Return the table as Markdown, each row with its anchor."""
        width = len(self.columns)
        for row in self.rows:
            if len(row.cells) + 1 != width:
                raise ValueError(
                    f"{row.name!r} has {len(row.cells) + 1} cells for {width} columns: give as many"
                )
        lines = [f"## {self.title}", "", self.words.strip(), ""]
        if self.figure:
            lines += [f"![{self.title}]({self.figure})", ""]
        if self.rows:
            lines += [_line(self.columns), _line(["---"] * width)]
            for row in self.rows:
                mark = f'<a id="{row.anchor}"></a>' if row.anchor else ""
                lines.append(_line([mark + row.name, *row.cells]))
            lines.append("")
        return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def circumstances() -> dict[str, Any]:
    """Return what the numbers depend on: the machine, the versions, the date, and who else works.

    The load is the mean number of processes that wanted to run in the minute before the start: on
    a machine that does nothing else it is near 0.
    """
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": processor(),
        "cores": cores(),
        "devices": [str(device) for device in existing()],
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "python": platform.python_version(),
        "versions": versions,
        "load_before": round(os.getloadavg()[0], 2),
    }


def processor() -> str:
    """Return what the machine calls its processor."""
    try:
        facts = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        facts = ""
    names = re.findall(r"^model name\s*:\s*(.+)$", facts, re.M)
    return names[0] if names else platform.processor() or platform.machine()


def page(where: Mapping[str, Any], tables: Sequence[Table], command: str) -> str:
    """Return the whole page of results."""
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    head = (
        "# Measured\n\n"
        f"Written by `{command}` on {where['date']}; do not edit. {where['processor']}, "
        f"{where['cores']} cores, devices {', '.join(where['devices'])}; {where['system']}; Python "
        f"{where['python']}, {versions}. Load of the machine before the run: "
        f"{where['load_before']}, after it {where['load_after']} (the run itself keeps at most 2 "
        "cores busy).\n\n"
        "Each figure is a median, with the quartiles in brackets. All contestants of a table take "
        "turns in every round, only one works at a time, and ratios are taken within a round: a "
        "slow moment of the machine disturbs them alike. The same numbers, with every single "
        "measurement of a step, are in [results.json](results.json).\n"
    )
    return "\n".join([head, *(table.markdown() for table in tables)]).rstrip() + "\n"


def as_json(where: Mapping[str, Any], tables: Sequence[Table], raw: Mapping[str, Any]) -> str:
    """Return circumstances, tables and single measurements as JSON."""
    content = {
        "circumstances": where,
        "tables": [
            {"title": table.title, "rows": [_plain(row) for row in table.rows]} for table in tables
        ],
        "measurements": raw,
    }
    return json.dumps(content, indent=1, default=_spread) + "\n"


def _plain(row: Row) -> dict[str, Any]:
    return {"anchor": row.anchor, "name": row.name, "text": list(row.cells), **row.data}


def _spread(value: Any) -> Any:
    if isinstance(value, Spread):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
