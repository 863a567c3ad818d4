"""The README says what is true: its examples run, its links lead somewhere, its picture is ours."""

import doctest
import importlib.util
import re
from pathlib import Path

import matplotlib.image
import pytest

from d2lpart.commands.cli import main
from d2lpart.course.notebooks.build import COVER, cover_comparison

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_examples_print_what_the_readme_shows():
    text = README
    if importlib.util.find_spec("transformers") is None:
        text = re.sub(r"```python\n>>> from transformers.*?```", "", text, flags=re.DOTALL)
    examples = doctest.DocTestParser().get_doctest(text, {}, "README.md", "README.md", 0)
    result = doctest.DocTestRunner().run(examples)
    assert result.attempted >= 8
    assert result.failed == 0


def test_the_command_prints_what_the_readme_shows(capsys):
    ((command, shown),) = re.findall(r"```console\n\$ d2lpart (.*)\n((?s:.*?))```", README)
    assert main(command.split()) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("folder", ["notebooks", "exercises"])
def test_the_table_of_lessons_names_every_notebook(folder):
    table = README.split("| lesson | its question | exercises |")[1].split("\n\n")[0]
    named = re.findall(rf"\]\(({folder}/[^)]+)\)", table)
    assert named == [f"{folder}/{path.name}" for path in sorted((ROOT / folder).glob("*.ipynb"))]


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", README))
def test_every_link_leads_to_a_file(target):
    path, _, anchor = target.partition("#")
    assert (ROOT / path).exists()
    assert not anchor or f'<a id="{anchor}"></a>' in (ROOT / path).read_text("utf-8")


def test_the_picture_is_the_one_that_the_package_draws():
    committed = matplotlib.image.imread(ROOT / COVER)
    figure = cover_comparison().plot()
    width, height = figure.get_size_inches() * 110
    assert committed.shape[1] == pytest.approx(width, abs=2), "run make notebooks"
    assert committed.shape[0] == pytest.approx(height, abs=2), "run make notebooks"


def test_the_picture_shows_what_its_description_says():
    naive, one_f_one_b = cover_comparison().first, cover_comparison().second
    assert naive.idle_fraction() == pytest.approx(3 / 4)
    assert one_f_one_b.makespan / naive.makespan == pytest.approx(1 / 3, abs=0.02)


def test_the_nbval_command_is_the_one_that_make_test_runs():
    (command,) = re.findall(r"^pytest (--nbval-lax .*)$", README, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    makefile = makefile.replace("$(SANITIZE)", "tests/sanitize.cfg")
    for option in (part for part in command.split() if part.startswith("--nbval")):
        assert option in makefile
