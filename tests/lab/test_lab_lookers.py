"""Those who look: whatever they do, nothing is stored for it and no flow goes uncounted."""

from __future__ import annotations

import contextlib
import json
import socket
import time

import pytest
from tmlab import Daemon, Flood, Lab, Sender
from tmlab.packets import udp

from trafficmond.control.client import Client

WATCH = json.dumps({"method": "io.trafficmon.Watch", "parameters": {}, "more": True}).encode() + b"\0"
WATCHERS = 40
NEW_FLOWS_PER_S = 25_000
SECONDS = 5


@pytest.mark.root
def test_a_thousand_looks_store_nothing_and_see_everything() -> None:
    settings = "[flows]\nidle_timeout = '5m'\nactive_timeout = '10m'\n"
    with Lab() as lab, Daemon(lab, settings) as daemon, Sender(lab.outside, lab.links[0].outside) as sender:
        frames = [udp(f"198.51.100.{number}", lab.links[0].host_ip, 1024, 9) for number in range(1, 201)]
        sender.send(frames)
        with Client(str(daemon.socket)) as client:
            group = {"group_by": ["protocol"], "host": "198.51.100.0/24"}
            for looks in range(1000):
                if looks % 100 == 0:
                    sender.send(frames)
                    (row,) = client.call("Flows", **group)["rows"]
                    assert (row["flows"], row["packets"]) == (200, 200 * (2 + looks // 100))
                elif looks % 10 == 0:
                    assert client.call("Explain", address="198.51.100.7")["packets"] == 2 + looks // 100
                else:
                    client.call("Flows", limit=1)
            assert client.call("Status")["store"]["rows"] == 0


@pytest.mark.root
def test_watchers_that_do_not_read_cost_the_ledger_nothing() -> None:
    with Lab() as lab, Daemon(lab) as daemon, contextlib.ExitStack() as stack:
        for _ in range(WATCHERS):
            watcher = stack.enter_context(socket.socket(socket.AF_UNIX))
            watcher.connect(str(daemon.socket))
            watcher.sendall(WATCH)
        flood = stack.enter_context(Flood(lab, lab.links[0], "198.0.0.0/8"))
        began, sent = time.monotonic(), 0
        while (passed := time.monotonic() - began) < SECONDS:
            due = int(passed * NEW_FLOWS_PER_S) - sent
            if due:
                flood.send(due)
                sent += due
            time.sleep(0.02)
        with Client(str(daemon.socket)) as client:
            status = client.call("Status")
        assert status["control"]["clients"] == WATCHERS + 1
        assert status["control"]["lost_records"] > 0
        assert status["accounting"]["seen"]["packets"] >= sent * 0.9
        assert status["accounting"]["unattributed"]["packets"] == 0
