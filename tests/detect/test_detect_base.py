from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from detect_traffic import T0, datagram, flow, flows, many, talk, watch

from trafficmond.detect.base import DetectorInput, address, addresses, approx, format_sources, heaviest
from trafficmond.detect.detectors.brute_force import BruteForce
from trafficmond.detect.detectors.syn_flood import SynFlood
from trafficmond.detect.detectors.tunnel import Tunnel
from trafficmond.detect.ours import capture_sides, is_private
from trafficmond.detect.windows import Columns
from trafficmond.flows.batch import DELTA, Batch, empty, join, split_address

ADDRESSES = """
    10.1.2.3 172.16.0.1 172.31.255.255 172.32.0.1 172.15.255.255 192.168.0.1 192.169.0.1 127.0.0.1 169.254.1.1 8.8.8.8
    100.64.0.1 100.127.255.255 100.128.0.1 203.0.112.9 1.1.1.1 224.0.0.1 255.255.255.255 0.0.0.0 :: ::1 fe80::1 fec0::1
    febf::1 fc00::1 fdff::1 fe00::1 2001:4860::1 ff02::1 2600::1
"""


@pytest.mark.parametrize("text", ADDRESSES.split())
def test_private_addresses_are_those_of_the_standard_library_and_carrier_nat(text: str) -> None:
    parsed = ipaddress.ip_address(text)
    hi, lo = split_address(parsed.packed)
    expected = parsed.is_private or parsed.is_multicast or parsed in ipaddress.ip_network("100.64.0.0/10")
    if text == "fec0::1":  # site-local, deprecated (RFC 3879): routed by nobody, and not private to the library
        expected = False
    column = (np.array([value], np.uint64) for value in (hi, lo))
    assert is_private(*column, np.array([parsed.version])).tolist() == [expected]


def test_strongest_are_few_and_the_heaviest_first() -> None:
    weight = np.arange(100.0)
    over = weight >= 10
    assert heaviest(over, weight).tolist() == list(range(99, 67, -1))


def test_addresses_are_distinct_in_order_and_few() -> None:
    rows = flows([flow("192.0.2.1", f"192.0.2.{n // 2}", 80) for n in range(2, 60)])
    assert addresses(rows, "dst") == [f"192.0.2.{n}" for n in range(1, 9)]
    assert address(rows[0], "src") == "192.0.2.1"


def test_a_whole_record_spans_its_flow_and_a_live_row_the_drain() -> None:
    rows = flows(
        [
            flow("192.0.2.1", "192.0.2.2", 80, first=100.0, last=700.0, packets=50),
            flow("192.0.2.1", "192.0.2.2", 80, first=100.0, last=700.0, packets=50, d_packets=5, new=False),
        ]
    )
    seen = DetectorInput(Columns(rows), Columns(rows[:0]), 700.0)
    assert seen.span.tolist() == [600.0, 1.0]


def test_a_full_sketch_gives_only_a_lower_bound() -> None:
    assert format_sources(12, np.zeros(64, np.uint8)) == "12 sources"
    assert format_sources(400, np.ones(64, np.uint8)) == "more than 192 sources"


def test_numbers_in_sentences_are_in_groups_as_in_tables() -> None:
    assert [approx(count) for count in (7, 900, 1020)] == ["7", "about 900", "about 1,020"]
    assert format_sources(65_536, np.zeros(4096)) == "about 65,536 sources"
    assert format_sources(65_536, np.ones(4096)) == "more than 12,288 sources"


@pytest.mark.parametrize(
    ("one", "others", "side"),
    [
        ("203.0.113.9", "192.168.0.0/24", None),  # a stranger who scans a network of ours
        ("203.0.113.9", "198.51.100.0/24", "203.0.113.9/32"),
        ("192.168.0.9", "198.51.100.0/24", None),  # is ours anyway
        ("2001:db8:1:2::9", "2001:db8:2:3::/64", None),  # one of two links, nobody knows which
    ],
)
def test_the_side_of_a_capture_is_no_stranger_among_our_private_hosts(one: str, others: str, side: str | None) -> None:
    assert capture_sides(_between([one] * 40, many(40, others))) == ([ipaddress.ip_network(side)] if side else [])


def test_the_side_of_a_capture_is_an_ipv6_link_with_all_its_hosts() -> None:
    """And a capture of both families has a side of each."""
    far = (f"2001:db8:{number:x}::1" for number in range(16, 56))
    ipv6 = _between(many(40, "2001:db8:1:2::/64"), far)
    ipv4 = _between(["203.0.113.9"] * 40, many(40, "198.51.100.0/24"))
    sides = [ipaddress.ip_network(side) for side in ("203.0.113.9/32", "2001:db8:1:2::/64")]
    assert capture_sides(join([ipv6, ipv4])) == sides


def _between(ones: Iterable[str], others: Iterable[str]) -> Batch:
    pairs = [(_split(one), _split(other)) for one, other in zip(ones, others, strict=True)]
    rows = empty(DELTA, len(pairs))
    for row, ends in zip(rows, pairs, strict=True):
        for end, (family, words) in zip(("src", "dst"), ends, strict=True):
            row["family"], (row[f"{end}_hi"], row[f"{end}_lo"]) = family, words
    rows["packets"] = 5
    return rows


def _split(text: str) -> tuple[int, tuple[int, int]]:
    host = ipaddress.ip_address(text)
    return host.version, split_address(host.packed)


A, B = "203.0.113.9", "192.0.2.22"


def logins(count: int) -> list[dict[str, Any]]:
    return [talk(flow(A, B, 22, sport=20000 + n), 900, 1500) for n in range(count)]


def web_guesses(count: int) -> list[dict[str, Any]]:
    return [talk(flow(A, B, 80, sport=20000 + n, first=T0 + n / 100), 300 + n % 9, 900) for n in range(count)]


def syns(count: int) -> list[dict[str, Any]]:
    return [flow(source, B, 443) for source in many(count)]


def long_questions(count: int) -> list[dict[str, Any]]:
    return [talk(datagram(A, B, 53, sport=n), 170, 300, packets=1) for n in range(count)]


@pytest.mark.parametrize(
    ("detector", "rows"),
    [(BruteForce, logins), (BruteForce, web_guesses), (SynFlood, syns), (Tunnel, long_questions)],
)
def test_a_threat_begins_with_what_is_counted_not_with_what_came_days_before(detector: type[Any], rows: Any) -> None:
    watched = watch(detector)
    assert watched.see(rows(3)) == []
    watched.now += 86400 * 3
    shift = watched.now - T0
    (threat,) = watched.see({**row, "first": row["first"] + shift} for row in rows(600))
    assert threat.first_seen >= watched.now - 70
    assert threat.count <= 600
