"""flows.db as an input: what was stored of a capture adds up to the capture."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from datetime import datetime
from pathlib import Path

import pytest
from conftest import Reading

from trafficmond.analyze.formats import format_of
from trafficmond.analyze.intake import Intake
from trafficmond.analyze.order import intervals
from trafficmond.analyze.run import analyze
from trafficmond.analyze.source import InputError, Source
from trafficmond.config.settings import Settings
from trafficmond.flows.names import Names
from trafficmond.flows.table import FlowTable
from trafficmond.model import Severity, Threat
from trafficmond.store.store import Store
from trafficmond.store.writer import Limits

_NOBODY = 65534


@pytest.fixture
def stored(data: Path, tmp_path: Path) -> tuple[Path, Path]:
    """(a capture, flows.db with what the flow table reported of it)."""
    capture, path = data / "pcaps/attacks/vscan_xscan_vuln_scanner.pcap", tmp_path / "flows.db"
    intake = Intake()
    source = Source(str(capture), intake.damage)
    table = FlowTable(65536, 30.0, 300.0, seed=1)
    store = Store.open(path, Limits(1e9, 1 << 30), clock=lambda: 1232120500.0)
    names = Names({0: "eth3"})
    for now, rows, _ in intervals(format_of(source).deltas(source, intake), intake.pace, 1000, lambda _: None):
        table.update(rows, now)
        store.put(table.due(now), names)
    store.put(table.due(time.time(), everything=True), names)
    assert store.flush(30.0)
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
        _, intake = reading(broken)
        said = str(dict(intake.damage.kinds))
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
            intake = Intake()
            source = Source(str(copy), intake.damage)
            packets = sum(int(rows["packets"].sum()) for rows in format_of(source).deltas(source, intake))
            source.close()
        finally:
            os.seteuid(before)
            Path(away).chmod(0o755)
    assert packets == intake.seen.packets == 12014
    assert intake.damage.total == 0


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
    store = Store.open(path, Limits(1e9, 1 << 30), clock=lambda: 1232120500.0)
    for threat in (live, other):
        store.put_threat(threat, "closed")
    store.close()
    found = {each["id"]: each for each in analyze([str(path)], Settings(), 0.0)["threats"]}
    assert found["l-1"]["count"] == 999
    assert found["l-2"]["evidence"] == {"unit": "tries"}
    assert again["id"] not in found
