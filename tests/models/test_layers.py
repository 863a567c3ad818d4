"""The layers of models that need no other library, and what is said of those not known."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from d2lpart import Decoder, Pipeline, layers_of, profile
from d2lpart.models.padding import Attach, attach, detach


class Residual(nn.Module):
    """Parts that do not simply run one after another."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        return x + self.inner(self.norm(x))


class Twice(nn.Sequential):
    def forward(self, x):
        return super().forward(super().forward(x))


def test_the_layers_of_a_sequence_are_its_own_modules():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), nn.Tanh()))
    found = layers_of(model)
    assert len(found) == 2
    assert all(layer is own for layer, own in zip(found, model, strict=True))


@pytest.mark.parametrize("kind", [list, tuple, nn.ModuleList])
def test_a_list_of_modules_is_taken_as_it_is(kind):
    parts = [Residual(), nn.Linear(4, 2)]
    assert layers_of(kind(parts)) == parts


def test_our_decoder_is_trained_through_its_layers():
    model = Decoder(11, 8, 2, 2, 5, tied=True)
    assert layers_of(model) == model.layers
    ids = torch.randint(11, (4, 5))
    step = Pipeline(layers_of(model), [2, 2], ["cpu"] * 2).step(ids, ids)
    assert model.layers[0].token.weight.grad is not None
    assert step.loss == pytest.approx(
        nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).item(), rel=1e-6
    )


def test_the_layers_can_be_profiled():
    costs = profile(layers_of([nn.Linear(4, 8), nn.ReLU()]), torch.ones(2, 4))
    assert [cost.name for cost in costs] == ["Linear", "ReLU"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            Residual(),
            r"does not know Residual \(its children: inner, norm\).*nn.Sequential.*such as",
        ),
        (Twice(nn.Tanh()), r"does not know Twice"),
        (nn.Linear(2, 2), r"does not know Linear, since .*give a list of modules that each take"),
        (nn.ModuleDict({"a": nn.Tanh()}), "does not know ModuleDict"),
        ("gpt2", "str is no model: give a torch.nn.Module"),
        (None, "NoneType is no model"),
        ([], "there are no layers: give at least one module"),
        (nn.Sequential(), "there are no layers"),
        ([nn.Tanh(), torch.tanh], "layer 1 is .*, not a torch.nn.Module: wrap a function"),
    ],
)
def test_what_is_no_list_of_layers_is_refused(model, said):
    with pytest.raises(ValueError, match=said):
        layers_of(model)


def test_only_models_with_a_mask_take_padding():
    with pytest.raises(ValueError, match=r"padding=0 for Decoder: .*leave padding out"):
        layers_of(Decoder(11, 8, 1, 2, 5), padding=0)


def test_a_class_that_only_bears_the_name_of_one_known_is_not_taken_for_it():
    lookalike = type("GPT2LMHeadModel", (Residual,), {})
    with pytest.raises(ValueError, match="does not know GPT2LMHeadModel"):
        layers_of(lookalike())


def test_no_other_library_is_needed_for_these():
    code = (
        "import sys; sys.modules['transformers'] = None; from torch import nn; import d2lpart; "
        "print(len(d2lpart.layers_of(nn.Sequential(nn.Tanh(), nn.Tanh()))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("2\n", "")


# ---- the mask that rides along -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_mask_comes_off_as_it_was_put_on(dtype):
    x, mask = torch.randn(2, 3, 4, dtype=dtype), torch.tensor([[1, 1, 0], [0, 1, 1]])
    both = attach(x, mask)
    assert (both.shape, both.dtype) == ((2, 3, 5), dtype)
    vectors, back = detach(both)
    assert torch.equal(vectors, x)
    assert torch.equal(back, mask.bool())


def test_gradients_pass_by_the_mask():
    x = torch.randn(2, 3, 4, requires_grad=True)
    (detach(attach(x, torch.ones(2, 3)))[0] * 3).sum().backward()
    assert torch.equal(x.grad, torch.full((2, 3, 4), 3.0))


def test_the_mask_comes_from_an_id_or_from_the_input():
    ids, mask = torch.tensor([[5, 7, 0]]), torch.tensor([[0, 1, 1]])
    table = nn.Embedding(10, 4)
    assert detach(Attach(table, 0)(ids))[1].tolist() == [[True, True, False]]
    vectors, found = detach(Attach(table, "mask")(torch.stack([ids, mask], dim=-1)))
    assert found.tolist() == [[False, True, True]]
    assert torch.equal(vectors, table(ids))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 3), (2,)])
def test_an_input_without_its_mask_is_refused(shape):
    with pytest.raises(ValueError, match=r"with padding='mask' .*torch.stack"):
        Attach(nn.Embedding(10, 4), "mask")(torch.zeros(shape, dtype=torch.long))
