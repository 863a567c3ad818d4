"""What a pipeline promises beside its gradients: options checked, places kept, masks recalled."""

import pytest
import torch
from torch import nn

from d2lpart import Link, Pipeline, partition


def linear_layers(count: int = 3) -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Linear(4, 4) for _ in range(count)]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 4, generator=generator), torch.randint(4, (6,), generator=generator)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"loss_fn": "mse"}, "loss_fn is 'mse': give a function"),
        ({"link": None}, "link is None: give a Link"),
        ({"seed": "a"}, "seed is 'a': give a whole number"),
        ({"seed": True}, "seed is True"),
        ({"schedule": None}, "Schedule"),
        ({"schedule": ["0F0"]}, "Schedule"),
    ],
)
def test_an_option_of_the_wrong_kind_is_refused_at_once(option, message):
    with pytest.raises(ValueError, match=message):
        Pipeline(linear_layers(), [2, 1], ["cpu"] * 2, **option)


def test_a_move_to_another_device_is_refused_and_changes_nothing():
    pipeline = Pipeline(linear_layers(), [2, 1], ["cpu"] * 2)
    with pytest.raises(
        ValueError, match=r"stage 0 is on cpu and would move to meta: .* build a new"
    ):
        pipeline.to("meta")
    assert {p.device.type for p in pipeline.parameters()} == {"cpu"}
    assert pipeline.step(*batch()).loss > 0


def test_a_change_of_type_is_allowed():
    pipeline = Pipeline(linear_layers(), [2, 1], ["cpu"] * 2).double()
    inputs, targets = batch()
    pipeline.step(inputs.double(), targets)
    assert {p.grad.dtype for p in pipeline.parameters()} == {torch.float64}


def test_a_stage_that_begins_in_place_is_refused_and_one_cut_later_works():
    layers = [nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4)]
    with pytest.raises(
        ValueError, match=r"stage 1 begins with ReLU\(inplace=True\).*one layer later"
    ):
        Pipeline(layers, [1, 2], ["cpu"] * 2)
    assert Pipeline(layers, [2, 1], ["cpu"] * 2).step(*batch()).loss > 0


def test_without_a_seed_the_masks_recur_with_the_state_of_the_generator():
    layers = [*linear_layers(2), nn.Dropout(0.5), nn.Linear(4, 4)]
    pipeline = Pipeline(layers, [2, 2], ["cpu"] * 2, num_microbatches=2)

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        return pipeline.step(*batch()).loss

    first = loss(5)
    assert loss(6) != first
    assert loss(5) == first


def test_with_a_seed_every_step_has_masks_of_its_own():
    layers = [nn.Dropout(0.5), nn.Linear(4, 4)]
    pipeline = Pipeline(layers, [1, 1], ["cpu"] * 2, seed=3)
    assert pipeline.step(*batch()).loss != pipeline.step(*batch()).loss


def test_a_loss_that_is_now_a_mean_and_now_a_pair_is_refused():
    calls = []

    def loss_fn(outputs, targets):
        calls.append(targets)
        mean = nn.functional.cross_entropy(outputs, targets)
        return mean if len(calls) % 2 else (mean * len(targets), len(targets))

    pipeline = Pipeline(linear_layers(), [3], ["cpu"], num_microbatches=2, loss_fn=loss_fn)
    with pytest.raises(ValueError, match="mean"):
        pipeline.step(*batch())
    assert all(p.grad is None for p in pipeline.parameters())


def test_on_one_device_a_message_arrives_the_moment_it_was_made():
    pipeline = Pipeline(linear_layers(), [2, 1], ["cpu"] * 2, num_microbatches=3, clock="wall")
    timeline = pipeline.step(*batch()).timeline
    ends = {span.action: span.end for span in timeline.spans}
    assert len(timeline.transfers) == 6
    for message in timeline.transfers:
        assert message.start == message.end == ends[message.action]
    assert not [gap for rank in (0, 1) for gap in timeline.gaps(rank) if gap.kind == "transfer"]


def test_a_partition_for_speeds_does_not_show_plain_sums_as_its_loads():
    assert "load" not in str(partition([1, 2, 3, 4, 5], 2, speed=[1, 2]))
    assert "load" not in str(partition([1, 2, 3, 4, 5], 2, transfer=[1, 1, 1, 1]))
    assert "load 6" in str(partition([1, 2, 3, 4, 5], 2))


def test_the_link_is_what_the_virtual_clock_sends_over():
    pipeline = Pipeline(
        linear_layers(), [2, 1], ["cpu"] * 2, clock="virtual", link=Link(latency=0.5)
    )
    transfers = pipeline.step(*batch()).timeline.transfers
    assert [message.end - message.start for message in transfers] == pytest.approx([0.5, 0.5])
