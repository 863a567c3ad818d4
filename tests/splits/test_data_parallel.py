"""Replicas against one model: outputs, loss, gradients, and what they send each other."""

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn
from torch.nn import functional as F

from d2lpart.models.convnet import lenet
from d2lpart.models.decoder import Decoder
from d2lpart.splits.collectives import all_reduce, all_reduce_at_one
from d2lpart.splits.data_parallel import DataParallel

CLOSE = 2e-5  # of the largest gradient


def agrees(layers, inputs, targets, ranks, whole_loss=None, **options):
    """Hold replicas against the model itself; return them and the result of their step."""
    whole = copy.deepcopy(nn.Sequential(*layers))
    model = DataParallel(layers, ["cpu"] * ranks, **options)
    outputs = whole(inputs)
    loss = (whole_loss or model.loss_fn)(outputs, targets)
    loss.backward()
    torch.testing.assert_close(model(inputs), outputs, rtol=CLOSE, atol=CLOSE)
    result = model.step(inputs, targets)
    assert result.loss == pytest.approx(loss.item(), rel=CLOSE)
    expected = [weight.grad for weight in whole.parameters()]
    largest = max(gradient.abs().max() for gradient in expected if gradient is not None)
    for replica in model.replicas:
        for weight, gradient in zip(replica.parameters(), expected, strict=True):
            assert (weight.grad is None) == (gradient is None)
            if gradient is not None:
                assert (weight.grad - gradient).abs().max() <= CLOSE * largest
    return model, result


def small():
    return [nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)]


