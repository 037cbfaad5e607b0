from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trafficmond.config.units import (
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("250ms", 0.25), ("30s", 30), ("1h30m", 5400), ("1.5h", 5400), (" 2w ", 1209600), ("1d 2h", 93600)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "1", "-1s", "1y", "1e9d", "1s!", "½s", "inf", "nan"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid duration; write a number and"):
        parse_duration(text)


def test_no_duration_is_longer_than_a_lifetime() -> None:
    with pytest.raises(ValueError, match="the maximum is a hundred years"):
        parse_duration("999999999999999w")


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("4096", 4096), ("64KiB", 65536), ("1.5 MiB", 1572864), ("2GB", 2 * 10**9)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1 banana", "9999999999999TiB", "1mib"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid size; write a number and"):
        parse_size(text)


@pytest.mark.parametrize(("text", "rate"), [("100/s", 100), ("6/m", 0.1), ("36/h", 0.01), ("0.5 / s", 0.5)])
def test_rates(text: str, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "100", "/s", "1/w", "-1/s"])
def test_no_rates(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid rate; write a number, a slash"):
        parse_rate(text)


@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "m", "h", "d", "w"]))
def test_a_duration_is_written_so_that_it_reads_back(number: int, unit: str) -> None:
    try:
        seconds = parse_duration(f"{number}{unit}")
    except ValueError:
        return
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-9)


@given(st.integers(0, 1 << 60))
def test_a_size_is_written_so_that_it_reads_back(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=1e-15)


@given(st.floats(0, 1e9))
def test_a_rate_is_written_so_that_it_reads_back(rate: float) -> None:
    assert parse_rate(format_rate(rate)) == pytest.approx(rate, rel=1e-6, abs=1e-4)
