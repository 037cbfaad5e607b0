"""Bans survive what happens to flows.db, and what cannot be read of them is said."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from opened_store import flushed, kept_bans, opened

from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.model import Severity, Threat
from trafficmond.store import bans, schema
from trafficmond.store.records import Ban
from trafficmond.store.store import Store
from trafficmond.store.writer import Limits

Make = Callable[..., Batch]

FIRST = Ban("192.0.2.1/32", "ada", "20 ports", 1.0, 601.0, "t1", 2, owner="ada", ports="tcp/22,tcp/443")
SECOND = Ban("2001:db8::/32", "ada", "", 1.0, None, forced=True)
THIRD = Ban("192.0.2.3/32", "ada", "", 1.0, None, owner="fail2ban-sshd")
SOUND = "192.0.2.9/32", "ada", "", 1.0, None, None, 1, 0, "ada", ""


def left_by_a_stop(path: Path, limits: Limits, *found: Ban) -> None:
    store = opened(path, limits)
    store.save_bans(found).result(5)
    store.close(5)


def known(path: Path, limits: Limits) -> tuple[list[Ban], str]:
    store = opened(path, limits)
    try:
        return kept_bans(store), store.missing_bans
    finally:
        store.close(5)


def change(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


def test_bans_of_a_damaged_file_are_read(path: Path, limits: Limits, names: Names, make_reports: Make) -> None:
    left_by_a_stop(path, limits, FIRST, SECOND, THIRD)
    store = opened(path, limits, clock=lambda: 0.0)
    store.put(make_reports(5000), names)
    assert flushed(store, 10)
    store.close(5)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xa5" * 4096)
    assert known(path, limits) == ([FIRST, SECOND, THIRD], "")
    assert len(list(path.parent.glob("flows.db.broken-*"))) == 1


@pytest.mark.parametrize("content", [b"not a database", b"SQLite format 3\0", b"\0" * 8192])
def test_bans_that_cannot_be_read_are_said_to_be_missing_once(path: Path, limits: Limits, content: bytes) -> None:
    left_by_a_stop(path, limits, FIRST)
    path.write_bytes(content)
    found, missing = known(path, limits)
    assert (found, missing[:22]) == ([], "flows.db was damaged (")
    assert known(path, limits) == ([], "")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("cidr", text) for text in ("'nonsense'", "''", "5", "x'00ff'", "NULL")),
        *(("since", text) for text in ("'yesterday'", "9e999", "x'00'")),
        *(("expires", text) for text in ("'never'", "-9e999", "x''")),
        *(("reason", text) for text in ("5", "x'ff'")),
        *(("count", text) for text in ("'many'", "1.5")),
        *(("owner", text) for text in ("x'ff'",)),
        *(("ports", text) for text in ("'no/such'", "','", "x'ff'")),
        *(("threat", text) for text in ("x'ff'",)),
    ],
)
def test_a_row_that_is_no_ban_keeps_no_other_out(path: Path, limits: Limits, column: str, value: str) -> None:
    left_by_a_stop(path, limits, FIRST, THIRD)
    change(
        path,
        "ALTER TABLE bans RENAME TO before",
        f"CREATE TABLE bans ({bans._COLUMNS})",  # without types and constraints
        f"INSERT INTO bans SELECT {bans._COLUMNS} FROM before",
        f"UPDATE bans SET {column} = {value} WHERE owner = 'ada'",
    )
    assert known(path, limits) == ([THIRD], "1 damaged in flows.db or unstored-bans.jsonl")


@pytest.mark.parametrize(
    "line",
    [
        b"5",
        b"null",
        b"[]",
        b'["192.0.2.9/32"]',
        b'{"a": 1}',
        b'[["x"], "y"]',
        b'["192.0.2.9/32", "ada", {"cidr": "192.0.2.9/32"}]',
        b'["192.0.2.9/32", "ada", 5]',
        b'["192.0.2.9/32", "ada", "192.0.2.9/32"]',
        json.dumps(["192.0.2.9/32", "ada", [*SOUND[:3], "x", *SOUND[4:]]]).encode(),
        json.dumps(["192.0.2.9/32", "ada", [*SOUND, "more"]]).encode(),
        b"\xff\xfe",
        b"\0" * 50,
        json.dumps(["192.0.2.9/32", "ada", SOUND]).encode()[:-9],
    ],
)
def test_a_line_that_is_no_change_keeps_no_other_out(path: Path, limits: Limits, line: bytes) -> None:
    left_by_a_stop(path, limits, FIRST, SECOND)
    put, lift = [THIRD.cidr, THIRD.owner, astuple(THIRD)], [FIRST.cidr, FIRST.owner]
    path.with_name(bans.LEFT_NAME).write_bytes(b"\n".join([json.dumps(put).encode(), line, json.dumps(lift).encode()]))
    assert known(path, limits) == ([SECOND, THIRD], "1 damaged in flows.db or unstored-bans.jsonl")


def test_a_file_of_changes_that_cannot_be_read_is_said(path: Path, limits: Limits) -> None:
    left_by_a_stop(path, limits, FIRST)
    path.with_name(bans.LEFT_NAME).mkdir()
    found, missing = known(path, limits)
    assert found == [FIRST]
    assert missing.startswith("unstored-bans.jsonl cannot be read (")


def test_changes_that_a_full_disk_did_not_take_at_a_stop_are_said_until_all_are_stored(
    path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_by_a_stop(path, limits, FIRST)
    store = opened(path, limits)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as lock, monkeypatch.context() as full:
        lock.execute("BEGIN IMMEDIATE")
        full.setattr("trafficmond.files.append", Mock(side_effect=OSError(28, "No space left on device")))
        store.change_bans([THIRD], [])
        store.close(0.1)
        store._writer.join()
    for _ in range(2):
        found, missing = known(path, limits)
        assert (found, "no room for the last changes" in missing) == ([FIRST], True)
    left_by_a_stop(path, limits, *found)
    assert known(path, limits) == ([FIRST], "")


def test_bans_of_a_newer_version_can_be_read(path: Path, limits: Limits) -> None:
    left_by_a_stop(path, limits, FIRST, SECOND)
    change(path, "ALTER TABLE bans ADD COLUMN more", f"PRAGMA user_version = {schema.VERSION + 90}")
    before = path.read_bytes()
    store = Store.open(path, limits)
    store.change_bans([THIRD], [(FIRST.cidr, FIRST.owner)])
    assert not flushed(store, 0.1)
    assert (store.read_bans(), store.missing_bans) == ([FIRST, SECOND], "")
    store.close(0.1)
    store._writer.join()
    store = Store.open(path, limits)
    assert store.read_bans() == [SECOND, THIRD], "with the changes that wait for the newer version"
    store.close(0.1)
    assert path.read_bytes() == before
    change(path, f"PRAGMA user_version = {schema.VERSION}")
    assert known(path, limits) == ([SECOND, THIRD], "")


def test_a_file_on_another_disk_has_its_log_there(path: Path, limits: Limits) -> None:
    """SQLite names the log after the file that a link leads to."""
    there = path.parent / "disk" / "history.db"
    there.parent.mkdir()
    opened(there, limits).close(5)
    path.symlink_to(there)
    store = opened(path, limits)
    store.save_bans([FIRST]).result(5)
    assert store.read_bans() == [FIRST], "from the log, as after a kill"
    log = there.with_name("history.db-wal").stat().st_size
    assert store._writer.file.wal_bytes() == log > 0
    assert store.status().size_bytes == log + there.stat().st_size
    store.close(5)


def test_what_has_no_bans_is_not_taken_for_an_empty_list(path: Path, limits: Limits) -> None:
    change(path, "CREATE TABLE theirs (x)")
    store = Store.open(path, limits)
    assert store.read_bans() is None
    store.close(0.1)


def test_a_threat_that_is_none_keeps_no_other_out(path: Path, limits: Limits) -> None:
    store = opened(path, limits)
    threat = Threat("port_scan", Severity.HIGH, "T1046", "192.0.2.9", None, 1.0, 2.0, 20, "", {}, "t-0")
    for number in range(6):
        store.put_threat(replace(threat, id=f"t-{number}"), "opened").result(5)
    store.close(5)
    change(
        path,
        "UPDATE threats SET evidence = 'x' WHERE id = 't-1'",
        "UPDATE threats SET severity = 'very' WHERE id = 't-2'",
        "UPDATE threats SET evidence = x'ff' WHERE id = 't-3'",
        "UPDATE threats SET last_seen = 'late' WHERE id = 't-4'",
        "UPDATE threats SET count = 'many' WHERE id = 't-5'",
    )
    store = opened(path, limits)
    assert [each.id for each in store.last_threats(0.0, 9).result(5)[1]] == ["t-0"]
    store.close(5)