# ---- equality ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduce", [all_reduce, all_reduce_at_one])
@given(
    sizes=st.lists(st.integers(1, 8), min_size=2, max_size=5),
    samples=st.integers(1, 12),
    ranks=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_any_sizes_and_shares_of_any_size(reduce, sizes, samples, ranks, seed):
    """Where the replicas do not divide the samples, some have one more, and weigh more."""
    torch.manual_seed(seed)
    layers = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    batch = torch.randn(samples, sizes[0]), torch.randn(samples, sizes[-1])
    agrees(layers, *batch, min(ranks, samples), reduce=reduce, loss_fn=F.mse_loss)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
def test_lenet(ranks):
    torch.manual_seed(0)
    agrees(lenet(), torch.randn(7, 1, 28, 28), torch.randint(10, (7,)), ranks)


@pytest.mark.parametrize("tied", [False, True])
def test_a_decoder_whose_samples_differ_in_length(tied):
    torch.manual_seed(0)
    decoder = Decoder(17, 12, 2, 3, 8, tied=tied)
    tokens, targets = torch.randint(17, (5, 8)), torch.randint(17, (5, 8))
    targets[0, 3:] = targets[2:, 1:] = -100
    model, _ = agrees(decoder, tokens, targets, 3)
    for replica in model.replicas:
        assert (replica[0].token.weight is replica[-1].projection.weight) == tied


def test_a_replica_without_a_target_has_nothing_to_teach():
    torch.manual_seed(0)
    targets = torch.tensor([1, 2, -100, -100])
    agrees(small(), torch.randn(4, 4), targets, 2)


def test_a_loss_may_be_a_sum_and_a_count():
    def sum_and_count(outputs, targets):
        return F.cross_entropy(outputs, targets, reduction="sum"), len(targets)

    torch.manual_seed(0)
    batch = torch.randn(5, 4), torch.randint(3, (5,))
    agrees(small(), *batch, 2, loss_fn=sum_and_count, whole_loss=F.cross_entropy)


def test_weights_that_no_replica_uses_or_trains_get_no_gradient():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.used(x)

    torch.manual_seed(0)
    layers = [nn.Linear(4, 4), Half()]
    layers[0].bias.requires_grad_(False)
    _, result = agrees(layers, torch.randn(5, 4), torch.randint(3, (5,)), 2)
    assert result.bytes_moved == 2 * 4 * (16 + 15)


# ---- training ------------------------------------------------------------------------------------


def test_replicas_stay_equal_and_are_the_model_trained_alone():
    torch.manual_seed(0)
    layers = lenet()
    whole = copy.deepcopy(layers)
    model = DataParallel(layers, ["cpu"] * 3)
    own, other = (torch.optim.AdamW(m.parameters(), lr=1e-3) for m in (model, whole))
    for _ in range(3):
        inputs, targets = torch.randn(7, 1, 28, 28), torch.randint(10, (7,))
        own.zero_grad()
        other.zero_grad()
        model.step(inputs, targets)
        F.cross_entropy(whole(inputs), targets).backward()
        own.step()
        other.step()
    for weights in zip(*(replica.parameters() for replica in model.replicas), strict=True):
        assert all(torch.equal(weight, weights[0]) for weight in weights)
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(layers.state_dict()[name], weight, rtol=1e-3, atol=1e-4)


def test_gradients_are_added_to_what_is_there():
    model = DataParallel(small(), ["cpu"] * 2)
    batch = torch.randn(5, 4), torch.randint(3, (5,))
    model.step(*batch)
    once = [weight.grad.clone() for weight in model.parameters()]
    model.step(*batch)
    for weight, gradient in zip(model.parameters(), once, strict=True):
        torch.testing.assert_close(weight.grad, 2 * gradient)


def test_without_the_sum_replicas_drift_apart():
    """What the barrier is for: a reduce that sums nothing leaves other gradients on each."""
    torch.manual_seed(0)
    model = DataParallel(small(), ["cpu"] * 2, reduce=lambda group, tensors: list(tensors))
    model.step(torch.randn(6, 4), torch.randint(3, (6,)))
    first, second = (next(replica.parameters()).grad for replica in model.replicas)
    assert not torch.allclose(first, second)


# ---- what is held, and what is moved -------------------------------------------------------------


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("samples", [4, 9])
def test_the_bytes_hang_on_the_weights_and_not_on_the_batch(ranks, samples):
    batch = torch.randn(samples, 1, 28, 28), torch.randint(10, (samples,))
    _, result = agrees(lenet(), *batch, ranks)
    assert result.bytes_moved == 2 * (ranks - 1) * 4 * 129_068
    assert result.barriers == 1
    assert result.parameter_bytes == (4 * 129_068,) * ranks


def test_a_ring_burdens_all_alike_and_a_root_itself():
    batch = torch.randn(4, 1, 28, 28), torch.randint(10, (4,))
    _, ring = agrees(lenet(), *batch, 4)
    _, one = agrees(lenet(), *batch, 4, reduce=all_reduce_at_one)
    assert ring.bytes_moved == one.bytes_moved
    assert ring.traffic.busiest == ring.bytes_moved / 4
    assert one.traffic.busiest == one.bytes_moved / 2


# ---- errors --------------------------------------------------------------------------------------


def test_batchnorm_in_training_is_refused_with_the_reason():
    layers = [nn.Linear(4, 4), nn.Sequential(nn.BatchNorm1d(4)), nn.Linear(4, 3)]
    with pytest.raises(ValueError, match=r"layer 1 holds BatchNorm1d: .* each of 2 replicas sees"):
        DataParallel(layers, ["cpu"] * 2)
    for layer in layers:
        layer.eval()
    model, _ = agrees(layers, torch.randn(6, 4), torch.randint(3, (6,)), 2)
    model.train()
    with pytest.raises(ValueError, match="SyncBatchNorm"):
        model.step(torch.randn(6, 4), torch.randint(3, (6,)))
    DataParallel([layer.train() for layer in layers], ["cpu"])  # one replica sees all of it


@pytest.mark.parametrize(
    ("ranks", "samples", "message"),
    [
        (3, 2, "3 replicas for 2 samples: .* use at most 2 replicas"),
        (2, 0, "2 replicas for 0 samples"),
    ],
)
def test_a_replica_needs_a_sample(ranks, samples, message):
    model = DataParallel(small(), ["cpu"] * ranks)
    with pytest.raises(ValueError, match=message):
        model.step(torch.randn(samples, 4), torch.randint(3, (samples,)))
    with pytest.raises(ValueError, match=message):
        model(torch.randn(samples, 4))


def test_other_errors_say_what_to_do():
    with pytest.raises(ValueError, match=r"layer 1 \(Dropout\) has a dropout"):
        DataParallel([nn.Linear(4, 4), nn.Dropout(0.1)], ["cpu"] * 2)
    for wrong in ([], "cpu", 2):
        with pytest.raises(ValueError, match="give a list of at least one, one a rank"):
            DataParallel(small(), wrong)
    model = DataParallel(small(), ["cpu"] * 2, loss_fn=lambda out, t: out.detach().mean())
    with pytest.raises(ValueError, match="no gradient leads back"):
        model.step(torch.randn(5, 4), torch.randint(3, (5,)))
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_replicas_on_a_gpu_and_on_the_cpu():
    torch.manual_seed(0)
    whole = lenet()
    model = DataParallel(copy.deepcopy(whole), ["cuda:0", "cpu"])
    inputs, targets = torch.randn(6, 1, 28, 28), torch.randint(10, (6,))
    F.cross_entropy(whole(inputs), targets).backward()
    model.step(inputs, targets)
    for replica in model.replicas:
        for own, weight in zip(replica.parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(own.grad.cpu(), weight.grad, rtol=1e-3, atol=1e-4)
