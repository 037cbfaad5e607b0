"""Whose traffic it is: each byte is booked to the cgroup that sent it, or that waits for it."""

from __future__ import annotations

import socket
import sys
import threading
import time

import pytest
from cgrouped import TREE, Services, end, waiting
from tmlab import Daemon, Lab

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(120),
    pytest.mark.skipif(TREE is None, reason="needs a tree of cgroup2: mount -t cgroup2 none /sys/fs/cgroup/unified"),
]

MONITOR = '[policy]\ndefault = "monitor"\n'


def booked(daemon: Daemon) -> dict[str | None, tuple[int, int]]:
    """By unit: bytes both ways, and packets."""
    rows = daemon.ask("flows", "--group-by", "unit", "--limit", "1000")
    return {row["unit"]: (row["bytes"] + row["reply_bytes"], row["packets"] + row["reply_packets"]) for row in rows}


def test_every_byte_is_booked_to_who_sent_it(lab: Lab) -> None:
    """Twenty services at once, of which some are gone before their flows are told; and what nobody waits for."""
    link = lab.links[0]
    with Services(lab) as services, Daemon(lab, MONITOR) as daemon, Echo(lab, link.outside_ip, 7000) as echo:
        sending = [
            services.start(f"udp{number}.service", "udp", link.outside_ip, 6000 + number, 10 + number)
            for number in range(10)
        ]
        sending += [
            services.start(f"tcp{number}.service", "tcp", link.outside_ip, 7000, 1000 * (1 + number))
            for number in range(9)
        ]
        with (
            waiting(services.start("web.service", "serve", link.host_ip, 80, 1)),
            lab.outside.entered(),
            socket.create_connection((link.host_ip, 80)) as client,
        ):
            client.sendall(bytes(5000))
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
        for process in sending:
            assert process.wait(20) == 0
            end(process)
        for number in range(3):
            services.run(f"short{number}.service", "udp", link.outside_ip, 5000 + number, 1)
        lab.outside.run("ping", "-c", "2", "-i", "0.1", link.host_ip)
        lab.outside.run(sys.executable, "-c", _REFUSED.format(address=link.host_ip))

        found = booked(daemon)
        for number in range(10):
            assert found.pop(f"udp{number}.service") == ((10 + number) * 142, 10 + number)
        for number in range(9):
            octets, _ = found.pop(f"tcp{number}.service")
            assert octets >= 2000 * (1 + number)
        assert found.pop("web.service")[0] >= 10000
        for number in range(3):
            assert found.pop(f"short{number}.service") == (142, 1)
        assert found.pop("kernel")[1] >= 4 + 2
        assert not found, f"booked to somebody who sent nothing: {found}"
        assert echo.failed is None
        with waiting(services.start("late.service", "bind", "0.0.0.0", 8080, 0)):
            daemon.wait(
                lambda: "late.service" in daemon.control("explain", link.outside_ip, "udp/8080").stdout, "a name"
            )
        assert daemon.status()["counters"]["unnamed_rows"] == 0
        (row,) = daemon.ask("flows", "--unit", "udp3", "--port", "6003")
        assert (row["unit"], row["cgroup"], row["uid"]) == ("udp3.service", f"/{lab.name}.slice/udp3.service", None)
        daemon.stop()
        sums = daemon.sql("SELECT unit, sum(bytes + reply_bytes) FROM flows WHERE unit LIKE 'udp%' GROUP BY unit")
        assert dict(sums) == {f"udp{number}.service": (10 + number) * 142 for number in range(10)}


def test_what_gets_no_answer_is_whose_it_waits_for(lab: Lab) -> None:
    """And what passes through, and what nobody waits for."""
    link = lab.links[0]
    with Services(lab) as services, Daemon(lab, MONITOR) as daemon:
        with waiting(services.start("syslog.service", "bind", "0.0.0.0", 514, 0)):
            with lab.outside.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for _ in range(5):
                    sender.sendto(bytes(58), (link.host_ip, 514))
            (row,) = daemon.ask("flows", "--port", "514")
            assert (row["unit"], row["direction"], row["packets"]) == ("syslog.service", "ingress", 5)
        lab.outside.ip(f"route add 203.0.113.0/24 via {link.host_ip}")
        with lab.outside.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", ("203.0.113.9", 9))
        (row,) = daemon.ask("flows", "--dst", "203.0.113.9")
        assert (row["unit"], row["cgroup"]) == ("forwarded", None)


def test_a_pause_ends_what_one_unit_has_of_a_pair_of_ports(lab: Lab) -> None:
    """Two units that follow one another on the same fixed port."""
    link = lab.links[0]
    with Services(lab) as services, Daemon(lab, MONITOR) as daemon:
        services.run("old.service", "from", link.outside_ip, 123, 3)
        time.sleep(4.5)
        services.run("new.service", "from", link.outside_ip, 123, 2)
        found = booked(daemon)
        assert found.keys() <= {"old.service", "new.service", "kernel"}
        assert (found["old.service"], found["new.service"]) == ((3 * 142, 3), (2 * 142, 2))


def test_off_says_nothing(lab: Lab) -> None:
    link = lab.links[0]
    with Services(lab) as services, Daemon(lab, MONITOR + "[flows]\nunits = false\n") as daemon:
        services.run("udp.service", "udp", link.outside_ip, 6000, 3)
        (row,) = daemon.ask("flows", "--port", "6000")
        assert (row["unit"], row["cgroup"], row["uid"]) == (None, None, None)


_REFUSED = """
import socket
try:
    socket.create_connection(("{address}", 81), 5)
except ConnectionRefusedError:
    pass
"""


class Echo:
    """Takes connections on the outside and sends back what it gets."""

    def __init__(self, lab: Lab, address: str, port: int) -> None:
        with lab.outside.entered():
            self._server = socket.create_server((address, port), backlog=64)
        self.failed: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Echo:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)

    def _run(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        try:
            with peer:
                while taken := peer.recv(65536):
                    peer.sendall(taken)
        except OSError as error:
            self.failed = error
