"""A layer put into another's place after the pipeline was built: it is the one that runs."""

import pytest
import torch
from torch import nn

from d2lpart import Decoder, Pipeline


class Scaled(nn.Module):
    """Another layer around the old one, as adapters are."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.scale = inner.requires_grad_(False), nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.scale * self.inner(x)


def pipeline(**options) -> Pipeline:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 4) for _ in range(4)]
    return Pipeline(layers, [2, 2], ["cpu"] * 2, loss_fn=nn.MSELoss(), **options)


def data():
    torch.manual_seed(1)
    return torch.randn(6, 4), torch.randn(6, 4)


@pytest.mark.parametrize("m", [1, 3])
def test_what_is_listed_is_what_runs(m):
    cut = pipeline(num_microbatches=m)
    inputs, targets = data()
    cut.step(inputs, targets)
    setattr(cut, "2", Scaled(cut.layers[2]))
    cut.zero_grad()
    loss = cut.step(inputs, targets).loss
    whole = nn.MSELoss()(nn.Sequential(*cut.layers)(inputs), targets)
    assert loss == pytest.approx(whole.item())
    assert cut.layers[2].scale.grad is not None
    assert cut.layers[2].inner.weight.grad is None
    assert torch.allclose(cut(inputs), nn.Sequential(*cut.layers)(inputs))
    assert [id(layer) for stage in cut.stages for layer in stage.layers] == list(
        map(id, cut.layers)
    )


def test_a_part_of_a_layer_may_be_replaced():
    torch.manual_seed(0)
    model = Decoder(vocab_size=11, width=8, num_layers=2, num_heads=2, context=4)
    cut = Pipeline(model, [2, 2], ["cpu"] * 2, num_microbatches=2)
    tokens = torch.randint(0, 11, (4, 4))
    cut.step(tokens, tokens)
    name, inner = next((n, m) for n, m in cut.layers[2].named_modules() if type(m) is nn.Linear)
    cut.layers[2].set_submodule(name, Scaled(inner))
    cut.step(tokens, tokens)
    assert cut.layers[2].get_submodule(name).scale.grad is not None


def test_a_weight_tied_later_is_one_weight():
    cut = pipeline()
    cut.step(*data())
    cut.layers[3].weight = cut.layers[0].weight
    cut.zero_grad()
    cut.step(*data())
    torch.manual_seed(0)
    whole = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    whole[3].weight = whole[0].weight
    inputs, targets = data()
    nn.MSELoss()(whole(inputs), targets).backward()
    torch.testing.assert_close(cut.layers[0].weight.grad, whole[0].weight.grad)
    assert cut.stages[1].shadows


def test_what_does_not_fit_is_refused_as_when_it_was_built():
    cut = pipeline(num_microbatches=2)
    setattr(cut, "2", nn.BatchNorm1d(4))
    with pytest.raises(ValueError, match="layer 2 holds BatchNorm1d in training mode"):
        cut.step(*data())
    setattr(cut, "2", nn.ReLU(inplace=True))
    with pytest.raises(ValueError, match="stage 1 begins with ReLU"):
        cut.step(*data())


def test_the_list_of_layers_cannot_be_changed_unseen():
    with pytest.raises(TypeError):
        pipeline().layers[2] = nn.Linear(4, 4)
