"""What other rules would have done, told before, and what they do once they are in force: the same, flow by flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tmlab import Daemon, Lab, Sender
from tmlab.packets import tcp, udp

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

SYN = 2
OTHER = """
[[rule]]
cidr = "203.0.113.0/24"
action = "drop"
ports = ["udp/53"]
label = "no DNS"

[[rule]]
cidr = "198.51.100.0/24"
action = "allow"
label = "mended"
"""
NOW = """
[[rule]]
cidr = "198.51.100.0/24"
action = "drop"
label = "shut"
"""


def test_what_is_reported_is_what_happens() -> None:
    with Lab() as lab, Daemon(lab, rules={"10-now.toml": NOW}) as daemon:
        host = lab.links[0].host_ip
        frames = [
            *(udp(f"203.0.113.{at}", host, dport=53) for at in range(1, 4)),
            *(udp(f"203.0.113.{at}", host, dport=123) for at in range(1, 6)),
            *(tcp(f"198.51.100.{at}", host, 1024, 80, SYN) for at in range(1, 8)),
            *(udp(f"100.64.0.{at}", host, dport=9) for at in range(1, 10)),
        ]
        folder = daemon.home / "other"
        folder.mkdir()
        (folder / "20-other.toml").write_text(OTHER)
        with Sender(lab.outside, lab.links[0].outside) as sender:
            sender.send(frames)
            told = daemon.wait(lambda: _told(daemon, folder), "all flows", 15, 0.3)
            assert (told["dropped"]["packets"], told["passed"]["packets"]) == (3, 7)
            assert [row["rule"] for row in told["dropped"]["rules"]] == ["no DNS"]
            assert [row["service"] for row in told["dropped"]["services"]] == ["udp/53"]
            assert {row["source"] for row in told["dropped"]["sources"]} == {f"203.0.113.{at}" for at in range(1, 4)}
            assert [(row["before_rule"], row["rule"]) for row in told["passed"]["rules"]] == [("shut", "mended")]
            assert not _judged(daemon, "what-if", str(daemon.cidr_dir))["differs"]
            assert _judged(daemon, "what-if", "--default", "drop")["dropped"]["flows"] == 17, "what came in unasked"

            dropped = daemon.status()["accounting"]["dropped"]["packets"]
            (daemon.cidr_dir / "10-now.toml").unlink()
            daemon.write_rules("20-other.toml", OTHER)
            daemon.control("reload")
            sender.send(frames)
            daemon.wait(lambda: _counts(daemon) == {"no DNS": 3, "mended": 7}, "the other rules' packets")
            assert daemon.status()["accounting"]["dropped"]["packets"] - dropped == 3


def _told(daemon: Daemon, folder: Path) -> dict[str, Any] | None:
    told = _judged(daemon, "what-if", str(folder))
    return told if (told["dropped"]["flows"], told["passed"]["flows"]) == (3, 7) else None


def _counts(daemon: Daemon) -> dict[str, int]:
    return {row["label"]: row["packets"] for row in daemon.ask("rules") if row["label"] in ("no DNS", "mended")}


def test_a_prefix_is_tried_before_it_is_dropped() -> None:
    with Lab() as lab, Daemon(lab) as daemon, Sender(lab.outside, lab.links[0].outside) as sender:
        host = lab.links[0].host_ip
        sender.send([*(udp("203.0.113.9", host, dport=at) for at in (53, 123)), tcp("100.64.0.8", host, 1024, 22, SYN)])
        args = "add-cidr", "203.0.113.0/24", "--dry-run"
        daemon.wait(lambda: _judged(daemon, *args)["dropped"]["flows"] == 2, "all flows", 15, 0.3)
        told = _judged(daemon, *args)
        assert (told["dropped"]["packets"], [row["source"] for row in told["dropped"]["sources"]]) == (
            2,
            ["203.0.113.9"],
        )
        assert _judged(daemon, *args, "--port", "udp/53")["dropped"]["flows"] == 1
        assert _judged(daemon, *args, "--action", "monitor")["differs"] is False
        assert _judged(daemon, *args, "--limit", "5/s")["limited"]["flows"] == 2
        banned = _judged(daemon, "ban", "100.64.0.8", "--dry-run")
        assert banned["dropped"]["rules"][0]["rule"] == "ban"
        assert not daemon.ask("bans")
        assert not [row for row in daemon.ask("rules") if row["kind"] == "rule"]


def _judged(daemon: Daemon, *arguments: str) -> dict[str, Any]:
    done = daemon.control(*arguments, "-o", "json", check=False)
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == int(answer["differs"]), done.stderr
    return answer
