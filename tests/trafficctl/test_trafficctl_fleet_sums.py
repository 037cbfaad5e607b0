"""`usage`, `top` and `threats` of a fleet: what its hosts would say themselves, summed up."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from clickhouse_server import SCHEMA, ClickHouseServer, statements
from export_reports import NAMES, every_kind, reports
from opened_store import flushed, opened

from trafficctl.__main__ import run
from trafficmond.config.streams import Export
from trafficmond.export.exports import ExportSet
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.flows.owners import Owner
from trafficmond.model import Direction, Severity, Threat
from trafficmond.store.reader import Reader
from trafficmond.store.usage import UsageQuery, rows_of, usage_sql
from trafficmond.store.writer import Limits

NOW = float(int(time.time()))
OWNED = Names(NAMES.interfaces, NAMES.rules, NAMES.inners, {5: Owner("nginx.service", "/nginx")})
SCAN = Threat(
    "port_scan", Severity.HIGH, "T1046", "203.0.113.9", None, NOW - 90, NOW - 5, 40, "scans", {"unit": "probes"}, "a1"
)
FLOOD = replace(SCAN, detector="syn_flood", severity=Severity.LOW, src_ip=None, dst_ip="2001:db8::1", id="b2")


class Fleet(NamedTuple):
    """Two sensors' rows on a server; the gate's own flows.db besides."""

    reader: Reader
    server: ClickHouseServer
    gate: Batch
    mill: Batch


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    home = tmp_path_factory.mktemp("fleet")
    now = float(int(time.time()))  # not when this was imported: `top` is about what moved in five minutes
    gate = np.concatenate(
        [
            every_kind(20, at=now - 3 * 86400),
            every_kind(5, at=now - 7300),
            reports(9, at=now - 20, dport=22, owner=5, direction=Direction.EGRESS),
            reports(2, at=now - 30, dport=443, src_lo=0xFFFFC6120009),
        ]
    )
    mill = reports(3, at=now - 10, src_lo=0xFFFFC6120009, dport=1, ifindex=3)
    with ClickHouseServer(home) as server:
        store = opened(home / "flows.db", Limits(1e9, 1 << 30), clock=lambda: now)
        store.put(gate, OWNED)
        assert flushed(store, 20)
        for sensor, rows, threats in (("gate", gate, [SCAN]), ("mill", mill, [SCAN, FLOOD])):
            exports = ExportSet([Export(to=server.url, sensor=sensor, batch_interval=0.1)], home)
            exports.put(rows, OWNED)
            for threat in threats:
                exports.threat(threat, "opened")
                exports.threat(replace(threat, count=41), "closed" if sensor == "gate" else "updated")
            exports.finish(time.monotonic() + 20)
            exports.join(time.monotonic() + 20)
            (told,) = exports.status()
            assert (told["sent"], told["threats"]["sent"]) == (len(rows), 2 * len(threats))
        with Reader(home / "flows.db") as reader:
            yield Fleet(reader, server, gate, mill)
        store.close()


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def ctl(server: ClickHouseServer | None, *arguments: str) -> Done:
    whom = ["--from", server.url] if server else []
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = run([*arguments, *whom])
    return Done(code, out.getvalue(), err.getvalue())


def said(server: ClickHouseServer, *arguments: str) -> Any:
    done = ctl(server, *arguments, "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SINCE = NOW - 5 * 86400
KINDS = [
    *({"period": period} for period in ("hour", "day", "month")),
    {"period": "day", "kind": "interface", "key": "eth0"},
    *({"period": "hour", "kind": "unit", "key": key} for key in ("nginx", "n[!x]*")),
    {"period": "", "kind": "unit", "key": "*.service"},
    *({"period": "", "kind": kind} for kind in ("interface", "unit", "protocol", "port")),
]


@pytest.mark.parametrize("hourly", [False, True], ids=["flows", "hourly"])
@pytest.mark.parametrize("asked", KINDS, ids=lambda each: "-".join(each.values()))
def test_usage_is_what_the_host_says(fleet: Fleet, asked: dict[str, str], hourly: bool) -> None:
    server = fleet.server
    if hourly:
        keep_hours(server)
    here = rows_of(fleet.reader.rows(usage_sql(UsageQuery(since=SINCE, **asked))))
    by = asked["period"] or asked["kind"]
    one = [f"--{asked['kind']}", asked["key"]] if "key" in asked else []
    there = said(server, "usage", "--by", by, *one, "--since", f"@{SINCE}", "--sensor", "gate")
    assert there
    order = "period" if asked["period"] else "key"
    assert sorted(there, key=lambda row: row[order]) == sorted(here, key=lambda row: str(row[order]))


def keep_hours(server: ClickHouseServer) -> None:
    """Hourly sums from now on, and of what is there already."""
    if server.ask("SELECT count() FROM system.tables WHERE name = 'flows_hourly'") == [[0]]:
        for statement in statements((SCHEMA.with_name("flows-hourly.sql")).read_text()):
            server.ask(statement)
        view = (SCHEMA.with_name("flows-hourly.sql")).read_text().partition(" AS\nSELECT")[2].rstrip("\n;")
        server.ask(f"INSERT INTO trafficmon.flows_hourly SELECT {view}")


def test_usage_by_sensor(fleet: Fleet) -> None:
    rows = said(fleet.server, "usage", "--by", "sensor", "--since", f"@{SINCE}")
    assert [(row["key"], row["flows"]) for row in rows] == [("gate", len(fleet.gate)), ("mill", 3)]
    shown = ctl(fleet.server, "usage", "--by", "sensor").stdout
    assert shown.startswith("SENSOR")
    assert ctl(fleet.server, "usage", "--by", "day", "-o", "csv").stdout.startswith("period,key,flows,packets,up_bytes")


def test_threats_are_as_they_are_now(fleet: Fleet) -> None:
    rows = said(fleet.server, "threats")
    assert sorted((row["sensor"], row["id"], row["count"], row["state"]) for row in rows) == [
        ("gate", "a1", 41, "closed"),
        ("mill", "a1", 41, "updated"),
        ("mill", "b2", 41, "updated"),
    ]
    assert rows[0]["evidence"] == {"unit": "probes"}
    assert "port_scan" in ctl(fleet.server, "threats").stdout


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--open"], ["mill a1", "mill b2"]),
        (["--sensor", "gate"], ["gate a1"]),
        (["--host", "203.0.113.0/24"], ["gate a1", "mill a1"]),
        (["--host", "2001:db8::/32"], ["mill b2"]),
        (["--detector", "syn_flood"], ["mill b2"]),
        (["--min-severity", "medium"], ["gate a1", "mill a1"]),
        (["--since", "2s"], []),
    ],
    ids=str,
)
def test_threats_by_filter(fleet: Fleet, filters: list[str], found: list[str]) -> None:
    rows = said(fleet.server, "threats", *filters)
    assert sorted(f"{row['sensor']} {row['id']}" for row in rows) == found


def test_top_is_what_moved_in_five_minutes(fleet: Fleet) -> None:
    answer, rows = said(fleet.server, "top"), fleet.gate
    recent = np.concatenate([rows[-11:], fleet.mill])
    assert sum(row["flows"] for row in answer["sensors"]) == len(recent)
    for side, reply in (("sent", ""), ("received", "reply_")):
        total = recent[f"{reply}bytes"].sum() / 300
        assert sum(row[f"{side}_bytes_per_s"] for row in answer["flows"]) == pytest.approx(total)
    both = (recent["bytes"] + recent["reply_bytes"]).sum() / 300
    assert sum(row["sent_bytes_per_s"] + row["received_bytes_per_s"] for row in answer["sensors"]) == pytest.approx(
        both
    )
    assert sum(row["sent_bytes_per_s"] for row in answer["hosts"]) == pytest.approx(both)
    (gate,) = [row for row in answer["sensors"] if row["sensor"] == "gate"]
    out = (rows[-11:-2]["bytes"].sum() + rows[-2:]["reply_bytes"].sum()) / 300
    assert gate["sent_bytes_per_s"] == pytest.approx(out)
    (host,) = [row for row in answer["hosts"] if row["address"] == "198.18.0.9"]
    assert (host["sensors"], host["flows"]) == (2, 5)
    assert [row["id"] for row in answer["threats"]] == ["a1", "b2"]
    shown = ctl(fleet.server, "top", "-n").stdout
    for told in ("2 busy sensors", "198.18.0.9", "mill", "22", "syn_flood"):
        assert told in shown, shown


@pytest.mark.parametrize(
    ("match", "count"),
    [("22", 9), ("198.18.0.0/15", 5), ("nginx", 9), ("tcp", 14), ("udp", 0), ("192.0.2.1", 9)],
)
def test_top_of_what_matches(fleet: Fleet, match: str, count: int) -> None:
    answer = said(fleet.server, "top", "--match", match)
    assert sum(row["flows"] for row in answer["sensors"]) == count


@pytest.mark.parametrize("sort", ["bytes", "packets", "sent", "received"])
def test_top_is_sorted(fleet: Fleet, sort: str) -> None:
    rows = said(fleet.server, "top", "--sort", sort, "--sensor", "gate")["flows"]
    unit = "packets" if sort == "packets" else "bytes"
    sides = ("sent", "received") if sort in ("bytes", "packets") else (sort,)
    values = [sum(row[f"{side}_{unit}_per_s"] for side in sides) for row in rows]
    assert values == sorted(values, reverse=True)
    assert {row["sensor"] for row in rows} == {"gate"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["top", "--average", "2"], "averages over 300 s"),
        (["top", "--sort", "total"], "since a flow began"),
        (["usage", "--by", "country"], "have no country"),
        (["usage", "--asn", "64500"], "have no asn"),
        (["usage", "--by", "port", "--interface", "eth0"], "works only with --by hour"),
    ],
    ids=str,
)
def test_what_a_fleet_cannot_answer(fleet: Fleet, arguments: list[str], said: str) -> None:
    done = ctl(fleet.server, *arguments)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["usage", "--by", "sensor"], *([each, "--sensor", "x"] for each in ("top", "threats", "usage", "flows"))],
    ids=str,
)
def test_sensors_are_of_fleets(arguments: list[str]) -> None:
    done = ctl(None, *arguments)
    assert (done.returncode, "--from clickhouse://" in done.stderr) == (2, True), done.stderr
