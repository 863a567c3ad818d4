"""The comparison: what counts as the same answer, and the words for what does not."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from d2lpart import Action
from d2lpart.course.checks.comparison import difference, type_words

NAN = math.nan


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (3, 3),
        (3.0, 3),
        (3, 3.0),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (Fraction(1, 2), 0.5),
        (0.1 + 0.2, 0.3),
        (1e9 + 1e2, 1e9),
        (math.inf, math.inf),
        (NAN, NAN),
        (torch.tensor(0.5), 0.5),
        (np.array(2), 2),
        (True, True),
        (np.bool_(True), True),
        ("2F0", "2F0"),
        (None, None),
        ([1, 2], (1, 2)),
        (range(2), [0, 1]),
        (torch.tensor([1, 2]), [1, 2]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        ([[1.0], [2.0]], torch.tensor([[1.0], [2.0]])),
        ([], []),
        (torch.ones(2, 2) + 1e-6, torch.ones(2, 2)),
        (torch.empty(0), torch.empty(0)),
        ({"a": 1.0, "b": [1]}, {"b": (1,), "a": 1}),
        ({1, 2}, {2, 1}),
        (torch.tensor([NAN, math.inf, 1.0]), torch.tensor([NAN, math.inf, 1.0])),
        ((2, "F", 0), Action(2, "F", 0)),
    ],
)
def test_the_same_answer(got, expected):
    assert difference(got, expected) is None


@pytest.mark.parametrize(
    ("got", "expected", "kind", "detail"),
    [
        (2, 3, "value", ""),
        (10**17, 10**17 + 1, "value", ""),
        (0.5001, 0.5, "value", ""),
        (1e-5, 0.0, "value", ""),
        (NAN, 0.5, "nan", ""),
        (0.5, NAN, "value", ""),
        (math.inf, 1.0, "value", ""),
        (1.0, math.inf, "value", ""),
        (-math.inf, math.inf, "value", ""),
        (10**400, 0.5, "value", ""),
        ("0.5", 0.5, "type", "expected a number, not text"),
        (True, 1, "type", "expected a number, not True or False"),
        (1, True, "type", "expected True or False, not a number"),
        (None, 1, "type", "expected a number, not None"),
        ("Data", "data", "value", "right but for capital letters"),
        ("date", "data", "value", ""),
        ([1], 1, "type", "expected a number, not a list"),
        (1, [1], "type", "expected a list, not a number"),
        ("ab", ["a", "b"], "type", "expected a list, not text"),
        ({1: 2}, [1], "type", "expected a list, not a dict"),
        ((n for n in [1]), [1], "type", "expected a list, not a generator"),
        ([1, 2, 3], [1, 2], "value", "expected 2 items, not 3"),
        ([1, 2, 4], [1, 2, 3], "value", "item 2 differs"),
        ([[1, 2], [3]], [[1, 2], [3, 4]], "value", "item 1: expected 2 items, not 1"),
        ([1, NAN], [1, 2], "nan", "item 1 differs"),
        ([1, "2"], [1, 2], "type", "item 1: expected a number, not text"),
        ({"a": 1}, {"a": 1, "b": 2}, "value", "the key 'b' is missing"),
        ({"a": 1, "c": 2}, {"a": 1}, "value", "the key 'c' is too much"),
        ({"a": 1}, {"a": 2}, "value", "the entry 'a' differs"),
        (torch.ones(2, 3), torch.ones(3, 2), "value", "expected the shape (3, 2), not (2, 3)"),
        ("ab", torch.ones(2), "type", "expected a tensor, not text"),
        ({1}, {1, 2}, "value", ""),
        (
            torch.ones(1, dtype=torch.cfloat),
            torch.ones(1),
            "type",
            "expected real numbers, not complex ones",
        ),
        (torch.empty(1, device="meta"), torch.ones(1), "type", "a tensor that cannot be read"),
        (range(10**30), [1], "type", "a list that cannot be read"),
    ],
)
def test_another_answer(got, expected, kind, detail):
    assert difference(got, expected) == (kind, detail)


def test_the_largest_difference_of_a_tensor_is_named_with_its_place():
    expected = torch.zeros(2, 3)
    got = expected.clone()
    got[1, 2], got[0, 1] = -0.5, 0.25
    assert difference(got, expected) == ("value", "largest difference 0.5, at [1, 2]")


@pytest.mark.parametrize("odd", [math.inf, -math.inf, NAN])
def test_an_endless_or_missing_number_hides_no_other_entry(odd):
    expected = torch.tensor([odd, 1.0])
    assert difference(torch.tensor([odd, 2.0]), expected).detail == "largest difference 1, at [1]"
    assert difference(torch.tensor([5.0, 1.0]), expected).detail == "largest difference inf, at [0]"


def test_tensors_of_whole_numbers_agree_exactly():
    large = torch.tensor([10**8])
    assert difference(large, large.clone()) is None
    assert difference(large + 1, large).detail == "largest difference 1, at [0]"


def test_nan_in_a_tensor_is_counted():
    got = torch.tensor([1.0, NAN, NAN])
    assert difference(got, torch.ones(3)) == ("nan", "2 of 3 entries")
    assert difference(got, got) is None


def test_the_tolerance_is_relative_and_no_tighter_than_fp32_can_be():
    assert difference(101.0, 100.0, tolerance=0.02) is None
    assert difference(103.0, 100.0, tolerance=0.02) is not None
    big = torch.full((2,), 1000.0)
    assert difference(big + 0.01, big, tolerance=0.0) is None
    assert difference(big + 0.1, big, tolerance=0.0) is not None
    assert difference(big.double() + 0.01, big.double(), tolerance=1e-6) is not None
    assert difference(torch.tensor([1, 2]), torch.tensor([1, 3]), tolerance=0.0) is not None


def test_a_tensor_that_needs_gradients_can_be_compared():
    assert difference(torch.ones(2, requires_grad=True), torch.ones(2)) is None


def test_other_types_go_by_their_own_name():
    assert type_words(b"x") == "a bytes"
    assert type_words(Action(0, "F", 0)) == "a list"
