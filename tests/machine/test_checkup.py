"""What the doctor says of machines of several kinds, and of this one."""

import dataclasses
import importlib.metadata
import json
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from d2lpart.commands import cli, doctor
from d2lpart.machine import checkup as module
from d2lpart.machine.checkup import NEEDED, Checkup, Part, examine
from d2lpart.machine.hardware import cores

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]

LAPTOP = Checkup(
    parts=tuple(Part(name, "99.0", needed) for name, needed in NEEDED.items()),
    cores=4,
    memory_bytes=16 * 10**9,
    gpus=(),
    processes=("spawn",),
    gloo=True,
    nccl=False,
    front_end="JupyterLab",
    browser="firefox",
)


def machine(**changes):
    return dataclasses.replace(LAPTOP, **changes)


def with_part(name, version):
    parts = [Part(p.name, version if p.name == name else p.version, p.needed) for p in LAPTOP.parts]
    return machine(parts=tuple(parts))


def test_the_oldest_versions_are_those_of_the_project():
    oldest = {name: ".".join(map(str, needed)) for name, needed in NEEDED.items()}
    assert SpecifierSet(f">={oldest.pop('python')}") == SpecifierSet(PROJECT["requires-python"])
    asked = {r.name: r.specifier for r in map(Requirement, PROJECT["dependencies"])}
    assert asked == {name: SpecifierSet(f">={version}") for name, version in oldest.items()}


def test_what_is_said_of_this_machine_is_so():
    found = examine()
    assert found.cores == cores()
    assert {part.name: part.version for part in found.parts}["ipywidgets"] == (
        importlib.metadata.version("ipywidgets")
    )
    assert found.memory_bytes > 10**8
    assert found.gloo, "torch for Linux and macOS has it"
    assert found.ok
    assert "spawn" in found.processes


@pytest.mark.parametrize(
    ("gpus", "ranks", "said"),
    [
        ((), 4, "Up to 4 ranks work at once for real, one a CPU core"),
        ((("T4", 10),), 1, "1 rank works at once for real, one a GPU"),
        ((("A", 1), ("A", 1), ("A", 1)), 3, "Up to 3 ranks work at once for real, one a GPU"),
    ],
)
def test_as_many_ranks_work_at_once_as_there_are_devices_or_cores(gpus, ranks, said):
    found = machine(gpus=gpus)
    assert found.wall_ranks == ranks
    assert said in found.verdict
    assert ("there is no GPU" in found.verdict) == (not gpus)
    assert ("second rank can work at the same time on the CPU" in found.verdict) == (len(gpus) == 1)
    assert found.clocks()[0][1].startswith(str(ranks))


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("torch", "2.10.2+cpu", 'torch is 2.10.2+cpu, and 2.11 or newer is needed: pip install'),
        ("ipywidgets", None, 'ipywidgets is not there, and 7.7 or newer is needed: pip install "'),
        ("python", "3.10.12", "python is 3.10.12, and 3.11 or newer is needed: install a newer"),
    ],
)  # fmt: skip
def test_a_part_that_does_not_fit_comes_with_its_remedy(name, version, said):
    found = with_part(name, version)
    assert not found.ok
    assert len(found.problems) == 1
    assert said in found.verdict
    assert "does not fit" in str(found)


@pytest.mark.parametrize(
    ("version", "fits"),
    [("2.11.0", True), ("2.11", True), ("3.0.0a1", True), ("2.9.9", False), ("2.11.0rc1", True)],
)
def test_versions_are_compared_as_numbers(version, fits):
    assert Part("torch", version, (2, 11)).fits == fits


def test_what_is_missing_but_not_needed_is_said_all_the_same():
    found = machine(gloo=False, browser=None)
    assert found.ok
    assert "torch has no gloo here" in found.verdict
    assert "open the address that Jupyter prints elsewhere" in found.verdict
    assert "browser" not in machine(front_end="Colab", browser=None).verdict
    assert (
        "nothing here opens a notebook: pip install jupyterlab" in machine(front_end=None).verdict
    )


def test_a_failing_trial_is_no_gloo(monkeypatch):
    def fail(*_):
        raise RuntimeError("no interface")

    monkeypatch.setattr(module.dist, "ProcessGroupGloo", fail)
    assert not examine().gloo


@pytest.mark.parametrize(
    ("content", "expected"), [("123456789\n", 123456789), ("max\n", None), (None, None)]
)
def test_the_memory_is_what_this_process_may_use(tmp_path, monkeypatch, content, expected):
    limit = tmp_path / "memory.max"
    if content:
        limit.write_text(content)
    monkeypatch.setattr(module, "GROUP_MEMORY", tmp_path / "none")
    whole = examine().memory_bytes
    monkeypatch.setattr(module, "GROUP_MEMORY", limit)
    assert examine().memory_bytes == (expected or whole)


# ---- the command -------------------------------------------------------------------------------


def test_the_command_prints_the_checkup(capsys):
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out == f"{examine()}\n"


def test_the_command_as_json_has_all_that_is_printed(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(json.dumps(examine().to_dict()))
    assert found["ok"] is True
    assert found["verdict"] == examine().verdict
    assert {"name": "torch", "needed": "2.11", "fits": True}.items() <= found["parts"][1].items()
    assert found["clocks"]["wall"]["ranks"].startswith(str(found["wall_ranks"]))


def test_a_machine_that_does_not_fit_gives_the_status_1(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: with_part("torch", "2.0.1"))
    assert cli.main(["doctor"]) == 1
    assert "The lessons do not run here yet: torch is 2.0.1" in capsys.readouterr().out
