"""Checkup: what this machine can show for real, found by looking and by trying."""

import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from d2lpart.common.quantities import bytes_text
from d2lpart.machine.hardware import cores

# The oldest versions that serve; pyproject.toml asks for the same.
NEEDED = {
    "python": (3, 11),
    "torch": (2, 11),
    "matplotlib": (3, 10),
    "ipywidgets": (7, 7),
}
FRONT_ENDS = {
    "google.colab": "Colab",
    "jupyterlab": "JupyterLab",
    "notebook": "Jupyter Notebook",
    "nbclassic": "Jupyter Notebook",
}
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "firefox",
    "microsoft-edge",
)
OWN_BROWSERS = {"Darwin": "Safari", "Windows": "Edge"}  # they come with the system
YES = {True: "yes", False: "no"}
GROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Part:
    """A program the course stands on: its version here, None if it is missing, and the oldest."""

    name: str
    version: str | None
    needed: tuple[int, ...]

    @property
    def oldest(self) -> str:
        """The oldest version that serves, as it is written."""
        return ".".join(map(str, self.needed))

    @property
    def fits(self) -> bool:
        """Say whether it is there and new enough.

        >>> Part("torch", "2.9.1+cpu", (2, 11)).fits, Part("torch", "2.13.0", (2, 11)).fits
        (False, True)
        """
        return self.version is not None and _numbers(self.version) >= self.needed


@dataclass(frozen=True)
class Checkup:
    """What was found; `ok` says whether the lessons run, `problems` what stands in their way.

    Attributes:
        parts: Python and the packages that the lessons need.
        cores: CPU cores that this process may use.
        memory_bytes: of the machine, or the smaller share that this process may use.
        gpus: name and memory in bytes of each CUDA device.
        processes: how worker processes can be started here ("fork", "forkserver", "spawn").
        gloo: whether torch's processes can talk on this CPU; tried with a group of one.
        nccl: whether torch's processes can talk from GPU to GPU.
        front_end: where notebooks open, or None.
        browser: a browser on this machine, or None.
    """

    parts: tuple[Part, ...]
    cores: int
    memory_bytes: int
    gpus: tuple[tuple[str, int], ...]
    processes: tuple[str, ...]
    gloo: bool
    nccl: bool
    front_end: str | None
    browser: str | None

    @property
    def wall_ranks(self) -> int:
        """How many ranks really work at once: one a CUDA device; without any, one a core."""
        return len(self.gpus) or self.cores

    @property
    def problems(self) -> list[str]:
        """What keeps the lessons from running, each with its remedy."""
        found = []
        for part in self.parts:
            if not part.fits:
                has = f"is {part.version}" if part.version else "is not there"
                remedy = "install a newer one" if part.name == "python" else (
                    f'pip install "{part.name}>={part.oldest}"'
                )  # fmt: skip
                found.append(f"{part.name} {has}, and {part.oldest} or newer is needed: {remedy}")
        if self.front_end is None:
            found.append("nothing here opens a notebook: pip install jupyterlab")
        return found

    @property
    def ok(self) -> bool:
        """Say whether the lessons run here."""
        return not self.problems

    @property
    def verdict(self) -> str:
        """What this machine can show, in plain words."""
        if not self.ok:
            return f"The lessons do not run here yet: {'; '.join(self.problems)}."
        place = "GPU" if self.gpus else "CPU core"
        ranks = "1 rank works" if self.wall_ranks == 1 else f"Up to {self.wall_ranks} ranks work"
        said = [
            f"The lessons run here. {ranks} at once for real, one a {place}; with more, every "
            f"action still runs and is measured, and only its start is placed (the virtual clock)."
        ]
        if len(self.gpus) == 1:
            said.append("A second rank can work at the same time on the CPU.")
        if not self.gpus:
            said.append("Streams and copies between GPUs are not seen here: there is no GPU.")
        if not self.gloo:
            said.append("Ranks in processes of their own cannot talk: torch has no gloo here.")
        if self.browser is None and self.front_end != "Colab":
            said.append("There is no browser here: open the address that Jupyter prints elsewhere.")
        return " ".join(said)

    def clocks(self) -> list[tuple[str, str, str]]:
        """Return (clock, ranks, what is real on it) for each clock."""
        place = "GPU" if self.gpus else "core"
        return [
            ("wall", f"{self.wall_ranks}, one a {place}", "every start and end"),
            ("virtual", "any number", "each action and its duration; starts are placed"),
            ("predicted", "any number", "nothing: durations are given"),
        ]

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield what was found, as pairs of words."""
        for part in self.parts:
            verdict = "fits" if part.fits else "does not fit"
            yield part.name, f"{part.version or 'missing'} ({verdict}: {part.oldest} or newer)"
        yield "cores", str(self.cores)
        yield "memory", bytes_text(self.memory_bytes)
        gpus = (f"{name}, {bytes_text(nbytes)}" for name, nbytes in self.gpus)
        yield "GPUs", "; ".join(gpus) or "none"
        yield (
            "processes",
            f"{', '.join(self.processes)}; gloo {YES[self.gloo]}, nccl {YES[self.nccl]}",
        )
        yield "notebooks", self.front_end or "nothing opens them"
        yield "browser", self.browser or "none found"

    def __str__(self) -> str:
        lines = [f"{name:<11} {text}" for name, text in self.facts()]
        lines += ["", f"{'clock':<11} {'ranks':<16} what is real"]
        lines += [f"{clock:<11} {ranks:<16} {real}" for clock, ranks, real in self.clocks()]
        return "\n".join([*lines, "", self.verdict])

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        found = asdict(self)
        for part, plain in zip(self.parts, found["parts"], strict=True):
            plain |= {"needed": part.oldest, "fits": part.fits}
        found["gpus"] = [{"name": name, "memory_bytes": nbytes} for name, nbytes in self.gpus]
        found["clocks"] = {clock: {"ranks": r, "real": real} for clock, r, real in self.clocks()}
        return found | {
            "wall_ranks": self.wall_ranks,
            "problems": self.problems,
            "ok": self.ok,
            "verdict": self.verdict,
        }


def examine() -> Checkup:
    """Look at this machine, and return what was found.

    >>> examine().cores >= 1
    True
    """
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return Checkup(
        parts=tuple(
            Part(name, versions.get(name) or _version(name), needed)
            for name, needed in NEEDED.items()
        ),
        cores=cores(),
        memory_bytes=_memory(),
        gpus=tuple(
            (properties.name, properties.total_memory)
            for properties in map(
                torch.cuda.get_device_properties, range(torch.cuda.device_count())
            )
        ),
        processes=tuple(multiprocessing.get_all_start_methods()),
        gloo=_gloo_works(),
        nccl=dist.is_available() and dist.is_nccl_available(),
        front_end=next((name for module, name in FRONT_ENDS.items() if _there(module)), None),
        browser=next(filter(shutil.which, BROWSERS), OWN_BROWSERS.get(platform.system())),
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version; "2.13.0+cpu" gives (2, 13)."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _memory() -> int:
    """Return the bytes of memory there are, or that this process's group may use."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = GROUP_MEMORY.read_text("utf-8").strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdigit() else whole


def _gloo_works() -> bool:
    """Open a group of one process, which is no part of torch's global state, and add over it."""
    if not (dist.is_available() and dist.is_gloo_available()):
        return False
    try:
        store = dist.HashStore()  # type: ignore[attr-defined]
        group: Any = dist.ProcessGroupGloo(store, 0, 1, timedelta(seconds=10))
        group.allreduce([torch.ones(1)]).wait()
    except RuntimeError:  # for example, there is no network interface
        return False
    return True
