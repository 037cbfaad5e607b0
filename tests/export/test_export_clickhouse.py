"""Flows in a real ClickHouse: all of them, each once, whatever happens to the server, the answers and the daemon."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from clickhouse_server import ClickHouseServer, LosingProxy
from export_reports import NAMES, NOW, VXLAN, every_kind, reports, totals

from trafficmond.config.streams import Export
from trafficmond.export.exports import ExportSet
from trafficmond.flows.batch import Batch
from trafficmond.flows.community_id import community_ids

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    with ClickHouseServer(tmp_path_factory.mktemp("clickhouse")) as server:
        yield server


@pytest.fixture
def server(shared: ClickHouseServer) -> ClickHouseServer:
    shared.ask("TRUNCATE TABLE trafficmon.flows")
    return shared


@contextlib.contextmanager
def exporting(to: str, state: Path, seconds: float = 30.0, **settings: object) -> Iterator[ExportSet]:
    export = Export(to=to, **({"batch_interval": 0.1, "sensor": "gate", "buffer_rows": 1 << 20} | settings))  # type: ignore[arg-type]
    exports = ExportSet([export], state)
    try:
        yield exports
    finally:
        exports.finish(time.monotonic() + seconds)
        exports.join(time.monotonic() + seconds)


def until(condition: Callable[[], bool], told: Callable[[], object] = str, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.05)


def spools(state: Path) -> set[Path]:
    """Those of flows."""
    return {folder for folder in (state / "export").iterdir() if not folder.name.endswith("-threats")}


def idle(exports: ExportSet) -> Callable[[], bool]:
    return lambda: exports.status()[0]["queue"] == 0


def exactly(rows: Batch) -> dict[str, int]:
    return {"rows": len(rows), "distinct": len(rows), **totals(rows)}


def test_every_column(server: ClickHouseServer, tmp_path: Path) -> None:
    v6 = reports(1, family=6, src_hi=0x20010DB800000000, src_lo=7, dst_hi=0, dst_lo=1, verdict=7, ifindex=9, inner=9)
    with exporting(server.url, tmp_path) as exports:
        exports.put(np.concatenate([reports(1), v6]), NAMES)
        until(idle(exports), exports.status)
    rows = server.ask(
        "SELECT day, sensor, row, first_seen, last_seen, src_ip, dst_ip, src_port, dst_port, protocol, protocol_num, "
        "packets, bytes, reply_packets, reply_bytes, tcp_flags, reply_tcp_flags, action, rule, interface, direction, "
        "vlan, community_id, tunnel, vni, inner_src_ip, inner_dst_ip, inner_src_port, inner_dst_port, inner_protocol "
        "FROM trafficmon.flows ORDER BY row"
    )
    (community_id,) = community_ids(reports(1))
    assert rows[0][:15] == (
        ["2023-11-14", "gate", 0, NOW - 1.5, NOW, "192.0.2.1", "198.51.100.2", 1024, 443, "TCP", 6, 1, 100, 1, 50]
    )
    assert rows[0][15:] == [0x1B, 0x12, "monitor", "default", "eth0", "ingress", 100, community_id, *[None] * 7]
    assert rows[1][23:] == VXLAN
    assert (rows[1][5], rows[1][6], rows[1][17:20]) == ("2001:db8::7", "::1", ["allow", "it's \\ odd\n", "if9"])


def test_totals_of_every_kind_over_midnight(server: ClickHouseServer, tmp_path: Path) -> None:
    rows = np.concatenate([every_kind(2000), every_kind(1000, at=NOW + 86400)])
    with exporting(server.url, tmp_path) as exports:
        for at in range(0, len(rows), 5000):
            exports.put(rows[at : at + 5000], NAMES)
        until(idle(exports), exports.status)
        (told,) = exports.status()
        assert told["threats"] == {"sent": 0, "queue": 0, "lost": 0, "error": ""}
        assert told | {"threats": None} == {
            "to": server.url,
            "sent": len(rows),
            "queue": 0,
            "lost": 0,
            "error": "",
            "threats": None,
        }
    assert server.counts() == server.counts(final=True) == exactly(rows)
    ((batches, parted),) = server.ask("SELECT uniqExact(batch), uniqExact(batch, day) FROM trafficmon.flows")
    assert batches == parted, "a batch lies in one partition, so it is inserted whole or not at all"


def test_a_server_killed_in_mid_stream_loses_and_doubles_nothing(tmp_path: Path) -> None:
    rows = every_kind(4000)
    with ClickHouseServer(tmp_path) as server, exporting(server.url, tmp_path / "state") as exports:
        stop = threading.Event()

        def feed() -> None:
            for at in range(0, len(rows), 500):
                exports.put(rows[at : at + 500], NAMES)
                if stop.wait(0.1):
                    return

        feeding = threading.Thread(target=feed)
        feeding.start()
        dice = random.Random(5)
        for _ in range(4):
            time.sleep(dice.uniform(0.2, 1.2))
            server.kill()
            time.sleep(dice.uniform(0.1, 0.6))
            server.start()
        feeding.join()
        until(idle(exports), exports.status)
        assert exports.status()[0]["sent"] == len(rows)
        assert server.counts() == exactly(rows), "not even before merges"
        stop.set()


def test_answers_that_are_lost_double_nothing(server: ClickHouseServer, tmp_path: Path) -> None:
    rows, proxy = every_kind(200), LosingProxy(server, losses=3)
    with exporting(proxy.url, tmp_path) as exports:
        for at in range(0, len(rows), 600):
            exports.put(rows[at : at + 600], NAMES)
            time.sleep(0.2)
        until(idle(exports), exports.status)
        assert (exports.status()[0]["sent"], proxy.losses) == (len(rows), 0)
    assert server.counts() == exactly(rows)


def test_a_try_that_outlived_its_sender_is_waited_for(server: ClickHouseServer, tmp_path: Path) -> None:
    rows = every_kind(20)
    server.kill()
    with exporting(server.url, tmp_path, 0.5) as exports:
        exports.put(rows, NAMES)
        until(lambda: "refused" in exports.status()[0]["error"], exports.status)
    server.start()
    (left,) = (tmp_path / "export").glob("*/*.batch")
    with left.open("rb") as file:
        batch = json.loads(file.readline())["batch"]
    running = urllib.parse.urlencode({"query_id": batch, "query": "SELECT sleep(3)"})  # as the former process's INSERT
    address = f"http://127.0.0.1:{server.port}/?{running}"
    first = threading.Thread(target=lambda: urllib.request.urlopen(address, b"").read())
    first.start()
    until(lambda: bool(server.ask("SELECT 1 FROM system.processes WHERE query LIKE 'SELECT sleep%'")))
    with exporting(server.url, tmp_path) as exports:
        until(lambda: "already running" in exports.status()[0]["error"], exports.status)
        assert server.counts()["rows"] == 0
        first.join()
        until(idle(exports), exports.status)
    assert server.counts() == exactly(rows)


def test_rows_sent_twice_are_shown_once(server: ClickHouseServer, tmp_path: Path) -> None:
    """What no asking can prevent: a first try that arrives after the second."""
    rows = every_kind(100)
    with exporting(server.url, tmp_path) as exports:
        exports.put(rows, NAMES)
        until(idle(exports), exports.status)
    server.ask("INSERT INTO trafficmon.flows SELECT * FROM trafficmon.flows")
    assert server.counts()["rows"] == 2 * len(rows)
    assert server.counts(final=True) == exactly(rows)
    server.ask("OPTIMIZE TABLE trafficmon.flows FINAL")
    assert server.counts() == exactly(rows)


def test_what_waits_outlives_the_daemon(server: ClickHouseServer, tmp_path: Path) -> None:
    rows = every_kind(300)
    with exporting("clickhouse://127.0.0.1:1/trafficmon", tmp_path, seconds=1.0) as exports:
        exports.put(rows[:1000], NAMES)
        until(lambda: "refused" in exports.status()[0]["error"], exports.status)
        exports.put(rows[1000:], NAMES)
    assert exports.status()[0]["lost"] == 0
    (spool,) = spools(tmp_path)
    with exporting(server.url, tmp_path) as other:
        until(idle(other))
        assert server.counts()["rows"] == 0, "each target has its own spool"
        (mine,) = spools(tmp_path) - {spool}
    mine.rmdir()
    spool.rename(mine)
    with exporting(server.url, tmp_path) as exports:
        until(lambda: exports.status()[0]["sent"] == len(rows), exports.status)
    assert server.counts() == exactly(rows)
    assert list(mine.iterdir()) == []


def test_what_is_removed_from_the_spool_keeps_nothing_else_back(tmp_path: Path) -> None:
    """As somebody does who needs room on the disk: the removed files were tried for ever, and no new ones written."""
    rows = every_kind(300)
    with ClickHouseServer(tmp_path) as server, exporting(server.url, tmp_path / "state") as exports:
        server.kill()
        exports.put(rows[:1000], NAMES)
        until(lambda: exports.status()[0]["error"], exports.status)
        (spool,) = spools(tmp_path / "state")
        shutil.rmtree(spool)
        exports.put(rows[1000:], NAMES)
        until(spool.exists)
        server.start()
        until(idle(exports), exports.status)
        assert exports.status()[0]["lost"] == 1000
        assert server.counts() == exactly(rows[1000:])


_FEEDER = """
import sys, time
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from export_reports import NAMES, every_kind
from trafficmond.config.streams import Export
from trafficmond.export.exports import ExportSet
exports = ExportSet([Export(to=sys.argv[1], batch_interval=0.1, sensor="gate")], Path(sys.argv[2]))
while True:
    exports.put(every_kind(50), NAMES)
    print(flush=True)
    time.sleep(0.02)
