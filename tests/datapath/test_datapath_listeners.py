"""What waits for others to begin, as this kernel tells it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from trafficmond.datapath import listeners as module
from trafficmond.datapath.listeners import Listener, listeners

TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
OWN_NAME = Path("/proc/self/comm").read_text().strip()


def found(port: int) -> list[Listener]:
    return [each for each in listeners() if each.port == port]


@pytest.mark.parametrize(
    ("address", "family", "dual", "families"),
    [
        ("0.0.0.0", socket.AF_INET, False, (4,)),
        ("::", socket.AF_INET6, True, (4, 6)),
        ("::", socket.AF_INET6, False, (6,)),
    ],
)
def test_a_server_is_found_with_its_name(
    address: str, family: socket.AddressFamily, dual: bool, families: tuple[int, ...]
) -> None:
    with socket.create_server((address, 0), family=family, dualstack_ipv6=dual) as server:
        port = server.getsockname()[1]
        (listener,) = found(port)
        assert (listener.proto, str(listener.address), listener.families) == (TCP, address, families)
        assert listener.name == OWN_NAME
    assert found(port) == []


def test_what_only_this_host_can_reach_is_left_out() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        assert found(four.getsockname()[1]) == found(six.getsockname()[1]) == []


def test_datagrams_on_a_port_of_their_own_and_not_those_of_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", 0))
        port = server.getsockname()[1]
        assert found(port) == [], "a port that the kernel chose is a client's"
        monkeypatch.setattr(module, "_own_ports", lambda: (1, 2))
        (listener,) = found(port)
        assert (listener.proto, listener.families) == (UDP, (4,))
        server.connect(("127.0.0.1", 9))
        assert found(port) == [], "it has a peer"


def test_who_may_not_look_into_other_processes_has_the_services_name(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        port = server.getsockname()[1]
        assert [each.name for each in listeners(tmp_path) if each.port == port] == [""]
    assert module._named(Listener(TCP, module.ipaddress.ip_address("0.0.0.0"), 22), "").name == "ssh"
