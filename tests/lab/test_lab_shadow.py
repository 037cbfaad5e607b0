"""Rules in shadow: what lies beneath judges, and both are booked, to the packet."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from tmlab import Daemon, Lab, Listener, Sender
from tmlab.packets import tcp, udp

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

SYN, ACK = 2, 16
RULES = """
[[rule]]
cidr = "203.0.113.0/24"
action = "drop"
label = "beneath"

[[rule]]
cidr = "203.0.113.64/26"
action = "allow"
shadow = true
label = "would let in"

[[rule]]
cidr = "198.51.100.0/24"
action = "drop"
shadow = true
ports = ["udp/9"]
label = "would shut"

[[rule]]
cidr = "100.64.0.0/24"
action = "limit"
limit = "2/s"
burst = 5
shadow = true
label = "would limit"

[[rule]]
cidr = "100.64.1.0/24"
action = "limit"
limit = "1/s"
burst = 4
label = "limits"

[[rule]]
cidr = "100.64.1.0/25"
action = "limit"
limit = "1/s"
burst = 2
shadow = true
label = "would limit more"
"""


@pytest.mark.parametrize("loader", ["libbpf", "bcc"])
def test_what_lies_beneath_judges_and_both_are_booked(loader: str) -> None:
    settings = f'loader = "{loader}"\n[[log]]\nformat = "jsonl"\npath = "{{home}}/events.jsonl"\n'
    with Lab() as lab, Daemon(lab, settings, rules={"10.toml": RULES}) as daemon:
        host = lab.links[0].host_ip
        with Listener(lab.host, host) as heard, Sender(lab.outside, lab.links[0].outside) as sender:
            frames = [
                *[udp("203.0.113.1", host)] * 3,
                *[udp("203.0.113.65", host)] * 4,
                *[udp("198.51.100.7", host)] * 6,
                *[udp("198.51.100.7", host, dport=10)] * 2,
                *[udp("100.64.0.9", host)] * 8,
                *[udp("100.64.1.9", host)] * 6,
                *[udp("100.64.1.200", host)] * 5,
            ]
            sender.send(frames)
            got = heard.heard()
            assert got == {"198.51.100.7": 6, "100.64.0.9": 8, "100.64.1.9": 4, "100.64.1.200": 4}
            daemon.wait(lambda: sum(row["packets"] for row in _rules(daemon).values()) == 42, "all packets")
            rules = _rules(daemon)
            told = {name: (row["packets"], (row["would_drop"] or {}).get("packets")) for name, row in rules.items()}
            assert told == {
                "beneath": (3 + 4, None),
                "would let in": (4, 0),
                "would shut": (6, 6),
                "would limit": (8, 3),
                "limits": (6 + 5, None),
                "would limit more": (6, 4),
            }
            status = daemon.status()
            assert status["accounting"]["dropped"]["packets"] == 3 + 4 + 2 + 1
            shadows = {row["name"]: row for row in status["shadows"]}
            assert shadows["would shut"]["would_drop"]["packets"] == 6
            assert "would have dropped 6 packets" in daemon.control("status").stdout
            assert "trafficmon_would_drop_packets_total 13" in daemon.control("metrics").stdout
            explained = daemon.ask("explain", "198.51.100.7", "udp/9")
            assert (explained["action"], "in shadow" in explained["decisions"][0]["why"]) == ("monitor", True)
            log = [json.loads(line) for line in (daemon.home / "events.jsonl").read_text().splitlines()]
            would = {(each["action"], each["rule"], each["would"], each["would_rule"]) for each in log if each["would"]}
            assert ("LOG", "default", "drop", "would shut") in would
            assert ("DROP", "beneath", "allow", "would let in") in would


def test_a_default_in_shadow_says_whom_it_would_meet() -> None:
    """New connections from outside would be dropped; replies and what the network needs would not."""
    settings = '[policy]\ndefault = "drop"\ndefault_shadow = true\n'
    rules = '[[rule]]\ncidr = "100.64.0.0/24"\naction = "allow"\nlabel = "let in"\n'
    with Lab() as lab, Daemon(lab, settings, rules={"10.toml": rules}) as daemon:
        host, outside = lab.links[0].host_ip, lab.links[0].outside_ip
        with Listener(lab.host, host) as heard, Sender(lab.outside, lab.links[0].outside) as sender:
            sender.send([*[udp("198.51.100.7", host)] * 5, *[udp("100.64.0.1", host)] * 2])
            assert heard.heard() == {"198.51.100.7": 5, "100.64.0.1": 2}
            before = daemon.wait(lambda: _would_drop(daemon) >= 5 and _would_drop(daemon), "what would be dropped")
            with lab.host.entered():
                asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with asking:
                asking.bind((host, 0))
                asking.sendto(b"?", (outside, 7777))
                port = asking.getsockname()[1]
                sender.send([udp(outside, host, 7777, port)] * 3)
                daemon.wait(lambda: _default(daemon)["packets"] >= 8, "the replies")
            assert _would_drop(daemon) == before, "replies are none"
            assert daemon.status()["accounting"]["dropped"]["packets"] == 0
            assert daemon.status()["rules"]["default"] == "drop in shadow"
            sender.send([tcp("198.51.100.8", host, 1024, 22, SYN)])
            daemon.wait(lambda: _would_drop(daemon) == before + 1, "one more")
            explained = daemon.ask("explain", "198.51.100.7")
            assert [(each["kind"], each["action"]) for each in explained["decisions"]] == [
                ("default", "drop"),
                ("default", "monitor"),
            ]
            assert explained["action"] == "monitor"


def test_what_is_promoted_is_in_force() -> None:
    text = '[[rule]]\ncidr = "203.0.113.0/24"\naction = "drop"\nshadow = true\nlabel = "filed"\n'
    with Lab() as lab, Daemon(lab, rules={"10.toml": text}) as daemon:
        host = lab.links[0].host_ip
        daemon.control("add-cidr", "198.51.100.0/24", "--shadow", "--label", "hand")
        with Listener(lab.host, host) as heard, Sender(lab.outside, lab.links[0].outside) as sender:
            frames = [udp("198.51.100.7", host), udp("203.0.113.7", host), udp("100.64.0.1", host)]
            sender.send(frames)
            assert len(heard.heard()) == 3
            daemon.control("promote", "hand")
            shown = daemon.control("promote", "filed", check=False)
            assert (shown.returncode, "10.toml:4: remove this line" in shown.stdout) == (1, True)
            sender.send(frames)
            assert set(heard.heard()) == {"203.0.113.7", "100.64.0.1"}
            daemon.control("promote", "filed", "--write")
            daemon.wait(lambda: not daemon.status().get("shadows"), "the file to be read again")
            sender.send(frames)
            assert set(heard.heard()) == {"100.64.0.1"}


def _rules(daemon: Daemon) -> dict[str, Any]:
    return {row["label"]: row for row in daemon.ask("rules") if row["label"] and row["kind"] == "rule"}


def _default(daemon: Daemon) -> dict[str, Any]:
    (row,) = daemon.status()["shadows"]
    found: dict[str, Any] = row
    return found


def _would_drop(daemon: Daemon) -> int:
    return int(_default(daemon)["would_drop"]["packets"])
