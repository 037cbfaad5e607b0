"""Who comes before whom, a default of drop that a host can live with, rates, and rules that end by themselves."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tmlab import Daemon, Lab, Link, Listener, Namespace, Sender
from tmlab.packets import ICMP, ICMPV6, frame, tcp, udp

from trafficmond.control.client import Client

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

LOGGED = """
[flows]
interval = "200ms"
[[log]]
format = "jsonl"
path = "{home}/traffic.jsonl"
"""
DROP = '[policy]\ndefault = "drop"\n' + LOGGED
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO = 10, 23, 2  # linux/in.h, linux/in6.h
IP_MTU, IPV6_MTU = 14, 24
SYN = 2


class Wire:
    """Packets from anybody to port 9 of the host, and whether they are heard there."""

    def __init__(self, lab: Lab) -> None:
        self.link = lab.links[0]
        self.sender = Sender(lab.outside, self.link.outside)
        self._listeners = [Listener(lab.host, self.link.host_ip), Listener(lab.host, self.link.host_ip6)]

    def target(self, source: str) -> str:
        return self.link.host_ip6 if ":" in source else self.link.host_ip

    def heard(self) -> Counter[str]:
        return sum((listener.heard() for listener in self._listeners), start=Counter[str]())

    def passes(self, *sources: str) -> dict[str, bool]:
        """Whether a packet from each source reaches the port."""
        for source in sources:
            self.sender.send([udp(source, self.target(source))])
        heard = self.heard()
        return {source: heard[source] == 1 for source in sources}


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


def ask(daemon: Daemon, method: str, **parameters: Any) -> dict[str, Any]:
    with Client(str(daemon.socket)) as client:
        return client.call(method, **parameters)


# ---- precedence ----

ORDER = """
[[rule]]
cidr = ["10.0.0.0/8", "fd99::/16"]
action = "drop"
[[rule]]
cidr = ["198.51.0.0/16", "203.0.0.0/16", "2001:db8::/32"]
action = "drop"
[[rule]]
cidr = ["203.0.113.0/24", "2001:db8:900d::/48"]
action = "allow"
[[rule]]
cidr = ["203.0.113.7", "2001:db8:900d::7"]
action = "drop"
[[rule]]
cidr = "192.0.2.0/24"
action = "allow"
"""
LISTS = '[[list]]\npath = "{home}/list.txt"\naction = "drop"\n'


def test_guard_then_allowlist_then_ban_then_longest_prefix_then_default(lab: Lab) -> None:
    link = lab.links[0]
    lab.host.ip(f"route add default via {link.outside_ip}", f"route add default via {link.outside_ip6}")
    settings = '[policy]\nallowlist = ["198.51.100.0/24", "2001:db8:a110::/48"]\n' + LOGGED + LISTS
    daemon = Daemon(lab, settings, rules={"order.toml": ORDER})
    (daemon.home / "list.txt").write_text("192.0.2.0/24\n100.64.0.0/10\n")
    expected = {
        link.outside_ip: True,  # the guard: a gateway, in a rule's and a ban's prefix
        link.outside_ip6: True,
        "10.99.0.3": False,
        "198.51.100.7": True,  # the allowlist, in a rule's and a ban's prefix
        "2001:db8:a110::7": True,
        "198.51.101.7": False,
        "203.0.112.7": False,  # /16
        "203.0.113.8": True,  # /24
        "203.0.113.7": False,  # /32
        "2001:db8:900d::8": True,
        "2001:db8:900d::7": False,
        "2001:db8:bad::7": False,
        "192.0.2.7": True,  # a rule beats a list on the same prefix
        "100.64.0.7": False,
        "233.252.0.7": False,  # multicast is no source: the kernel drops that by itself
        "8.8.8.8": True,  # the default
        "2a00::8": True,
    }
    with daemon:
        wire = Wire(lab)
        assert wire.passes(*expected) == expected
        ask(daemon, "Ban", cidr="198.51.0.0/16", ttl_s=3600.0)
        ask(daemon, "Ban", cidr="203.0.113.8", ttl_s=3600.0)  # over a rule that allows it, by a longer prefix than its
        ask(daemon, "Ban", cidr="192.0.0.0/16", ttl_s=3600.0)  # ... and by a shorter one
        ask(daemon, "Ban", cidr="2001:db8:900d::/64", ttl_s=3600.0)
        ask(daemon, "Ban", cidr="10.99.0.0/16", ttl_s=3600.0, force=True)
        banned = expected | dict.fromkeys(("203.0.113.8", "192.0.2.7", "2001:db8:900d::8", link.outside_ip), False)
        assert wire.passes(*expected) == banned
        for source, passes in banned.items():
            explained = ask(daemon, "Explain", address=source)
            assert (explained["action"] != "drop") == (passes or source == "233.252.0.7"), explained


# ---- a default of drop ----


class Responder:
    """Answers each UDP datagram in `namespace` with `answer` of it, from the address that was asked."""

    def __init__(self, namespace: Namespace, address: str, port: int, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        with namespace.entered():
            self._socket = bound(socket.SOCK_DGRAM, address, port)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                question, peer = self._socket.recvfrom(65535)
                self._socket.sendto(self._answer(question), peer)


def bound(kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    made.settimeout(3)
    made.bind((address, port))
    return made


def listening(namespace: Namespace, address: str, port: int) -> socket.socket:
    with namespace.entered():
        made = bound(socket.SOCK_STREAM, address, port)
    made.listen()
    return made


def connected(namespace: Namespace, kind: socket.SocketKind, address: str, port: int, timeout: float) -> socket.socket:
    with namespace.entered():
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    made.settimeout(timeout)
    made.connect((address, port))
    return made


def dropping(lab: Lab) -> Daemon:
    return Daemon(lab, DROP)


@pytest.fixture
def ends(lab: Lab) -> list[tuple[str, str]]:
    """(host's address, outside's address) of both families."""
    link = lab.links[0]
    return [(link.host_ip, link.outside_ip), (link.host_ip6, link.outside_ip6)]


def test_a_host_that_drops_by_default_can_still_ask_fetch_and_ping(lab: Lab, ends: list[tuple[str, str]]) -> None:
    with dropping(lab):
        for _, there in ends:
            Responder(lab.outside, there, 53, lambda question: question[::-1])
            with connected(lab.host, socket.SOCK_DGRAM, there, 53, 3) as resolver:
                resolver.send(b"where is it?")
                assert resolver.recv(100) == b"?ti si erehw"
            with (
                listening(lab.outside, there, 80) as server,
                connected(lab.host, socket.SOCK_STREAM, there, 80, 3) as fetching,
            ):
                served, _ = server.accept()
                with served:
                    fetching.sendall(b"GET")
                    assert served.recv(3) == b"GET"
                    threading.Thread(target=served.sendall, args=(bytes(300_000),), daemon=True).start()
                    got = 0
                    while got < 300_000:
                        got += len(fetching.recv(65536))
            for namespace, interface in ((lab.host, lab.links[0].host), (lab.outside, lab.links[0].outside)):
                namespace.ip(f"neigh flush dev {interface}")  # neighbour discovery has to work anew
            lab.host.run("ping", "-c", "3", "-i", "0.05", "-W", "2", there)


def test_nobody_gets_in_who_was_not_asked(lab: Lab, ends: list[tuple[str, str]]) -> None:
    with dropping(lab) as daemon:
        wire = Wire(lab)
        for here, there in ends:
            with listening(lab.host, here, 22), pytest.raises(TimeoutError):
                connected(lab.outside, socket.SOCK_STREAM, here, 22, 0.5)
            # Whom the host talks to on one port may not come in on others, and others not through that port.
            Responder(lab.outside, there, 53, bytes)
            with connected(lab.host, socket.SOCK_DGRAM, there, 53, 3) as resolver:
                resolver.send(b"?")
                assert resolver.recv(1) == b"?"
                port = resolver.getsockname()[1]
                strangers = there[:-1] + "9"
                wire.sender.send([udp(strangers, here, 53, port, b"not me"), udp(there, here, 54, port, b"nor me")])
                resolver.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    resolver.recv(100)
            assert wire.passes(there, strangers) == {there: False, strangers: False}
            assert lab.outside.run("ping", "-c", "2", "-i", "0.1", "-W", "0.3", here, check=False).returncode == 1
        status = daemon.status()
        assert status["interfaces"][0]["dropped_packets"] >= 12


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_session_that_is_open_survives_the_change_to_drop(lab: Lab, ends: list[tuple[str, str]], family: int) -> None:
    """Though it is idle when the change comes, and the peer speaks first afterwards."""
    here, _ = ends[family]
    with Daemon(lab, LOGGED) as daemon, listening(lab.host, here, 2222) as server:
        client = connected(lab.outside, socket.SOCK_STREAM, here, 2222, 3)
        session, _ = server.accept()
        session.settimeout(5)
        with client, session:
            client.sendall(b"login")
            assert session.recv(5) == b"login"
            daemon.configure(DROP)
            daemon.wait_status(lambda s: s["rules"]["default"] == "drop", "the default of drop")
            client.sendall(b"still here")
            assert session.recv(10) == b"still here"
            session.sendall(b"good")
            assert client.recv(4) == b"good"
            with pytest.raises(TimeoutError):
                connected(lab.outside, socket.SOCK_STREAM, here, 2222, 0.5)
            # And over the daemon's death, restart, and a ledger of another size.
            daemon.kill()
            daemon.configure(DROP.replace("[flows]", "[flows]\ncapacity = 8192"))
            daemon.start()
            client.sendall(b"and still")
            assert session.recv(10) == b"and still"


def test_lifelines_pass_a_default_of_drop(lab: Lab, ends: list[tuple[str, str]]) -> None:
    with dropping(lab):
        sender = Sender(lab.outside, lab.links[0].outside)
        for (here, there), (server, client) in zip(ends, ((67, 68), (547, 546)), strict=True):
            with Listener(lab.host, here, client) as dhcp:
                sender.send([udp(there[:-1] + "9", here, server, client, b"lease")])
                assert dhcp.payloads() == [b"lease"]


def test_errors_about_a_path_are_believed(lab: Lab, ends: list[tuple[str, str]]) -> None:
    """A router in the middle, whom the host never spoke to, says that packets are too big."""
    with dropping(lab):
        sender = Sender(lab.outside, lab.links[0].outside)
        for here, there in ends:
            six = ":" in here
            with connected(lab.host, socket.SOCK_DGRAM, there, 53, 3) as asking:
                level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
                asking.setsockopt(level, IPV6_MTU_DISCOVER if six else IP_MTU_DISCOVER, PMTUDISC_DO)
                mtu = IPV6_MTU if six else IP_MTU
                assert asking.getsockopt(level, mtu) == 1500
                sent = udp(here, there, asking.getsockname()[1], 53, bytes(1400))[14:]
                router = there[:-1] + "9"
                if six:
                    error = struct.pack("!BBHI", 2, 0, 0, 1400) + sent[:1000]
                    sender.send([frame(router, here, ICMPV6, error, check_at=2)])
                else:
                    sender.send([icmp(router, here, struct.pack("!BBHHH", 3, 4, 0, 0, 1400) + sent[:28])])
                time.sleep(0.1)
                assert asking.getsockopt(level, mtu) == 1400


def icmp(src: str, dst: str, message: bytes) -> bytes:
    """An ICMP message; its checksum covers no pseudo-header."""
    from tmlab.packets import checksum

    return frame(src, dst, ICMP, message[:2] + struct.pack("!H", checksum(message)) + message[4:])


def test_a_reply_in_fragments_passes_and_strangers_fragments_do_not(lab: Lab, ends: list[tuple[str, str]]) -> None:
    with dropping(lab):
        for here, there in ends:
            Responder(lab.outside, there, 53, lambda question: question * 4000)
            with connected(lab.host, socket.SOCK_DGRAM, there, 53, 3) as resolver:
                resolver.send(b"x")
                assert resolver.recv(5000) == b"x" * 4000
            lab.outside.ip(f"addr add {there[:-1]}9/64 dev {lab.links[0].outside} nodad" if ":" in there else
                           f"addr add {there[:-1]}9/24 dev {lab.links[0].outside}")  # fmt: skip
            with Listener(lab.host, here, 4000) as listener:
                with lab.outside.entered():
                    stranger = bound(socket.SOCK_DGRAM, there[:-1] + "9", 53)
                with stranger:
                    stranger.sendto(b"y" * 4000, (here, 4000))
                assert listener.payloads() == []


def test_without_established_nothing_comes_back(lab: Lab) -> None:
    link = lab.links[0]
    with Daemon(lab, DROP.replace('"drop"\n', '"drop"\nestablished = false\n')):
        done = lab.host.run("ping", "-c", "2", "-i", "0.1", "-W", "0.3", link.outside_ip, check=False)
        assert done.returncode == 1


# ---- rates ----

LIMITS = """
[[rule]]
cidr = ["203.0.113.0/24", "2001:db8:bad::/48"]
action = "limit"
limit = "100/s"
burst = 20
label = "slowly"
"""


def test_a_rate_holds_for_each_source(lab: Lab) -> None:
    with Daemon(lab, LOGGED, rules={"limits.toml": LIMITS}) as daemon:
        wire = Wire(lab)
        sources = ("203.0.113.7", "203.0.113.8", "2001:db8:bad::7")
        began = time.monotonic()
        wire.sender.send([udp(source, wire.target(source)) for source in sources for _ in range(60)])
        at_once = wire.heard()
        most = 20 + 100 * (time.monotonic() - began) + 1
        assert all(20 <= at_once[source] <= most for source in sources), (at_once, most)
        # Three times the rate for two seconds, by one source; the other two rest and get their bursts again.
        passed, sent, began = 0, 0, time.monotonic()
        empty = udp(sources[0], wire.link.host_ip)
        while (elapsed := time.monotonic() - began) < 2:
            due = int(300 * elapsed) - sent
            wire.sender.send([empty] * due)
            sent += due
            passed += wire.heard()[sources[0]]
        assert passed == pytest.approx(100 * elapsed, rel=0.1), f"{passed} of {sent} in {elapsed:.2f} s"
        wire.sender.send([udp(source, wire.target(source)) for source in sources for _ in range(60)])
        again = wire.heard()
        assert all(20 <= again[source] <= 60 for source in sources[1:]), again
        assert again[sources[0]] < 20
        daemon.stop()
        records = [json.loads(line) for line in (daemon.home / "traffic.jsonl").read_text().splitlines()]
        over = [record for record in records if record["src_ip"] in sources and record["action"] == "DROP"]
        assert {(record["reason"], record["rule"]) for record in over} == {("limit", "slowly")}
        dropped = daemon.sql("SELECT sum(packets) FROM flows WHERE action = 'drop' AND rule = 'slowly'")[0][0]
        assert dropped == 60 * 6 + sent - passed - sum(at_once.values()) - sum(again.values())


# ---- rules that end ----


def test_a_rule_that_ends_gives_way_to_the_one_around_it_with_the_daemon_dead(lab: Lab) -> None:
    with Daemon(lab, 'on_stop = "keep"\n' + LOGGED) as daemon:
        wire = Wire(lab)
        ask(daemon, "AddCidr", cidr="203.0.0.0/16", action="drop")
        ask(daemon, "AddCidr", cidr="2001:db8::/32", action="drop")
        expires = time.time() + 3
        for cidr in ("203.0.113.0/24", "2001:db8:bad::/48"):
            ask(daemon, "AddCidr", cidr=cidr, action="allow", ttl_s=expires - time.time())
        ask(daemon, "AddCidr", cidr="203.0.113.7", action="drop", ttl_s=1.0)  # ends first, inside the one that allows
        daemon.kill()
        sources = ("203.0.113.7", "203.0.113.8", "2001:db8:bad::7")
        assert wire.passes(*sources) == dict(zip(sources, (False, True, True), strict=True))
        while not wire.passes(sources[0])[sources[0]]:
            assert time.time() < expires, "the narrow rule did not end"
        while wire.passes(sources[1])[sources[1]]:
            assert time.time() < expires + 1, "the rule did not end"
        assert time.time() == pytest.approx(expires, abs=0.4)
        assert wire.passes(*sources) == dict.fromkeys(sources, False)


# ---- going out ----


def test_rules_of_egress_drop_by_destination(lab: Lab, ends: list[tuple[str, str]]) -> None:
    link = lab.links[0]
    with Daemon(lab, LOGGED) as daemon:
        for _, there in ends:
            lab.host.run("ping", "-c", "1", "-W", "2", there)
            ask(daemon, "AddCidr", cidr=there, action="drop", direction="egress")
            # (a direct send to a dropped destination fails at once: ENOBUFS or EPERM, so ping says "1" or "2")
            assert lab.host.run("ping", "-c", "1", "-W", "0.5", there, check=False).returncode != 0
        assert heard_outside(lab, link) == 0
        for _, there in ends:
            ask(daemon, "RemoveCidr", cidr=there)
            lab.host.run("ping", "-c", "1", "-W", "2", there)
        assert daemon.status()["interfaces"][0]["dropped_packets"] >= 2


def heard_outside(lab: Lab, link: Link) -> int:
    """Datagrams that get from the host to the outside's port 9."""
    with Listener(lab.outside, link.outside_ip) as listener:
        with lab.host.entered():
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender, contextlib.suppress(OSError):
            sender.sendto(b"out", (link.outside_ip, 9))
        return listener.heard().total()


def test_a_tcp_connection_is_not_opened_by_an_answer_to_nothing(lab: Lab) -> None:
    """An ACK from nowhere is no reply: only what this host sent before counts."""
    link = lab.links[0]
    with dropping(lab) as daemon, listening(lab.host, link.host_ip, 2222):
        sender = Sender(lab.outside, link.outside)
        before = daemon.status()["accounting"]["dropped"]["packets"]
        sender.send([tcp(link.outside_ip, link.host_ip, 4000, 2222, flags) for flags in (SYN, 0x10, 0x12, 0x04, 0x11)])
        daemon.wait_status(lambda s: s["accounting"]["dropped"]["packets"] == before + 5, "5 packets dropped")
