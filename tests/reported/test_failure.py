"""Whatever fails, and whenever: gradients are as they were, and the step ends."""

import copy
import signal
import threading
import time

import pytest
import soak
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from d2lpart import Pipeline, PipelineError
from d2lpart.common.interrupts import OneAtATime, uninterrupted
from d2lpart.stages.gradients import gradients_kept


def pipeline(middle: nn.Module | None = None, **options) -> Pipeline:
    layers = [nn.Linear(4, 4), middle or nn.Tanh(), nn.Linear(4, 3)]
    options = {"clock": "virtual", "probe": False, "num_microbatches": 2, **options}
    return Pipeline(layers, [2, 1], ["cpu"] * 2, **options)


def data():
    return torch.randn(6, 4), torch.arange(6) % 3


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer")
def test_interrupts_at_random_moments_lose_nothing():
    seed = time.monotonic_ns()
    found = soak.soak(40, seed=seed)
    assert found.lost == [], f"seed {seed}"
    assert found.tried == found.interrupted + found.whole == 40


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_a_failure_at_the_very_end_leaves_the_gradients_as_they_were(clock, monkeypatch):
    """The sums are added up last, after all that may still fail: all of them, or none."""
    cut = pipeline(clock=clock)
    cut.step(*data())
    before = [weight.grad.clone() for weight in cut.parameters()]
    inputs, targets = data()
    inputs.requires_grad_()
    inputs.register_hook(lambda gradient: 1 / 0)  # runs when the step hands the gradient on
    with pytest.raises(ZeroDivisionError):
        cut.step(inputs, targets)
    assert all(map(torch.equal, before, [weight.grad for weight in cut.parameters()]))
    assert cut.steps == 1


def test_gradients_that_cannot_be_added_change_none():
    weights = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    for weight in weights:
        weight.grad = torch.ones(2)
    weights[2].grad = torch.ones(2).to_sparse()
    old = [weight.grad for weight in weights]

    def fail(*_):
        raise RuntimeError("no room")

    class Odd(torch.Tensor):
        __torch_function__ = classmethod(fail)

    def step():
        with gradients_kept(weights):
            for weight in weights:
                weight.grad = torch.ones(2)
            weights[2].grad = torch.ones(2).as_subclass(Odd)

    with pytest.raises(RuntimeError, match="no room"):
        step()
    assert all(weight.grad is gradient for weight, gradient in zip(weights, old, strict=True))
    assert torch.equal(weights[0].grad, torch.ones(2))


class Hangs(nn.Module):
    """Waits in C code until it is let go, and notes when it runs."""

    def __init__(self, enter=lambda: None) -> None:
        super().__init__()
        self.enter = enter
        self.armed, self.entered, self.release = True, threading.Event(), threading.Event()

    def forward(self, x):
        if self.armed:
            self.armed = False
            self.entered.set()
            self.enter()
            self.release.wait()
        return x


def test_one_interrupt_ends_a_step_whose_layer_hangs():
    """On the wall clock: the other ranks end, the hanging one adds to no gradient any more."""
    with soak.alarm() as clock:
        layer = Hangs(lambda: clock.set(0.05))
        cut = pipeline(layer, clock="wall")
        before = [weight.grad for weight in cut.parameters()]
        with pytest.raises(KeyboardInterrupt):
            cut.step(*data())
    assert [weight.grad for weight in cut.parameters()] == before
    with pytest.raises(PipelineError, match=r"d2lpart-rank-0 .* has not ended, because"):
        cut.step(*data())
    with pytest.raises(BaseException, match=r"^$"):  # its own fence: nothing adds to gradients now
        nn.Sequential(*cut.layers)(data()[0]).sum().backward()
    layer.release.set()
    for worker in cut._late:
        worker.join(30)
        assert not worker.is_alive()
    nn.Sequential(*cut.layers)(data()[0]).sum().backward()  # the fence is down
    cut.zero_grad()
    cut.step(*data())
    assert all(weight.grad is not None for weight in cut.parameters())


