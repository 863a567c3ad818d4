"""What goes over the wire: each plain value comes back equal, and no code harms who reads it."""

import math
from fractions import Fraction

import pytest
import torch

from d2lpart import Action, Partition
from d2lpart.course.grading.plain_values import LONGEST, CodingError, Opaque, decode, encode

VALUES = [
    *(None, True, 0, -(10**30), 0.5, math.inf, "", "\u00fc", [], [1, [2.0, "x"]], (), (1,)),
    *({}, {1: "a", (2, 3): [4]}, {1, 2}, Fraction(2, 3), 1 + 2j),
    *(Action(1, "F", 2), Partition([2, 3])),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_plain_value_comes_back(value):
    back = decode(encode(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool])
def test_a_tensor_comes_back(shape, dtype):
    value = torch.ones(shape).to(dtype)
    back = decode(encode(value))
    assert back.dtype == dtype
    assert back.shape == value.shape
    assert torch.equal(back, value)


def test_nan_and_a_wish_for_gradients_come_back():
    assert math.isnan(decode(encode(math.nan)))
    assert decode(encode(torch.ones(2, requires_grad=True))).requires_grad


class Liar(list):
    __class__ = float

    def __iter__(self):
        return iter([1, 2])

    def __len__(self):
        raise SystemError


@pytest.mark.parametrize("value", [Liar(), object(), iter([]), print, b"cos\nsystem", range(10**9)])
def test_other_values_go_by_their_type_alone(value):
    back = decode(encode(value))
    assert isinstance(back, Opaque)
    assert type(back).__name__ == type(value).__name__


def test_a_number_of_its_own_class_becomes_a_usual_one():
    class Sly(int):
        def __eq__(self, other):
            return True

        __hash__ = int.__hash__

    assert type(decode(encode([Sly(3)]))[0]) is int


HARMFUL = {
    "a fraction that takes for ever": {"fraction": ["1e9999999999", 1]},
    "a fraction of one text": {"fraction": ["1e9999999999"]},
    "a fraction of nothing": {"fraction": [1, 0]},
    "a complex number as text": {"complex": ["(" * 10**5, 0]},
    "a tensor without entries, but with rows": {"tensor": ["float32", [10**8, 0], False, ""]},
    "a tensor with fewer bytes than entries": {"tensor": ["float32", [10**8], False, ""]},
    "a tensor of a size below zero": {"tensor": ["float32", [-1, 0], False, ""]},
    "a tensor of whole numbers with gradients": {"tensor": ["int64", [0], True, ""]},
    "a tensor of a type that is none": {"tensor": ["object", [0], False, ""]},
    "a set of lists": {"set": [[]]},
    "a dict with a list for a key": {"dict": [[[], 1]]},
    "a partition of texts": {"partition": ["a"]},
    "an action of two": {"action": [1, "F"]},
    "an unknown kind": {"module": "os"},
    "two kinds": {"tuple": [], "set": []},
    "no kind": {},
}


@pytest.mark.parametrize("code", HARMFUL.values(), ids=HARMFUL)
def test_a_code_that_no_value_has_is_refused(code):
    with pytest.raises(CodingError):
        decode(code)


def test_depth_and_length_are_bounded():
    deep = 1
    for _ in range(200):
        deep = [deep]
    with pytest.raises(CodingError, match="nested too deep"):
        decode(deep)
    assert isinstance(decode(encode([0] * (LONGEST + 1))), Opaque)
    assert len(decode(encode([0] * LONGEST))) == LONGEST
