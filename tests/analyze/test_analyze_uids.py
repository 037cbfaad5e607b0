"""Zeek's connections, told twice: in two forms, files given twice, and logs of long connections on their way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trafficmond.analyze.run import analyze
from trafficmond.config.settings import Settings

Conn = dict[str, Any]
CONN: Conn = {
    **{"ts": 1700000000.250123, "uid": "CHhAvVGS1DHFjwGM9", "proto": "tcp", "duration": 1800.5},
    **{"id.orig_h": "192.0.2.10", "id.orig_p": 40000, "id.resp_h": "198.51.100.7", "id.resp_p": 443},
    **{"conn_state": "SF", "history": "ShADadFf", "orig_bytes": 500, "resp_bytes": 9000},
    **{"orig_pkts": 600, "orig_ip_bytes": 42000, "resp_pkts": 500, "resp_ip_bytes": 460000},
}
WHOLE = [("192.0.2.10", 40000, "198.51.100.7", 443, "TCP", 1100, 502000)]
EARLY = {**CONN, "duration": 600.0, "conn_state": "S1", "history": "ShADad", "orig_pkts": 200, "orig_ip_bytes": 14000}
LATER = {**EARLY, "duration": 1200.0, "orig_pkts": 400, "orig_ip_bytes": 28000}


def jsonl(*conns: Conn) -> str:
    return "".join(json.dumps(conn) + "\n" for conn in conns)


def tsv(*conns: Conn, path: str = "conn") -> str:
    lines = [f"#path\t{path}", "#fields\t" + "\t".join(CONN), *("\t".join(map(str, conn.values())) for conn in conns)]
    return "\n".join(lines) + "\n"


def report(folder: Path, *texts: str) -> dict[str, Any]:
    paths = [folder / f"in{number}" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    found = dict(analyze([str(path) for path in paths], Settings(), 0.0))
    assert found["damage"]["total"] == 0, found["damage"]
    return found


def flows(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    names = ("src_ip", "src_port", "dst_ip", "dst_port", "protocol", "packets", "bytes")
    return sorted(tuple(flow[name] for name in names) for flow in found["flow_analysis"]["top_flows"])


@pytest.mark.parametrize(
    "texts",
    [
        [jsonl(CONN, CONN)],
        [jsonl(CONN), tsv(CONN)],
        [tsv(CONN), tsv(CONN), jsonl(CONN)],
        [tsv(CONN), jsonl({**CONN, "ts": 1700000000250})],
        [jsonl({**CONN, "ts": "2023-11-14T22:13:20.250123Z"}), tsv(CONN)],
        [jsonl(EARLY, LATER, CONN)],
        [jsonl(CONN), jsonl({**EARLY, "_path": "conn_long"}, {**LATER, "_path": "conn_long"})],
        [tsv(EARLY, LATER, path="conn_long"), tsv(CONN)],
        [jsonl({**CONN, "_path": "conn_red"})],
        [jsonl({**CONN, "_path": "conn"}, {**EARLY, "_path": "conn_red"})],
    ],
    ids=["twice", "forms", "files", "milliseconds", "words", "merged", "long", "long first", "reduced", "and reduced"],
)
def test_one_uid_is_one_connection(texts: list[str], tmp_path: Path) -> None:
    found = report(tmp_path, *texts)
    again = sum("".join(texts).count(one) for one in ("1700000000", "22:13:20")) - 1
    said = found["summary"]["sources"][0]["notes"]
    assert [count for what, count in said.items() if "repeated" in what] == ([again] if again else [])
    assert flows(found) == WHOLE
    assert found["summary"]["total_packets"] == 1100


def test_what_is_reported_only_on_its_way_has_what_was_reported_last(tmp_path: Path) -> None:
    found = report(tmp_path, tsv(EARLY, LATER, path="conn_long"))
    assert [flow[5:] for flow in flows(found)] == [(900, 488000)]


@pytest.mark.parametrize(
    "other",
    [
        {"uid": "CHhAvVGS1DHFjwGM8"},
        {"ts": 1700007200.250123},
        {"id.orig_h": "192.0.2.11"},
        {"uid": None},
    ],
    ids=["uid", "start", "ends", "none"],
)
def test_another_connection_stays_another(other: Conn, tmp_path: Path) -> None:
    assert report(tmp_path, jsonl(CONN), jsonl({**CONN, **other}))["summary"]["total_packets"] == 2200


def test_connections_without_uids_are_all_counted(tmp_path: Path) -> None:
    bare = {name: value for name, value in CONN.items() if name != "uid"}
    assert report(tmp_path, jsonl(bare, bare))["summary"]["total_packets"] == 2200


def test_a_uid_that_is_no_text_loses_nothing(tmp_path: Path) -> None:
    assert report(tmp_path, jsonl({**CONN, "uid": "\ud800"}))["summary"]["total_packets"] == 1100
