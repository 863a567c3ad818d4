"""The command line, `d2lpart COMMAND`; `python -m d2lpart` is the same.

A command is a module with a function `add_to(commands)`: it adds a parser and sets its default
`run`, a function of the options that returns the exit status. It loads what is slow in `run`.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from d2lpart.commands import cli as doctor
from d2lpart.commands import split_command
from d2lpart.course.grading import command as grading
from d2lpart.course.progress import table as progress_table

# MERGED """The command `d2lpart doctor`."""

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


COMMANDS = (doctor, split_command, progress_table, grading)

WRONG_INPUT = 2
INTERRUPTED = 130
PIPE_CLOSED = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 when all went well, 2 for a wrong input.

    A `ValueError` is one line on stderr. Ctrl-C and a reader that has gone (`| head`) are quiet.

    >>> main(["progress", "77"])
    2
    """
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except ValueError as error:
        print(f"d2lpart {options.command}: {error}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return PIPE_CLOSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="d2lpart", description="Commands of the course on splitting a network over devices."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_to(commands)
    return parser


def _silence_stdout() -> None:
    """Send what is still buffered nowhere, so that Python's exit does not write it either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
