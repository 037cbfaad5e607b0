"""Prefixes as conditions on text, against `ipaddress` on addresses chosen to be close to every border."""

from __future__ import annotations

import ipaddress
import socket
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trafficmond.store.sql import Network, literal, register, within

connection = sqlite3.connect(":memory:")
register(connection)
connection.execute("CREATE TABLE t (a TEXT)")


def text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """As the store writes it."""
    return socket.inet_ntop(socket.AF_INET if address.version == 4 else socket.AF_INET6, address.packed)


def check(network: Network, addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> None:
    values = ", ".join(f"({literal(text(address))})" for address in addresses)
    found = {
        a for (a,) in connection.execute(f"WITH t(a) AS (VALUES {values}) SELECT a FROM t WHERE {within('a', network)}")
    }
    assert found == {
        text(address) for address in addresses if address.version == network.version and address in network
    }


def around(network: Network) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The prefix's ends and what lies just beyond them."""
    top = 2**network.max_prefixlen
    first, last = int(network.network_address), int(network.broadcast_address)
    kind = type(network.network_address)
    return [kind(number % top) for number in (first - 1, first, first + 1, last - 1, last, last + 1)]


v4 = st.ip_addresses(v=4)
# Groups that are often zero or short, where the text of an IPv6 address is at its trickiest.
group = st.one_of(st.sampled_from([0, 0, 0, 1, 0xF, 0xFE8, 0xFE80, 0xFFFF]), st.integers(0, 0xFFFF))
v6 = st.lists(group, min_size=8, max_size=8).map(
    lambda groups: ipaddress.IPv6Address(b"".join(g.to_bytes(2, "big") for g in groups))
)


@settings(max_examples=200)
@given(v4, st.integers(0, 32), st.lists(v4, max_size=5), st.lists(v6, max_size=2))
def test_ipv4(base: ipaddress.IPv4Address, length: int, others: list, strangers: list) -> None:  # type: ignore[type-arg]
    network = ipaddress.ip_network((int(base), length), strict=False)
    near = [ipaddress.IPv4Address(int(base) ^ 1 << bit) for bit in range(0, 32, 3)]
    check(network, [base, *others, *strangers, *near, *around(network)])


@settings(max_examples=300)
@given(v6, st.integers(0, 128), st.lists(v6, max_size=5), st.lists(v4, max_size=2))
def test_ipv6(base: ipaddress.IPv6Address, length: int, others: list, strangers: list) -> None:  # type: ignore[type-arg]
    network = ipaddress.ip_network((base.packed, length), strict=False)
    near = [ipaddress.IPv6Address(int(base) ^ 1 << bit) for bit in range(0, 128, 7)]
    check(network, [base, *others, *strangers, *near, *around(network)])


@pytest.mark.parametrize(
    "prefix", ["10.0.0.0/8", "192.0.2.0/24", "10.64.0.0/10", "2001:db8::/32", "2001:db8:8000::/33"]
)
def test_ordinary_prefixes_need_no_function_and_use_an_index(prefix: str) -> None:
    plain = sqlite3.connect(":memory:")
    plain.execute("CREATE TABLE t (a TEXT)")
    plain.execute("CREATE INDEX t_a ON t (a)")
    condition = within("a", ipaddress.ip_network(prefix))
    plan = plain.execute(f"EXPLAIN QUERY PLAN SELECT * FROM t WHERE {condition}").fetchall()
    assert "SEARCH" in str(plan)
