"""A default of drop that a host can live with: what it asks for comes back, what is open stays, nobody else gets in."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address

import pytest
from door import LOGGED, Wire
from tmlab import Daemon, Lab, Listener, Namespace, Sender
from tmlab.packets import ICMP, ICMPV6, checksum, frame, tcp, udp

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

DROP = '[policy]\ndefault = "drop"\n' + LOGGED
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO = 10, 23, 2  # linux/in.h, linux/in6.h
IP_MTU, IPV6_MTU = 14, 24
SYN = 2


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
                namespace.ip(f"neigh flush dev {interface}")  # neighbour discovery has to work again
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


@pytest.mark.parametrize("lo", [False, True])
def test_nobody_gets_in_as_this_host_itself(lab: Lab, ends: list[tuple[str, str]], lo: bool) -> None:
    """Linux discards such packets of IPv4 only. Where lo is watched, it has packets of this host's own."""
    own = [here for here, _ in ends]
    link = lab.links[0]
    local = "fe80::ff:fe00:2"  # of HOST_MAC
    with Daemon(lab, DROP, interfaces=[link.host, *(["lo"] if lo else [])]):
        if not lo:
            wire = Wire(lab)
            assert not any(wire.passes(*own, local).values())
        for here in own:
            with listening(lab.host, here, 22), connected(lab.host, socket.SOCK_STREAM, here, 22, 3):
                pass


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
    with dropping(lab) as daemon:
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
                daemon.wait(partial(has, asking, level, mtu, 1400), "the size that the router asks for")


def has(asked: socket.socket, level: int, option: int, value: int) -> bool:
    return asked.getsockopt(level, option) == value


def icmp(src: str, dst: str, message: bytes) -> bytes:
    """An ICMP message; its checksum covers no pseudo-header."""
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


def test_a_tcp_connection_is_not_opened_by_an_answer_to_nothing(lab: Lab) -> None:
    """An ACK from nowhere is no reply: only what this host sent before counts."""
    link = lab.links[0]
    with dropping(lab) as daemon, listening(lab.host, link.host_ip, 2222):
        sender = Sender(lab.outside, link.outside)
        before = daemon.status()["accounting"]["dropped"]["packets"]
        sender.send([tcp(link.outside_ip, link.host_ip, 4000, 2222, flags) for flags in (SYN, 0x10, 0x12, 0x04, 0x11)])
        daemon.wait_status(lambda s: s["accounting"]["dropped"]["packets"] == before + 5, "5 packets dropped")


def test_forged_openings_take_no_place_of_a_connection(lab: Lab) -> None:
    """The host answers each, with a SYN-ACK or a reset, and learns none of them: its table has room for 65,536."""
    link = lab.links[0]
    forged = [f"198.18.0.{last}" for last in range(1, 101)]
    open_ports = '[[rule]]\ncidr = "0.0.0.0/0"\naction = "allow"\nports = ["tcp/443", "tcp/444"]\n'
    lab.host.ip(f"route add 198.18.0.0/24 via {link.outside_ip}")

    def sent() -> int:
        return int(lab.host.link(link.host)["stats64"]["tx"]["packets"])

    with (
        Daemon(lab, DROP, rules={"10-web.toml": open_ports}) as daemon,
        listening(lab.host, link.host_ip, 443),
        listening(lab.outside, link.outside_ip, 5432),
        connected(lab.host, socket.SOCK_STREAM, link.outside_ip, 5432, 3),
        Sender(lab.outside, link.outside) as sender,
    ):
        before = sent()
        sender.send([tcp(source, link.host_ip, 1024, port, SYN) for source in forged for port in (443, 444)])
        daemon.wait(lambda: sent() >= before + 2 * len(forged), "all answers")
        table = next(daemon.pins.rglob("tm_conns"))
        dumped = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", table], stdout=subprocess.PIPE, check=True)
        keys = [bytes(int(octet, 16) for octet in row["key"]) for row in json.loads(dumped.stdout)]
        remote = {str(ip_address(key[12:16])) for key in keys if key[:12] == bytes(10) + b"\xff\xff"}
        assert link.outside_ip in remote
        assert not remote & set(forged)
