"""Which item of the source card is taught where: the README's table, and the notebooks' tags.

A cell that teaches an item, or quotes its question, carries the item's words in its metadata.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def table() -> dict[str, set[str]]:
    """Return, for each notebook that the README's table names, the items it is named for."""
    section = README.split("| item of the card | lesson |")[1].split("\n\n")[0]
    found: dict[str, set[str]] = {}
    for item, lessons in re.findall(r"^\| ([^-|][^|]*) \| (.*) \|$", section, re.MULTILINE):
        for path in re.findall(r"\]\(([^)]+)\)", lessons):
            found.setdefault(path, set()).add(item)
    return found


def tags() -> dict[str, set[str]]:
    """Return, for each lesson, the items that its cells carry."""
    found = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        items = {cell["metadata"]["card"] for cell in cells if "card" in cell["metadata"]}
        found[f"notebooks/{path.name}"] = items
    return found


def test_the_table_says_what_the_notebooks_teach():
    assert table() == tags()


def test_every_lesson_teaches_an_item():
    assert all(tags().values())
