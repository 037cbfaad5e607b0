"""The response to threats, live: a proven source is banned, a shadow only speaks, a forged source is spared."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tmlab import Daemon, Lab, Sender
from tmlab.packets import udp

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

SETTINGS = """
[flows]
interval = "200ms"
[response]
ban = {ban}
min_severity = "medium"
ban_time = "3s"
[[log]]
format = "jsonl"
path = "{{home}}/traffic.jsonl"
"""
# Some doors are open and say a word, the others are shut: what a scanner finds. A source is proven by what it hears
# once it is watched, which begins with its first failure.
SERVE = """
import select, socket
servers = [socket.create_server((\"{address}\", port)) for port in range(900, 930)]
while True:
    for server in select.select(servers, [], [])[0]:
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"hello\\n")
"""
SCAN = """
import socket
for port in (*range(2000, 2100), *range(900, 930), *range(2100, 2200)):
    with socket.socket() as s:
        s.settimeout(0.2)
        try:
            s.connect((\"{address}\", port)); s.sendall(b"x\\n"); s.recv(10)
        except OSError:
            pass
"""


@contextmanager
def served(lab: Lab, address: str) -> Iterator[None]:
    process = subprocess.Popen(lab.host.argv("/usr/bin/python3", "-c", SERVE.format(address=address)))
    try:
        time.sleep(0.5)
        yield
    finally:
        process.kill()
        process.wait()


def scan(lab: Lab, address: str, script: str = SCAN) -> threading.Thread:
    thread = threading.Thread(
        target=lambda: lab.outside.run("/usr/bin/python3", "-c", script.format(address=address), timeout=60)
    )
    thread.start()
    return thread


def bans(daemon: Daemon) -> list[dict[str, Any]]:
    return list(daemon.ask("bans"))


def test_a_scanner_is_banned_for_a_while_and_the_ban_can_be_lifted() -> None:
    with Lab() as lab, Daemon(lab, SETTINGS.format(ban="true")) as daemon:
        link = lab.links[0]
        with served(lab, link.host_ip):
            scanner = scan(lab, link.host_ip)
            daemon.wait(lambda: bans(daemon), "a ban", 30)
            (ban,) = bans(daemon)
            scanner.join()
        assert (ban["cidr"], ban["by"]) == (f"{link.outside_ip}/32", "port_scan")
        threat = daemon.ask("threat", ban["threat"])
        assert any(link.outside_ip in line for line in threat["response"])
        assert [entry["change"] for entry in daemon.ask("audit")] == ["ban"]
        daemon.control("unban", link.outside_ip, "--all")
        assert bans(daemon) == []


def test_a_scanner_who_goes_on_when_the_ban_ends_is_banned_again_at_once() -> None:
    with Lab() as lab, Daemon(lab, SETTINGS.format(ban="true")) as daemon:
        link = lab.links[0]
        with served(lab, link.host_ip):
            scanner = scan(lab, link.host_ip)
            daemon.wait(lambda: bans(daemon), "a ban", 30)
            scanner.join()
            daemon.wait(lambda: not bans(daemon), "its end", 10)
            scan(lab, link.host_ip, SCAN.replace("2000, 2100", "2300, 2303").replace("2200", "2103")).join()
            daemon.wait(lambda: bans(daemon), "another ban", 10)


def test_a_shadow_only_says_what_it_would_have_done() -> None:
    with Lab() as lab, Daemon(lab, SETTINGS.format(ban='"shadow"')) as daemon:
        with served(lab, lab.links[0].host_ip):
            scan(lab, lab.links[0].host_ip).join()
        daemon.wait(lambda: "would have banned" in daemon.said(), "the word", 20)
        assert bans(daemon) == []


def test_forged_sources_and_the_allowlist_are_spared() -> None:
    allowed = SETTINGS.format(ban="true") + '[policy]\nallowlist = ["10.99.0.0/24"]\n'
    with Lab() as lab, Daemon(lab, allowed) as daemon:
        link = lab.links[0]
        with Sender(lab.outside, link.outside) as sender:
            sender.send([udp("203.0.113.7", link.host_ip, 40000, port) for port in range(1000, 1400)])
        with served(lab, link.host_ip):
            scan(lab, link.host_ip).join()
        daemon.wait(lambda: len(daemon.ask("threats")) >= 2, "both scans to be known", 20)
        assert bans(daemon) == []


def test_a_restart_forgets_no_open_threat_and_it_is_said_why_there_is_no_ban() -> None:
    off = SETTINGS.format(ban="false")
    with Lab() as lab, Daemon(lab, off) as daemon:
        link = lab.links[0]
        with Sender(lab.outside, link.outside) as sender:
            sender.send([udp("203.0.113.7", link.host_ip, 40000, port) for port in range(1000, 1400)])
        daemon.wait(lambda: daemon.ask("threats"), "the scan to be known", 20)
        (before,) = daemon.ask("threats")
        assert before["not_banned"] == "response off"
        daemon.stop()
        daemon.start()
        (after,) = daemon.ask("threats")
        assert {key: after[key] for key in ("id", "count", "first_seen")} == {
            key: before[key] for key in ("id", "count", "first_seen")
        }
        assert after["last_seen"] >= before["last_seen"]
        assert daemon.ask("status")["threats"]["open"] == 1
        assert daemon.ask("threat", after["id"])["response"] == ["not banned: response off"]
        daemon.configure(off.replace("ban = false", "ban = true"))
        daemon.control("reload")
        assert daemon.ask("threat", after["id"])["response"][0].startswith("not banned: source not proven yet")


def test_a_scan_that_continues_over_a_restart_has_no_new_budget() -> None:
    with Lab() as lab, Daemon(lab, SETTINGS.format(ban="false")) as daemon:
        link = lab.links[0]
        with Sender(lab.outside, link.outside) as sender:
            for ports in (range(1000, 1009), range(1009, 1018)):  # fifteen make a scan
                sender.send([udp("203.0.113.7", link.host_ip, 40000, port, b"?") for port in ports])
                daemon.wait(lambda: len(daemon.ask("flows", "--src", "203.0.113.7")) >= 9, "the packets to be seen", 20)
                time.sleep(1.5)  # a dial is judged when it is a second old
                if ports.start == 1000:
                    assert daemon.ask("threats") == []
                    daemon.stop()
                    daemon.start()
        (threat,) = daemon.wait(lambda: daemon.ask("threats"), "the scan to be known", 20)
        assert (threat["detector"], threat["src_ip"]) == ("port_scan", "203.0.113.7")
