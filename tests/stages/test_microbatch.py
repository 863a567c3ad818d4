"""A mini-batch cut into micro-batches, and losses that add up to its own."""

import math

import pytest
import torch
from torch.nn import functional as F

from d2lpart.stages.losses import IGNORED, cross_entropy
from d2lpart.stages.microbatch import Batch

CLASSES = 5


def batch(m=3, *, targets=None, samples=7, loss_fn=cross_entropy, **options):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(samples, 4, generator=generator)
    if targets is None:
        targets = torch.arange(samples) % CLASSES
    return Batch(inputs, targets, m, loss_fn, **options)


def logits(samples, *, wants_gradient=True, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, CLASSES, generator=generator).requires_grad_(wants_gradient)


# ---- the cut -----------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", range(1, 10))
def test_sizes_differ_by_at_most_one_and_nothing_is_lost(samples):
    for m in range(1, samples + 1):
        cut = batch(m, samples=samples)
        parts = [cut.input(k) for k in range(m)]
        sizes = [len(part) for part in parts]
        assert sum(sizes) == samples
        assert max(sizes) - min(sizes) <= 1
        assert torch.equal(torch.cat(parts), cut.inputs)
        assert sum(cut.weights) == samples
        assert cut.weights == sizes


def test_inputs_are_cut_without_a_copy_and_without_a_graph():
    inputs = torch.randn(4, 2, requires_grad=True)
    cut = Batch(inputs * 2, torch.zeros(4, dtype=torch.long), 2, cross_entropy)
    assert not cut.input(0).requires_grad
    assert cut.input(1).untyped_storage().data_ptr() == cut.inputs.untyped_storage().data_ptr()


# ---- weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "weights"),
    [
        (torch.tensor([0, 1, IGNORED, 3, IGNORED, IGNORED, 1]), [2, 1, 1]),
        (torch.tensor([0, IGNORED, 1, IGNORED, IGNORED, 1, IGNORED]), [2, 0, 1]),
        (torch.tensor([[0, IGNORED]] * 6 + [[1, 1]]), [3, 2, 3]),
        (torch.full((7, 2, 3), 4), [18, 12, 12]),
        (torch.tensor([0, 156, 2, 3, 156, 156, 156], dtype=torch.uint8), [3, 2, 2]),
        (torch.tensor([0, 1, IGNORED, 3, 4, 3, 2], dtype=torch.int8), [2, 2, 2]),
        (torch.tensor([0, 1, IGNORED, 3, 4, 3, 2], dtype=torch.int32), [2, 2, 2]),
        (torch.full((7,), float(IGNORED)), [3, 2, 2]),  # floats count by samples
        (torch.zeros(7, 9), [3, 2, 2]),
        (torch.zeros(7, dtype=torch.bool), [3, 2, 2]),
        (torch.zeros(7, dtype=torch.bfloat16), [3, 2, 2]),
        (torch.zeros(7, dtype=torch.complex64), [3, 2, 2]),
    ],
)
def test_integers_weigh_by_targets_that_count_and_other_types_by_samples(targets, weights):
    cut = batch(targets=targets)
    assert cut.weights == weights
    assert [cut.skipped(k) for k in range(3)] == [weight == 0 for weight in weights]


def test_positions_of_one_sample_stay_together():
    """Three samples of two positions: the second micro-batch has one target, the first four."""
    targets = torch.tensor([[1, 2], [3, 4], [IGNORED, 1]])
    assert batch(2, targets=targets, samples=3).weights == [4, 1]


# ---- losses ------------------------------------------------------------------------------------


def test_cross_entropy_takes_any_number_of_dimensions():
    flat, targets = logits(6), torch.tensor([0, 1, IGNORED, 2, 3, 4])
    expected = F.cross_entropy(flat, targets)
    assert torch.equal(cross_entropy(flat, targets), expected)
    assert torch.equal(cross_entropy(flat.view(2, 3, CLASSES), targets.view(2, 3)), expected)
    assert torch.equal(cross_entropy(flat.view(1, 2, 3, CLASSES), targets.view(1, 2, 3)), expected)


