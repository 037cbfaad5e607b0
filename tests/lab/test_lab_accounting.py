"""Every packet and every byte: what went over the wire, what status accounts for and what flows.db adds up to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tmlab import Capture, Daemon, Flood, Lab, Sender, read_capture
from tmlab.packets import udp

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

PCAPS = Path(__file__).parents[3] / "shared" / "data" / "pcaps"
SETTINGS = """
[flows]
interval = "200ms"
idle_timeout = "1s"
[[log]]
format = "jsonl"
path = "{home}/traffic.jsonl"
"""
STORED = "SELECT coalesce(sum(packets + reply_packets), 0), coalesce(sum(bytes + reply_bytes), 0) FROM flows"

Pair = tuple[int, int]


def pair(count: dict[str, int] | None) -> Pair:
    return (count["packets"], count["bytes"]) if count else (0, 0)


def minus(a: Pair, b: Pair) -> Pair:
    return a[0] - b[0], a[1] - b[1]


def accounted(accounting: dict[str, Any]) -> Pair:
    parts = [pair(accounting.get(part)) for part in ("in_flows", "unattributed", "not_ip", "malformed", "pending")]
    return sum(part[0] for part in parts), sum(part[1] for part in parts)


def at_rest(daemon: Daemon, seen: Pair) -> dict[str, Any]:
    """The accounting once `seen` packets were counted and the ledger has been read after that: only then it is known
    how much of what a full ring summed up had been read before."""
    daemon.wait_status(
        lambda s: pair(s["accounting"]["seen"]) == seen and pair(s["accounting"].get("pending")) == (0, 0),
        f"{seen[0]} packets, {seen[1]} bytes seen and none pending",
    )
    daemon.ask("flows", "--limit", "1")
    accounting: dict[str, Any] = daemon.status()["accounting"]
    return accounting


def captures() -> list[Capture]:
    if not PCAPS.is_dir():
        pytest.skip(f"needs captures, which the checkout does not hold: put them in {PCAPS}")
    paths = sorted(path for folder in ("robust", "attacks") for path in (PCAPS / folder).glob("*.pcap*"))
    return [read_capture(path) for path in paths]


@pytest.mark.parametrize(
    ("mtu", "mode"), [(1500, "native"), (65521, "generic")], ids=["native XDP", "jumbo frames, generic XDP"]
)
def test_every_capture_is_accounted_to_the_packet_and_the_byte(mtu: int, mode: str) -> None:
    fitting = [capture for capture in captures() if (capture.longest <= 1514) == (mtu == 1500)]
    assert fitting
    wrong = []
    total = (0, 0)
    with Lab(quiet=True, mtu=mtu) as lab, Daemon(lab, SETTINGS) as daemon:
        assert [each["mode"] for each in daemon.status()["interfaces"]] == [mode]
        with Sender(lab.outside, lab.links[0].outside) as sender:
            for capture in fitting:
                sent = sender.send(capture.frames)
                assert not sent.skipped, capture.path
                total = total[0] + sent.packets, total[1] + sent.bytes
                accounting = at_rest(daemon, total)
                if accounted(accounting) != total:
                    wrong.append((capture.path.name, minus(total, accounted(accounting)), accounting))
        accounting = at_rest(daemon, total)
        assert daemon.stop() == 0
        assert wrong == []
        assert daemon.sql(STORED) == [pair(accounting["in_flows"])]
        # With nothing evicted unread, flows.db and the two counters for what is no flow are all there is.
        if pair(accounting["unattributed"]) == (0, 0):
            rest = accounted({"not_ip": accounting["not_ip"], "malformed": accounting["malformed"]})
            assert minus(total, rest) == daemon.sql(STORED)[0]


def test_a_flood_of_single_packet_flows_is_accounted_exactly() -> None:
    packets = 1_000_000
    settings = SETTINGS.replace("[flows]", "[flows]\ncapacity = 4096")
    with Lab(quiet=True) as lab, Daemon(lab, settings) as daemon, Flood(lab, lab.links[0], "198.18.0.0/15") as flood:
        flood.deliver(packets)
        total = (packets, packets * flood.frame_bytes)
        accounting = at_rest(daemon, total)
        assert accounted(accounting) == total
        assert pair(accounting["not_ip"]) == pair(accounting["malformed"]) == (0, 0)
        assert daemon.stop() == 0
        assert daemon.sql(STORED) == [pair(accounting["in_flows"])]


def test_two_interfaces_are_counted_apart() -> None:
    with Lab(links=2, quiet=True) as lab:
        names = [link.host for link in lab.links]
        with Daemon(lab, SETTINGS, interfaces=["tmlab*"]) as daemon:
            for count, link in enumerate(lab.links, start=3):
                with Sender(lab.outside, link.outside) as sender:
                    sender.send([udp("203.0.113.7", link.host_ip)] * count)
            status = daemon.wait_status(lambda s: s["accounting"]["seen"]["packets"] == 7, "7 packets")
            assert {each["name"]: each["packets"] for each in status["interfaces"]} == dict(
                zip(names, (3, 4), strict=True)
            )
            daemon.stop()
            rows = daemon.sql("SELECT interface, sum(packets) FROM flows GROUP BY interface ORDER BY interface")
            assert rows == list(zip(names, (3, 4), strict=True))


def test_both_directions_of_a_conversation_are_one_flow() -> None:
    with Lab() as lab, Daemon(lab, SETTINGS) as daemon:
        link = lab.links[0]
        lab.outside.run("ping", "-c", "5", "-i", "0.05", link.host_ip)
        lab.outside.run("ping", "-c", "4", "-i", "0.05", link.host_ip6)
        daemon.wait_status(lambda s: s["accounting"]["seen"]["packets"] >= 18, "18 packets")
        daemon.stop()
        query = (
            "SELECT src_ip, dst_ip, sum(packets), sum(reply_packets) FROM flows WHERE protocol = '{}' AND src_port = {}"
        )
        assert daemon.sql(query.format("ICMP", 8)) == [(link.outside_ip, link.host_ip, 5, 5)]
        assert daemon.sql(query.format("ICMPv6", 128)) == [(link.outside_ip6, link.host_ip6, 4, 4)]
