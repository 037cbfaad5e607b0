"""The live screen's figures: rows outlast a pause, and their sums are what the interface and `status` say."""

from __future__ import annotations

import time
from typing import Any

import pytest
from door import ask
from tmlab import Daemon, Lab, Sender
from tmlab.packets import udp

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


def rate(row: dict[str, Any], window_s: int) -> float:
    (found,) = (each for each in row["rates"] if each["window_s"] == window_s)
    return float(found["sent_bytes_per_s"] + found["received_bytes_per_s"])


def test_a_talker_that_pauses_stays_and_the_sums_agree(lab: Lab) -> None:
    link = lab.links[0]
    with Daemon(lab, '[flows]\ninterval = "500ms"\n') as daemon, Sender(lab.outside, link.outside) as sender:
        packets = [udp(f"192.0.2.{host}", link.host_ip, sport=4000, payload=bytes(100)) for host in (7, 7, 8)]
        sender.send(packets)

        def seen() -> dict[str, Any] | None:
            top = ask(daemon, "Top", match="4000")
            return top if len(top["flows"]) == 2 and top["at"] > began + 3 else None

        began = time.time()
        top = daemon.wait(seen, "both flows, three seconds later")
        assert [row["src_ip"] for row in top["flows"]] == ["192.0.2.7", "192.0.2.8"], "the busiest first"
        first, second = top["flows"]
        assert (first["sent_packets"], first["received_packets"], first["bytes_per_s"]) == (2, 0, 0.0)
        assert rate(first, 2) == 0.0, "it has paused"
        assert rate(first, 10) == pytest.approx(2 * rate(second, 10))
        assert rate(top, 40) == pytest.approx(rate(first, 40) + rate(second, 40))
        assert {host["address"]: host["flows"] for host in top["hosts"]}[link.host_ip] == 2

        everything = ask(daemon, "Top", limit=500)
        (interface,) = everything["interfaces"]
        flows = sum(rate(row, 40) for row in everything["flows"])
        assert rate(interface, 40) == pytest.approx(flows) == pytest.approx(rate(everything, 40))
        (counted,) = daemon.status()["interfaces"]
        assert counted["bytes"] >= sum(row["bytes"] for row in everything["flows"])
        assert daemon.control("top").stdout.count("192.0.2.7:4000") == 1
        assert daemon.ask("report")["summary"]["total_packets"] >= 3, "though nothing is stored yet"
