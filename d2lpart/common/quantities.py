"""Sizes, times, rates and counts as people write them: 80GB, 40GiB, 10us, 156TFLOP/s, 3 layers."""

import math
import re
from decimal import Decimal, InvalidOperation

_Units = dict[str, Decimal]

_PREFIXES: _Units = {"": Decimal(1), "k": Decimal(10**3), "K": Decimal(10**3)}
_PREFIXES |= {prefix: Decimal(1000**n) for n, prefix in enumerate("MGTP", start=2)}
_BYTES = _PREFIXES | {f"{prefix}i": Decimal(1024**n) for n, prefix in enumerate("KMGT", start=1)}
_SECONDS: _Units = {"": Decimal(1), "s": Decimal(1), "ms": Decimal("1e-3"), "ns": Decimal("1e-9")}
_SECONDS |= {"us": Decimal("1e-6"), "µs": Decimal("1e-6")}
BYTE_UNITS = (
    (1e12, "TB", 2**40, "TiB"),
    (1e9, "GB", 2**30, "GiB"),
    (1e6, "MB", 2**20, "MiB"),
    (1e3, "kB", 2**10, "KiB"),
)
"""Powers of 1000 and of 1024, each with its name, from the largest."""

_SECOND_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_WRITTEN = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([^\s0-9]*)\s*")


def nbytes(name: str, text: str) -> float:
    """Return a size in bytes, above 0.

    >>> nbytes("capacity", "80GB"), nbytes("capacity", "40GiB"), nbytes("capacity", "1e9")
    (80000000000.0, 42949672960.0, 1000000000.0)
    """
    return _positive(name, text, _with(_BYTES, "B"), "80GB, 40GiB or 80e9")


def bytes_per_second(name: str, text: str) -> float:
    """Return a bandwidth in bytes a second, above 0.

    >>> bytes_per_second("link", "25GB/s")
    25000000000.0
    """
    return _positive(name, text, _with(_BYTES, "B/s"), "25GB/s or 25e9")


def flops_per_second(name: str, text: str) -> float:
    """Return a rate in floating-point operations a second, above 0.

    >>> flops_per_second("rate", "156TFLOP/s")
    156000000000000.0
    """
    return _positive(name, text, _with(_PREFIXES, "FLOP/s"), "156TFLOP/s or 156e12")


def seconds(name: str, text: str) -> float:
    """Return a time in seconds, 0 or more.

    >>> seconds("latency", "10us")
    1e-05
    """
    return _number(name, text, _SECONDS, "10us or 1e-5")


def whole(name: str, text: str) -> int:
    """Return a whole number of at least 1.

    >>> whole("devices", "4")
    4
    """
    if not re.fullmatch(r"\s*\+?[0-9]+\s*", text) or int(text) < 1:
        raise ValueError(f"{name} is {text!r}: give a whole number of at least 1")
    return int(text)


def _with(prefixes: _Units, unit: str) -> _Units:
    """Return the factor of each unit, with and without its name."""
    return prefixes | {prefix + unit: factor for prefix, factor in prefixes.items()}


def _positive(name: str, text: str, units: _Units, such_as: str) -> float:
    number = _number(name, text, units, such_as)
    if number <= 0:
        raise ValueError(f"{name} is {text!r}: give more than 0, such as {such_as}")
    return number


def _number(name: str, text: str, units: _Units, such_as: str) -> float:
    found = _WRITTEN.fullmatch(text)
    try:
        number = float(Decimal(found[1]) * units[found[2]]) if found else math.inf
    except (InvalidOperation, KeyError):
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} is {text!r}: give a number, such as {such_as}")
    return number


def count(number: int, noun: str) -> str:
    """Write a number of things, in the plural where it is not one.

    >>> count(1, "layer"), count(3, "layer"), count(2, "micro-batch"), count(0, "capacity")
    ('1 layer', '3 layers', '2 micro-batches', '0 capacities')
    """
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("ity"):
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}{'es' if noun.endswith('ch') else 's'}"


def seconds_text(seconds: float) -> str:
    """Write a time with three digits and the unit that suits it.

    >>> seconds_text(0.01234), seconds_text(21.0), seconds_text(4.2e-5), seconds_text(0)
    ('12.3 ms', '21 s', '42 µs', '0 s')
    """
    scale, unit = unit_of_seconds(seconds)
    return f"{_three_digits(seconds / scale)} {unit}"


def unit_of_seconds(seconds: float) -> tuple[float, str]:
    """Return the unit that suits a time: how many seconds it has, and its name.

    >>> unit_of_seconds(0.01234)
    (0.001, 'ms')
    """
    if not seconds:
        return _SECOND_UNITS[0]
    fits = (unit for unit in _SECOND_UNITS if abs(seconds) >= unit[0] * 0.9995)
    return next(fits, _SECOND_UNITS[-1])


def bytes_text(nbytes: float) -> str:
    """Write a number of bytes with three digits, in powers of 1000.

    >>> bytes_text(83886080), bytes_text(512)
    ('83.9 MB', '512 B')
    """
    for scale, unit, *_ in BYTE_UNITS:
        if abs(nbytes) >= scale * 0.9995:
            return f"{_three_digits(nbytes / scale)} {unit}"
    return f"{nbytes:.3g} B"


def _three_digits(value: float) -> str:
    """Write at least three digits, and no power of ten however large the value."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
