"""The command `d2lpart doctor`."""

import argparse
import json

from d2lpart.machine.checkup import examine

PROBLEMS = 1


def run(options: argparse.Namespace) -> int:
    """Print what was found; the status is 1 where the lessons do not run."""
    found = examine()
    print(json.dumps(found.to_dict(), indent=1) if options.json else found)
    return 0 if found.ok else PROBLEMS
