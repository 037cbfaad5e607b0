"""Whose traffic it is: each byte is booked to the cgroup that sent it, or that waits for it."""

from __future__ import annotations

import contextlib
import os
import socket
import time

import pytest
from booking import PROGRAM, book_all
from cgrouped import TREE, Services, waiting
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
    """Twenty services at once, of which some are gone before their flows are told."""
    link = lab.links[0]
    with Services(lab) as services, Daemon(lab, MONITOR) as daemon:
        print(book_all(services, daemon, 200_000, 2_000_000, 60))
        sent = booked(daemon)["udp3.service"][0]
        with waiting(services.start("late.service", "bind", "0.0.0.0", 8080, 0)):
            daemon.wait(
                lambda: "late.service" in daemon.control("explain", link.outside_ip, "udp/8080").stdout, "a name"
            )
        (row,) = daemon.ask("flows", "--unit", "udp3", "--port", "6003")
        assert (row["unit"], row["cgroup"], row["uid"]) == ("udp3.service", f"/{lab.name}.slice/udp3.service", None)
        daemon.stop()
        sums = daemon.sql("SELECT sum(bytes + reply_bytes) FROM flows WHERE unit = 'udp3.service'")
        assert sums == [(sent,)]


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


@pytest.mark.parametrize("ecn", [0, 1])
def test_what_a_syn_cookie_accepts_is_of_the_service(lab: Lab, ecn: int) -> None:
    """The kernel sends a SYN-ACK with a cookie, with ECE if asked, without a socket. On one CPU, all that follows is in
    its record."""
    link, cpus = lab.links[0], os.sched_getaffinity(0)
    lab.host.sysctl(ipv4__tcp_syncookies=2, ipv4__tcp_ecn=ecn)
    lab.outside.sysctl(ipv4__tcp_ecn=ecn)
    with Services(lab) as services, Daemon(lab, MONITOR) as daemon, contextlib.ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, cpus)
        os.sched_setaffinity(0, {min(cpus)})
        stack.enter_context(waiting(services.launch("web.service", PROGRAM, "serve", link.host_ip, 8000, 1, "")))
        for _ in range(8):
            with lab.outside.entered(), socket.create_connection((link.host_ip, 8000), 10) as peer:
                peer.sendall(bytes(1000))
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(1 << 16):
                    pass
        rows = daemon.ask("flows", "--port", "8000")
        assert [row["unit"] for row in rows] == ["web.service"] * 8


def test_off_says_nothing(lab: Lab) -> None:
    link = lab.links[0]
    with Services(lab) as services, Daemon(lab, MONITOR + "[flows]\nunits = false\n") as daemon:
        services.run("udp.service", "udp", link.outside_ip, 6000, 3)
        (row,) = daemon.ask("flows", "--port", "6000")
        assert (row["unit"], row["cgroup"], row["uid"]) == (None, None, None)
