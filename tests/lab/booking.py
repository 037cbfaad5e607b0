"""Whose traffic it is, to the byte: services that send all at once, and what each must be booked for."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cgrouped import Services, end, waiting
from tmlab import Daemon, Namespace

UDP_SENDERS, TALKERS, SHORT = 10, 4, 5
SINKS, ECHOES, ONCE, SCOPE, GUEST = 6000, 7000, 5000, 5100, 5200  # ports outside
OWN, GIVEN, REFUSED = 8000, 9001, 81  # ports of this host
_FRAME = 142  # 100 bytes, with headers
GUEST_IP, GATEWAY_IP = "198.51.100.2", "198.51.100.1"

# What each does: what, where, how much; and the cgroup to move to once it has its socket.
PROGRAM = r"""
import ctypes, os, socket, struct, sys, threading
what, address, port, count, later = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]

def send():
    "Single packets, as many as there are in few calls: an emulated machine has more to do than Python."
    batch, libc = 64, ctypes.CDLL(None)
    text = ctypes.create_string_buffer(100)
    vector = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(text), 100))
    header = struct.pack("QI4xQQQQi4xI4x", 0, 0, ctypes.addressof(vector), 1, 0, 0, 0, 0)
    headers = ctypes.create_string_buffer(header * batch)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((address, port))
        left = count
        while left:
            sent = libc.sendmmsg(sender.fileno(), headers, min(left, batch), 0)
            left -= max(sent, 0)

def talk():
    with socket.create_connection((address, port)) as peer:
        reader = threading.Thread(target=lambda: [None for _ in iter(lambda: peer.recv(1 << 16), b"")])
        reader.start()
        for _ in range(0, count, 100_000):
            peer.sendall(bytes(min(count, 100_000)))
        peer.shutdown(socket.SHUT_WR)
        reader.join()

def echo(peer):
    with peer:
        while taken := peer.recv(1 << 16):
            peer.sendall(taken)

def serve(server):
    while True:
        threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()

def serving(port):
    threading.Thread(target=serve, args=(socket.create_server((address, port), backlog=64),), daemon=True).start()

kept = []
if what == "send":
    send()
elif what == "talk":
    talk()
else:
    for each in range(count):
        if what == "sink":
            kept.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            kept[-1].bind((address, port + each))
        else:
            serving(port + each)
    if later:  # as systemd does, which opens the socket in the cgroup of the socket unit
        with open(f"{later}/cgroup.procs", "w") as moved:
            moved.write(str(os.getpid()))
    print("ready", flush=True)
    sys.stdin.read()
