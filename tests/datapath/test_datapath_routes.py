"""Default routes: every way of them, and none of a router's other routes."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trafficmond.datapath import routes
from trafficmond.datapath.routes import Hop, default_routes, hops

ROOT = Path(__file__).parents[2]
OIF, GATEWAY, MULTIPATH, VIA, DST = 4, 5, 9, 18, 1
HOST = """
for name in one two; do
    ip link add $name type veth peer name far-$name
    ip link set $name up; ip link set far-$name up
done
ip address add 192.0.2.1/24 dev one; ip address add 198.51.100.1/24 dev two
ip address add 2001:db8::1/64 dev one nodad; ip address add fe80::1/64 dev two nodad
ip route add default nexthop via 192.0.2.9 dev one nexthop via 198.51.100.9 dev two
ip -4 route add default via inet6 2001:db8::9 dev one metric 50
ip route add default dev two metric 60
ip route add default via 192.0.2.66 table 100
ip route add blackhole default metric 70
ip -6 route add default nexthop via 2001:db8::9 dev one nexthop via fe80::9 dev two
ip -6 route add unreachable default metric 4096
seq 0 3000 | sed 's/.*/route add 2001:db8:&::\\/48 via 2001:db8::9/' | ip -batch -
ip route add 0.0.0.0/8 via 192.0.2.9
"$1" -c 'from trafficmond.datapath.routes import *
names = dict(socket.if_nameindex())
print(*sorted(f"{names[hop.ifindex]} {hop.gateway}" for hop in default_routes()), sep="\\n")'
"""


def attribute(kind: int, octets: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(octets), kind) + octets + bytes(-len(octets) % 4)


def route(length: int, *attributes: bytes, table: int = 254, kind: int = 1) -> bytes:
    return struct.pack("=8BI", 2, length, 0, 0, table, 3, 0, kind, 0) + b"".join(attributes)


def address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


DEFAULT = route(0, attribute(OIF, struct.pack("=i", 3)), attribute(GATEWAY, address("192.0.2.9")))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (DEFAULT, [Hop(3, "192.0.2.9")]),
        (route(0, attribute(OIF, struct.pack("=i", 3))), [Hop(3, "")]),
        (
            route(0, attribute(OIF, struct.pack("=i", 3)), attribute(VIA, b"\x0a\0" + address("2001:db8::9"))),
            [Hop(3, "2001:db8::9")],
        ),
        (
            route(
                0,
                attribute(
                    MULTIPATH,
                    struct.pack("=HBBi", 16, 0, 0, 3)
                    + attribute(GATEWAY, address("192.0.2.9"))
                    + struct.pack("=HBBi", 8, 0, 0, 4),
                ),
            ),
            [Hop(3, "192.0.2.9"), Hop(4, "")],
        ),
        (route(0, attribute(MULTIPATH, struct.pack("=HBBi", 2, 0, 0, 3))), []),  # shorter than itself
        (route(0), []),
    ],
)
def test_every_way_of_a_route_counts(message: bytes, expected: list[Hop]) -> None:
    assert list(hops(message)) == expected


def test_a_million_ipv4_routes_are_not_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def dump(_protocol: int, _kind: int, request: bytes, **_: bool) -> Iterator[bytes]:
        if request[0] == socket.AF_INET6:
            yield from (route(48, attribute(DST, address("2001:db8::"))), DEFAULT)  # in another order
            return
        yield route(0, attribute(OIF, struct.pack("=i", 9)), kind=6)  # a blackhole
        yield route(0, attribute(OIF, struct.pack("=i", 9)), table=100)
        yield DEFAULT
        yield route(8, attribute(DST, address("0.0.0.0")))
        yield DEFAULT
        yield route(24, attribute(DST, address("1.0.0.0")))
        raise AssertionError("what came after this was asked for")

    monkeypatch.setattr(routes, "dump", dump)
    assert default_routes() == [Hop(3, "192.0.2.9")] * 3


@pytest.mark.root
def test_a_host_that_never_had_a_route() -> None:
    """At the first start before the network: the kernel makes the table with its first route, and refuses till then."""
    if os.geteuid():
        pytest.skip("needs root, for a network namespace without routes; run with sudo")
    ask = "from trafficmond.datapath.routes import *; print(default_routes())"
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.root
def test_default_routes_of_a_host_with_all_kinds() -> None:
    if os.geteuid():
        pytest.skip("needs root, for a network namespace with routes of its own; run with sudo")
    command = ["unshare", "--net", "sh", "-ec", HOST, "sh", sys.executable]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    expected = ["one 192.0.2.9", "one 2001:db8::9", "one 2001:db8::9", "two ", "two 198.51.100.9", "two fe80::9"]
    assert done.stdout.splitlines() == expected
