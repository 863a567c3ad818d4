"""Hugging Face decoders in layers against the undivided originals: logits, loss and gradients."""

import copy
import functools
import sys

import pytest
import torch
from torch.nn import functional as F

from d2lpart import Pipeline, layers_of
from d2lpart.machine.hardware import threads
from d2lpart.models.layers import GPT2, LLAMA_STYLE
from d2lpart.stages.keyed_dropout import uses_randomness

transformers = pytest.importorskip("transformers")

SAMPLES, POSITIONS, VOCABULARY, WIDTH, PAD = 5, 9, 31, 16, 0
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": PAD,
}
GROUPED = SHAPE | {
    "intermediate_size": 24,
    "num_key_value_heads": 2,  # two heads share a key
    "max_position_embeddings": 16,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}
MODELS = {
    "gpt2": ("GPT2", SHAPE | {"n_positions": POSITIONS}),
    "gpt2 upcast": (
        "GPT2",
        SHAPE | {"n_positions": 16, "scale_attn_by_inverse_layer_idx": True, "n_inner": 20},
    ),
    "llama": ("Llama", GROUPED),
    "llama tied": ("Llama", GROUPED | {"tie_word_embeddings": True}),
    "llama scaled": ("Llama", GROUPED | {"rope_parameters": LLAMA3, "attention_bias": True}),
    "mistral": ("Mistral", GROUPED | {"sliding_window": 3}),
    "mistral whole": ("Mistral", GROUPED | {"sliding_window": None}),
    "phi3": ("Phi3", GROUPED | {"sliding_window": 4}),
    "qwen2": ("Qwen2", GROUPED | {"tie_word_embeddings": True}),
    "qwen2 mixed": (
        "Qwen2",
        GROUPED | {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", GROUPED | {"head_dim": 8}),
}
EACH = pytest.mark.parametrize("name", MODELS)
KINDS = ("gpt2", "llama tied", "qwen2 mixed")


@pytest.fixture(autouse=True)
def one_thread():
    """Equality to the last bit needs sums in one order."""
    with threads(1):
        yield


@functools.cache
def original(name, attention="sdpa", head=True, **more):
    """A model from its config, with random weights large enough for a wrong mask to be seen."""
    family, sizes = MODELS[name]
    config = getattr(transformers, f"{family}Config")(**(sizes | more), initializer_range=0.3)
    config._attn_implementation = attention
    end = {"GPT2": "LMHeadModel"}.get(family, "ForCausalLM") if head else "Model"
    torch.manual_seed(0)
    return getattr(transformers, family + end)(config).eval()


def build(name, **more):
    """A model of the test's own, to train."""
    return copy.deepcopy(original(name, **more))


def text():
    """Ids, a mask that hides some at either end, and as targets the next tokens not hidden."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, VOCABULARY, (SAMPLES, POSITIONS), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 6:], mask[2, :2], mask[3, 8:] = 0, 0, 0
    targets = F.pad(ids.masked_fill(mask == 0, -100), (0, 1), value=-100)[:, 1:]
    return ids, mask, targets


def run(layers, x):
    for layer in layers:
        x = layer(x)
    return x


def gradients(model):
    return {name: weight.grad for name, weight in model.named_parameters()}


def assert_equal_gradients(found, expected, tolerance=0.0):
    largest = max(gradient.abs().max() for gradient in expected.values())
    assert largest > 0
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() <= tolerance * largest, name


# ---- logits ------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_layers_compute_what_the_model_computes(name, attention):
    model, (ids, mask, _) = original(name, attention), text()
    plain = model(ids).logits
    assert torch.equal(run(layers_of(model), ids), plain)
    masked = model(ids, attention_mask=mask).logits
    assert not torch.allclose(masked, plain, atol=1e-3)
    with_mask = run(layers_of(model, padding="mask"), torch.stack([ids, mask], dim=-1))
    assert torch.equal(with_mask, masked)
    padded = ids.masked_fill(mask == 0, PAD)
    by_id = run(layers_of(model, padding=PAD), padded)
    assert torch.equal(by_id, model(padded, attention_mask=mask).logits)


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "phi3", "qwen2 mixed", "qwen3"])
def test_a_model_without_a_head_ends_with_its_hidden_states(name):
    model, (ids, mask, _) = original(name, head=False), text()
    assert torch.equal(run(layers_of(model), ids), model(ids).last_hidden_state)
    found = run(layers_of(model, padding="mask"), torch.stack([ids, mask], dim=-1))
    assert torch.equal(found, model(ids, attention_mask=mask).last_hidden_state)


@pytest.mark.parametrize(
    ("name", "hidden"),
    [("mistral", True), ("mistral whole", False), ("qwen2 mixed", False), ("llama", False)],
)
def test_the_first_token_is_out_of_sight_where_every_block_has_a_window(name, hidden):
    """Three blocks that each look 2 positions back reach 6 back, and the last position is 8 on."""
    ids, _, _ = text()
    other = ids.clone()
    other[:, 0] = other[:, 0] % (VOCABULARY - 1) + 1
    layers = layers_of(original(name))
    assert torch.equal(run(layers, ids)[:, -1], run(layers, other)[:, -1]) == hidden


def test_every_known_name_is_tried_here():
    tried = {family for family, _ in MODELS.values()}
    ends = {"GPT2": ("LMHeadModel", "Model")}
    names = {f + end for f in tried for end in ends.get(f, ("ForCausalLM", "Model"))}
    assert names == {*GPT2, *LLAMA_STYLE}
    assert all(hasattr(transformers, name) for name in names)


# ---- loss and gradients ------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("padded", [False, True])
def test_a_pipeline_trains_the_model(name, padded):
    ids, mask, targets = text()
    whole, looped, cut = build(name), build(name), build(name)
    given = {"attention_mask": mask} if padded else {}
    labels = ids.masked_fill(mask == 0, -100)
    loss = whole(ids, labels=labels, **given).loss  # the library's own
    loss.backward()
    counted = (targets != -100).sum()
    for x, y, m in zip(
        ids.tensor_split(2), targets.tensor_split(2), mask.tensor_split(2), strict=True
    ):
        logits = looped(x, **({"attention_mask": m} if padded else {})).logits
        share = (y != -100).sum() / counted
        (F.cross_entropy(logits.flatten(0, 1), y.flatten()) * share.item()).backward()
    layers = layers_of(cut, padding="mask" if padded else None)
    inputs = torch.stack([ids, mask], dim=-1) if padded else ids
    pipeline = Pipeline(layers, [1, 2, 2], ["cpu"] * 3, num_microbatches=2)
    step = pipeline.step(inputs, targets)
    assert step.loss == pytest.approx(loss.item(), rel=1e-5)
    assert_equal_gradients(gradients(cut), gradients(looped))
    assert_equal_gradients(gradients(cut), gradients(whole), tolerance=2e-5)
    # Two cuts, forward and backward, of floats; the mask is one more column.
    assert step.bytes_moved == 2 * 2 * ids.numel() * (WIDTH + padded) * 4


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("schedule", "sizes", "options"),
    [
        ("gpipe", [1, 1, 1, 1, 1], {"clock": "wall"}),
        ("naive", [3, 2], {"clock": "virtual"}),
        ("zb-h1", [2, 3], {}),
        ("interleaved", [1, 1, 1, 2], {}),
        ("1f1b", [2, 3], {"recompute": True}),
    ],
)
def test_any_schedule_leaves_the_same_gradients(name, schedule, sizes, options):
    ids, mask, targets = text()
    whole, cut = build(name), build(name)
    logits = whole(ids, attention_mask=mask).logits
    F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    ranks = 2 if schedule == "interleaved" else len(sizes)
    pipeline = Pipeline(
        layers_of(cut, padding="mask"), sizes, ["cpu"] * ranks, schedule=schedule,
        num_microbatches=4, **options,
    )  # fmt: skip
    pipeline.step(torch.stack([ids, mask], dim=-1), targets)
    assert_equal_gradients(gradients(cut), gradients(whole), tolerance=2e-5)


@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_copied_and_training_the_pipeline_trains_the_model(name):
    ids, _, targets = text()
    model = build(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    pipeline = Pipeline(layers_of(model), [3, 2], ["cpu"] * 2, num_microbatches=2)
    assert set(pipeline.parameters()) == set(model.parameters())
    optimizer = torch.optim.SGD(pipeline.parameters(), lr=0.1)
    pipeline.step(ids, targets)
    optimizer.step()
    assert any(not torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(pipeline(ids), model(ids).logits)
    fresh = build(name)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(ids).logits, model(ids).logits)
    other = build(name)
    torch.nn.Sequential(*layers_of(other)).load_state_dict(pipeline.state_dict())
    assert torch.equal(other(ids).logits, model(ids).logits)


def test_a_tied_weight_is_one_parameter():
    layers = layers_of(original("gpt2"))
    assert layers[-1].projection.weight is layers[0].tokens.weight


# ---- dropout -----------------------------------------------------------------------------------


DROPOUTS = {
    "gpt2": [{"attn_pdrop": 0.3}, {"resid_pdrop": 0.3}, {"embd_pdrop": 0.3}],
    "llama": [{"attention_dropout": 0.3}],
    "qwen2 mixed": [{"attention_dropout": 0.3}],
    "phi3": [{"attention_dropout": 0.3}, {"resid_pdrop": 0.3}],
}
NO_DROPOUT = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("name", "dropout"), [(name, dropout) for name, all_ in DROPOUTS.items() for dropout in all_]
)
def test_a_cut_changes_no_dropout(name, dropout, attention):
    """Equal, to the last bit, to a loop over the micro-batches on one rank; the masks are keyed."""
    ids, mask, targets = text()
    off = NO_DROPOUT if name in ("gpt2", "phi3") else {}
    options = {"attention": attention} | off | dropout

    def trained(sizes, recompute=False):
        model = build(name, **options).train()
        pipeline = Pipeline(
            layers_of(model, padding="mask"), sizes, ["cpu"] * len(sizes), num_microbatches=3,
            recompute=recompute, seed=5,
        )  # fmt: skip
        loss = pipeline.step(torch.stack([ids, mask], dim=-1), targets).loss
        return loss, gradients(model)

    loss, looped = trained([5])
    for sizes, recompute in (([1, 2, 2], False), ([2, 1, 2], True)):
        found = trained(sizes, recompute)
        assert found[0] == loss
        assert_equal_gradients(found[1], looped)
    quiet = run(layers_of(original(name, **options)), ids)
    undropped = original(name, attention=attention, **off)(ids).logits
    assert torch.equal(quiet, undropped), "evaluation mode drops nothing"


@pytest.mark.parametrize(
    ("name", "dropout"), [(name, dropout) for name, all_ in DROPOUTS.items() for dropout in all_]
)
def test_every_dropout_is_seen(name, dropout):
    off = NO_DROPOUT if name in ("gpt2", "phi3") else {}
    model = build(name, **(off | dropout)).train()
    seen = [uses_randomness(layer) for layer in layers_of(model)]
    where = [True, False, False, False, False]
    if "embd_pdrop" not in dropout:
        where = [False, True, True, True, False]
    assert seen == where


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
def test_gradient_checkpointing_is_refused(late):
    model = build("llama")
    layers = layers_of(model) if late else []
    switch = getattr(model, "activation_checkpointing_enable", None)
    (switch or model.gradient_checkpointing_enable)()
    with pytest.raises(ValueError, match=r"checkpointing on.*Pipeline\(…, recompute=True\)"):
        run(layers, text()[0]) if late else layers_of(model)


def test_a_version_that_is_too_old_is_named(monkeypatch):
    monkeypatch.setattr(sys.modules["transformers"], "__version__", "4.57.6")
    with pytest.raises(ValueError, match=r"transformers 4\.57\.6 is older than 5\.12"):
        layers_of(original("llama"))


@pytest.mark.parametrize("padding", ["pad", True, 1.5, [0]])
def test_padding_is_an_id_or_the_word(padding):
    with pytest.raises(ValueError, match="give the id of the padding token, 'mask'"):
        layers_of(original("llama"), padding=padding)


def test_more_positions_than_the_context_has_are_refused():
    with pytest.raises(ValueError, match="10 positions for a context of 9"):
        run(layers_of(original("gpt2")), torch.ones(1, 10, dtype=torch.long))


def test_a_model_derived_from_a_known_one_may_do_anything_and_is_refused():
    class Mine(transformers.LlamaForCausalLM):
        pass

    with pytest.raises(ValueError, match="does not know Mine"):
        layers_of(Mine(original("llama").config))


def test_another_model_of_the_library_is_refused():
    model = transformers.GPT2ForSequenceClassification(original("gpt2").config)
    with pytest.raises(ValueError, match="does not know GPT2ForSequenceClassification"):
        layers_of(model)


# ---- other places ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_shapes_are_known_without_memory(name):
    with torch.device("meta"):
        model = type(original(name))(original(name).config)
    ids = torch.zeros(2, 4, dtype=torch.long, device="meta")
    assert run(layers_of(model), ids).shape == (2, 4, VOCABULARY)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", MODELS)
def test_stages_on_a_gpu_and_on_the_cpu(name):
    ids, mask, targets = text()
    whole, cut = build(name), build(name)
    logits = whole(ids, attention_mask=mask).logits
    F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    pipeline = Pipeline(
        layers_of(cut, padding="mask"), [2, 3], ["cpu", "cuda:0"], num_microbatches=2
    )
    pipeline.step(torch.stack([ids, mask], dim=-1), targets)
    found = {key: gradient.cpu() for key, gradient in gradients(cut).items()}
    assert_equal_gradients(found, gradients(whole), tolerance=1e-4)