"""


def test_a_daemon_killed_in_mid_stream_doubles_nothing(server: ClickHouseServer, tmp_path: Path) -> None:
    """What it had not yet written to the spool is gone with it; what it had is there, each batch whole and once."""
    path = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
    dice = random.Random(7)
    for kill in range(6):
        feeder = subprocess.Popen(
            [sys.executable, "-c", _FEEDER, server.url, str(tmp_path), *path], stdout=subprocess.PIPE
        )
        assert feeder.stdout is not None
        feeder.stdout.readline()
        if not kill:
            until(lambda: server.counts()["rows"] > 0)
        time.sleep(dice.uniform(0.2, 0.8))
        feeder.kill()
        feeder.wait()
        feeder.stdout.close()
    with exporting(server.url, tmp_path) as exports:
        time.sleep(0.5)
        until(idle(exports), exports.status)
    counts = server.counts()
    assert counts["rows"] == counts["distinct"] > 0
    torn = "SELECT batch FROM trafficmon.flows GROUP BY batch HAVING count() != max(row) + 1 OR count() % 450 != 0"
    assert server.ask(torn) == []
    assert [file for folder in (tmp_path / "export").iterdir() for file in folder.iterdir()] == []


def test_a_full_spool_pushes_back_and_then_loses_and_counts(tmp_path: Path) -> None:
    settings = {"spool_size": 1 << 20, "buffer_rows": 4096}
    with exporting("clickhouse://127.0.0.1:1/trafficmon", tmp_path, seconds=0.5, **settings) as exports:
        for _ in range(40):
            exports.put(every_kind(100), NAMES)
            time.sleep(0.02)
        until(lambda: "is full" in exports.status()[0]["error"], exports.status)
        status = exports.status()[0]
        assert status["lost"] > 0
        assert status["lost"] + status["queue"] == 40 * 900
        (folder,) = spools(tmp_path)
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 1 << 20


def test_what_the_server_refuses_is_said_and_kept(server: ClickHouseServer, tmp_path: Path) -> None:
    rows = every_kind(10)
    server.ask("RENAME TABLE trafficmon.flows TO trafficmon.elsewhere")
    try:
        with exporting(server.url, tmp_path) as exports:
            exports.put(rows, NAMES)
            until(lambda: "doesn't exist" in exports.status()[0]["error"], exports.status)
            server.ask("RENAME TABLE trafficmon.elsewhere TO trafficmon.flows")
            until(idle(exports), exports.status)
            assert exports.status()[0]["error"] == ""
    finally:
        with contextlib.suppress(AssertionError):
            server.ask("RENAME TABLE trafficmon.elsewhere TO trafficmon.flows")
    assert server.counts() == exactly(rows)


def test_a_password_file_is_read_when_it_is_needed(server: ClickHouseServer, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    with exporting(server.url, tmp_path, password_file=secret) as exports:
        exports.put(every_kind(1), NAMES)
        until(lambda: "No such file" in exports.status()[0]["error"], exports.status)
        secret.write_text("wrong\n")
        until(lambda: "password" in exports.status()[0]["error"].lower(), exports.status)
        secret.write_text("\n")
        until(idle(exports), exports.status)
    assert server.counts()["rows"] == 9
