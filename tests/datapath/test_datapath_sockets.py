"""/proc/net's tables, as the kernel writes them, to connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from trafficmond.datapath import sockets
from trafficmond.datapath.sockets import ESTABLISHED, Connection, connections, established

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TAIL = " 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n"
LISTENING = "   0: 00000000:0016 00000000:0000 0A" + TAIL
SESSION = "   1: 0163630A:0016 0763630A:C350 01" + TAIL
MAPPED = "   0: 0000000000000000FFFF00000163630A:0016 0000000000000000FFFF00000A63630A:C350 01" + TAIL
SIX = "   1: B80D0120000000000000000001000000:0016 B80D0120000000000000000002000000:C351 01" + TAIL
ASKING = "  10: 0163630A:9C40 0263630A:0035 01" + TAIL
BOUND = "  11: 00000000:0044 00000000:0000 07" + TAIL


def written(folder: Path, **tables: str) -> Path:
    for name, lines in tables.items():
        (folder / name).write_text(HEAD + lines)
    return folder


def test_every_socket_with_a_peer_is_found(tmp_path: Path) -> None:
    folder = written(tmp_path, tcp=LISTENING + SESSION, tcp6=MAPPED + SIX, udp=ASKING + BOUND)
    here = ip_address("10.99.99.1")
    assert list(connections(folder)) == [
        Connection(6, here, 22, ip_address("10.99.99.7"), 50000, ESTABLISHED),
        Connection(6, here, 22, ip_address("10.99.99.10"), 50000, ESTABLISHED),
        Connection(6, ip_address("2001:db8::1"), 22, ip_address("2001:db8::2"), 50001, ESTABLISHED),
        Connection(17, here, 40000, ip_address("10.99.99.2"), 53, ESTABLISHED),
    ]


@pytest.mark.parametrize("how", ["sock_diag", "/proc/net"])
def test_peers_are_those_of_open_connections_that_came_in(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "/proc/net":

        def refused(*_arguments: object) -> Iterator[str]:
            raise OSError("no sock_diag")

        monkeypatch.setattr(sockets, "_peers", refused)
    with (
        socket.create_server(("127.0.0.1", 0)) as v4,
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as v6,
    ):
        ports = [each.getsockname()[1] for each in (v4, v6)]

        def peers(port: int) -> set[str]:
            return {peer.address for peer in established(port)}

        assert peers(ports[0]) == set(), "a listening socket has no peer"
        with (
            socket.create_connection(("127.0.0.1", ports[0])) as four,
            socket.create_connection(("::1", ports[1])) as six,
            socket.create_connection(("127.0.0.1", ports[1])),
        ):
            assert peers(ports[0]) == {"127.0.0.1"}
            assert peers(ports[1]) == {"::1", "127.0.0.1"}, "a mapped address is an IPv4 address"
            assert peers(six.getsockname()[1]) == {"::1"}, "its own end: the far side is the server's"
            (peer,) = established(ports[0])
            assert (peer.port, peer.quiet_s < 5) == (four.getsockname()[1], True)


def test_without_the_tables_there_is_nothing(tmp_path: Path) -> None:
    assert list(connections(tmp_path)) == []
