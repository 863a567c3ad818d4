"""Which item of the course's source card is taught where, held against the notebooks' own tags."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"

COVERED = {
    "Network Partitioning": "00",
    "Rationale for Model Partitioning": "01",
    "A research team is training a neural network that is too large to fit into the memory of a "
    "single processing unit.": "01",
    "Choosing a Parallelism Strategy for a Large Model": "01",
    "Process Flow in Layer-wise Model Parallelism": "03",
    "Example of Model Parallelism with a Transformer Decoder": "03",
    "Layerwise Partitioning": "02",
    "Data Parallelism": "02",
    "An engineer is tasked with training a very large neural network composed of 24 sequential "
    "layers.": "04",
    "Consider a large neural network with 12 sequential layers": "04",
    "Worker Idle Time in Layer-wise Model Parallelism": "05",
    "Analyzing Efficiency in a Distributed Model": "05",
    "Pipeline Parallelism": "06",
}


def tags(lesson: str) -> set[str]:
    (path,) = NOTEBOOKS.glob(f"{lesson}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return {cell["metadata"]["card"] for cell in cells if "card" in cell["metadata"]}


@pytest.mark.parametrize(("item", "lesson"), COVERED.items())
def test_the_item_is_taught_in_its_lesson(item, lesson):
    assert item in tags(lesson)


def test_no_cell_names_an_item_that_is_not_in_the_table():
    for path in NOTEBOOKS.glob("*.ipynb"):
        assert tags(path.name[:2]) <= set(COVERED), path.name
