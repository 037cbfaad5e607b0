"""flows.db as an input: what was stored of a capture adds up to the capture."""

from __future__ import annotations

import os
import sqlite3
import struct
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from opened_store import flushed, opened
from readings import Reading

from trafficmond.analyze.formats import format_of
from trafficmond.analyze.order import intervals
from trafficmond.analyze.run import analyze
from trafficmond.analyze.run_stats import NAME_MAX, RunStats
from trafficmond.analyze.source import InputError, Source
from trafficmond.config.settings import Settings
from trafficmond.flows.names import Names
from trafficmond.flows.table import FlowTable
from trafficmond.model import Severity, Threat
from trafficmond.store.schema import FLOW_COLUMNS
from trafficmond.store.writer import Limits

_NOBODY = 65534


@pytest.fixture
def stored(data: Path, tmp_path: Path) -> tuple[Path, Path]:
    """(a capture, flows.db with what the flow table reported of it)."""
    capture, path = data / "pcaps/attacks/vscan_xscan_vuln_scanner.pcap", tmp_path / "flows.db"
    stats = RunStats()
    source = Source(str(capture), stats.parse_errors)
    table = FlowTable(65536, 30.0, 300.0, seed=1)
    store = opened(path, Limits(1e9, 1 << 30), clock=lambda: 1232120500.0)
    names = Names({0: "eth3"})
    for now, rows, _ in intervals(format_of(source).deltas(source, stats), stats.batching, 1000, lambda _: None):
        table.update(rows, now)
        store.put(table.due(now), names)
    store.put(table.due(time.time(), everything=True), names)
    assert flushed(store, 30.0)
    store.close()
    return capture, path


def test_the_store_adds_up_to_the_capture(stored: tuple[Path, Path]) -> None:
    capture, path = (analyze([str(file)], Settings(), 0.0) for file in stored)
    assert path["damage"]["total"] == 0
    for field in ("total_packets", "total_bytes", "unique_sources", "unique_destinations"):
        assert path["summary"][field] == capture["summary"][field]
    for section in ("top_sources", "top_destinations", "protocol_distribution", "action_distribution"):
        assert path[section] == capture[section]
    assert path["interface_distribution"].keys() == {"eth3"}
    scanners = [
        {(threat["src_ip"], threat["dst_ip"]) for threat in report["threats"] if threat["detector"] == "port_scan"}
        for report in (capture, path)
    ]
    assert scanners[0] == scanners[1] != set()


def test_another_database_is_refused(tmp_path: Path, reading: Reading) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE unrelated (x)")
    with pytest.raises(InputError, match="no such table: partitions"):
        reading(path)


def test_a_damaged_database_is_said_to_be_so(stored: tuple[Path, Path], reading: Reading) -> None:
    content = bytearray(stored[1].read_bytes())
    content[4096 * 3 : 4096 * 40] = b"\xa5" * (4096 * 37)
    broken = stored[1].with_name("broken.db")
    broken.write_bytes(content)
    said = ""
    try:
        _, stats = reading(broken)
        said = str(dict(stats.parse_errors.kinds))
    except InputError as error:
        said = str(error)
    assert "database damaged" in said or "cannot be read as a flow store" in said


def test_a_copy_where_nothing_may_be_written(stored: tuple[Path, Path]) -> None:
    """In WAL mode SQLite wants to put files beside the database; as nobody in a directory of others, it cannot."""
    with tempfile.TemporaryDirectory() as away:
        copy = Path(away) / "flows.db"
        copy.write_bytes(stored[1].read_bytes())
        copy.chmod(0o444)
        Path(away).chmod(0o555)
        before = os.geteuid()
        if before == 0:
            os.seteuid(_NOBODY)
        try:
            stats = RunStats()
            source = Source(str(copy), stats.parse_errors)
            packets = sum(int(rows["packets"].sum()) for rows in format_of(source).deltas(source, stats))
            source.close()
        finally:
            os.seteuid(before)
            Path(away).chmod(0o755)
    assert packets == stats.seen.packets == 12014
    assert stats.parse_errors.total == 0