def test_two_threads_in_one_pipeline_get_an_error_and_right_sums():
    layer = Hangs()
    cut = pipeline(layer)
    errors = []

    def other():
        assert layer.entered.wait(30)
        for call in (lambda: cut.step(*data()), lambda: cut(data()[0])):
            try:
                call()
            except PipelineError as error:
                errors.append(str(error))
        layer.release.set()

    thread = threading.Thread(target=other)
    thread.start()
    inputs, targets = data()
    cut.step(inputs, targets)
    thread.join()
    assert [error.startswith("this pipeline is at work already") for error in errors] == [True] * 2
    found = [weight.grad.clone() for weight in cut.parameters()]
    cut.zero_grad()
    nn.functional.cross_entropy(nn.Sequential(*cut.layers)(inputs), targets).backward()
    for gradient, weight in zip(found, cut.parameters(), strict=True):
        torch.testing.assert_close(gradient, weight.grad, rtol=2e-5, atol=1e-7)


def test_a_loss_that_steps_its_own_pipeline_is_told_so():
    cut = pipeline(loss_fn=lambda outputs, targets: cut(outputs))
    with pytest.raises(PipelineError, match="this pipeline is at work already"):
        cut.step(*data())


def test_a_copy_of_a_pipeline_is_at_work_with_nobody():
    cut = pipeline()
    with cut._turn.entered():
        copy.deepcopy(cut).step(*data())
    turn = OneAtATime(ValueError, "busy")
    for _ in range(2):
        with turn.entered(), pytest.raises(ValueError, match="busy"):
            turn.entered()


def test_gradients_that_share_memory_change_none_of_the_others():
    cut = pipeline()
    cut.step(*data())
    before = [weight.grad.clone() for weight in cut.parameters()]
    cut.layers[2].bias.grad = torch.zeros(1).expand(3)
    cut.step(*data())
    assert cut.layers[2].bias.grad.abs().sum() > 0
    assert not torch.equal(before[0], cut.layers[0].weight.grad)


def test_a_first_step_that_fails_is_no_look():
    class Mixes(nn.Module):
        def forward(self, x):
            return x - x.mean(0)

    cut = pipeline(Mixes(), probe=True)
    with pytest.raises(PipelineError):
        cut.step(torch.randn(6, 5).view(6, 1, 5), torch.arange(6) % 3)
    with pytest.raises(ValueError, match="depends on the other samples"):
        cut.step(*data())


def test_ranks_that_draw_at_once_are_no_draw_in_a_backward():
    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            return checkpoint(lambda y: self.linear(y).tanh(), x, use_reentrant=False)

    layers = [nn.Linear(4, 4), nn.Dropout(0.5), Checkpointed(), Noise(), nn.Linear(4, 3)]
    options = {"num_microbatches": 6, "clock": "wall"}
    cut = Pipeline(layers, [3, 2], ["cpu"] * 2, **options)
    for _ in range(20):
        cut.step(*data())


class Unspeakable(RuntimeError):
    def __str__(self) -> str:
        raise AttributeError("no text")


class Fails(nn.Module):
    def forward(self, x):
        raise Unspeakable


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_an_error_whose_text_fails_keeps_its_place(clock):
    expected = r"^rank 0, stage 0, action 0F0 .*, layer 1 \(Fails\): Unspeakable \(its text raises"
    with pytest.raises(PipelineError, match=expected):
        pipeline(Fails(), clock=clock).step(*data())


def test_signals_wait_for_the_end_of_what_is_uninterrupted():
    done = []

    def section(clock):
        with uninterrupted():
            clock.set(0.001)
            time.sleep(0.02)
            done.append("all of it")
        done.append("more")

    with soak.alarm() as clock, pytest.raises(KeyboardInterrupt):
        section(clock)
    assert done == ["all of it"]


class Breaks(nn.Module):
    """Fails in the wake of an interrupt, as a context does that was cut short."""

    def forward(self, x):
        try:
            raise KeyboardInterrupt
        finally:
            torch._C._set_grad_enabled(False)
            raise RuntimeError("trying to pop from empty mode stack")


def test_an_interrupt_that_breaks_something_stays_an_interrupt():
    with pytest.raises(KeyboardInterrupt):
        pipeline(Breaks()).step(*data())
    assert torch.is_grad_enabled()


def test_an_error_after_an_interrupt_that_was_caught_stays_an_error():
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        with pytest.raises(PipelineError, match="Unspeakable"):
            pipeline(Fails()).step(*data())