"""


def book_all(services: Services, daemon: Daemon, packets: int, octets: int, timeout: float) -> str:
    """About `packets` small ones and `octets` by TCP each way, of twenty services at once. Raises AssertionError unless
    each byte is booked to the right unit; returns the sums in words."""
    lab = services.lab
    link, each = lab.links[0], packets // (UDP_SENDERS + 2)
    outside, host = link.outside_ip, link.host_ip

    def of(unit: str, what: str, address: str, port: int, count: int, later: str | Path = "") -> subprocess.Popen[str]:
        return services.launch(unit, PROGRAM, what, address, port, count, later)

    with contextlib.ExitStack() as stack:
        guest = stack.enter_context(_guest(services))
        for port, count in ((ONCE, SHORT), (SCOPE, 1), (GUEST, 1), (SINKS, UDP_SENDERS)):
            stack.enter_context(waiting(_run(lab.outside, "sink", outside, port, count)))
        stack.enter_context(waiting(_run(lab.outside, "serve", outside, ECHOES, TALKERS + 1)))
        later = services.top / "echoed.service"
        later.mkdir()
        stack.enter_context(waiting(of("web.service", "serve", host, OWN, 1)))
        stack.enter_context(waiting(of("echoed.socket", "serve", host, GIVEN, 1, later)))

        started = [of(f"udp{n}.service", "send", outside, SINKS + n, each) for n in range(UDP_SENDERS)]
        started += [of(f"tcp{n}.service", "talk", outside, ECHOES + n, octets) for n in range(TALKERS)]
        started += [of(f"short{n}.service", "send", outside, ONCE + n, 1) for n in range(SHORT)]
        started += [of("box.scope", "send", outside, SCOPE, each)]
        started += [_run(guest, "send", outside, GUEST, each), _run(guest, "talk", outside, ECHOES + TALKERS, octets)]
        started += [_run(lab.outside, "talk", host, port, octets) for port in (OWN, GIVEN)]
        for process in started:
            assert process.wait(timeout) == 0
            end(process)
        _refused(daemon)

        found = _wait_for_rows(daemon, each * _FRAME, timeout)
    wrong = {(unit, port): amount for (unit, port), amount in found.items() if unit != _owner(port)}
    assert not wrong, f"booked to another unit: {wrong}; {_rows_of(daemon, {port for _, port in wrong})}"
    by_unit: Counter[str | None] = Counter()
    for (unit, _), amount in found.items():
        by_unit[unit] += amount
    expected = {f"udp{n}.service": each * _FRAME for n in range(UDP_SENDERS)} | {"box.scope": each * _FRAME}
    expected |= {f"short{n}.service": _FRAME for n in range(SHORT)}
    assert {unit: by_unit[unit] for unit in expected} == expected
    both_ways = ("web.service", "echoed.service", "forwarded", *(f"tcp{n}.service" for n in range(TALKERS)))
    assert all(by_unit[unit] >= 2 * octets for unit in both_ways), by_unit
    assert by_unit["kernel"]
    unnamed = daemon.status()["counters"]["unnamed_rows"]
    assert not unnamed
    return f"{sum(by_unit.values()):,} bytes of {len(by_unit)} units, wrong: 0, unnamed: {unnamed}"


def _owner(port: int) -> str:
    """Whose a port is, of those that the services have to themselves."""
    known = {SCOPE: "box.scope", GUEST: "forwarded", ECHOES + TALKERS: "forwarded", OWN: "web.service"}
    known |= {GIVEN: "echoed.service", REFUSED: "kernel"}
    for first, count, name in ((SINKS, UDP_SENDERS, "udp"), (ECHOES, TALKERS, "tcp"), (ONCE, SHORT, "short")):
        known |= {first + n: f"{name}{n}.service" for n in range(count)}
    return known.get(port, "")


def _wait_for_rows(daemon: Daemon, least: int, timeout: float) -> Counter[tuple[str | None, int]]:
    """Bytes both ways by unit and port, when what was sent has been read from the kernel."""
    found: Counter[tuple[str | None, int]] = Counter()

    def read() -> bool:
        found.clear()
        for row in _ask(daemon):
            if _owner(row["dst_port"]):
                found[row["unit"], row["dst_port"]] += row["bytes"] + row["reply_bytes"]
        return found["box.scope", SCOPE] >= least and ("kernel", REFUSED) in found

    daemon.wait(read, "what was sent, in flows", timeout)
    return found


def _ask(daemon: Daemon) -> list[dict[str, Any]]:
    with daemon.client() as client:
        rows: list[dict[str, Any]] = client.call("Flows", group_by=["unit", "dst_port"], limit=10_000)["rows"]
        return rows


def _rows_of(daemon: Daemon, ports: set[int]) -> list[dict[str, Any]]:
    """All rows of these ports, which show how a conversation came to be in several."""
    with daemon.client() as client:
        return [row for port in ports for row in client.call("Flows", port=port, limit=20)["rows"]]


def _refused(daemon: Daemon) -> None:
    """A connection to where nobody waits: the kernel's answer."""
    link = daemon.lab.links[0]
    with daemon.lab.outside.entered(), contextlib.suppress(ConnectionRefusedError):
        socket.create_connection((link.host_ip, REFUSED), 5).close()


def _run(namespace: Namespace, what: str, address: str, port: int, count: int) -> subprocess.Popen[str]:
    """The same as a service does, of no unit of ours."""
    command = namespace.argv(sys.executable, "-c", PROGRAM, what, address, str(port), str(count), "")
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextlib.contextmanager
def _guest(services: Services) -> Iterator[Namespace]:
    """A container with a network of its own, behind a veth of this host's."""
    lab, guest = services.lab, Namespace(f"{services.lab.name}-guest")
    subprocess.run(["ip", "netns", "add", guest.name], check=True)
    try:
        lab.host.ip(f"link add tmlabg type veth peer name eth0 netns {guest.name}")
        lab.host.ip(f"addr add {GATEWAY_IP}/24 dev tmlabg", "link set tmlabg up")
        guest.ip(f"addr add {GUEST_IP}/24 dev eth0", "link set eth0 up", f"route add default via {GATEWAY_IP}")
        lab.host.sysctl(ipv4__ip_forward=1)
        lab.outside.ip(f"route add 198.51.100.0/24 via {lab.links[0].host_ip}")
        yield guest
    finally:
        with contextlib.suppress(Exception):
            lab.outside.ip("route del 198.51.100.0/24")
        subprocess.run(["ip", "netns", "delete", guest.name], check=True)
        lab.host.sysctl(ipv4__ip_forward=0)
