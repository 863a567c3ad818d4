"""The command line on machines that lack something: a GPU, a character, room for a long text."""

import os
import re
import subprocess
import sys

import pytest
import torch

from d2lpart.commands import cli
from d2lpart.common.arguments import check_whole
from d2lpart.common.words import cut, shortened

SMALL = "decoder:width=32,layers=4,heads=2,vocab=64,context=16"
SPLIT = ["split", "--model", SMALL, "--devices"]


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


# ---- devices that are not there -----------------------------------------------------------------


def said(capsys, *arguments):
    status = cli.main([*SPLIT, *arguments])
    return (status, *capsys.readouterr())


@pytest.mark.usefixtures("no_gpu")
def test_with_a_rate_nothing_runs_and_the_devices_need_not_exist(capsys):
    named = said(capsys, "cuda:0,cuda:1", "--rate", "10TFLOP/s")
    assert named == said(capsys, "2", "--rate", "10TFLOP/s")
    assert named[0] == 0


@pytest.mark.usefixtures("no_gpu")
def test_a_model_too_large_to_be_timed_runs_nowhere(capsys):
    status = cli.main(["split", "--model", "70b", "--devices", "cuda:0,cuda:1"])
    assert status == 0
    assert "nothing was run" in capsys.readouterr().out


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("options", [[], ["--measure"]])
def test_where_the_layers_are_timed_the_devices_must_exist(capsys, options):
    assert said(capsys, "cuda:0,cuda:1", *options) == (
        2, "",
        "d2lpart split: device cuda:0 does not exist: this machine has cpu; the layers of this "
        "model would be timed there, but with a rate, such as --rate 156TFLOP/s, nothing is run\n",
    )  # fmt: skip


# ---- characters that are not there --------------------------------------------------------------


def program(encoding, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "d2lpart", *arguments],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    return done.returncode, done.stdout.decode(encoding.partition(":")[0]), done.stderr.decode()


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_bar_is_plain_where_the_console_has_no_block(encoding):
    arguments = [*SPLIT, "2", "--rate", "1TFLOP/s"]
    status, output, error = program(encoding, *arguments)
    assert (status, error) == (0, "")
    assert output == program("utf-8", *arguments)[1].translate(
        {ord("█"): "#"} | ({ord("µ"): "u"} if encoding == "ascii" else {})
    )
    assert "####################" in output


@pytest.mark.parametrize("command", [["doctor"], ["progress"], ["progress", "03"], ["--help"]])
def test_every_command_prints_on_such_a_console(command):
    status, output, error = program("cp1252", *command)
    assert (status, error) == (0, "")
    assert output


@pytest.mark.parametrize(
    ("given", "shown"), [("█×−≥", "#x->="), ("a→b≈½", "a->b~1/2"), ("日", "?")]
)
def test_what_stands_for_a_character(given, shown):
    status, _, error = program("ascii", "split", "--model", given, "--devices", "2")
    assert status == 2
    assert f"no model is called '{shown}': " in error


def test_a_choice_of_the_user_is_kept():
    status, output, _ = program("ascii:replace", *SPLIT, "2", "--rate", "1TFLOP/s")
    assert status == 0
    assert "????????????????????" in output


# ---- texts too long for a message ---------------------------------------------------------------


@pytest.mark.parametrize("longest", range(12, 60))
def test_a_text_is_cut_between_words(longest):
    text = "the sizes 1024 and 65536 do not fit a table of 2048 rows"
    short = cut(text, longest)
    assert len(short) <= longest
    if short != text:
        assert short.endswith(" …")
        assert set(short[:-2].split()) <= set(text.split())


def test_a_number_is_shown_whole_or_by_its_size():
    assert shortened(10**39) == str(10**39)
    for number in (10**40, -(10**40), 10**5000):
        assert shortened(number) == "a number of more than 40 digits"
    with pytest.raises(ValueError, match=r"^m is a number of more than 40 digits: give a whole"):
        check_whole("m", -(10**5000))


def test_a_long_tensor_or_text_is_one_line_that_ends_in_an_ellipsis():
    for value in (torch.arange(200.0), "word " * 50, {"key": "word " * 50}):
        assert re.fullmatch(r"[^\n]{1,80}", shortened(value))
        assert "…" in shortened(value)
        assert not re.search(r"\d …|wor? …", shortened(value))


def test_an_error_of_another_library_is_cut_between_words():
    hugging_face = pytest.importorskip("d2lpart.models.hugging_face")
    text = " ".join(str(number) for number in range(1000, 1100))
    short = hugging_face._one_line(ValueError(text))
    assert len(short) <= 200
    assert text.startswith(short.removesuffix(" …"))
    assert set(short.removesuffix(" …").split()) <= set(text.split())