def test_the_threats_that_the_daemon_found_are_reported_without_doubles(stored: tuple[Path, Path]) -> None:
    _, path = stored
    (again,) = [each for each in analyze([str(path)], Settings(), 0.0)["threats"] if each["detector"] == "port_scan"][
        :1
    ]
    first = datetime.fromisoformat(again["first_seen"]).timestamp()
    last = datetime.fromisoformat(again["last_seen"]).timestamp()
    ends = (again["src_ip"], again["dst_ip"])
    live = Threat(
        "port_scan", Severity.HIGH, "T1046", *ends, first, last + 9, 999, "seen live", {"unit": "ports"}, "l-1"
    )
    other = Threat("brute_force", Severity.MEDIUM, "T1110", *ends, first, last, 30, "30", {"unit": "tries"}, "l-2")
    store = opened(path, Limits(1e9, 1 << 30), clock=lambda: 1232120500.0)
    for threat in (live, other):
        store.put_threat(threat, "closed")
    store.close()
    found = {each["id"]: each for each in analyze([str(path)], Settings(), 0.0)["threats"]}
    assert found["l-1"]["count"] == 999
    assert found["l-2"]["evidence"] == {"unit": "tries"}
    assert again["id"] not in found


_ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT {} FROM c"
_PARTITION = f"CREATE TABLE flows_1 ({', '.join(FLOW_COLUMNS)})"
_THREATS = [each.name for each in fields(Threat)]
_FLOW = dict.fromkeys(FLOW_COLUMNS, 1) | {
    **{"src_ip": "192.0.2.1", "dst_ip": "192.0.2.2", "protocol": "TCP", "action": "monitor", "rule": ""},
    **{"interface": "eth0", "direction": "ingress", "bytes": 60, "reply_bytes": 60, "first_seen": 1.7e9},
}
_THREAT = dict(
    zip(_THREATS, ["scan", "high", "T1046", "192.0.2.1", None, 1.7e9, 1.7e9, 3, "s", "{}", "1"], strict=True)
)


def _database(path: Path, *statements: str, flows: Sequence[Mapping[str, Any]] = ()) -> Path:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE partitions (number)")
        database.execute("INSERT INTO partitions VALUES (1)")
        for statement in statements:
            database.execute(statement)
        for flow in flows:
            row = [*{**_FLOW, **flow}.values()]
            database.execute(f"INSERT INTO flows_1 VALUES ({', '.join('?' * len(row))})", row)
        database.commit()
    return path


def test_a_schema_that_never_ends(tmp_path: Path, reading: Reading) -> None:
    """A view may take the name of a table; it is not asked."""
    endless = _ENDLESS.format(", ".join(f"x AS {name}" for name in FLOW_COLUMNS))
    computed = _PARTITION.replace("src_ip", "src_ip AS (hex(zeroblob(500000000)))")
    for number, partition in enumerate((f"CREATE VIEW flows_1 AS {endless}", computed)):
        _, stats = reading(_database(tmp_path / f"{number}.db", partition))
        assert dict(stats.parse_errors.kinds) == {"no partition": 1}
    path = _database(tmp_path / "partitions.db", "DROP TABLE partitions")
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"CREATE VIEW partitions AS {_ENDLESS.format('x AS number')}")
    with pytest.raises(InputError, match="no such table: partitions"):
        reading(path)


def test_a_partition_that_is_named_often_is_read_once(tmp_path: Path, reading: Reading) -> None:
    numbers = "INSERT INTO partitions VALUES (1), (1), (1.0), ('1, flows_1'), (NULL)"
    _, stats = reading(_database(tmp_path / "often.db", _PARTITION, numbers, flows=[{}]))
    assert (stats.seen.packets, stats.parse_errors.total) == (2, 2)


