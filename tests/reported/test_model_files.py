"""A config.json of any kind is cut, or refused in one sentence that names what is known."""

import importlib.util
import json
import re

import pytest

from d2lpart.commands import cli
from d2lpart.models.by_name import choose_model

KNOWN = "known are gpt2, llama, mistral, phi3, qwen2, qwen3"
LLAMA = {
    "model_type": "llama", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 131072,
}  # fmt: skip
NO_CONFIG = (
    "this is no config of a Hugging Face model: it must be JSON with a 'model_type', such as "
    '"llama"'
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)


@pytest.fixture
def split(tmp_path, capsys):
    """Return what the command says of a config with this content, and how long the path is."""

    def split(content, *options):
        path = tmp_path / "config.json"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        arguments = ["split", "--model", str(path), "--devices", "2", "--rate", "1TFLOP/s"]
        status = cli.main([*arguments, *options])
        output, error = capsys.readouterr()
        return status, output, error.replace(f"{path}", "PATH")

    return split


def test_the_text_decoder_of_a_multi_modal_model_is_cut(split):
    status, output, _ = split({"model_type": "llava", "text_config": LLAMA}, "--context", "8")
    alone = split(LLAMA, "--context", "8")
    assert status == 0
    assert output == alone[1]
    assert ": 4 layers, " in output


@pytest.mark.parametrize(
    ("kind", "text"),
    [("gemma3", "gemma3_text"), ("clip", "clip_text_model"), ("paligemma", "gemma")],
)
def test_a_text_decoder_that_is_not_known_is_named(split, kind, text):
    status, output, error = split({"model_type": kind})
    assert (status, output) == (2, "")
    assert error.endswith(
        f"d2lpart split: PATH: {kind} has several parts, of which the text decoder alone can be "
        f"cut, and its text decoder {text} is not known; {KNOWN}\n"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", NO_CONFIG),
        ("{", NO_CONFIG),
        ("null", NO_CONFIG),
        ('"llama"', NO_CONFIG),
        ({}, NO_CONFIG),
        (b"\xff\xfe\x00", NO_CONFIG),
        ("[" * 100_000, NO_CONFIG),
        ({"model_type": None}, f"transformers has no model_type None; {KNOWN}"),
        ({"model_type": ["llama"]}, f"transformers has no model_type ['llama']; {KNOWN}"),
        ({"model_type": "gpt9"}, f"transformers has no model_type 'gpt9'; {KNOWN}"),
        ({"model_type": "vit"}, f"model_type 'vit': this is no decoder of text; {KNOWN}"),
        ({"model_type": "t5"}, f"model_type 't5': this is no decoder of text; {KNOWN}"),
        (LLAMA | {"num_hidden_layers": 0}, "num_hidden_layers is 0: give at least 1"),
        (LLAMA | {"vocab_size": -1}, "vocab_size is -1: give at least 1"),
        (
            LLAMA | {"num_attention_heads": 0},
            "ZeroDivisionError: integer division or modulo by zero",
        ),
    ],
)
def test_what_cannot_be_read_is_one_sentence(split, content, said):
    assert split(content) == (2, "", f"d2lpart split: PATH: {said}\n")


@pytest.mark.parametrize("kind", ["bert", "gemma2", "mamba"])
def test_an_architecture_that_cannot_be_cut_is_named(split, kind):
    status, output, error = split({"model_type": kind})
    assert (status, output) == (2, "")
    assert re.match(
        r"d2lpart split: layers_of does not know \w+ \(its children: .*Qwen3ForCau", error
    )


def test_a_folder_without_a_config(tmp_path, capsys):
    (tmp_path / "config.json").mkdir()
    assert cli.main(["split", "--model", str(tmp_path), "--devices", "2"]) == 2
    assert f"{tmp_path}/config.json: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_name_that_can_be_no_path(name):
    with pytest.raises(ValueError, match=r"^no model is called '.{1,70}': use decoder:"):
        choose_model(name)


# ---- how many positions -------------------------------------------------------------------------


def test_the_context_that_a_config_gives_is_said_with_how_to_take_less(split):
    _, output, _ = split(LLAMA)
    line = (
        "context: 131,072 positions, max_position_embeddings of the config; --context takes fewer"
    )
    assert output.splitlines()[2] == line
    assert json.loads(split(LLAMA, "--json")[1])["context_from"] == (
        "max_position_embeddings of the config"
    )
    _, output, _ = split(LLAMA, "--context", "64")
    assert "context:" not in output
    assert "1 x 64 tokens" in output


def test_the_context_of_our_own_decoder_is_said_too(capsys):
    arguments = ["split", "--model", "gpt2", "--devices", "2", "--rate", "1TFLOP/s"]
    assert cli.main(arguments) == 0
    line = "context: 1,024 positions, the most it takes; --context takes fewer"
    assert capsys.readouterr().out.splitlines()[2] == line
