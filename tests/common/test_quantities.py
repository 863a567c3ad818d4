"""Sizes, times and rates as people write them, read and written, and what is no such thing."""

import pytest
from hypothesis import given, strategies as st

from d2lpart.common import quantities


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


# ---- written


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (21.0, "21 s"),
        (1, "1 s"),
        (0.9996, "1 s"),
        (0.9994, "999 ms"),
        (1.2345, "1.23 s"),
        (999.4, "999 s"),
        (1581, "1581 s"),
        (123456.7, "123457 s"),
        (0.01234, "12.3 ms"),
        (4.2e-5, "42 µs"),
        (4.2e-8, "0.042 µs"),
        (-0.5, "-500 ms"),
    ],
)
def test_a_time_has_three_digits_and_its_unit(seconds, text):
    assert quantities.seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (999.6, "1 kB"),
        (1000, "1 kB"),
        (83886080, "83.9 MB"),
        (999_600_000, "1 GB"),
        (160e9, "160 GB"),
        (3.2e12, "3.2 TB"),
        (2.5e15, "2500 TB"),
    ],
)
def test_a_size_has_three_digits_and_its_unit(nbytes, text):
    assert quantities.bytes_text(nbytes) == text


@given(st.floats(1e-9, 1e9))
def test_a_time_is_written_to_half_a_percent(seconds):
    number, unit = quantities.seconds_text(seconds).split()
    assert float(number) * {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit] == pytest.approx(
        seconds, rel=5.1e-3
    )
    assert "e" not in number or seconds < 1e-9 * 100


@given(st.floats(1e-9, 1e9))
def test_an_axis_has_the_unit_of_the_text(seconds):
    scale, unit = quantities.unit_of_seconds(seconds)
    assert quantities.seconds_text(seconds).split()[1] == unit
    assert scale == {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit]
