"""The command line, `d2lpart COMMAND`; `python -m d2lpart` is the same.

The options of every command stand here; what a command does is loaded when it runs, so that help
and a mistake in an option are answered at once, without torch.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from d2lpart.commands.console import degrade

DOES = {
    "doctor": "d2lpart.commands.doctor",
    "split": "d2lpart.commands.split_command",
    "progress": "d2lpart.commands.progress",
    "grade": "d2lpart.course.grading.command",
}
"""The module of each command; its `run` takes the options and returns the exit status."""

WRONG_INPUT = 2
INTERRUPTED = 130
PIPE_CLOSED = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 when all went well, 2 for a wrong input.

    A `ValueError` is one line on stderr. Ctrl-C and a reader that has gone (`| head`) are quiet.
    Where the console has no character for a bar or a minus, ASCII stands for it.

    >>> main(["progress", "77"])
    2
    """
    for stream in (sys.stdout, sys.stderr):
        degrade(stream)
    options = _parser().parse_args(arguments)
    try:
        status: int = importlib.import_module(DOES[options.command]).run(options)
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
    doctor = commands.add_parser("doctor", help="say what this machine can show for real")
    doctor.add_argument("--json", action="store_true", help="the same as JSON")
    _split(
        commands.add_parser(
            "split", help="cut a model over devices on paper: partition, memory, bubble, step"
        )
    )
    _progress(commands.add_parser("progress", help="what you tried and passed, lesson by lesson"))
    _grade(commands.add_parser("grade", help="grade submitted notebooks; for instructors"))
    return parser


def _split(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--model",
        required=True,
        help="decoder:width=256,layers=8,heads=4 (also vocab, context); gpt2, 7b, 13b, 30b, 70b; "
        "or a path to a Hugging Face config.json",
    )
    add("--devices", required=True, help="how many, or their names: 4, or cuda:0,cuda:1")
    add("--micro-batches", metavar="M", help="in a step; 4 a device if not given")
    add("--micro-batch-size", metavar="B", default="1", help="samples in each (1)")
    add("--context", help="positions in a sample; as many as the model takes if not given")
    add("--schedule", default="1f1b", help="1f1b if not given")
    add("--chunks", metavar="V", help="stages a device, for interleaved; 1 if not given")
    add("--capacity", help="what a device can hold, such as 80GB or 40GiB")
    add("--link", help="bandwidth between devices, and latency: 25GB/s or 25GB/s,10us")
    add("--rate", help="of a device, such as 156TFLOP/s; with it nothing is run")
    add("--measure", action="store_true", help="time the layers here, however long it takes")
    add("--precision", help="fp32 or mixed; fp32 if the layers are timed, else mixed")
    add("--json", action="store_true", help="the same as JSON")


def _progress(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lesson", nargs="?", help="one lesson, such as 05; all if none is given")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--path", type=Path, metavar="FILE", help="another progress file")


def _grade(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the folder with the notebooks")
    parser.add_argument(
        "--exercise", action="append", default=[], metavar="ID", help="only this one, such as 05.1"
    )
    parser.add_argument(
        "--out", type=Path, metavar="NAME", help="write NAME.csv and NAME.json; FOLDER/grades"
    )
    parser.add_argument("--seed", type=int, help="draws the cases; new ones if none is given")
    parser.add_argument("--workers", type=int, default=2, help="notebooks at a time (2)")
    parser.add_argument("--load-seconds", type=float, default=30.0, help="for all cells (30)")
    parser.add_argument("--exercise-seconds", type=float, default=10.0, help="for each check (10)")
    parser.add_argument("--memory", type=float, default=2.0, metavar="GIB", help="of each (2)")


def _silence_stdout() -> None:
    """Send what is still buffered nowhere, so that Python's exit does not write it either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
