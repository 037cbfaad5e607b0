"""Threats in a real ClickHouse: each as it is now, whatever happens to the server, the answers and the daemon."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from clickhouse_server import ClickHouseServer, LosingProxy, statements
from export_reports import NAMES, NOW, every_kind
from test_export_clickhouse import exporting, until

from trafficmond.config.streams import Export
from trafficmond.export import exports as export_set
from trafficmond.export.exports import ExportSet
from trafficmond.model import Severity, Threat

pytestmark = pytest.mark.timeout(240)

NOBODY = "clickhouse://127.0.0.1:1/trafficmon"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    with ClickHouseServer(tmp_path_factory.mktemp("clickhouse")) as server:
        yield server


@pytest.fixture
def server(shared: ClickHouseServer) -> ClickHouseServer:
    for table in ("flows", "threats"):
        shared.ask(f"TRUNCATE TABLE trafficmon.{table}")
    return shared


def threat(number: int = 1, **told: object) -> Threat:
    found = Threat(
        detector="port_scan",
        severity=Severity.HIGH,
        technique="T1046",
        src_ip=f"203.0.113.{number % 250}",
        dst_ip="2001:db8::5",
        first_seen=NOW,
        last_seen=NOW + number,
        count=number,
        summary="it's \\ odd\n",
        evidence={"unit": "probes", "ports": [22, 80]},
        id=f"{number:012x}",
    )
    return replace(found, **told)  # type: ignore[arg-type]


def sent(exports: ExportSet) -> bool:
    return exports.status()[0]["threats"]["queue"] == 0


def now(server: ClickHouseServer, columns: str = "id, count, state") -> list[list[object]]:
    return server.ask(f"SELECT {columns} FROM trafficmon.threats FINAL ORDER BY id, sensor")


def test_every_column(server: ClickHouseServer, tmp_path: Path) -> None:
    with exporting(server.url, tmp_path) as exports:
        exports.threat(threat(1), "opened")
        exports.threat(threat(2, src_ip=None, dst_ip="192.0.2.1", severity=Severity.LOW), "closed")
        until(lambda: sent(exports), exports.status)
        told = exports.status()[0]["threats"]
    assert told == {"sent": 2, "queue": 0, "lost": 0, "error": ""}
    rows = now(
        server,
        "sensor, id, detector, severity, technique, src_ip, dst_ip, first_seen, last_seen, count, summary, state, day",
    )
    assert rows == [
        [
            *("gate", f"{1:012x}", "port_scan", "high", "T1046", "203.0.113.1", "2001:db8::5", NOW, NOW + 1, 1),
            *("it's \\ odd\n", "opened", "2023-11-14"),
        ],
        [
            *("gate", f"{2:012x}", "port_scan", "low", "T1046", None, "192.0.2.1", NOW, NOW + 2, 2),
            *("it's \\ odd\n", "closed", "2023-11-14"),
        ],
    ]
    ((evidence,), _) = now(server, "evidence")
    assert json.loads(str(evidence)) == {"unit": "probes", "ports": [22, 80]}


def test_the_latest_is_how_it_is_now(server: ClickHouseServer, tmp_path: Path) -> None:
    with exporting(server.url, tmp_path) as exports:
        for count, state in enumerate(("opened", "updated", "updated", "closed"), 1):
            exports.threat(threat(7, count=count, first_seen=NOW - 86400 * 40 * (count > 2)), state)
            until(lambda: sent(exports), exports.status)
        exports.threat(threat(8), "opened")
    assert now(server) == [[f"{7:012x}", 4, "closed"], [f"{8:012x}", 8, "opened"]], "over partitions, too"


def test_sensors_are_distinguished(server: ClickHouseServer, tmp_path: Path) -> None:
    for sensor in ("gate", "mill"):
        with exporting(server.url, tmp_path, sensor=sensor) as exports:
            exports.threat(threat(1), "opened")
    assert [row[0] for row in now(server, "sensor")] == ["gate", "mill"]


def test_ipfix_takes_none(tmp_path: Path) -> None:
    with exporting("ipfix+udp://127.0.0.1:9", tmp_path, seconds=0.1) as exports:
        exports.threat(threat(1), "opened")
        assert exports.status()[0]["threats"] is None


def test_a_server_killed_in_mid_stream_loses_nothing(tmp_path: Path) -> None:
    with ClickHouseServer(tmp_path) as server, exporting(server.url, tmp_path / "state") as exports:

        def feed() -> None:
            for turn in range(1, 61):
                for number in range(20):
                    state = "opened" if turn == 1 else "closed" if turn == 60 else "updated"
                    exports.threat(threat(number, count=turn * 1000 + number), state)
                time.sleep(0.05)

        feeding = threading.Thread(target=feed)
        feeding.start()
        dice = random.Random(3)
        for _ in range(2):
            time.sleep(dice.uniform(0.3, 1.0))
            server.kill()
            time.sleep(dice.uniform(0.1, 0.5))
            server.start()
        feeding.join()
        until(lambda: sent(exports), exports.status)
        assert exports.status()[0]["threats"] == {"sent": 1200, "queue": 0, "lost": 0, "error": ""}
        assert now(server) == [[f"{number:012x}", 60_000 + number, "closed"] for number in range(20)]
        doubled = "SELECT count() - uniqExact(sensor, id, revision) FROM trafficmon.threats"
        assert server.ask(doubled) == [[0]], "not even before merges"


def test_answers_that_are_lost_double_nothing(server: ClickHouseServer, tmp_path: Path) -> None:
    proxy = LosingProxy(server, losses=2)
    with exporting(proxy.url, tmp_path) as exports:
        for number in range(6):
            exports.threat(threat(number), "opened")
            time.sleep(0.2)
        until(lambda: sent(exports), exports.status)
        assert (exports.status()[0]["threats"]["sent"], proxy.losses) == (6, 0)
    assert server.ask("SELECT count() FROM trafficmon.threats") == [[6]]


_FEEDER = """
import sys, time
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from test_export_threats import threat
from trafficmond.config.streams import Export
from trafficmond.export.exports import ExportSet
exports = ExportSet([Export(to=sys.argv[1], sensor="gate")], Path(sys.argv[2]))
for number in range(100000):
    exports.threat(threat(number), "opened")
    print(number, flush=True)
    time.sleep(0.01)
