"""The command `d2lpart doctor`."""

import argparse
import json

PROBLEMS = 1


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `d2lpart doctor` to the commands."""
    parser = commands.add_parser("doctor", help="say what this machine can show for real")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what was found; the status is 1 where the lessons do not run."""
    from d2lpart.machine.checkup import examine

    found = examine()
    print(json.dumps(found.to_dict(), indent=1) if options.json else found)
    return 0 if found.ok else PROBLEMS
