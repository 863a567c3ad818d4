"""The first cell and the badge of a notebook: they let Colab find the course, and nothing else.

The repository's address is declared once, under [project.urls] in pyproject.toml. Where it is not
given, no badge is drawn and the first cell asks for it in its form field.
"""

import re
import tomllib
from pathlib import Path

BADGE_IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"
COLAB = "https://colab.research.google.com/github"

CELL = """\
#@title First cell: on Colab it fetches the course, elsewhere it does nothing
repository = "{address}"  #@param {{type:"string"}}

import importlib.util, os, subprocess, sys

if "google.colab" in sys.modules:
    if not repository:
        raise SystemExit("Write the repository's address into the field above, then run again.")
    if not os.path.isdir("/content/d2lpart"):
        clone = ["git", "clone", "--quiet", "--depth=1", repository, "/content/d2lpart"]
        if subprocess.run(clone).returncode:
            raise SystemExit(f"git cannot clone {{repository}}: is the address right, and public?")
    sys.path.insert(0, "/content/d2lpart")
elif importlib.util.find_spec("d2lpart") is None:
    raise SystemExit("This kernel has no d2lpart: run `make lab` in the course's folder.")"""


def repository_address(root: Path) -> str:
    """Return the address declared in the pyproject.toml under `root`; "" where there is none."""
    declaration = root / "pyproject.toml"
    if not declaration.exists():
        return ""
    project = tomllib.loads(declaration.read_text(encoding="utf-8")).get("project", {})
    return str(project.get("urls", {}).get("Repository", "")).strip().removesuffix("/")


def bootstrap_source(address: str) -> str:
    """Return the first cell's code, with the address in its form field."""
    return CELL.format(address=address)


def badge(address: str, path: str) -> str:
    """Return the Markdown badge that opens the notebook at `path` on Colab; "" without an address.

    >>> badge("https://github.com/someone/d2lpart", "notebooks/05_idle.ipynb").split("](")[-1]
    'https://colab.research.google.com/github/someone/d2lpart/blob/main/notebooks/05_idle.ipynb)'
    """
    place = re.fullmatch(r"https://github\.com/([^/]+/[^/]+?)(\.git)?", address)
    if place is None:
        return ""
    return f"[![Open in Colab]({BADGE_IMAGE})]({COLAB}/{place[1]}/blob/main/{path})"


def without_address(source: str) -> str:
    """Return a cell's source as it is where no address is given, so that forks compare equal."""
    source = re.sub(r'^repository = "[^"]*"', 'repository = ""', source, flags=re.M)
    return re.sub(rf"\n*\[!\[Open in Colab\]\({re.escape(BADGE_IMAGE)}\)\]\([^)]*\)", "", source)
