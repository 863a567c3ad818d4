"""Lesson 03: what its explanations rest on, and what its two watched exercises say."""

import pytest
import torch

from d2lpart import course
from d2lpart.course.lessons import lesson_03
from d2lpart.course.lessons.lesson_03 import facts
from d2lpart.course.lessons.lesson_03.by_hand import split_backward, tied_step


@pytest.fixture(autouse=True)
def not_strict(monkeypatch):
    monkeypatch.delenv("D2LPART_STRICT", raising=False)


def test_the_facts_are_what_the_lesson_says():
    assert facts.stage_1_alone() == (0, 14, 15, 15)
    assert facts.changed_by_cuts() == (8, 0)
    first, last = facts.losses_without_sending_back()
    assert last < 0.97 * first
    assert facts.factor_without_detach() == pytest.approx(2)
    assert 0.1 < facts.missing_of_tied_weight() < 1.5


def test_a_step_by_hand_leaves_the_uncut_gradients():
    model = facts.small_decoder()
    facts.split_step([model[:1], model[1:3], model[3:]])
    for parameter, expected in zip(model.parameters(), facts.uncut_gradients(model), strict=True):
        assert torch.equal(parameter.grad, expected)


def test_questions_and_checks_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    for item in lesson_03.QUESTIONS:
        repr(item), item._repr_html_()
    course.check("03.5", split_backward)
    course.check("03.6", tied_step)
    assert torch.equal(torch.get_rng_state(), before)


def split_without_loss(*args):
    split_backward(*args)


def split_with_another_loss(*args):
    return split_backward(*args) * 2


def split_that_never_calls(first, second, inputs, targets, loss_fn):
    return loss_fn(inputs, inputs)


def split_without_any_backward(first, second, inputs, targets, loss_fn):
    return loss_fn(second(first(inputs).detach().requires_grad_()), targets)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (split_without_loss, "Now return the loss"),
        (split_with_another_loss, "All gradients are right, but the loss is"),
        (split_that_never_calls, "`second` was called 0 times"),
        (split_without_any_backward, "2 of 2 weights of `second` have no gradient"),
    ],
)
def test_what_is_said_of_a_split_backward(function, says):
    assert says in course.check("03.5", function).sentence


def tied_home_alone(home, shadows, optimizer):
    for shadow in shadows:
        shadow.grad = None
    optimizer.step()
    optimizer.zero_grad()
    for shadow in shadows:
        shadow.data.copy_(home.data)


def tied_without_step(home, shadows, optimizer):
    for shadow in shadows:
        shadow.grad = None


def tied_without_zero(home, shadows, optimizer):
    for shadow in shadows:
        if shadow.grad is not None:
            home.grad = shadow.grad if home.grad is None else home.grad + shadow.grad
        shadow.grad = None
    optimizer.step()
    for shadow in shadows:
        shadow.data.copy_(home.data)


def tied_one_shadow_only(home, shadows, optimizer):
    tied_step(home, shadows[:1], optimizer)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (tied_home_alone, "That is the share of home alone"),
        (tied_without_step, "the weight stays at 8"),
        (tied_without_zero, "The gradient of the step before is still there"),
        (tied_one_shadow_only, "(home first), so the gradient is"),
        (lambda home, shadows, optimizer: None, "the weight stays at 8"),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_what_is_said_of_a_tied_step(function, says, seed):
    assert says in course.check("03.6", function, seed=seed).sentence
