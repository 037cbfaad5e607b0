"""Sentences about what nobody, or not everybody, can reach."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from trafficmond import reach
from trafficmond.datapath.listeners import Listener
from trafficmond.policy.admission import Admission


class Same(Admission):
    """The same to every service."""

    anybody = False

    def to(self, *_service: int) -> Admission:
        return self


class Open(Same):
    """... of which some are let in."""

    anybody = True


class Admits:
    """To each port in its own way."""

    anybody = True

    def __init__(self, by_port: dict[int, Admission]) -> None:
        self._by_port = by_port

    def to(self, _proto: int, port: int) -> Admission:
        return self._by_port[port]


SSH = Listener(6, ip_address("::"), 22, "sshd", both=True)
WEB = [Listener(6, ip_address("0.0.0.0"), port, "nginx") for port in (443, 80)]
NAMES = Listener(17, ip_address("192.0.2.1"), 53, "named")
SIX = Listener(6, ip_address("2001:db8::1"), 9999)
EVERYTHING = [SSH, *WEB, NAMES, SIX]
NOBODY = Same({4: [], 6: []})


def from_(*v4: str, v6: tuple[str, ...] = (), **more: Any) -> Same:
    return Same({4: [ip_network(each) for each in v4], 6: [ip_network(each) for each in v6]}, **more)


def test_services_by_name_and_port() -> None:
    assert reach.services(EVERYTHING) == "sshd on tcp/22, named on udp/53, nginx on tcp/80 and tcp/443, tcp/9999"
    assert reach.services([SSH, SSH]) == "sshd on tcp/22"
    many = [Listener(6, ip_address("0.0.0.0"), port) for port in range(1, 10)]
    assert reach.services(many).endswith("tcp/6 and 3 more")


def test_what_nobody_reaches_is_said_with_the_way_out() -> None:
    text = reach.nobody(NOBODY, EVERYTHING, "eth0", "192.0.2.7 (open session (sshd))")
    assert text == (
        "not reachable over eth0: sshd on tcp/22, named on udp/53, nginx on tcp/80 and tcp/443, tcp/9999; no rule lets "
        "a new connection in there (only 192.0.2.7 (open session (sshd)) can still connect); let somebody in: "
        "trafficctl allow tcp/22 from PREFIX --save"
    )
    assert reach.nobody(NOBODY, EVERYTHING[::-1]).endswith("allow tcp/22 from PREFIX --save"), "SSH before all else"
    assert reach.nobody(NOBODY, []) == ""


def test_what_some_reach_is_not_shut() -> None:
    assert reach.closed(from_("10.0.0.0/8"), EVERYTHING) == [SIX], "sshd serves IPv4 as well"
    assert reach.closed(Same({6: []}), EVERYTHING) == [SIX], "IPv4 is open to everybody"


def test_from_where_alone() -> None:
    assert reach.only_from(from_("10.0.0.0/8", "192.0.2.7/32"), [SSH, *WEB, SIX]) == [
        "sshd on tcp/22, nginx on tcp/80 and tcp/443: new connections are allowed only from 10.0.0.0/8, 192.0.2.7"
    ]
    assert reach.only_from(Same({6: []}), [SSH, *WEB]) == [
        "sshd on tcp/22: new connections are allowed only from anywhere over IPv4"
    ]
    assert reach.only_from(NOBODY, EVERYTHING) == []
    many = from_(*(f"10.{each}.0.0/17" for each in range(9)), more=5)
    assert reach.only_from(many, WEB)[0].endswith("10.3.0.0/17 and 10 more")


def test_whom_the_guard_spares() -> None:
    guard = [("192.0.2.1/32", "own address"), ("192.0.2.254/32", "default gateway"), ("192.0.2.7/32", "open session")]
    assert reach.spared_by(guard) == "192.0.2.254 (default gateway), 192.0.2.7 (open session)"
    assert reach.spared_by(guard[:1]) == ""


def test_the_family_that_is_left_out_is_named() -> None:
    text = reach.nobody(Open({4: [ip_network("0.0.0.0/0")], 6: []}), [SIX])
    assert text.startswith("not reachable over IPv6: tcp/9999; no rule lets a new connection in there; ")


def test_a_service_with_a_socket_for_each_family_is_not_shut_where_one_of_them_is_open() -> None:
    both = [Listener(6, ip_address("0.0.0.0"), 22, "sshd"), Listener(6, ip_address("::"), 22, "sshd")]
    text = reach.nobody(from_("192.0.2.7/32"), [*both, SIX])
    assert text.startswith("not reachable: sshd on tcp/22 over IPv6, tcp/9999; no rule lets a new connection in there;")
    hidden = Listener(6, ip_address("0.0.0.0"), 8099)
    admitted = Admits({22: from_("192.0.2.7/32"), 8099: NOBODY})
    text = reach.nobody(admitted, [*both, hidden])
    assert text.startswith("not reachable: sshd on tcp/22 over IPv6, tcp/8099; no rule")
