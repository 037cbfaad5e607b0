"""One address has one name, however it is written, and every reader of addresses agrees on it."""

from __future__ import annotations

import argparse
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trafficctl import values
from trafficmond import networks
from trafficmond.config.checks import prefix as setting
from trafficmond.policy import prefixes

SAME = [
    (
        "192.0.2.7",
        ["192.0.2.7/32", "::ffff:192.0.2.7", "::FFFF:c000:207", "0:0:0:0:0:ffff:192.0.2.7/128", " 192.0.2.7 "],
    ),
    ("192.0.2.0/24", ["192.0.2.7/24", "::ffff:192.0.2.9/120"]),
    ("0.0.0.0/0", ["::ffff:0:0/96", "::ffff:1.2.3.4/96"]),
    ("2001:db8::1", ["2001:DB8:0:0::1", "2001:0db8::0001/128"]),
    ("::fffe:0:0/95", ["::ffff:0:0/95"]),
    ("64:ff9b::c000:207", ["64:ff9b::192.0.2.7"]),
]
WRONG = [
    ("fe80::1%eth0", "names an interface"),
    ("fe80::1%1/128", "names an interface"),
    ("192.0.2.7%eth0", "names an interface"),
    ("010.0.0.1", "is not an address or prefix"),
    ("192.0.2.0/024", "the length of an IPv4 prefix is 0 to 32"),
    ("192.0.2.0/255.255.255.0", "the length of an IPv4 prefix is 0 to 32, not '255.255.255.0'; write /24"),
    ("192.0.2.0/255.0.255.0", "the length of an IPv4 prefix is 0 to 32, not '255.0.255.0'"),
    ("::ffff:192.0.2.0/129", "the length of an IPv6 prefix is 0 to 128"),
    ("192.0.2.0/", "has no length"),
    ("192.0.2.1 192.0.2.2", "is not an address or prefix"),
    ("192.0.2.1\0", "is not an address or prefix"),
    ("\udcff", "is not an address or prefix"),
    ("", "is not an address or prefix"),
    ("192.0.2.0/24,198.51.100.0/24", "is more than one prefix; write them one at a time"),
    ("192.0.2.1,192.0.2.2", "is more than one prefix; write them one at a time"),
    ("192.0.2.1-192.0.2.4", "is a range; write its prefixes: 192.0.2.1, 192.0.2.2/31, 192.0.2.4"),
    ("2001:db8::1-2001:db8::2", "is a range; write its prefixes: 2001:db8::1, 2001:db8::2"),
    (
        "0.0.0.1-255.255.255.254",
        "0.0.0.1, 0.0.0.2/31, 0.0.0.4/30, 0.0.0.8/29, 0.0.0.16/28, 0.0.0.32/27 ...",
    ),
    ("192.0.2.9-192.0.2.1", "is not an address or prefix"),
    ("192.0.2.1-2001:db8::1", "is not an address or prefix"),
]
# What people and programs write, and what is nearly that.
TEXTS = st.one_of(
    st.ip_addresses().map(str),
    st.ip_addresses(v=4).map(lambda address: f"::ffff:{address}"),
    st.tuples(st.ip_addresses(), st.integers(-1, 130)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    st.tuples(st.ip_addresses(v=6).map(str), st.text("%eth0/1 ", max_size=5)).map("".join),
    st.text(st.sampled_from("0123456789abcdefF:./%- x\0\udcff"), max_size=30),
    st.text(max_size=20),
)


def canonical(text: str) -> str:
    return prefixes.parse_one(text).text(0)


@pytest.mark.parametrize(("name", "writings"), SAME)
def test_every_writing_is_the_same_prefix_to_every_reader(name: str, writings: list[str]) -> None:
    meant = networks.parse(name)
    for text in (name, *writings):
        assert networks.parse(text) == meant
        assert networks.shown(networks.parse(text)) == name == canonical(text)
        assert setting(text) == values.prefix(text) == str(meant)


@pytest.mark.parametrize(("text", "why"), WRONG)
def test_what_is_none_is_refused_with_the_same_words_everywhere(text: str, why: str) -> None:
    said = []
    for read in (networks.parse, canonical, setting, values.prefix):
        with pytest.raises((ValueError, argparse.ArgumentTypeError), match=why) as error:
            read(text)  # type: ignore[operator]
        said.append(str(error.value))
    assert len(set(said)) == 1


@given(TEXTS)
def test_all_readers_agree_on_any_text(text: str) -> None:
    try:
        meant = networks.parse(text)
    except ValueError:
        assert prefixes.parse([text]).bad
        with pytest.raises(ValueError, match=r"is|has|names"):
            canonical(text)
        return
    assert networks.parse(str(meant)) == meant
    assert canonical(text) == networks.shown(meant)
    assert networks.has_host_bits(text) is (networks.split(text)[0] != meant.network_address.packed)
    if isinstance(meant, ipaddress.IPv6Network):
        assert not networks.within(meant, networks.MAPPED)


@given(st.ip_addresses(), st.integers(0, 128), st.ip_addresses(), st.integers(0, 128))
def test_no_prefix_lies_in_one_of_the_other_family(a: networks.Address, m: int, b: networks.Address, n: int) -> None:
    one, other = (networks.parse(f"{x}/{min(length, x.max_prefixlen)}") for x, length in ((a, m), (b, n)))
    if one.version != other.version:
        assert not networks.within(one, other)
    else:
        assert networks.within(one, other) == (one.prefixlen >= other.prefixlen and one.network_address in other)