def test_pages_that_lead_in_circles(tmp_path: Path, reading: Reading) -> None:
    """Each inner page has 300 ways to the same page below: 300 ** 8 rows in 14 pages."""
    path = _database(tmp_path / "circles.db", _PARTITION, flows=[{}])
    with closing(sqlite3.connect(path)) as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'flows_1'").fetchone()
        (page,) = database.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    pages, leaf = len(content) // page, content[(root - 1) * page : root * page]
    for depth in range(8):
        below = pages + depth + 1
        inner = bytearray(page)
        inner[0] = 5
        struct.pack_into(">HHHxI", inner, 1, 0, 300, page - 1500, below)
        for way in range(300):
            struct.pack_into(">H", inner, 12 + 2 * way, page - 5 * way - 5)
            struct.pack_into(">IB", inner, page - 5 * way - 5, below, 1 + way % 100)
        if depth:
            content += inner
        else:
            content[(root - 1) * page : root * page] = inner
    content += leaf
    struct.pack_into(">I", content, 28, pages + 8)
    path.write_bytes(content)
    _, stats = reading(path)
    assert dict(stats.parse_errors.kinds) == {"database damaged": 1}
    assert "has loops" in stats.parse_errors.places[0].what


def test_cells_that_no_daemon_wrote(tmp_path: Path, reading: Reading) -> None:
    wrong = [
        *({"packets": -5}, {"packets": 1 << 62}, {"bytes": "1e400"}, {"tcp_flags": 999}, {"src_port": 70000}),
        *({"src_ip": b"\xff"}, {"dst_ip": "::1"}, {"vlan": 1 << 20}, {"protocol_num": 400}, {"direction": "up"}),
        *({"action": 7}, {"first_seen": "nan"}, {"last_seen": float("inf")}, {"src_ip": None}),
    ]
    path = _database(tmp_path / "cells.db", _PARTITION, flows=[*wrong, {"interface": "x" * 500000}, {}])
    _, stats = reading(path)
    assert (stats.parse_errors.total, dict(stats.parse_errors.kinds)) == (len(wrong), {"no flow": len(wrong)})
    assert stats.seen.packets == 4
    assert {len(name) for name in stats.interfaces.values()} == {4, NAME_MAX}


def test_texts_and_a_schema_that_are_no_utf8(tmp_path: Path, reading: Reading) -> None:
    path = _database(tmp_path / "texts.db", _PARTITION, flows=[{"interface": "QQQQ"}, {}])
    content = path.read_bytes()
    path.write_bytes(content.replace(b"QQQQ", b"\xff\xfe\xfa\xfb"))
    assert reading(path)[1].seen.packets == 4
    path.write_bytes(content.replace(b"CREATE TABLE flows_1", b"CREATE T\xff\xffLE flow\xff\xff1"))
    with pytest.raises(InputError, match="its schema is damaged"):
        reading(path)


def test_threats_that_no_daemon_found(tmp_path: Path, reading: Reading) -> None:
    wrong: list[dict[str, Any]] = [
        *({"id": b"x"}, {"detector": 5}, {"severity": "huge"}, {"src_ip": "nobody"}, {"first_seen": float("inf")}),
        *({"count": -1}, {"count": 2.5}, {"evidence": "[" * 200000}, {"evidence": "5"}, {"evidence": None}),
    ]
    path = _database(tmp_path / "threats.db", _PARTITION, f"CREATE TABLE threats ({', '.join(_THREATS)})", flows=[{}])
    with closing(sqlite3.connect(path)) as database:
        for threat in [*wrong, {}]:
            row = [*{**_THREAT, **threat}.values()]
            database.execute(f"INSERT INTO threats VALUES ({', '.join('?' * len(row))})", row)
        database.commit()
    _, stats = reading(path)
    assert dict(stats.parse_errors.kinds) == {"no threat": len(wrong)}
    assert [threat.id for threat in stats.threats] == ["1"]
