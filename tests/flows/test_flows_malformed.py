"""Each reason that the parser has is called by one word."""

from __future__ import annotations

from trafficmond import abi
from trafficmond.flows.malformed import MALFORMED, by_reason


def test_every_reason_of_the_parser_has_a_word_of_its_own() -> None:
    assert sorted(MALFORMED) == list(range(1, abi.MALFORMED_MAX))
    assert len(set(MALFORMED.values())) == len(MALFORMED)


def test_only_what_was_seen_is_reported() -> None:
    counts = [0] * 16
    counts[abi.SHORT_IP] = 3
    assert by_reason(counts) == {"short_ip": 3}
