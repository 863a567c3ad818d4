"""Losses that are no plain mean over samples: weighed as torch weighs them, or refused at once."""

import copy
import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2lpart import DataParallel, Pipeline
from d2lpart.stages.losses import cross_entropy

CLASSES = 5
CLASS_WEIGHTS = torch.tensor([0.1, 1.0, 2.0, 3.0, 4.0])
NETWORK = [nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, CLASSES)]


@pytest.fixture(autouse=True)
def _fixed():
    torch.manual_seed(0)


def classes(padding: int = 0) -> torch.Tensor:
    """16 targets, most of the first 9 padding, so that micro-batches have unlike shares of it."""
    targets = torch.randint(1, CLASSES, (16,))
    targets[:9] = padding
    return targets


def apart(loss_fn, targets, make=Pipeline, m=4, **options) -> float:
    """Return how far the gradients of a cut network are from those of the whole, relatively."""
    layers, inputs = copy.deepcopy(NETWORK), torch.randn(16, 6)
    whole = nn.Sequential(*copy.deepcopy(layers))
    loss = (loss_fn or cross_entropy)(whole(inputs), targets)
    loss = loss[0] / loss[1] if isinstance(loss, tuple) else loss
    loss.backward()
    if make is Pipeline:
        options = {"partition": [2, 1], "num_microbatches": m, "clock": "virtual", **options}
    cut = make(layers, devices=["cpu"] * 2, loss_fn=loss_fn, **options)
    assert cut.step(inputs, targets).loss == pytest.approx(loss.item(), rel=1e-5)
    pairs = list(zip(whole.parameters(), cut.parameters(), strict=False))
    largest = max(own.grad.abs().max() for own, _ in pairs)
    return max((own.grad - other.grad).abs().max().item() for own, other in pairs) / largest.item()


LOSSES = {
    "ignore_index=0": lambda: (nn.CrossEntropyLoss(ignore_index=0), classes(0)),
    "ignore_index=-1": lambda: (nn.CrossEntropyLoss(ignore_index=-1), classes(-1)),
    "weight": lambda: (nn.CrossEntropyLoss(weight=CLASS_WEIGHTS), classes()),
    "sum": lambda: (nn.CrossEntropyLoss(reduction="sum"), classes()),
    "all at once": lambda: (
        nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, ignore_index=0, label_smoothing=0.1),
        classes(),
    ),
    "NLLLoss": lambda: (nn.NLLLoss(weight=CLASS_WEIGHTS, ignore_index=0), classes()),
    "probabilities": lambda: (nn.CrossEntropyLoss(), torch.rand(16, CLASSES).softmax(-1)),
    "mse": lambda: (nn.MSELoss(), torch.randn(16, CLASSES)),
    "mse, summed": lambda: (nn.MSELoss(reduction="sum"), torch.randn(16, CLASSES)),
    "kl, batchmean": lambda: (
        nn.KLDivLoss(reduction="batchmean"),
        torch.rand(16, CLASSES).softmax(-1),
    ),
    "partial": lambda: (functools.partial(F.cross_entropy, ignore_index=0), classes()),
    "pair": lambda: (
        lambda out, t: (F.cross_entropy(out, t, ignore_index=0, reduction="sum"), (t != 0).sum()),
        classes(),
    ),
    "default, probabilities": lambda: (None, torch.rand(16, CLASSES).softmax(-1)),
}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_mini_batch(name, recompute):
    loss_fn, targets = LOSSES[name]()
    assert apart(loss_fn, targets, recompute=recompute) < 2e-5


@pytest.mark.parametrize("name", LOSSES)
def test_replicas_weigh_their_losses_alike(name):
    loss_fn, targets = LOSSES[name]()
    assert apart(loss_fn, targets, make=DataParallel) < 2e-5


def contrast(outputs, targets):
    """A loss in which every sample is held against all others."""
    return F.cross_entropy(outputs @ outputs.T, torch.arange(len(outputs)))


