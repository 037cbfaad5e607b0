"""One daemon, real packets: the ledger, flows.db, an IPFIX collector, ClickHouse and the metrics have the same sums."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from clickhouse_server import ClickHouseServer
from ipfix_decoder import Decoder
from test_export_collector import Udp

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

PACKETS, OCTETS = 2, 1
SETTINGS = """
[flows]
interval = "200ms"
idle_timeout = "1s"
[metrics]
listen = "127.0.0.1:9177"
[[export]]
to = "ipfix+udp://127.0.0.1:{udp}"
[[export]]
to = "{clickhouse}"
batch_interval = "500ms"
"""
RULES = {"10.toml": '[[rule]]\ncidr = "203.0.113.0/24"\naction = "drop"\n'}


def until(condition: Callable[[], bool], told: Callable[[], object], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.2)


def test_the_same_sums_everywhere(tmp_path: Path) -> None:
    from tmlab import Daemon, Lab, Sender
    from tmlab.packets import udp

    with Lab(quiet=True) as lab, lab.host.entered():
        collector = Udp()
        taking = threading.Thread(target=collector.take, args=(12.0,), daemon=True)
        taking.start()
        with (
            ClickHouseServer(tmp_path) as server,
            Daemon(lab, SETTINGS.format(udp=collector.port, clickhouse=server.url), rules=RULES) as daemon,
        ):
            link = lab.links[0]
            sources = [f"203.0.113.{n}" for n in range(1, 101)] + [f"198.51.100.{n}" for n in range(1, 101)]
            frames = [udp(source, "192.0.2.1", payload=b"x" * size) for source in sources for size in (0, 100, 1000)]
            with_lab = Sender(lab.outside, link.outside)
            for _ in range(10):
                with_lab.send(frames)
                time.sleep(0.1)

            def status() -> dict[str, object]:
                with daemon.client() as client:
                    return client.call("Status")

            def settled() -> bool:
                now = status()
                idle = all(export["queue"] == 0 for export in now["exports"])  # type: ignore[attr-defined]
                return now["flows"] == 0 and idle

            until(settled, status)
            time.sleep(1.0)
            ledger = status()["accounting"]["in_flows"]  # type: ignore[index]
            assert ledger["packets"] == 10 * len(frames)

            with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as database:
                question = "SELECT sum(packets + reply_packets), sum(bytes + reply_bytes) FROM flows"
                stored = database.execute(question).fetchone()
            counts = server.counts()
            decoder: Decoder = collector.decoder
            text = daemon.control("metrics").stdout
            counted = [
                sum(int(value) for value in re.findall(rf"^trafficmon_{unit}_total{{.*}} (\d+)$", text, re.MULTILINE))
                for unit in ("packets", "bytes")
            ]
            sums = (ledger["packets"], ledger["bytes"])
            assert stored == sums, "flows.db"
            assert (decoder.sums(PACKETS), decoder.sums(OCTETS)) == sums, "IPFIX"
            assert (decoder.gaps, decoder.unknown) == (0, 0)
            assert (counts["packets"] + counts["reply_packets"], counts["bytes"] + counts["reply_bytes"]) == sums
            assert counts["rows"] == counts["distinct"]
            assert tuple(counted) == sums, "metrics"

            shown = daemon.control("status").stdout
            assert f"to ipfix+udp://127.0.0.1:{collector.port}, " in shown
            assert "0 waiting, 0 lost" in shown

            # Another target from now on, without a restart; what was sent is not sent again.
            daemon.config.write_text(daemon.config.read_text().replace('"500ms"', '"600ms"').replace(":9177", ":9178"))
            daemon.control("reload")
            assert [export["sent"] for export in status()["exports"]][1] == 0  # type: ignore[attr-defined]
            assert "trafficmon_build_info" in lab.host.run("curl", "-s", "http://127.0.0.1:9178/metrics").stdout
            assert lab.host.run("curl", "-s", "http://127.0.0.1:9177/metrics", check=False).returncode == 7
            assert server.counts()["rows"] == counts["rows"]
