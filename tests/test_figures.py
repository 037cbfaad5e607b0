"""Numbers, times and untrusted text, as people read them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trafficmond import figures


def test_names_of_evidence_for_people() -> None:
    assert [figures.term(key) for key in ("opened_without_a_word", "manner", "mean_bytes")] == [
        "opened without data",
        "first packet",
        "mean bytes",
    ]


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
    assert figures.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1e-9, "0"),
        (0.04, "0"),
        (0.25, "0.2"),
        (0.96, "1"),
        (7, "7"),
        (9.97, "10"),
        (999, "999"),
        (1000, "1 k"),
        (12_345, "12.3 k"),
        (999_900, "1 M"),
        (None, ""),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert figures.number(value) == text


def test_rates() -> None:
    assert figures.rate(12_345.6) == "12.3 k/s"
    assert figures.octet_rate(1_048_576) == "1 MiB/s"
    assert figures.rate(None) == figures.octet_rate(None) == ""


@given(st.floats(min_value=0, max_value=1e17, allow_nan=False))
def test_no_number_is_wide(value: float) -> None:
    assert len(figures.number(value)) <= 7
    assert len(figures.size(value)) <= 9


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0123, "12.3 ms"),
        (4.594, "4.59 s"),
        (0.9999, "1 s"),
        (59.6, "1 m"),
        (192, "3 m 12 s"),
        (3600, "1 h"),
        (90_061, "1 d 1 h"),
        (86_405, "1 d"),
        (-5, "-5 s"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert figures.span(seconds) == text


def test_moments() -> None:
    noon = 1_700_049_600.0  # 2023-11-15 12:00 UTC
    assert figures.clock(noon) == "2023-11-15 12:00:00"
    assert figures.when(noon, noon + 3600) == "12:00:00"
    assert figures.when(noon, noon + 86_400) == "Nov 15 12:00"
    assert figures.when(noon, noon + 366 * 86_400) == "2023-11-15"
    assert figures.when(None) == figures.clock(None) == ""


def test_shares_and_nouns() -> None:
    assert figures.share(1, 8) == "12.5 %"
    assert figures.share(0, 0) == "-"
    assert figures.many(1, "rule") == "1 rule"
    assert figures.many(4567, "prefix") == "4,567 prefixes"
    assert figures.exact(None) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1_234_567, "1,234,567"), (0.0123456, "0.01235"), (0.333, "0.333"), (1234.56, "1,234.6")],
)
def test_all_digits_are_in_groups(value: float, text: str) -> None:
    assert figures.exact(value) == text


def test_evidence_on_a_line() -> None:
    assert (
        figures.evidence({"a": [1, 20000], "b": None, "c": True, "d": 38100}) == "a: 1, 20000, b: -, c: yes, d: 38,100"
    )


@given(st.text())
def test_plain_text_cannot_steer_a_terminal(text: str) -> None:
    shown = figures.plain(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


def test_escapes_are_shown() -> None:
    assert figures.plain("a\x1b[2Jb\n") == "a\\x1b[2Jb\\n"
