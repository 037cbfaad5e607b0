"""Real connections over the wire: one stays one while it is idle, and two on the same ports are two."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from tmlab import Daemon, Lab, Namespace

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

# Time runs faster: what is idle for a second is idle.
SETTINGS = """
[policy]
guard = false
[flows]
interval = "200ms"
idle_timeout = "1s"
active_timeout = "3s"
"""
GREETING = b"SSH-2.0-server\r\n"


@contextlib.contextmanager
def service(inside: Namespace, address: tuple[str, int]) -> Iterator[None]:
    """Greets, and answers whatever it is told."""
    with inside.entered():
        listener = socket.create_server(address, backlog=128)

    def talk(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            peer.sendall(GREETING)
            while data := peer.recv(100):
                peer.sendall(data[:44])

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def call(outside: Namespace, address: tuple[str, int], sport: int = 0) -> socket.socket:
    with outside.entered():
        caller = socket.socket()
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    caller.settimeout(10)
    caller.bind(("", sport))
    caller.connect(address)
    assert caller.recv(100) == GREETING
    return caller


def exchange(caller: socket.socket, size: int = 60) -> None:
    caller.sendall(b"x" * size)
    assert caller.recv(100)


def test_idle_connections_are_no_guesses_and_stay_what_they_are() -> None:
    with Lab() as lab, Daemon(lab, SETTINGS) as daemon, contextlib.ExitStack() as stack:
        address = (lab.links[0].host_ip, 22)
        stack.enter_context(service(lab.host, address))
        callers = [stack.enter_context(call(lab.outside, address)) for _ in range(20)]
        for _ in range(6):
            time.sleep(1.6)
            for caller in callers:
                exchange(caller)
        time.sleep(1.6)
        assert daemon.ask("threats") == []
        ports = {caller.getsockname()[1] for caller in callers}
        query = "SELECT src_port, sum(packets), min(tcp_flags) FROM flows WHERE dst_port = 22 GROUP BY src_port"
        daemon.wait(lambda: {port for port, *_ in daemon.sql(query)} == ports, "rows of all connections")
        assert all(packets >= 10 for _, packets, _ in daemon.sql(query)), "told while they last"


@pytest.mark.parametrize(("calls", "pause"), [(45, 0.25), (50, 0.6)])
def test_a_fixed_source_port_hides_no_guessing(calls: int, pause: float) -> None:
    settings = SETTINGS.replace('interval = "200ms"', "").replace('idle_timeout = "1s"', "")  # as shipped
    with Lab() as lab, Daemon(lab, settings) as daemon, contextlib.ExitStack() as stack:
        address = (lab.links[0].host_ip, 22)
        stack.enter_context(service(lab.host, address))
        for _ in range(calls):
            with call(lab.outside, address, 50000) as caller:
                exchange(caller, 1000)  # less than keys take is no login
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
            time.sleep(pause)

        def guessing() -> bool:
            return any(threat["detector"] == "brute_force" for threat in daemon.ask("threats"))

        daemon.wait(guessing, "the threat brute_force", 20)
        query = "SELECT count(*) FROM flows WHERE dst_port = 22"
        # All of them, but where CPUs share a connection's packets, or the kernel's ticks come late for all there is to
        # do: tests/flows/test_flows_connections.py has how seldom that is.
        daemon.wait(lambda: daemon.sql(query)[0][0] >= calls * 9 // 10, "a row each", 20)
        accounting = daemon.status()["accounting"]
        assert accounting["seen"]["packets"] == accounting["in_flows"]["packets"] + sum(
            accounting[part]["packets"] for part in ("unattributed", "not_ip", "malformed")
        )


def test_a_big_ping_is_one_flow() -> None:
    with Lab() as lab, Daemon(lab, SETTINGS) as daemon:
        lab.outside.run("ping", "-q", "-c", "3", "-i", "0.2", "-s", "4000", lab.links[0].host_ip)
        query = (
            "SELECT src_ip, src_port, sum(packets), sum(reply_packets) FROM flows WHERE protocol_num = 1 GROUP BY 1, 2"
        )
        daemon.wait(lambda: sum(row[2] + row[3] for row in daemon.sql(query)) == 18, "all packets", 20)
        assert daemon.sql(query) == [(lab.links[0].outside_ip, 8, 9, 9)]


@pytest.mark.parametrize("port", [22, 42345])
def test_who_began_a_connection_that_was_there_before(port: int) -> None:
    """The service speaks first when the daemon begins to look, as sshd does over the session that starts it."""
    with Lab() as lab, contextlib.ExitStack() as stack:
        address = (lab.links[0].host_ip, port)
        with lab.host.entered():
            listener = stack.enter_context(socket.create_server(address))
        with lab.outside.entered():
            caller = stack.enter_context(socket.create_connection(address))
        peer = stack.enter_context(listener.accept()[0])
        daemon = stack.enter_context(Daemon(lab, SETTINGS))
        lab.outside.ip(f"route add blackhole {address[0]}/32")  # the answer takes its time
        peer.sendall(GREETING)
        daemon.wait_status(lambda s: s["flows"], "the first packet of the service")
        lab.outside.ip(f"route del blackhole {address[0]}/32")
        assert caller.recv(100) == GREETING
        caller.sendall(b"x")
        assert peer.recv(100)
        query = "SELECT src_port, dst_port, direction FROM flows WHERE protocol = 'TCP'"
        daemon.wait(lambda: daemon.sql(query), "its rows")
        assert set(daemon.sql(query)) == {(caller.getsockname()[1], port, "ingress")}
