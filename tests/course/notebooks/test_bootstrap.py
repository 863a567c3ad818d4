"""The first cell and the badge: what they do on Colab, and that they do nothing elsewhere."""

import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from d2lpart.course.notebooks.bootstrap import (
    badge,
    bootstrap_source,
    repository_address,
    without_address,
)

ADDRESS = "https://github.com/someone/d2lpart"


def run_cell(address: str) -> None:
    exec(bootstrap_source(address), {})


@pytest.fixture
def colab(monkeypatch):
    """A machine that looks like Colab; returns the git commands that the cell gives."""
    commands: list[list[str]] = []

    def git(command, **options):
        commands.append(command)
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr(subprocess, "run", git)
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return commands


def test_on_colab_it_clones_and_puts_the_course_on_the_path(colab):
    run_cell(ADDRESS)
    assert colab == [["git", "clone", "--quiet", "--depth=1", ADDRESS, "/content/d2lpart"]]
    assert sys.path[0] == "/content/d2lpart"


def test_on_colab_it_does_not_clone_twice(colab, monkeypatch):
    monkeypatch.setattr(os.path, "isdir", lambda path: True)
    run_cell(ADDRESS)
    assert colab == []
    assert sys.path[0] == "/content/d2lpart"


def test_on_colab_it_asks_for_the_address(colab):
    with pytest.raises(SystemExit, match="Write the repository's address into the field above"):
        run_cell("")
    assert colab == []


def test_on_colab_it_says_when_git_cannot_clone(colab, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: types.SimpleNamespace(returncode=128))
    with pytest.raises(SystemExit, match=f"git cannot clone {ADDRESS}: is the address right"):
        run_cell(ADDRESS)


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_elsewhere_it_does_nothing(monkeypatch, address, capsys):
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    path = list(sys.path)
    run_cell(address)
    assert sys.path == path
    assert capsys.readouterr() == ("", "")


def test_elsewhere_it_says_when_the_kernel_has_no_d2lpart(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="run `make lab` in the course's folder"):
        run_cell("")


def test_it_installs_nothing_and_is_short():
    source = bootstrap_source("")
    assert "pip" not in source
    assert len(source.splitlines()) <= 20
    assert 'repository = ""  #@param {type:"string"}' in source


@pytest.mark.parametrize(
    ("urls", "address"),
    [
        ("", ""),
        ("[project.urls]\n", ""),
        ('[project.urls]\nHomepage = "x"\n', ""),
        (f'[project.urls]\nRepository = "{ADDRESS}/"\n', ADDRESS),
    ],
)
def test_the_address_is_read_from_the_declaration(tmp_path: Path, urls, address):
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\n{urls}', encoding="utf-8")
    assert repository_address(tmp_path) == address


def test_without_a_declaration_there_is_no_address(tmp_path: Path):
    assert repository_address(tmp_path) == ""


def test_the_badge_points_at_the_notebook_in_the_repository():
    for address in (ADDRESS, f"{ADDRESS}.git"):
        text = badge(address, "exercises/05_idle.ipynb")
        place = "https://colab.research.google.com/github/someone/d2lpart/blob/main/exercises/"
        assert text.startswith("[![Open in Colab](")
        assert text.endswith(f"]({place}05_idle.ipynb)")


@pytest.mark.parametrize("address", ["", "/srv/git/d2lpart", "https://example.org/someone/d2lpart"])
def test_no_badge_where_colab_cannot_find_the_notebook(address):
    assert badge(address, "notebooks/05_idle.ipynb") == ""


def test_two_addresses_compare_equal():
    assert without_address(bootstrap_source(ADDRESS)) == bootstrap_source("")
    title = "# 05 Idle\n\nWhy?"
    stamped = f"# 05 Idle\n\n{badge(ADDRESS, 'notebooks/05_idle.ipynb')}\n\nWhy?"
    assert without_address(stamped) == title
    assert without_address(title) == title
