"""The models that can be named: ours by sizes, presets, and a config of Hugging Face."""

import importlib.util
import json

import pytest
import torch

from d2lpart.models.by_name import PRESETS, choose_model
from d2lpart.models.layers import layers_of

HF = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="needs transformers"
)
LLAMA = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16,
}


def parameters(layers):
    return sum(p.numel() for p in {p for layer in layers for p in layer.parameters()})


def config_file(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(LLAMA | changes))
    return str(path)


def test_our_decoder_by_its_sizes():
    choice = choose_model("decoder:width=8,layers=3,heads=2,vocab=11,context=6")
    layers = choice.layers("cpu")
    assert len(layers) == 5
    assert all(layer.training for layer in layers)
    x = choice.sample(2, 6, "cpu")
    assert (x.shape, x.max() < 11) == ((2, 6), True)
    for layer in layers:
        x = layer(x)
    assert x.shape == (2, 6, 11)


@pytest.mark.parametrize("name", ["7b", "13b", "30B", "70b"])
def test_the_presets_cost_no_memory_on_meta(name):
    depth, width, _ = PRESETS[name.lower()]
    layers = choose_model(name).layers("meta", torch.bfloat16)
    assert len(layers) == depth + 2
    # Matrices of the blocks, embedding and head, positions; the rest is biases and norms.
    weights = 12 * depth * width**2 + (2 * 51200 + 2048) * width
    assert parameters(layers) == pytest.approx(weights, rel=1e-3)
    assert {p.dtype for layer in layers for p in layer.parameters()} == {torch.bfloat16}


def test_gpt2_has_the_parameters_of_gpt2():
    assert parameters(choose_model("gpt2").layers("meta")) == pytest.approx(124.4e6, rel=1e-3)


@HF
@pytest.mark.parametrize("form", ["file", "folder"])
def test_a_config_becomes_a_model_with_random_weights(tmp_path, form):
    path = config_file(tmp_path, architectures=["LlamaForCausalLM"], torch_dtype="bfloat16")
    choice = choose_model(path if form == "file" else str(tmp_path))
    assert (choice.vocab_size, choice.context) == (64, 16)
    layers = choice.layers("cpu")
    assert len(layers) == 4
    assert layers[0].weight.dtype == torch.float32
    x = choice.sample(1, 16, "cpu")
    for layer in layers:
        x = layer(x)
    assert x.shape == (1, 16, 64)
    assert layers_of(choice.layers("meta")) != []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpt5", r"no model is called 'gpt5': use decoder:width=256.*gpt2, 7b.*config.json"),
        ("", "no model is called ''"),
        ("decoder", "says nothing of width, layers, heads"),
        ("decoder:width=8,layers=2", "says nothing of heads"),
        ("decoder:width=8,layers=2,heads=x", "'heads=x' in .*: give sizes as name=number"),
        ("decoder:width=8,layers=-2,heads=2", "'layers=-2' in "),
        ("decoder:depth=8", "'depth=8' in .*of width, layers, heads, vocab, context"),
        ("none/config.json", "none/config.json: there is no such file"),
    ],
)
def test_what_names_no_model_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        choose_model(text)


def test_sizes_that_do_not_divide_are_refused_when_it_is_built():
    choice = choose_model("decoder:width=10,layers=2,heads=4")
    with pytest.raises(ValueError, match=r"width 10 for 4 heads.*use a multiple of 4"):
        choice.layers("meta")


def test_no_more_positions_than_the_model_takes():
    with pytest.raises(ValueError, match=r"a context of 7 for .*at most 6.*--context 6 or less"):
        choose_model("decoder:width=8,layers=1,heads=2,context=6").sample(1, 7, "cpu")


@HF
@pytest.mark.parametrize("content", ["{", "[]", "3", "{}", '{"model_type": 5}'])
def test_a_file_that_is_no_config_is_refused(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"config\.json: "):
        choose_model(str(path))


@HF
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "no-such"}, "config.json: .*no-such"),
        ({"hidden_size": 30}, "30"),
        ({"model_type": "gpt_neox"}, "does not know GPTNeoXForCausalLM"),
        ({"model_type": "t5"}, "model_type 't5': "),
    ],
)
def test_a_config_of_another_model_is_refused_in_one_line(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said) as caught:
        choose_model(config_file(tmp_path, **changes)).layers("meta")
    assert "\n" not in str(caught.value)


@HF
def test_no_code_beside_a_config_is_run(tmp_path):
    (tmp_path / "modeling_evil.py").write_text("raise SystemExit('ran')")
    path = config_file(tmp_path, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    assert len(choose_model(path).layers("meta")) == 4


def test_without_transformers_a_config_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="takes transformers: pip install transformers"):
        choose_model(config_file(tmp_path))