"""


def test_a_daemon_killed_in_mid_stream_tells_the_rest_again(server: ClickHouseServer, tmp_path: Path) -> None:
    """The next start reports the open ones again, so that what was in memory only is there as well."""
    path = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
    dice, most = random.Random(7), 0
    for _ in range(2):
        feeder = subprocess.Popen(
            [sys.executable, "-c", _FEEDER, server.url, str(tmp_path), *path], stdout=subprocess.PIPE, text=True
        )
        assert feeder.stdout is not None
        feeder.stdout.readline()
        until(lambda: bool(now(server)))
        time.sleep(dice.uniform(0.2, 0.7))
        feeder.kill()
        told = [int(line) for line in feeder.stdout.read().split()]
        feeder.wait()
        feeder.stdout.close()
        most = max(most, *told)
    with exporting(server.url, tmp_path) as exports:
        until(lambda: sent(exports), exports.status)
        for number in range(most + 1):  # as Pipeline.resume_threats
            exports.threat(threat(number), "updated")
        until(lambda: sent(exports), exports.status)
    assert now(server, "id, count") == [[f"{number:012x}", number] for number in range(most + 1)]
    assert [file for folder in (tmp_path / "export").iterdir() for file in folder.iterdir()] == []


def test_flows_do_not_wait_for_the_table(server: ClickHouseServer, tmp_path: Path) -> None:
    """As on the server of who comes from an earlier version."""
    server.ask("DROP TABLE trafficmon.threats")
    try:
        with exporting(server.url, tmp_path) as exports:
            exports.threat(threat(1), "opened")
            exports.put(every_kind(10), NAMES)
            until(lambda: "threats" in exports.status()[0]["threats"]["error"], exports.status)
            until(lambda: server.counts()["rows"] == 90, exports.status)
            assert exports.status()[0]["error"] == ""
            said = list(exports.changes())
            assert [(to, what) for to, what, error in said if error] == [(server.url, "threats")]
            for statement in statements(server.schema.read_text()):
                server.ask(statement)
            until(lambda: sent(exports), exports.status)
            assert list(exports.changes()) == [(server.url, "threats", "")]
    finally:
        for statement in statements(server.schema.read_text()):
            server.ask(statement)
    assert now(server, "count") == [[1]]


def test_what_waits_outlives_the_daemon(tmp_path: Path) -> None:
    with exporting(NOBODY, tmp_path, seconds=1.0) as exports:
        exports.threat(threat(1), "opened")
        until(lambda: "refused" in exports.status()[0]["threats"]["error"], exports.status)
    assert exports.status()[0]["threats"]["lost"] == 0
    again = ExportSet([Export(to=NOBODY)], tmp_path)
    until(lambda: again.status()[0]["threats"]["queue"] == 1, again.status)
    again.finish(time.monotonic())
    again.join(time.monotonic())


def test_what_does_not_fit_is_lost_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_set, "_THREATS_SPOOL", 1)
    with exporting(NOBODY, tmp_path, seconds=0.1) as exports:
        exports.threat(threat(1), "opened")
        until(lambda: "is full" in exports.status()[0]["threats"]["error"], exports.status)
        for number in range(5000):
            exports.threat(threat(number), "opened")
        told = exports.status()[0]["threats"]
        assert (told["queue"], told["lost"]) == (4096, 905)


def test_one_that_cannot_be_reported_stops_no_other(server: ClickHouseServer, tmp_path: Path) -> None:
    with exporting(server.url, tmp_path) as exports:
        exports.threat(threat(1, src_ip="nonsense"), "opened")
        until(lambda: sent(exports), exports.status)
        exports.threat(threat(2), "opened")
        until(lambda: exports.status()[0]["threats"]["sent"] == 1, exports.status)
        assert exports.status()[0]["threats"]["lost"] == 1
    assert now(server, "count") == [[2]]
