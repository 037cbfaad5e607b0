"""The fleet asked as flows.db is: the same filters, the same rows."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clickhouse_server import ClickHouseServer
from export_reports import NAMES, NOW, every_kind, reports
from opened_store import flushed, opened

from trafficctl.fleet.ask import Fleet
from trafficctl.fleet.flows import fleet_question
from trafficmond.config.streams import Export
from trafficmond.config.target import parse_target
from trafficmond.errors import ConfigError, StoreError
from trafficmond.export.exports import ExportSet
from trafficmond.model import FlowQuery
from trafficmond.store.query import question
from trafficmond.store.reader import Reader
from trafficmond.store.writer import Limits

ROOT = Path(__file__).parents[2]
ROWS = np.concatenate(
    [
        every_kind(40),
        reports(40, at=NOW + 100 + np.arange(40), src_lo=0xFFFF0A000000 + np.arange(40) * 40000, dport=8080),
        reports(5, at=NOW + 300 + np.arange(5), verdict=(3 << 24) | (2 << 28) | 7, inner=[0, 9, 9, 5, 9]),
    ]
)
MILL = reports(3, src_lo=0xFFFFC6120009, dport=1)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Reader, ClickHouseServer]]:
    """The same rows in flows.db and in ClickHouse, as of one sensor; another sensor has a few of its own."""
    home = tmp_path_factory.mktemp("both")
    with ClickHouseServer(home) as server:
        store = opened(home / "flows.db", Limits(1e9, 1 << 30), clock=lambda: NOW)
        store.put(ROWS, NAMES)
        assert flushed(store, 20)
        for sensor, rows in (("gate", ROWS), ("mill", MILL)):
            exports = ExportSet([Export(to=server.url, sensor=sensor, batch_interval=0.1)], home)
            exports.put(rows, NAMES)
            exports.finish(time.monotonic() + 20)
            exports.join(time.monotonic() + 20)
            assert exports.status()[0]["sent"] == len(rows)
        with Reader(home / "flows.db") as reader:
            yield reader, server
        store.close()


def asked(server: ClickHouseServer, wanted: FlowQuery) -> list[dict[str, Any]]:
    return list(Fleet(parse_target(server.url)).rows(fleet_question(wanted)))


def in_order(rows: list[dict[str, Any]]) -> list[tuple[tuple[str, Any], ...]]:
    return sorted(tuple(sorted((key, value) for key, value in row.items() if key != "sensor")) for row in rows)


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"since": NOW + 110, "until": NOW + 120.5},
        {"src": "10.0.0.0/12"},
        {"src": "10.0.0.0"},
        {"dst": "2001:db8::/64"},
        {"src": "2001:db8::/127", "proto": "udp"},
        {"host": "192.0.2.0/24", "port": 80},
        {"src": "::/0"},
        {"src": "0.0.0.0/0"},
        {"action": "drop"},
        {"rule": "it's \\ odd\n"},
        {"rule": "bad neighbours", "interface": "eth0"},
        {"unit": "?*.s[^c]*"},
        {"proto": "58"},
        {"proto": "!tcp,58"},
        {"group_by": ("proto", "dport"), "proto": "udp"},
        {"group_by": ("tunnel", "vni", "inner_dst_port"), "port": 443},
        {"group_by": ("src", "action"), "port": 443, "sort": "packets"},
        {"src": "203.0.113.0/24"},
    ],
    ids=str,
)
def test_the_same_answer(both: tuple[Reader, ClickHouseServer], wanted: dict[str, Any]) -> None:
    reader, server = both
    filters = FlowQuery(**{"limit": 10_000, **wanted})
    local = question(filters)
    here = [dict(zip(local.columns, row, strict=True)) for row in reader.rows(local.sql)]
    there = asked(server, filters)
    if filters.group_by:
        assert all(tuple(row) == local.columns for row in there)
    else:
        assert all(tuple(row) == ("sensor", *local.columns) for row in there)
        there = [row for row in there if row["sensor"] == "gate"]
    assert in_order(there) == in_order(here)


def test_of_each_sensor(both: tuple[Reader, ClickHouseServer]) -> None:
    _, server = both
    rows = asked(server, FlowQuery(group_by=("sensor",), sort="-sensor"))
    assert [(row["sensor"], row["flows"], row["packets"]) for row in rows] == [
        ("gate", len(ROWS), int(ROWS["packets"].sum())),
        ("mill", 3, 6),
    ]
    rows = asked(server, FlowQuery(group_by=("sensor", "dport"), sort="flows", limit=3))
    assert [row["flows"] for row in rows] == sorted((row["flows"] for row in rows), reverse=True)


def test_what_is_there_twice_is_reported_once(both: tuple[Reader, ClickHouseServer]) -> None:
    _, server = both
    wanted = (
        FlowQuery(limit=10_000),
        FlowQuery(group_by=("sensor", "dport"), limit=10_000),
        FlowQuery(src="10.0.0.0/8"),
    )
    before = [in_order(asked(server, each)) for each in wanted]
    server.ask("INSERT INTO trafficmon.flows SELECT * FROM trafficmon.flows")
    assert server.counts()["rows"] == 2 * server.counts()["distinct"]
    assert [in_order(asked(server, each)) for each in wanted] == before
    server.ask("OPTIMIZE TABLE trafficmon.flows FINAL")


def test_sorted(both: tuple[Reader, ClickHouseServer]) -> None:
    _, server = both
    ports = [row["src_port"] for row in asked(server, FlowQuery(sort="-sport", limit=9))]
    assert ports == sorted(ports)
    assert [row["last_seen"] for row in asked(server, FlowQuery(limit=5))] == [NOW + 304 - at for at in range(5)]


@pytest.mark.parametrize("counter", ["bytes", "packets"])
@pytest.mark.parametrize("group_by", [(), ("dport", "proto"), ("src",)])
def test_traffic_is_sorted_by_both_directions(
    both: tuple[Reader, ClickHouseServer], counter: str, group_by: tuple[str, ...]
) -> None:
    reader, server = both
    for sign, reverse in (("", True), ("-", False)):
        wanted = FlowQuery(sort=sign + counter, group_by=group_by, limit=60)
        (here,) = reader.pages(question(wanted))
        for rows in (here, asked(server, wanted)):
            sums = [row[counter] + row[f"reply_{counter}"] for row in rows]
            assert sums == sorted(sums, reverse=reverse)
            assert sums != sorted((row[counter] for row in rows), reverse=reverse)


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        (FlowQuery(sort="nonsense"), "sort"),
        (FlowQuery(sort="src", group_by=("dport",)), "sort"),
        (FlowQuery(group_by=("nonsense", "sensor")), "group_by"),
        (FlowQuery(src="nonsense"), "src"),
        (FlowQuery(port=70000), "port"),
        (FlowQuery(proto="x", limit=0), "proto"),
    ],
)
def test_what_makes_no_sense(wanted: FlowQuery, where: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        fleet_question(wanted)
    assert where in {mistake.where for mistake in refusal.value.mistakes}


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(StoreError, match=r"refused.*check host, port, database"):
        list(Fleet(parse_target("clickhouse://127.0.0.1:1/x")).rows(fleet_question(FlowQuery())))


def test_trafficctl(both: tuple[Reader, ClickHouseServer]) -> None:
    _, server = both

    def trafficctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trafficctl", "flows", "--from", server.url, *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)

    shown = trafficctl("--group-by", "sensor", "-o", "csv")
    assert shown.stdout.splitlines()[0].startswith("sensor,flows,packets,bytes")
    assert {line.split(",")[0] for line in shown.stdout.splitlines()[1:]} == {"gate", "mill"}
    assert trafficctl("--limit", "2").stdout.splitlines()[0].startswith("SENSOR")
    assert trafficctl("--src", "203.0.113.9").returncode == 1
    sql = trafficctl("--sql", "--since", "@5").stdout
    assert "WHERE last_seen >= 5.0" in sql
    assert len(server.ask(sql.replace("FROM flows", "FROM trafficmon.flows").strip())) == 100
    assert trafficctl("--sort", "nonsense").returncode == 2
