"""One daemon, real packets: the ledger, flows.db, an IPFIX collector, ClickHouse and the metrics have the same sums."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
PCAPS = Path(__file__).parents[3] / "shared" / "data" / "pcaps"
RULES = {"10.toml": '[[rule]]\ncidr = "203.0.113.0/24"\naction = "drop"\n'}


def until(condition: Callable[[], bool], told: Callable[[], object], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.2)


def made() -> list[list[bytes]]:
    """Three packets of each of 200 sources, ten times over."""
    from tmlab.packets import udp

    sources = [f"203.0.113.{n}" for n in range(1, 101)] + [f"198.51.100.{n}" for n in range(1, 101)]
    return [[udp(source, "192.0.2.1", payload=b"x" * size) for source in sources for size in (0, 100, 1000)]] * 10


def captured() -> list[list[bytes]]:
    """Real traffic of every kind, malformed too; the shorter captures first, as far as half a minute goes."""
    from tmlab import read_capture

    if not PCAPS.is_dir():
        pytest.skip(f"needs captures, which the checkout does not hold: put them in {PCAPS}")
    paths = sorted(PCAPS.rglob("*.pcap*"), key=lambda path: path.stat().st_size)
    frames = [capture.frames for capture in map(read_capture, paths[:400]) if 0 < capture.longest <= 1514]
    return [each for at, each in enumerate(frames) if sum(map(len, frames[:at])) < 60_000]


@pytest.mark.parametrize("traffic", [made, captured])
def test_the_same_sums_everywhere(traffic: Callable[[], list[list[bytes]]], tmp_path: Path) -> None:
    from tmlab import Daemon, Lab, Sender

    bursts = traffic()
    with Lab(quiet=True) as lab, lab.host.entered():
        collector = Udp()
        taking = threading.Thread(target=collector.take, args=(25.0,), daemon=True)
        taking.start()
        with (
            ClickHouseServer(tmp_path) as server,
            Daemon(lab, SETTINGS.format(udp=collector.port, clickhouse=server.url), rules=RULES) as daemon,
        ):
            sender = Sender(lab.outside, lab.links[0].outside)
            for frames in bursts:
                sender.send(frames)

            def status() -> dict[str, Any]:
                with daemon.client() as client:
                    return client.call("Status")

            def stored() -> tuple[int, int]:
                with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as database:
                    question = "SELECT total(packets + reply_packets), total(bytes + reply_bytes) FROM flows"
                    packets, octets = database.execute(question).fetchone()
                return int(packets), int(octets)

            def threats_here() -> list[tuple[object, ...]]:
                with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as database:
                    return list(database.execute("SELECT id, detector, src_ip FROM threats ORDER BY id"))

            def threats_there() -> list[tuple[object, ...]]:
                rows = server.ask("SELECT id, detector, src_ip FROM trafficmon.threats FINAL ORDER BY id")
                return [tuple(row) for row in rows]

            def settled() -> bool:
                now = status()
                ledger = now["accounting"]["in_flows"]
                idle = all(export["queue"] == 0 for export in now["exports"])
                return idle and stored() == (ledger["packets"], ledger["bytes"]) > (0, 0)

            until(settled, lambda: (status(), stored()))
            time.sleep(0.5)  # for the last datagrams to be read
            accounting = status()["accounting"]
            ledger, seen = accounting["in_flows"], accounting["seen"]
            assert seen["packets"] == sum(map(len, bursts))

            counts = server.counts()
            decoder: Decoder = collector.decoder
            text = daemon.control("metrics").stdout
            counted = [
                sum(int(value) for value in re.findall(rf"^trafficmon_{unit}_total{{.*}} (\d+)$", text, re.MULTILINE))
                for unit in ("packets", "bytes")
            ]
            sums = (ledger["packets"], ledger["bytes"])
            assert stored() == sums, "flows.db"
            assert (decoder.sums(PACKETS), decoder.sums(OCTETS)) == sums, "IPFIX"
            assert (decoder.gaps, decoder.unknown) == (0, 0)
            assert (counts["packets"] + counts["reply_packets"], counts["bytes"] + counts["reply_bytes"]) == sums
            assert counts["rows"] == counts["distinct"]
            until(lambda: threats_there() == threats_here(), lambda: (threats_there(), threats_here()))
            assert threats_here() or traffic is made, "the captures hold attacks"
            assert counted == [seen["packets"], seen["bytes"]], "metrics"
            for unit in ("packets", "bytes"):
                assert f'trafficmon_accounted_{unit}{{class="in_flows"}} {ledger[unit]}\n' in text

            shown = daemon.control("status").stdout
            assert f"to ipfix+udp://127.0.0.1:{collector.port}, " in shown
            assert "0 waiting, 0 lost" in shown

            # Another target from now on, without a restart; what was sent is not sent again.
            daemon.config.write_text(daemon.config.read_text().replace('"500ms"', '"600ms"').replace(":9177", ":9178"))
            daemon.control("reload")
            assert [export["sent"] for export in status()["exports"]][1] == 0
            assert "trafficmon_build_info" in lab.host.run("curl", "-s", "http://127.0.0.1:9178/metrics").stdout
            assert lab.host.run("curl", "-s", "http://127.0.0.1:9177/metrics", check=False).returncode == 7
            assert server.counts()["rows"] == counts["rows"]
