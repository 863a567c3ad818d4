"""Sizes, times and rates as people write them, and what is no such thing."""

import pytest

from d2lpart import quantities


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (quantities.nbytes, "512", 512.0),
        (quantities.nbytes, " 80 GB ", 80e9),
        (quantities.nbytes, "80G", 80e9),
        (quantities.nbytes, "1.5MiB", 1.5 * 2**20),
        (quantities.nbytes, "2e3kB", 2e6),
        (quantities.bytes_per_second, "25GB/s", 25e9),
        (quantities.bytes_per_second, "31e9", 31e9),
        (quantities.flops_per_second, "156TFLOP/s", 156e12),
        (quantities.flops_per_second, "1P", 1e15),
        (quantities.seconds, "0", 0.0),
        (quantities.seconds, "10us", 1e-5),
        (quantities.seconds, "10µs", 1e-5),
        (quantities.seconds, "3ms", 3e-3),
        (quantities.whole, "8", 8),
    ],
)
def test_what_is_read(read, text, value):
    assert read("it", text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (quantities.nbytes, "80XB"),
        (quantities.nbytes, "GB"),
        (quantities.nbytes, "1.2.3"),
        (quantities.nbytes, "-5GB"),
        (quantities.nbytes, "1e400"),
        (quantities.nbytes, "nan"),
        (quantities.nbytes, "80GB/s"),
        (quantities.nbytes, ""),
        (quantities.bytes_per_second, "25Gb/s"),
        (quantities.flops_per_second, "3FLOPs"),
        (quantities.seconds, "5min"),
    ],
)
def test_what_is_no_number_with_a_unit_is_refused(read, text):
    with pytest.raises(ValueError, match=f"it is {text!r}: give a number, such as"):
        read("it", text)


@pytest.mark.parametrize(
    "read", [quantities.nbytes, quantities.bytes_per_second, quantities.flops_per_second]
)
def test_nothing_at_all_is_refused(read):
    with pytest.raises(ValueError, match="it is '0': give more than 0, such as"):
        read("it", "0")


@pytest.mark.parametrize("text", ["0", "-1", "2.0", "two", "", "1e3"])
def test_a_count_is_a_whole_number(text):
    with pytest.raises(ValueError, match=f"it is {text!r}: give a whole number of at least 1"):
        quantities.whole("it", text)
