"""A wall clock that jumps a day forward and back under a running daemon: flows, bans, rollups, logs."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest
from tmlab import Daemon, Lab, Listener, Sender
from tmlab.daemon import ROOT
from tmlab.packets import udp

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

DAY_S = 86400.0
SETTINGS = """
[flows]
interval = "200ms"
idle_timeout = "1s"
active_timeout = "5s"
[[log]]
format = "jsonl"
path = "{home}/traffic.jsonl"
prefixes = ["203.0.113.0/24"]
rotate_size = "10KiB"
max_files = 100
min_severity = "none"
"""
# What only a process of its own sees: time.time() goes by the offset in a file.
JUMPING = """
import os, time
_real = time.time
def _time():
    with open(os.environ["TMLAB_CLOCK"]) as file:
        return _real() + float(file.read())
time.time = _time
"""


class Clock:
    """The daemon's wall clock, by how many seconds it is ahead."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "ahead"
        (folder / "sitecustomize.py").write_text(JUMPING)
        self.environment = {"TMLAB_CLOCK": str(self._file), "PYTHONPATH": f"{folder}:{ROOT}"}
        self.jump(0.0)

    def jump(self, ahead_s: float) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(ahead_s))
        fresh.rename(self._file)


def test_a_day_forward_and_back(lab: Lab, tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    link = lab.links[0]
    sent = 0
    begun = time.time()
    with (
        Daemon(lab, SETTINGS, environment=clock.environment) as daemon,
        Sender(lab.outside, link.outside) as sender,
        Listener(lab.host, link.host_ip) as listener,
    ):

        def send(count: int) -> None:
            """So many flows of two packets each, in two readings of the ledger, and one that goes on all the time."""
            nonlocal sent
            sender.send([udp("203.0.113.8", link.host_ip, 5)])
            for ports in (range(count // 2), range(count // 2, count)):
                for _ in range(2):
                    sender.send([udp("203.0.113.7", link.host_ip, 1024 + sent + at) for at in ports])
                time.sleep(0.5)
            sent += count

        def stored() -> bool:
            """Whether all flows that are over are stored, with nobody asking for it."""
            return daemon.sql("SELECT sum(packets) FROM flows WHERE src_ip = '203.0.113.7'") == [(2 * sent,)]

        def ruled() -> dict[str, float]:
            """By prefix, how many seconds the rules made by hand still last, by the clock that the daemon goes by."""
            return {
                rule["cidr"]: rule["expires"] - time.time() - ahead for rule in daemon.ask("rules") if rule["expires"]
            }

        def banned() -> list[str]:
            return [row["cidr"] for row in daemon.ask("bans")]

        daemon.control("ban", "198.51.100.1", "--ttl", "1h")
        daemon.control("ban", "198.51.100.2", "--ttl", "4d")
        daemon.control("add-cidr", "198.51.101.1", "--ttl", "1h")
        daemon.control("add-cidr", "198.51.101.2", "--ttl", "4d", "--save")
        assert len(banned()) == 2
        for ahead in (0.0, DAY_S, 0.0, -DAY_S, 0.0):
            clock.jump(ahead)
            send(20)  # the data path's clock is still that of before
            daemon.wait(stored, f"the flows at {ahead:+.0f} s", 20)
            assert banned() == ["198.51.100.2/32", "198.51.100.1/32"], "bans last for a time, not until a date"
            left = {ban["cidr"]: ban["expires"] - time.time() - ahead for ban in daemon.ask("bans")}
            assert 3400 < left["198.51.100.1/32"] <= 3601
            assert 0 <= time.time() + ahead - daemon.status()["started_at"] < 110, "it has run for as long as it has"
            ruled_for = ruled()
            assert 3400 < ruled_for["198.51.101.1"] <= 3601, "so do rules"
            assert 3400 < ruled_for["198.51.101.2"] - 4 * DAY_S + 3600 <= 3601
            send(20)
            daemon.wait(stored, f"the later flows at {ahead:+.0f} s", 20)
            listener.heard()
            sender.send([udp("198.51.100.2", link.host_ip)])
            sender.send([udp("198.51.100.1", link.host_ip)])
            sender.send([udp("198.51.101.1", link.host_ip), udp("198.51.101.2", link.host_ip)])
            assert not listener.heard(), "banned, and dropped by rules, for four days and for an hour"
        daemon.ask("flows")
        status = daemon.wait_status(lambda status: status["logs"][0]["queue"] == 0, "the log to be written")
        ended = time.time()
        ((flows, packets, early, late, odd),) = daemon.sql(
            "SELECT count(*), sum(packets), min(first_seen), max(last_seen), sum(first_seen > last_seen) FROM flows"
        )
        steady = daemon.sql("SELECT sum(packets) FROM flows WHERE src_ip = '203.0.113.8'")
        rollups = daemon.sql(
            "SELECT period, sum(flows), sum(packets) FROM rollups WHERE kind = 'total' GROUP BY period ORDER BY period"
        )
        assert daemon.stop() == 0
        log = lines(daemon.home / "traffic.jsonl")
        assert "failed" not in daemon.said()

    assert steady == [(10,)]
    assert rollups == [(period, flows, packets) for period in ("day", "hour", "minute")]
    assert begun - DAY_S - 2 < early <= late < ended + DAY_S + 2
    assert odd == 0, "none ends before it begins"
    assert status["store"]["lost_rows"] == status["logs"][0]["lost"] == 0
    assert len(log) == status["logs"][0]["written"]
    ports = [row["src_port"] for row in log if row["src_ip"] == "203.0.113.7"]
    assert set(ports) == set(range(1024, 1024 + sent))
    assert all(abs(port - 1024 - at / len(ports) * sent) < 60 for at, port in enumerate(ports)), "files in their order"


def lines(path: Path) -> list[dict[str, object]]:
    """The log's lines, those of rotated files first, in the order of their names."""
    rotated = sorted(each for each in path.parent.glob(f"{path.name}.*"))
    assert len(rotated) > 2
    texts = [gzip.decompress(each.read_bytes()) if each.suffix == ".gz" else each.read_bytes() for each in rotated]
    return [json.loads(line) for text in [*texts, path.read_bytes()] for line in text.splitlines()]
