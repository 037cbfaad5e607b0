"""docs/flows-db.md is right: its tables are the schema, and each of its questions runs and answers."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from opened_store import flushed, opened
from store_reports import NAMES, reports

from trafficmond.datapath import loading
from trafficmond.flows.batch import V4_MAPPED
from trafficmond.flows.owners import Owner
from trafficmond.model import FlowQuery, Severity, Threat
from trafficmond.store import rollups
from trafficmond.store.query import question
from trafficmond.store.records import AuditEntry, Ban
from trafficmond.store.schema import VERSION
from trafficmond.store.writer import Limits

PAGE = (Path(__file__).parents[2] / "docs" / "flows-db.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
TABLES = ("flows", "partitions", "rollups", "threats", "bans", "audit")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with something for every question to find."""
    path = tmp_path_factory.mktemp("docs") / "flows.db"
    now = time.time()
    store = opened(path, Limits(1e9, 1 << 30))
    batch = reports(6, at=now - 5)
    sources = (0xC0000201, 0x0A000001, 0x0A000001, 0xC0000202, 0xC0000203, 0xC0000204)
    batch["src_lo"] = [int(V4_MAPPED) | source for source in sources]
    batch["verdict"][1] = 2 << 28 | 2 << 24 | 6
    batch["tcp_flags"], batch["reply_packets"][2] = 2, 0
    # The flow 128.232.110.120:34855 -> 66.35.250.204:80 of the Community ID vectors.
    batch["src_lo"][3], batch["dst_lo"][3] = int(V4_MAPPED) | 0x80E86E78, int(V4_MAPPED) | 0x4223FACC
    batch["sport"][3], batch["dport"][3] = 34855, 80
    batch["owner"] = (7, 7, 7, 7, 7, 8)
    web = Owner("nginx.service", "/system.slice/nginx.service", None, "nginx", 7)
    session = Owner("user-1000.slice", "/user.slice/user-1000.slice/session-2.scope", 1000, "curl", 8)
    store.put(batch, replace(NAMES, owners={7: web, 8: session}))
    found = Threat("port_scan", Severity.HIGH, "T1046", "10.0.0.1", None, now - 100, now, 20, "20 ports", {}, "t1")
    store.put_threat(found, "opened").result(5)
    store.audit(AuditEntry(now, 0, "root", 1, "add-cidr", "192.0.2.0/24", None, "drop")).result(5)
    store.save_bans([Ban("10.0.0.1/32", "port_scan", "20 ports", now, now + 600, "t1")]).result(5)
    assert flushed(store, 5)
    store.close(5)
    return path


def test_the_schemas_version_is_named() -> None:
    assert set(re.findall(r"user_version(?: = |` is the schema's version \()(\d+)", PAGE)) == {str(VERSION)}


def test_there_are_a_dozen_and_more() -> None:
    assert len(QUESTIONS) > 12


@pytest.mark.parametrize("sql", QUESTIONS, ids=lambda sql: re.sub(r"\s+", " ", sql)[:50])
def test_every_question_answers(history: Path, sql: str) -> None:
    connection = sqlite3.connect(f"file:{history}?mode=ro", uri=True)
    try:
        assert connection.execute(sql).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("column", [*Owner._fields, "up_bytes", "down_bytes", "'unit'", "'country'", "'asn'"])
def test_a_question_uses_each_column_of_owners_and_each_kind_of_sums(column: str) -> None:
    assert any(re.search(rf"(?<!\w){column}(?!\w)", sql) for sql in QUESTIONS)


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_described_and_nothing_else(history: Path, table: str) -> None:
    section = PAGE.split(f"\n## {table}\n", 1)[1].split("\n## ", 1)[0]
    described = [
        name
        for row in re.findall(r"^\| (`.*?) \| [A-Z]+[,A-Z ]* \|", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    ]
    connection = sqlite3.connect(f"file:{history}?mode=ro", uri=True)
    assert described == [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
    connection.close()


def test_what_it_says_of_rollups_holds() -> None:
    for period, top in rollups.TOP.items():
        assert f"| {period} | more than {top * rollups._CROWD} | {top} |" in PAGE
    assert "minute for 2 days, each hour for 60 days, each day for 5 years" in PAGE
    assert rollups.KEEP_S == {"minute": 2 * 86400, "hour": 60 * 86400, "day": 5 * 366 * 86400}


def test_what_it_says_of_tunnels_holds() -> None:
    assert f"The daemon remembers the latest {loading._INNERS:,} inner flows" in PAGE


def test_the_networks_question_is_what_a_filter_asks() -> None:
    condition = "src_ip >= '192.0.2.' AND src_ip < '192.0.2/'"
    assert condition in PAGE
    assert condition in question(FlowQuery(src="192.0.2.0/24")).sql


def test_sqlite_utils_reads_it(history: Path) -> None:
    sql = "SELECT src_ip, bytes FROM flows ORDER BY bytes DESC LIMIT 5"
    done = subprocess.run(
        [sys.executable, "-m", "sqlite_utils", "query", str(history), sql, "--table"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "src_ip" in done.stdout
