"""What users give: is it of the kind that is asked for, and if not, what to give instead."""

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, TypeVar

from d2lpart.common.words import shortened

Kind = TypeVar("Kind")


def check_kind(
    value: object, kind: type, remedy: str, error: type[ValueError] = ValueError
) -> None:
    """Raise unless a value is of a kind.

    >>> check_kind(3, str, "give a name, such as 'gpipe'")
    Traceback (most recent call last):
    ValueError: 3 is no str: give a name, such as 'gpipe'
    """
    if not isinstance(value, kind):
        raise error(f"{shortened(value)} is no {kind.__name__}: {remedy}")


def listed_of(kind: type[Kind], values: Iterable[Any], remedy: str) -> list[Kind]:
    """Return what is given as a list, once each of it is of a kind.

    >>> listed_of(int, (2, 3), "give sizes"), listed_of(int, range(2), "give sizes")
    ([2, 3], [0, 1])
    >>> listed_of(int, None, "give sizes")
    Traceback (most recent call last):
    ValueError: None is no list: give sizes
    """
    try:
        each = iter(values)
    except TypeError:
        raise ValueError(f"{shortened(values)} is no list: {remedy}") from None
    found = list(each)
    for value in found:
        check_kind(value, kind, remedy)
    return found


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Raise unless a value is a whole number, and not too small.

    >>> check_whole("context", 1.5)
    Traceback (most recent call last):
    ValueError: context is 1.5: give a whole number, at least 1
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} is {shortened(value)}: give a whole number, at least {least}")


def check_number(name: str, value: object) -> None:
    """Raise unless a value is a number; how large it may be is for the caller to say.

    >>> check_number("latency", "10us")
    Traceback (most recent call last):
    ValueError: latency is '10us': give a number
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name} is {shortened(value)}: give a number")
