"""`report` and `analyze`: the stored flows of a time, through the analysis."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from control_fake import Running
from control_replies import FLOW, STATUS
from ctl_runs import Ctl

from trafficctl.extract import extract
from trafficmond.errors import StoreError
from trafficmond.store.schema import STORED_COLUMNS, create_partition, partition_table

HOUR = 3600.0


@pytest.fixture
def store(tmp_path: Path, running: Running) -> Path:
    """A flows.db with a flow an hour over the last two days; `status` names it."""
    path = tmp_path / "with space" / "flows.db"
    path.parent.mkdir()
    now = time.time()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE partitions (number, first_seen, last_seen, rows, sealed)")
        create_partition(connection, 1)
        create_partition(connection, 2)
        for hours in range(48):
            last = now - hours * HOUR - 60
            row = {**dict.fromkeys(STORED_COLUMNS, 0), **FLOW, "first_seen": last - 10, "last_seen": last, "rule": ""}
            marks = ", ".join("?" * len(STORED_COLUMNS))
            table = partition_table(1 + hours % 2)
            connection.execute(f"INSERT INTO {table} VALUES ({marks})", [row[name] for name in STORED_COLUMNS])
    connection.close()

    running.canned.replies["Status"] = {**STATUS, "store": {**STATUS["store"], "path": str(path)}}
    return path


def test_a_part_is_copied(store: Path, tmp_path: Path) -> None:
    now = time.time()
    assert extract(store, tmp_path / "part.db", now - 3 * HOUR, now) == 3
    assert extract(store, tmp_path / "other.db", now - 3 * HOUR, now - 2 * HOUR) == 1
    with pytest.raises(StoreError, match="cannot copy flows from"):
        extract(tmp_path / "none.db", tmp_path / "third.db", 0, now)


def test_a_partition_that_was_removed_meanwhile_is_passed_over(store: Path, tmp_path: Path) -> None:
    with sqlite3.connect(store) as connection:
        connection.execute("INSERT INTO partitions (number) VALUES (3)")
    connection.close()
    assert extract(store, tmp_path / "part.db", 0, time.time()) == 48


def test_the_last_day_unless_told(ctl: Ctl, store: Path, tmp_path: Path) -> None:
    assert store.exists()
    page = tmp_path / "out.html"
    done = ctl("report", "-o", "json", "--write", str(page))
    assert done.returncode == 0, done.stderr
    per_flow = FLOW["packets"] + FLOW["reply_packets"]
    assert json.loads(done.stdout)["summary"]["total_packets"] == 24 * per_flow
    assert "<html" in page.read_text()
    done = ctl("report", "--since", "7d", "-o", "json")
    assert json.loads(done.stdout)["summary"]["total_packets"] == 48 * per_flow


def test_nothing_of_that_time(ctl: Ctl, store: Path) -> None:
    assert store.exists()
    done = ctl("report", "--since", "30s")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there are no flows in that period" in done.stderr


def test_analyze_is_the_analysis(ctl: Ctl, store: Path) -> None:
    done = ctl("analyze", str(store), "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["summary"]
    assert ctl("analyze", "/nonexistent.pcap").returncode == 1


def live_flow(first: float, last: float, **more: Any) -> dict[str, Any]:
    return {**dict.fromkeys(STORED_COLUMNS, 0), **FLOW, "first_seen": first, "last_seen": last, "rule": "", **more}


@pytest.mark.usefixtures("store")
def test_flows_that_are_not_stored_yet_are_in_it(ctl: Ctl, running: Running) -> None:
    now = time.time()
    running.canned.live = [
        live_flow(now - 5, now - 1, src_port=50_000),
        live_flow(now - 5, now + 60, src_port=50_001),  # it goes on while this is asked
        live_flow(now + 30, now + 60, src_port=50_002),
    ]
    done = ctl("report", "--since", "30s", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["summary"]["unique_flows"] == 2
    (asked,) = [given for method, given in running.canned.asked if method == "Flows" and given.get("unstored")]
    assert "until" not in asked


def test_one_that_was_stored_meanwhile_counts_once(store: Path, tmp_path: Path) -> None:
    now = time.time()
    with sqlite3.connect(store) as connection:
        stored = connection.execute("SELECT first_seen, last_seen FROM flows_1 ORDER BY 1 DESC LIMIT 1").fetchone()
    connection.close()
    live = [live_flow(*stored, packets=1), live_flow(now - 3, now - 2)]
    assert extract(store, tmp_path / "part.db", now - HOUR / 2, now, live) == 2


def test_the_report_has_usage_places_and_who_exchanged(ctl: Ctl, running: Running, store: Path, tmp_path: Path) -> None:
    assert store.exists()
    rows = [
        {"period": f"2026-11-27 {hour}:00", "key": key, "flows": 1, "packets": 1, "up_bytes": 10, "down_bytes": 20}
        | {"unsided_bytes": 0}
        for hour in ("12", "10")
        for key in ("eth0", "cgroup 7")
    ]
    running.canned.replies["Usage"] = {"rows": rows}
    written = tmp_path / "out.html"
    done = ctl("report", "-o", "json", "--write", str(written))
    assert done.returncode == 0, done.stderr
    assert "note: a unit has a number, such as cgroup 7: it was removed" in done.stderr
    found = json.loads(done.stdout)
    assert found["usage"]["interface"]["keys"] == {key: [[10, 20], [0, 0], [10, 20]] for key in ("eth0", "cgroup 7")}
    assert found["exchange"]["left"] == "interfaces"
    assert "<h2>Usage by interface</h2>" in written.read_text()
    groups = [asked["group_by"] for name, asked in running.canned.asked if name == "Flows" and asked.get("group_by")]
    assert groups[:2] == [["country"], ["unit", "interface", "as_name"]]
    assert found["exchange"]["right"] == "hosts"  # of whom no more is known
