"""The files that say what to install agree, CI runs what `make test` runs, and nothing is local."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONSTRAINTS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
EVERYTHING = f".[{','.join(EXTRAS)}]"

# What the course is asked to stand on.
ASKED_FOR = {"torch", "jupyterlab", "ipywidgets", "matplotlib", "nbval"}

CACHES = {"__pycache__", "build", "dist"}


def declared() -> list[Requirement]:
    """Return every package that pyproject.toml asks for, those of the extras included."""
    extras = (line for lines in EXTRAS.values() for line in lines)
    return [Requirement(line) for line in [*PROJECT["dependencies"], *extras]]


def pins() -> dict[str, Version]:
    """Return the version that constraints.txt gives each package."""
    return {
        canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("=="))
        for pin in CONSTRAINTS
    }


def closure(names: set[str]) -> set[str]:
    """Return the installed packages that these need, directly or not, themselves included."""
    found: set[str] = set()
    todo = [canonicalize_name(name) for name in names]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                todo.append(canonicalize_name(needed.name))
    return found


def project_files() -> list[Path]:
    """Return the files that git would commit; without git, all but hidden folders and caches."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists() and shutil.which("git"):
        done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:
            files = [ROOT / name for name in done.stdout.split("\0") if name]
            return [file for file in files if file.is_file()]
    found = []
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [
            name
            for name in inner
            if (name in (".ci", ".github") or not name.startswith("."))
            and name not in CACHES
            and not name.endswith(".egg-info")
        ]
        found += [Path(folder, name) for name in names]
    return found


def local_words() -> re.Pattern[str]:
    """Return what ties a file to one machine: this checkout or home, a path or registry of CI's."""
    here = [str(path) for path in (ROOT, Path.home()) if len(path.parts) > 2]
    own = "".join(rf"{re.escape(path)}\b|" for path in here)
    paths = rf"(?<![\w.*])(?:{own}/(?:root|work|workspace)/\w)"
    hosts = r"\bpypi[.]org|\bpythonhosted[.]org|\bdeb[.]debian[.]|\bregistry[.]npmjs[.]"
    return re.compile(f"{paths}|{hosts}")


def test_every_package_asked_for_is_declared() -> None:
    assert {canonicalize_name(package.name) for package in declared()} >= ASKED_FOR


@pytest.mark.parametrize("package", declared(), ids=str)
def test_each_declared_package_is_pinned_inside_its_range(package: Requirement) -> None:
    pin = pins().get(canonicalize_name(package.name))
    assert pin is not None, f"add {package.name} to constraints.txt"
    assert package.specifier.contains(pin)


def test_what_they_need_in_turn_is_pinned_too() -> None:
    needed = closure({package.name for package in declared()})
    # torch itself names the exact CUDA libraries; on macOS ipykernel needs one package more.
    unpinned = {
        name
        for name in needed - set(pins())
        if not name.startswith(("nvidia-", "cuda-")) and name not in ("triton", "appnope")
    }
    assert not unpinned, "add these to constraints.txt"


def test_constraints_are_exact_and_each_given_once() -> None:
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in CONSTRAINTS)
    assert not [pin for pin in CONSTRAINTS if pin.marker or pin.extras or pin.url]
    assert len(pins()) == len(CONSTRAINTS)


def test_conda_has_the_same_python_and_the_same_packages() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    python, pip, rest = conda["dependencies"]
    assert SpecifierSet(python.removeprefix("python")) == SpecifierSet(PROJECT["requires-python"])
    assert pip == "pip"
    assert rest == {"pip": ["--constraint constraints.txt", f"--editable {EVERYTHING}"]}
    assert conda["name"] == PROJECT["name"]


def test_make_installs_the_same_packages() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    install = re.findall(r"pip install (.+);", makefile)
    assert install == [f"--constraint constraints.txt --editable '{EVERYTHING}'"]
    oldest = re.search(r"sys.version_info >= \((\d+), (\d+)\)", makefile)
    assert oldest is not None
    assert f">={oldest[1]}.{oldest[2]}" == PROJECT["requires-python"]


def test_ci_runs_what_make_test_runs() -> None:
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert re.search(r"^make test\b", run.read_text("utf-8"), re.M)
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    (job,) = workflow["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}
    versions = job["strategy"]["matrix"]["python"]
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(version) for version in versions)


def test_make_test_runs_every_check() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    parts = re.search(r"^test: (.+)$", makefile, re.M)
    assert parts is not None
    assert parts[1].split() == ["style", "types", "unit", "nbval"]
    for folders in ("notebooks exercises --ignore=exercises/solutions ", "exercises/solutions "):
        assert f"$(NBVAL) {folders}" in makefile, f"{folders} are not run"
    assert "D2LPART_STRICT=1 $(NBVAL) exercises/solutions" in makefile


def test_nothing_names_one_machine_or_a_registry() -> None:
    words = local_words()
    found = {
        str(file.relative_to(ROOT)): match[0]
        for file in project_files()
        if (match := words.search(file.read_text("utf-8", errors="replace")))
    }
    assert not found


def test_local_words_are_seen_and_others_left_alone() -> None:
    words = local_words()
    assert words.search(f'File "{ROOT}/d2lpart/stage.py"')
    assert words.search("File /work" + "space/d2lpart/d2lpart/stage.py")
    assert words.search("https://pypi" + ".org/simple")
    assert not words.search(
        "notebooks/src/05_idle.py, */src/*.py, ~/d2lpart, home/you/x, python3.11, /tmp/trace.json"
    )


def test_the_files_of_the_project_are_found_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    with_git = set(project_files())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert {ROOT / "Makefile", ROOT / ".ci" / "run", Path(__file__)} <= set(project_files())
    assert not any(".venv" in file.parts for file in [*project_files(), *with_git])
