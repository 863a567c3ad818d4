"""The command line, `d2lpart COMMAND`; `python -m d2lpart` is the same.

A command is a module with a function `add_to(commands)`: it adds a parser and sets its default
`run`, a function of the options that returns the exit status. It loads what is slow in `run`.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from d2lpart import doctor, split_command
from d2lpart.course import progress_table
from d2lpart.course.grading import command as grading

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