REFUSED = {
    "hidden ignore_index": lambda out, t: F.cross_entropy(out, t, ignore_index=0),
    "hidden weight": lambda out, t: F.cross_entropy(out, t, weight=CLASS_WEIGHTS),
    "a sum": lambda out, t: F.cross_entropy(out, t, reduction="sum"),
    "contrastive": contrast,
    "a root of a mean": lambda out, t: F.cross_entropy(out, t).sqrt(),
    "the hardest sample": lambda out, t: (
        F.cross_entropy(out, t, reduction="none").topk(1)[0].mean()
    ),
    "contrastive pair": lambda out, t: (contrast(out, t) * len(t), len(t)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_mean_is_refused_before_any_gradient(name):
    pipeline = Pipeline(
        copy.deepcopy(NETWORK), [2, 1], ["cpu"] * 2, num_microbatches=4, loss_fn=REFUSED[name]
    )
    targets = torch.randint(1, CLASSES, (16,))
    targets[[0, 5, 8, 9, 10]] = 0
    with pytest.raises(ValueError, match=r"^the loss of 2 micro-batches together is .*pair \(sum"):
        pipeline.step(torch.randn(16, 6), targets)
    assert all(weight.grad is None for weight in pipeline.parameters())
    Pipeline(NETWORK, [2, 1], ["cpu"] * 2, loss_fn=REFUSED[name]).step(torch.randn(16, 6), targets)


def test_a_microbatch_of_padding_alone_is_told_apart_from_a_broken_loss():
    loss_fn = REFUSED["hidden ignore_index"]
    pipeline = Pipeline(NETWORK, [2, 1], ["cpu"] * 2, num_microbatches=4, loss_fn=loss_fn)
    with pytest.raises(ValueError, match=r"come to nan, .* num_microbatches=1$"):
        pipeline.step(torch.randn(16, 6), classes())


def test_weights_of_samples_in_a_loss_module_are_not_taken_for_those_of_classes():
    classes_of = torch.rand(16, CLASSES)
    for weight, pos in ((CLASS_WEIGHTS, None), (None, CLASS_WEIGHTS)):
        assert apart(nn.BCEWithLogitsLoss(weight=weight, pos_weight=pos), classes_of) < 2e-5
        summed = nn.BCEWithLogitsLoss(weight=weight, pos_weight=pos, reduction="sum")
        assert apart(summed, classes_of) < 2e-5
    layers = [nn.Linear(6, 1), nn.Flatten(0)]
    loss_fn = nn.BCEWithLogitsLoss(weight=torch.arange(1.0, 17.0))
    cut = Pipeline(layers, [1, 1], ["cpu"] * 2, num_microbatches=16, loss_fn=loss_fn)
    with pytest.raises(ValueError, match=r"^rank 1, stage 1, action 1F0 .*, loss_fn: "):
        cut.step(torch.randn(16, 6), torch.rand(16))
    assert all(weight.grad is None for weight in cut.parameters())


def test_a_random_loss_is_compared_with_nothing():
    def noisy(outputs, targets):
        return F.mse_loss(outputs + torch.rand_like(outputs), targets)

    pipeline = Pipeline(NETWORK, [2, 1], ["cpu"] * 2, num_microbatches=4, loss_fn=noisy)
    pipeline.step(torch.randn(16, 6), torch.randn(16, CLASSES))


def images(height: int, width: int, classes: int):
    return torch.randn(4, classes, height, width), torch.randint(0, classes, (4, height, width))


def test_images_have_their_classes_in_the_second_dimension():
    outputs, targets = images(4, 3, classes=3)  # as many classes as columns
    assert torch.equal(cross_entropy(outputs, targets), F.cross_entropy(outputs, targets))
    soft = torch.rand(4, 3, 4, 3).softmax(1)
    assert torch.equal(cross_entropy(outputs, soft), F.cross_entropy(outputs, soft))


def test_a_sequence_has_its_classes_in_the_last_dimension():
    outputs, targets = torch.randn(2, 3, 3), torch.randint(0, 3, (2, 3))
    expected = F.cross_entropy(outputs.transpose(1, 2), targets)
    assert cross_entropy(outputs, targets).item() == pytest.approx(expected.item())


def test_shapes_that_may_mean_two_things_or_nothing_are_refused():
    with pytest.raises(ValueError, match="fit with the classes in dimension 1 and in dimension 3"):
        cross_entropy(*images(3, 3, classes=3))
    with pytest.raises(ValueError, match="needs one integer for each row of logits"):
        cross_entropy(torch.randn(4, 3), torch.randint(0, 3, (5,)))


def test_a_loss_without_weights_of_its_own_is_no_part_of_the_state():
    loss_fn = nn.CrossEntropyLoss(weight=CLASS_WEIGHTS)
    pipeline = Pipeline(NETWORK, [2, 1], ["cpu"] * 2, loss_fn=loss_fn)
    assert list(pipeline.state_dict()) == list(nn.Sequential(*NETWORK).state_dict())
    assert pipeline.loss_fn is loss_fn


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("loss_fn", [nn.MSELoss(), nn.L1Loss()])
def test_outputs_that_are_spread_over_targets_of_another_shape_are_refused(loss_fn, m):
    layers = [nn.Linear(6, 4), nn.Linear(4, 1)]
    cut = Pipeline(layers, [1, 1], ["cpu"] * 2, num_microbatches=m, loss_fn=loss_fn)
    with pytest.raises(ValueError, match=r"^the loss of 2 micro-batches together is"):
        cut.step(torch.randn(8, 6), torch.randn(8))


@pytest.mark.parametrize("ignored", [-1, 0, CLASSES - 1])
def test_a_hidden_padding_is_found_in_a_batch_without_any(ignored):
    def hidden(outputs, targets):
        return F.cross_entropy(outputs, targets, ignore_index=ignored)

    targets = torch.arange(16) % (CLASSES - 2) + 1
    targets[3] = max(targets[3], ignored)
    cut = Pipeline(NETWORK, [2, 1], ["cpu"] * 2, num_microbatches=4, loss_fn=hidden)
    with pytest.raises(ValueError, match="their gradients would not be those of the mini-batch"):
        cut.step(torch.randn(16, 6), targets)


def test_another_loss_is_looked_at_too():
    cut = Pipeline(NETWORK, [2, 1], ["cpu"] * 2, num_microbatches=4)
    cut.step(torch.randn(16, 6), classes())
    cut.loss_fn = contrast
    with pytest.raises(ValueError, match="the loss of 2 micro-batches together"):
        cut.step(torch.randn(16, 6), classes())


@pytest.mark.parametrize("kind", [torch.int32, torch.int16, torch.uint8])
def test_classes_may_be_whole_numbers_of_any_kind(kind):
    outputs, targets = torch.randn(8, CLASSES), torch.arange(8) % CLASSES
    assert torch.equal(cross_entropy(outputs, targets.to(kind)), cross_entropy(outputs, targets))


def test_a_loss_that_returns_more_is_told_what_to_return():
    cut = Pipeline(
        NETWORK, [2, 1], ["cpu"] * 2, num_microbatches=2,
        loss_fn=lambda outputs, targets: (F.cross_entropy(outputs, targets), {"accuracy": 1}),
    )  # fmt: skip
    with pytest.raises(ValueError, match="the loss is not a scalar: loss_fn returned"):
        cut.step(torch.randn(16, 6), classes())


def test_targets_with_a_graph_are_refused():
    teacher = nn.Linear(6, CLASSES)
    inputs = torch.randn(16, 6)
    cut = Pipeline(NETWORK, [2, 1], ["cpu"] * 2, num_microbatches=2, loss_fn=nn.MSELoss())
    with pytest.raises(ValueError, match=r"^targets want a gradient.*targets\.detach\(\)"):
        cut.step(inputs, teacher(inputs))
    cut.step(inputs, teacher(inputs).detach())
    assert teacher.weight.grad is None
