"""The command `d2lpart progress`."""

import argparse
import json

from d2lpart.course import progress


def run(options: argparse.Namespace) -> int:
    """Print the table."""
    table = progress(options.lesson, options.path)
    print(json.dumps(table.plain(), indent=2) if options.json else table)
    return 0
