"""`d2lpart split` as a command: what it prints, and one line for each wrong input."""

import json
import subprocess
import sys

import pytest

from d2lpart import Link
from d2lpart.commands import cli, split_command
from d2lpart.commands.splitting import split_model
from d2lpart.machine.hardware import devices
from d2lpart.models.by_name import choose_model

SMALL = "decoder:width=32,layers=6,heads=2,vocab=64,context=16"
ARGUMENTS = ["split", "--model", SMALL, "--devices", "3", "--rate", "1TFLOP/s"]


def expected(**options):
    options = {"num_microbatches": 12, "rate": 1e12} | options
    return split_model(choose_model(SMALL), devices(3), **options)


def test_the_report_is_printed(capsys):
    assert cli.main(ARGUMENTS) == 0
    assert capsys.readouterr().out == f"{expected()}\n"


def test_every_option_arrives(capsys):
    more = [
        *("--micro-batches", "6", "--micro-batch-size", "2", "--context", "8"),
        *(
            "--schedule",
            "interleaved",
            "--chunks",
            "2",
            "--capacity",
            "1GB",
            "--link",
            "25GB/s,10us",
        ),
        *("--precision", "fp32", "--json"),
    ]
    assert cli.main([*ARGUMENTS, *more]) == 0
    report = expected(
        num_microbatches=6, samples=2, context=8, schedule="interleaved", chunks=2,
        capacity=1e9, link=Link(1e-5, 25e9), precision="fp32",
    )  # fmt: skip
    assert json.loads(capsys.readouterr().out) == report.to_dict()


def test_devices_may_be_named(capsys):
    named = [*ARGUMENTS[:4], "cpu, cpu,cpu", *ARGUMENTS[5:]]
    assert cli.main(named) == 0
    assert capsys.readouterr().out == f"{expected()}\n"


def test_the_layers_can_be_timed_on_request(capsys):
    assert cli.main([*ARGUMENTS[:5], "--measure", "--json"]) == 0
    assert "measured on " in json.loads(capsys.readouterr().out)["seconds_from"]


def test_a_rank_that_is_too_full_gives_the_status_1(capsys, monkeypatch):
    """A partition that keeps to a capacity is found or refused; a shadow may come on top."""
    full = expected(capacity=1e9)
    object.__setattr__(full.memory, "capacity", (1000.0,) * 3)
    monkeypatch.setattr(split_command, "split_model", lambda *_, **__: full)
    assert cli.main(ARGUMENTS) == 1
    assert "too much" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "gpt9"], "no model is called 'gpt9': use decoder:"),
        (["--model", "decoder:width=10,layers=2,heads=4"], "width 10 for 4 heads"),
        (["--model", "decoder:width=10"], "says nothing of layers, heads"),
        (["--model", "nowhere/config.json"], "nowhere/config.json: there is no such file"),
        (["--devices", "0"], "--devices is '0': give a whole number of at least 1"),
        (["--devices", "2.5"], "--devices is '2.5': give a whole number"),
        (["--devices", "9"], "9 stages for 8 layers"),
        (["--devices", "cuda:seven"], "'cuda:seven' names no device"),
        (["--devices", "gpu"], "'gpu' names no device"),
        (["--micro-batches", "-1"], "--micro-batches is '-1'"),
        (["--micro-batch-size", "0"], "--micro-batch-size is '0'"),
        (["--context", "99"], "a context of 99"),
        (["--context", "many"], "--context is 'many'"),
        (["--schedule", "2f2b"], "no schedule is called '2f2b': choose from 1f1b"),
        (["--chunks", "2.5"], "--chunks is '2.5'"),
        (["--chunks", "4", "--schedule", "interleaved"], "12 stages for 8 layers"),
        (["--capacity", "80XB"], "--capacity is '80XB': give a number, such as 80GB"),
        (["--capacity", "1kB"], "over; no partition helps"),
        (["--link", "fast"], "--link's bandwidth is 'fast'"),
        (["--link", "1GB/s,soon"], "--link's latency is 'soon'"),
        (["--rate", "0"], "--rate is '0': give more than 0"),
        (["--measure"], "both a rate and a measurement"),
        (["--precision", "int4"], "precision is 'int4'"),
    ],
)
def test_a_wrong_input_is_one_line_and_status_2(arguments, said, capsys):
    assert cli.main([*ARGUMENTS, *arguments]) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.startswith("d2lpart split: ")
    assert said in error
    assert error.count("\n") == 1


def test_a_device_that_is_to_time_the_layers_must_exist(capsys):
    """With a rate nothing runs, and any name will do: see tests/reported/test_console.py."""
    assert cli.main([*ARGUMENTS[:4], "cuda:77"]) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.startswith("d2lpart split: device cuda:77 does not exist: this machine has ")
    assert error.count("\n") == 1


def test_as_a_program_of_its_own():
    done = subprocess.run(
        [sys.executable, "-m", "d2lpart", *ARGUMENTS], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{expected()}\n", "")
