"""Numbers, times and untrusted text, as people read them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trafficctl.render import units
from trafficmond.analyze.render import figures


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1023 * 1024, "1023 KiB"),
        (1024 * 1024 - 1, "1 MiB"),
        (98_765_432_100, "92 GiB"),
        (2**60, "1024 PiB"),
        (-2048, "-2 KiB"),
    ],
)
def test_octets(value: float | None, text: str) -> None:
    assert units.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.2"), (7, "7"), (999, "999"), (1000, "1 k"), (12_345, "12.3 k"), (999_900, "1 M"), (None, "")],
)
def test_number(value: float | None, text: str) -> None:
    assert units.number(value) == text


def test_rates() -> None:
    assert units.rate(12_345.6) == "12.3 k/s"
    assert units.octet_rate(1_048_576) == "1 MiB/s"
    assert units.rate(None) == units.octet_rate(None) == ""


@given(st.floats(min_value=0, max_value=1e17, allow_nan=False))
def test_no_number_is_wide(value: float) -> None:
    assert len(units.number(value)) <= 7
    assert len(units.size(value)) <= 9


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0123, "12 ms"),
        (59.6, "1 m"),
        (192, "3 m 12 s"),
        (3600, "1 h"),
        (90_061, "1 d 1 h"),
        (86_405, "1 d"),
        (-5, "-5 s"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert units.span(seconds) == text


def test_moments() -> None:
    noon = 1_700_049_600.0  # 2023-11-15 12:00 UTC
    assert units.clock(noon) == "2023-11-15 12:00:00"
    assert units.when(noon, noon + 3600) == "12:00:00"
    assert units.when(noon, noon + 86_400) == "Nov 15 12:00"
    assert units.when(noon, noon + 366 * 86_400) == "2023-11-15"
    assert units.when(None) == units.clock(None) == ""


def test_shares_and_nouns() -> None:
    assert units.share(1, 8) == "12.5 %"
    assert units.share(0, 0) == "-"
    assert units.many(1, "rule") == "1 rule"
    assert units.many(4567, "prefix") == "4,567 prefixes"
    assert units.exact(None) == ""


@pytest.mark.parametrize("value", [0, 1, 999, 1023, 1024, 99_999, 1_234_567, 987_654_321, 5 * 10**12])
def test_a_report_writes_numbers_as_everything_else_does(value: int) -> None:
    assert figures.size(value) == units.size(value)
    assert figures.number(value) == units.exact(value)
    assert figures.percent(100 * value / 10**13) == units.share(value, 10**13)
    if value >= 60:
        assert figures.span(value) == units.span(value)


@given(st.text())
def test_plain_text_cannot_steer_a_terminal(text: str) -> None:
    shown = units.plain(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


def test_escapes_are_shown() -> None:
    assert units.plain("a\x1b[2Jb\n") == "a\\x1b[2Jb\\n"
