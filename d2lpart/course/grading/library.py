"""What a child may read: Python, its packages, and a copy of d2lpart without the course."""

import compileall
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import torch

import d2lpart

PACKAGE = Path(d2lpart.__file__).resolve().parent
GRADING = Path(__file__).resolve().parent
LESSONS = GRADING.parent / "lessons"
INSIDE = ("__init__", "child", "confinement", "plain_values", "submitted_code", "wire")
"""The modules of this folder that the child has; none of them knows an exercise."""

STAND_INS = ("course", "figures", "explorers")
"""The rooms that are not copied; `stand_in` opens in their place."""

SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/ld.so.conf"),
    *("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/sys/devices/system/cpu"),
    *("/proc/cpuinfo", "/proc/meminfo", "/usr/share/zoneinfo", "/System", "/usr/lib/system"),
)


@dataclass(frozen=True)
class Library:
    """The copied package, what to put on the child's path, and all that it may read."""

    folder: Path
    path: list[str]
    readable: list[str]

    @property
    def start(self) -> Path:
        """The file with which a child begins."""
        return self.folder / "d2lpart/course/grading/confinement.py"


def make_library(folder: Path) -> Library:
    """Copy into an empty folder what a child needs of d2lpart; the course is left out.

    In the place of the course, its pictures and its widgets lies `stand_in`; the trials, which call
    a learner's function and say what happened, come along.
    """
    package = folder / "d2lpart"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns(*STAND_INS, "__pycache__"))
    inside = package / "course/grading"
    inside.mkdir(parents=True)
    for name in INSIDE:
        shutil.copy(GRADING / f"{name}.py", inside)
    for trials in LESSONS.glob("*/trials.py"):
        lesson = package / "course/lessons" / trials.parent.name
        lesson.mkdir(parents=True)
        shutil.copy(trials, lesson)
    for room in STAND_INS:
        (package / room).mkdir(exist_ok=True)
        shutil.copy(GRADING / "stand_in.py", package / room / "__init__.py")
    compileall.compile_dir(folder, quiet=1)
    packages = _packages()
    readable = [str(folder), *SYSTEM, *_standard_library()]
    for home in packages:
        parts = sorted(home.iterdir())
        readable += [f"{home}/*", *(str(part) for part in parts if _open(part))]
    return Library(folder, [str(folder), *map(str, packages)], readable)


def _packages() -> list[Path]:
    """Return the folders of the installed packages, that of torch among them."""
    places = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    places += [str(Path(torch.__file__).resolve().parents[1])]
    places += [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    return list(dict.fromkeys(Path(place) for place in places if Path(place).is_dir()))


def _open(part: Path) -> bool:
    return "d2lpart" not in part.name


def _standard_library() -> list[str]:
    """Return the parts of Python's own library, save the folders in which packages lie."""
    places = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    found = [f"{place}/*" for place in places]
    for place in map(Path, places):
        found += [str(part) for part in place.iterdir() if not part.name.endswith("-packages")]
    base = Path(sys.base_prefix) / "lib"
    return found + [str(part) for part in base.glob("*.so*")] + [str(base / "libpython*")]
