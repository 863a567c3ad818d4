"""What a step hands out beside its loss: the outputs of the last stage, if it is asked for them."""

import re

import pytest
import torch
from torch import nn

from d2lpart import Pipeline
from d2lpart.memory.failures import OutOfMemoryError

CPU = "cpu"


def layers():
    torch.manual_seed(0)
    return [nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 3)]


def data(samples=7):
    inputs = torch.randn(samples, 4, generator=torch.Generator().manual_seed(1))
    return inputs, torch.arange(samples) % 3


RUNS = {
    "1f1b": {},
    "recompute": {"recompute": True},
    "split backward": {"schedule": "zb-h1"},
    "both": {"schedule": "zb-h1", "recompute": True},
    "interleaved": {"schedule": "interleaved"},
    "threads": {"clock": "wall"},
}


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("microbatches", [1, 4])
def test_they_are_those_of_the_layers_in_order(kind, microbatches):
    model = [*layers(), nn.Identity()]
    model[1].eval()
    sizes = [1, 1, 1, 1] if kind == "interleaved" else [2, 2]
    if kind == "interleaved" and microbatches == 1:
        microbatches = 2
    run = Pipeline(model, sizes, [CPU] * 2, num_microbatches=microbatches, **RUNS[kind])
    inputs, targets = data()
    outputs = run.step(inputs, targets, outputs=True).outputs
    parts = inputs.tensor_split(microbatches)
    assert torch.equal(outputs, torch.cat([nn.Sequential(*model)(part) for part in parts]))
    assert outputs.shape == (7, 3)
    assert not outputs.requires_grad
    assert outputs.device == run.stages[-1].device


@pytest.mark.parametrize("recompute", [False, True])
def test_they_are_those_that_the_loss_has_seen(recompute):
    seen = {}

    def loss_fn(outputs, targets):
        seen[int(targets[0])] = outputs.detach().clone()
        return nn.functional.cross_entropy(outputs.mul(1), targets)

    run = Pipeline(
        layers(), [1, 2], [CPU] * 2, num_microbatches=3, loss_fn=loss_fn, recompute=recompute
    )
    inputs, _ = data(6)
    outputs = run.step(inputs, torch.tensor([0, 0, 1, 1, 2, 2]), outputs=True).outputs
    assert torch.equal(outputs, torch.cat([seen[k] for k in range(3)]))
    again = Pipeline(layers(), [1, 2], [CPU] * 2, num_microbatches=3, loss_fn=loss_fn)
    first, second = (again.step(inputs, data(6)[1], outputs=True).outputs for _ in range(2))
    assert not torch.equal(first, second)  # dropout drew anew


def test_a_loss_that_overwrites_them_changes_nothing():
    def loss_fn(outputs, targets):
        return outputs.mul_(0).square().mean()

    model = layers()
    model[1].eval()
    run = Pipeline(model, [1, 2], [CPU] * 2, num_microbatches=2, loss_fn=loss_fn)
    inputs, targets = data(6)
    assert torch.equal(
        run.step(inputs, targets, outputs=True).outputs,
        torch.cat([nn.Sequential(*model)(part) for part in inputs.tensor_split(2)]),
    )


def test_a_microbatch_that_is_skipped_has_outputs_too_and_gradients_stay():
    model = layers()
    model[1].eval()
    inputs, targets = data(6)
    targets[2:4] = -100
    run = Pipeline(model, [1, 2], [CPU] * 2, num_microbatches=3)
    run.step(inputs, targets)
    gradients = [weight.grad.clone() for weight in run.parameters()]
    run.zero_grad()
    outputs = run.step(inputs, targets, outputs=True).outputs
    parts = inputs.tensor_split(3)
    assert torch.equal(outputs, torch.cat([nn.Sequential(*model)(part) for part in parts]))
    for weight, gradient in zip(run.parameters(), gradients, strict=True):
        assert torch.equal(weight.grad, gradient)


def test_a_number_for_the_whole_batch_is_one_row():
    class Total(nn.Module):
        def forward(self, x):
            return x.square().sum()

    inputs, targets = data(6)
    run = Pipeline(
        [nn.Linear(4, 4), Total()], [1, 1], [CPU] * 2, loss_fn=lambda outputs, _: outputs
    )
    found = run.step(inputs, targets.float(), outputs=True).outputs
    assert torch.equal(found, run.layers[0](inputs).square().sum()[None])


def test_they_are_kept_only_if_they_are_asked_for():
    run = Pipeline(layers(), [1, 2], [CPU] * 2)
    result = run.step(*data())
    message = "this step kept no outputs: call step(inputs, targets, outputs=True)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _ = result.outputs


def test_the_ledger_counts_them_on_the_last_rank():
    run = Pipeline([nn.Linear(4, 4), nn.Linear(4, 100)], [1, 1], [CPU] * 2, num_microbatches=4)
    inputs, targets = data(8)
    plain = run.step(inputs, targets, memory=True).memory
    kept = run.step(inputs, targets, memory=True, outputs=True).memory
    assert kept[0].activations == plain[0].activations
    nbytes = 8 * 100 * 4
    # The last micro-batch needs as much as it does by itself, with the outputs of all beside it.
    assert kept[1].activations - plain[1].activations == nbytes


def test_what_has_no_room_for_them_says_where():
    options = {"num_microbatches": 4}
    model = [nn.Linear(4, 4), nn.Linear(4, 100)]
    run = Pipeline(model, [1, 1], [CPU] * 2, **options)
    inputs, targets = data(8)
    run.step(inputs, targets)
    room = run.step(inputs, targets, memory=True).memory[1].total
    run = Pipeline(model, [1, 1], [CPU] * 2, capacity=[1e6, room], **options)
    run.step(inputs, targets)
    with pytest.raises(OutOfMemoryError, match="rank 1, stage 1, action 1F"):
        run.step(inputs, targets, outputs=True)