@pytest.mark.parametrize("m", [1, 2, 3, 7])
def test_means_add_up_to_the_mean_of_all(m):
    targets = torch.tensor([0, 1, IGNORED, 3, IGNORED, IGNORED, 1])
    cut, outputs = batch(m, targets=targets), logits(7)
    parts = outputs.tensor_split(m)
    started = [cut.loss(k, parts[k]) for k in range(m) if not cut.skipped(k)]
    whole = cross_entropy(outputs, targets)
    assert sum(started).item() == pytest.approx(whole.item())
    loss, divisor = cut.total()
    assert loss == pytest.approx(whole.item())
    assert divisor == 1.0


@pytest.mark.parametrize("count", [4, 4.0, 1.0, 1, torch.tensor(4)])
def test_pairs_leave_the_division_to_the_end(count):
    cut = batch(2, loss_fn=lambda outputs, targets: (outputs.sum(), count))
    outputs = logits(7)
    for k, part in enumerate(outputs.tensor_split(2)):
        assert torch.equal(cut.loss(k, part), part.sum())
    loss, divisor = cut.total()
    assert divisor == 2 * float(count)
    assert loss == pytest.approx(outputs.sum().item() / (2 * float(count)))


def test_losses_are_added_up_exactly():
    """Eight losses of which a float32 sum would lose the small ones."""
    values = [1e8, 1.0, 1.0, 1.0, -1e8, 1.0, 1.0, 1.0]
    cut = batch(8, samples=8, loss_fn=lambda outputs, targets: (outputs.sum(), 1))
    for k, value in enumerate(values):
        cut.loss(k, torch.tensor([value], requires_grad=True))
    assert cut.total() == (math.fsum(values) / 8, 8.0)


def test_the_loss_function_gets_the_targets_of_its_microbatch():
    seen = []

    def loss_fn(outputs, targets):
        seen.append(targets)
        return outputs.sum()

    cut = batch(3, loss_fn=loss_fn)
    for k in (2, 0, 1):
        cut.loss(k, logits(len(cut.input(k))))
    assert [targets.tolist() for targets in seen] == [[0, 1], [0, 1, 2], [3, 4]]


def test_a_loss_taken_twice_counts_once():
    cut = batch(1)
    outputs = logits(7)
    with torch.no_grad():
        cut.loss(0, outputs)
    assert not cut.learns
    cut.loss(0, outputs)
    assert cut.learns
    assert cut.total()[0] == pytest.approx(cross_entropy(outputs, cut.targets).item())


def test_what_is_kept_has_no_graph():
    cut = batch(1)
    assert cut.loss(0, logits(7)).requires_grad
    assert not cut.kept[0].loss.requires_grad


# ---- what is refused ---------------------------------------------------------------------------


def test_there_must_be_enough_samples():
    with pytest.raises(ValueError, match=r"^8 micro-batches for 7 samples: .* use at most 7"):
        batch(8)
    with pytest.raises(ValueError, match=r"^inputs of shape \(0, 4\) and targets of shape \(0,\)"):
        batch(1, samples=0)
    with pytest.raises(ValueError, match=r"inputs of shape \(7, 4\) and targets of shape \(6,\)"):
        batch(1, targets=torch.zeros(6))


def test_some_target_must_count():
    with pytest.raises(ValueError, match=r"^all 14 targets are -100, so no target counts: give at"):
        batch(targets=torch.full((7, 2), IGNORED))


@pytest.mark.parametrize("result", [None, 2.0, torch.zeros(2), torch.zeros(1), ()])
def test_the_loss_must_be_a_scalar(result):
    cut = batch(1, loss_fn=lambda outputs, targets: result)
    with pytest.raises(ValueError, match=r"^the loss is not a scalar: loss_fn returned"):
        cut.loss(0, logits(7))


def test_something_must_count_and_lead_back():
    cut = batch(1, loss_fn=lambda outputs, targets: (outputs.sum(), 0.0))
    cut.loss(0, logits(7))
    with pytest.raises(ValueError, match=r"^loss_fn counted 0 in every micro-batch"):
        cut.total()
    cut = batch(1)
    cut.loss(0, logits(7, wants_gradient=False))
    with pytest.raises(ValueError, match=r"^no gradient leads back from the loss"):
        cut.total()
