"""Prefixes from text, against `ipaddress`."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trafficmond.policy import prefixes
from trafficmond.policy.prefixes import concat, mask, parse, parse_address, parse_one

V4 = st.ip_addresses(v=4).flatmap(lambda address: st.integers(0, 32).map(lambda length: f"{address}/{length}"))
V6 = st.ip_addresses(v=6).flatmap(lambda address: st.integers(0, 128).map(lambda length: f"{address}/{length}"))


def meaning(text: str) -> str:
    """What `ipaddress` makes of it; IPv4-mapped prefixes are the IPv4 they mean, hosts go without their length."""
    network = ipaddress.ip_network(text, strict=False)
    mapped = int(network.network_address) >> 32 == 0xFFFF
    if network.version == 6 and network.prefixlen >= 96 and mapped:
        address = ipaddress.IPv4Address(int(network.network_address) & 0xFFFFFFFF)
        network = ipaddress.ip_network((address, network.prefixlen - 96))
    host = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if host else str(network)


@given(st.lists(st.one_of(V4, V6, st.ip_addresses().map(str)), max_size=30))
def test_as_ipaddress_reads_them(texts: list[str]) -> None:
    parsed = parse(texts)
    assert not parsed.bad
    assert [parsed.prefixes.text(row) for row in range(len(texts))] == [meaning(text) for text in texts]
    odd = sum(int(ipaddress.ip_interface(t).ip) != int(ipaddress.ip_network(t, strict=False)[0]) for t in texts)
    assert parsed.host_bits == odd


@given(st.lists(st.one_of(V4, V6, st.text("0123456789abcdef.:/ %-", max_size=24)), min_size=1, max_size=8))
def test_bad_ones_are_named_and_the_others_kept(texts: list[str]) -> None:
    def good(text: str) -> bool:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            return False
        length = text.partition("/")[2]
        return "%" not in text and "." not in length and (length == "0" or not length.startswith("0"))

    parsed = parse(texts)
    assert sorted(parsed.bad) == [position for position, text in enumerate(texts) if not good(text)]
    kept = [parsed.prefixes.text(row) for row in range(len(parsed.prefixes))]
    assert kept == [meaning(text) for text in texts if good(text)]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is not an address or prefix"),
        ("192.0.2.0/", "has no length"),
        ("192.0.2.0/33", "0 to 32"),
        ("192.0.2.0/64", "0 to 32"),
        ("2001:db8::/129", "0 to 128"),
        ("192.0.2.0/255.255.255.0", "0 to 32"),
        ("192.0.2.0/+8", "0 to 32"),
        ("192.0.2.0/08", "0 to 32"),
        ("192.0.2", "is not an address or prefix"),
        ("192.0.2.010", "is not an address or prefix"),
        ("192.0.2.0/24/24", "0 to 32"),
        ("fe80::1%eth0", "names an interface"),
        ("example.org", "is not an address or prefix"),
        ("１92.0.2.1", "is not an address or prefix"),
        ("192.0.2.1\0", "is not an address or prefix"),
        ("x" * 1000, "..."),
    ],
)
def test_mistakes_say_what_would_do(text: str, what: str) -> None:
    assert what in parse([text]).bad[0]
    assert len(parse([text]).bad[0]) < 200
    assert list(parse(["192.0.2.1", text, "::1"]).bad) == [1]
    with pytest.raises(ValueError, match=what.replace(".", r"\.")):
        parse_one(text)


def test_ipv4_in_ipv6() -> None:
    """Mapped prefixes mean IPv4 packets; wider ones and other ways to write IPv4 into IPv6 stay IPv6."""
    assert parse_one("::ffff:192.0.2.7/120").text(0) == "192.0.2.0/24"
    assert parse_one("::ffff:192.0.2.7").text(0) == "192.0.2.7"
    assert parse_one("::ffff:0:0/96").text(0) == "0.0.0.0/0"
    assert parse_one("::ffff:0:0/95").text(0) == "::fffe:0:0/95"
    assert parse_one("::192.0.2.7").text(0) == "::192.0.2.7"
    assert parse_one("64:ff9b::192.0.2.7").text(0) == "64:ff9b::c000:207"
    mixed = parse(["::ffff:192.0.2.7/120", "192.0.2.0/24", "2001:db8::/32", "::ffff:0:0/95"]).prefixes
    assert mixed.family.tolist() == [4, 4, 6, 6]
    assert mixed.text(3) == "::fffe:0:0/95"


def test_addresses_are_left_aligned() -> None:
    assert parse_address("192.0.2.1") == (0xC0000201 << 32, 0, 4)
    assert parse_address(" ::ffff:192.0.2.1 ") == (0xC0000201 << 32, 0, 4)
    assert parse_address("2001:db8::1") == (0x20010DB8 << 32, 1, 6)
    with pytest.raises(ValueError, match="one address is wanted"):
        parse_address("192.0.2.0/24")


def test_masks() -> None:
    expected = [0, 0, 1 << 63, (2**64 - 1) << 1 & (2**64 - 1), 2**64 - 1, 2**64 - 1]
    assert mask(np.array([-5, 0, 1, 63, 64, 70])).tolist() == expected


def test_concat_and_take() -> None:
    some, more = parse(["192.0.2.0/24", "::/0"]).prefixes, parse(["10.0.0.0/8"]).prefixes
    rows = concat([some, prefixes.concat([]), more])
    assert [rows.text(row) for row in range(3)] == ["192.0.2.0/24", "::/0", "10.0.0.0/8"]
    assert rows.take(slice(1, 2)).text(0) == "::/0"
    assert len(concat([])) == 0
