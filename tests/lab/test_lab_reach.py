"""Under a default of drop the daemon says what nobody can reach, and stops saying it when somebody can."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from tmlab import Daemon, Lab, Namespace
from tmlab.daemon import PYTHON, ROOT

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

MONITOR, DROP = (f'[policy]\ndefault = "{each}"\n' for each in ("monitor", "drop"))
OWN_NAME = Path("/proc/self/comm").read_text().strip()


def server(namespace: Namespace, address: str, port: int) -> socket.socket:
    with namespace.entered():
        return socket.create_server((address, port))


def warned(daemon: Daemon) -> list[str]:
    return [text for text in daemon.status()["warnings"] if text.startswith("not reachable")]


def noted(lab: Lab, daemon: Daemon) -> list[dict[str, Any]]:
    command = ("env", f"PYTHONPATH={ROOT}", PYTHON, "-m", "trafficctl", "-o", "json", "check", daemon.config)
    notes: list[dict[str, Any]] = json.loads(lab.host.run(*command).stdout)["notes"]
    return notes


def test_what_nobody_can_reach_is_named_for_as_long_as_it_holds(lab: Lab) -> None:
    link = lab.links[0]
    with (
        server(lab.host, "0.0.0.0", 80),
        server(lab.host, link.host_ip, 443),
        server(lab.host, "127.0.0.1", 5432),
        Daemon(lab, MONITOR) as daemon,
    ):
        assert warned(daemon) == []
        daemon.configure(DROP)
        told = daemon.control("reload").stdout
        named = (
            f"not reachable over {link.host}: {OWN_NAME} on tcp/80 and tcp/443; no rule lets a new connection in there"
        )
        assert named in told
        assert [text.partition(" (only")[0].partition("; let")[0] for text in warned(daemon)] == [named]
        daemon.wait(lambda: "not reachable" in daemon.said(), "the journal's entry")
        assert named in json.loads(daemon.control("-o", "json", "status").stdout)["warnings"][-1]

        daemon.control("add-cidr", f"{link.outside_ip}/32", "--action", "allow")
        assert warned(daemon) == []
        only = f"{OWN_NAME} on tcp/80 and tcp/443: new connections are allowed only from {link.outside_ip}"
        assert daemon.status()["only_from"] == [only]
        removed = daemon.control("remove-cidr", f"{link.outside_ip}/32")
        assert named in removed.stdout + removed.stderr
        daemon.control("add-cidr", "0.0.0.0/0", "--action", "monitor")
        assert (warned(daemon), daemon.status()["only_from"]) == ([], [])


def test_check_says_it_before(lab: Lab) -> None:
    daemon = Daemon(lab, DROP)
    try:
        with server(lab.host, "0.0.0.0", 80):
            (note,) = noted(lab, daemon)
            assert note["text"] == 'default = "drop"'
            assert note["what"].startswith(f"not reachable: {OWN_NAME} on tcp/80; no rule lets a new connection in")
            daemon.write_rules("1.toml", '[[rule]]\ncidr = "192.0.2.0/24"\naction = "allow"\n')
            (note,) = noted(lab, daemon)
            assert note["what"] == f"{OWN_NAME} on tcp/80: new connections are allowed only from 192.0.2.0/24"
    finally:
        daemon.remove()


def test_apply_says_each_time_what_becomes_unreachable_or_that_nothing_does(lab: Lab) -> None:
    with server(lab.host, "0.0.0.0", 80), Daemon(lab, MONITOR) as daemon:
        for _ in range(2):
            told = daemon.control("apply", "--default", "drop").stdout
            assert f"  not reachable over {lab.links[0].host}: {OWN_NAME} on tcp/80; no rule" in told
        daemon.control("rollback")
        daemon.control("allow", "tcp/80", "from", "192.0.2.0/24")
        told = daemon.control("apply", "--default", "drop").stdout.splitlines()[2:]
        assert told == [
            "  every service that listens on this host can still be reached",
            f"  {OWN_NAME} on tcp/80: new connections are allowed only from 192.0.2.0/24",
        ]
