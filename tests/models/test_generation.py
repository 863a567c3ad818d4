"""Generating: what is shown to the model, how tokens are drawn, and what is left untouched."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2lpart.models.decoder import Decoder
from d2lpart.models.generation import generate


def count_on(tokens):
    """Logits that make the number after the last one all but certain."""
    return 50.0 * F.one_hot((tokens + 1) % 10, 10)


class Recorder:
    """A model that is no module; it keeps what it is shown."""

    context = 4

    def __init__(self):
        self.shown = []

    def __call__(self, tokens):
        self.shown.append(tokens.tolist())
        return count_on(tokens)


def small(**options):
    torch.manual_seed(0)
    return Decoder(10, 8, 1, 2, context=6, **options)


@pytest.mark.parametrize("temperature", [0, 0.5, 1.0])
def test_a_certain_model_is_followed(temperature):
    tokens = generate(
        count_on, torch.tensor([[3, 4], [8, 9]]), 4, context=8, temperature=temperature
    )
    assert tokens.tolist() == [[3, 4, 5, 6, 7, 8], [8, 9, 0, 1, 2, 3]]


def test_a_single_prompt_stays_single_and_any_integers_do():
    tokens = generate(count_on, torch.tensor([3], dtype=torch.uint8), 2, context=8)
    assert tokens.tolist() == [3, 4, 5]
    assert tokens.dtype == torch.int64


def test_only_the_last_tokens_that_fit_the_context_are_shown():
    model = Recorder()
    generate(model, torch.tensor([1, 2, 3]), 3)
    assert model.shown == [[[1, 2, 3]], [[1, 2, 3, 4]], [[2, 3, 4, 5]]]
    generate(model, torch.tensor([1, 2, 3]), 1, context=2)
    assert model.shown[-1] == [[2, 3]]


def test_a_decoder_goes_on_beyond_its_context():
    model = small()
    tokens = model.generate(torch.tensor([1, 2]), 20)
    assert tokens.shape == (22,)
    assert tokens[:2].tolist() == [1, 2]
    assert 0 <= tokens.min() <= tokens.max() < 10


def test_no_new_tokens_give_back_the_prompt():
    assert small().generate(torch.tensor([[1, 2]]), 0).tolist() == [[1, 2]]


def test_a_generator_decides_and_the_global_one_is_untouched():
    model, prompt, before = small(), torch.tensor([1]), torch.get_rng_state()

    def drawn(seed):
        return model.generate(prompt, 30, generator=torch.Generator().manual_seed(seed)).tolist()

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(5)
    first = model.generate(prompt, 30).tolist()
    torch.manual_seed(5)
    assert model.generate(prompt, 30).tolist() == first


def test_the_temperature_sharpens_or_flattens():
    logits = torch.tensor([2.0, 0.0])
    generator = torch.Generator().manual_seed(0)

    def share_of_zeros(temperature):
        prompt = torch.zeros(4000, 1, dtype=torch.long)
        tokens = generate(
            lambda tokens: logits.expand(*tokens.shape, 2),
            prompt,
            1,
            context=1,
            temperature=temperature,
            generator=generator,
        )
        return (tokens[:, 1] == 0).float().mean().item()

    for temperature in (0.5, 1.0, 4.0):
        chance = torch.softmax(logits / temperature, -1)[0].item()
        assert share_of_zeros(temperature) == pytest.approx(chance, abs=0.03)


def test_a_module_runs_in_evaluation_mode_and_keeps_its_modes_and_gradients():
    model = small(dropout=0.5)
    model.layers[0].eval()
    modes = [part.training for part in model.modules()]
    seen = []
    model.register_forward_hook(
        lambda module, _, output: seen.append((module.training, output.requires_grad))
    )
    first = model.generate(torch.tensor([1]), 9, temperature=0)
    assert torch.equal(first, model.generate(torch.tensor([1]), 9, temperature=0))
    assert set(seen) == {(False, False)}
    assert [part.training for part in model.modules()] == modes
    assert all(weight.grad is None for weight in model.parameters())


def test_the_modes_come_back_after_an_error():
    model = small()
    with pytest.raises(ValueError, match="vocabulary of 10"):
        model.generate(torch.tensor([77]), 1)
    assert model.training


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([], {}, r"prompt of shape \(0,\).*at least 1 token"),
        ([[[1]]], {}, r"prompt of shape \(1, 1, 1\).*\(batch, positions\)"),
        ([1], {"num_new": -1}, r"num_new=-1.*at least 0"),
        ([1], {"temperature": -1.0}, r"temperature=-1.0.*positive"),
        ([1], {"context": 0}, r"context=0.*at least 1"),
    ],
)
def test_bad_requests_are_refused(prompt, options, message):
    arguments = {"num_new": 1, "context": 4} | options
    with pytest.raises(ValueError, match=message):
        generate(count_on, torch.tensor(prompt, dtype=torch.long), **arguments)


def test_an_unknown_context_is_asked_for():
    with pytest.raises(ValueError, match=r"Linear does not say how many positions.*context="):
        generate(nn.Linear(1, 1), torch.tensor([1]), 1)
