"""What is at the path already: nothing, an older file, a newer one, somebody else's, a broken one."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opened_store import flushed, kept_bans, opened

from trafficmond import abi
from trafficmond.errors import StoreError
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.store import schema
from trafficmond.store.records import Ban
from trafficmond.store.store import Store
from trafficmond.store.writer import Limits

Ask = Callable[..., list[tuple[Any, ...]]]
Make = Callable[..., Batch]


def filled(path: Path, limits: Limits, batch: Batch, names: Names) -> None:
    store = opened(path, limits, clock=lambda: 0.0)
    store.put(batch, names)
    assert flushed(store, 10)
    store.close(5)


def test_a_newer_file_is_refused_untouched(path: Path, limits: Limits) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(StoreError, match="newer trafficmond"):
        opened(path, limits)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("application_id", [0, 0x12345678])
def test_another_programs_database_is_refused(path: Path, limits: Limits, application_id: int) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.execute(f"PRAGMA application_id = {application_id}")
    connection.close()
    with pytest.raises(StoreError, match="another program"):
        opened(path, limits)
    assert sqlite3.connect(path).execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


@pytest.mark.parametrize("content", [b"not a database at all", b"SQLite format 3\0", b"\0" * 8192, b"x"])
def test_garbage_is_set_aside_and_storing_continues(
    path: Path, limits: Limits, names: Names, make_reports: Make, content: bytes
) -> None:
    path.write_bytes(content)
    filled(path, limits, make_reports(3), names)
    (aside,) = path.parent.glob("flows.db.broken-*")
    assert aside.read_bytes() == content


def test_a_truncated_file_is_set_aside(path: Path, limits: Limits, names: Names, make_reports: Make, ask: Ask) -> None:
    filled(path, limits, make_reports(5000), names)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    filled(path, limits, make_reports(3), names)
    assert ask("SELECT count(*) FROM flows") == [(3,)]
    assert len(list(path.parent.glob("flows.db.broken-*"))) == 1


def test_a_corrupted_page_is_found_at_the_start(
    path: Path, limits: Limits, names: Names, make_reports: Make, ask: Ask
) -> None:
    filled(path, limits, make_reports(5000), names)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xa5" * 4096)
    store = opened(path, limits, clock=lambda: 0.0)
    store.put(make_reports(4), names)
    assert flushed(store, 10)
    status = store.status()
    store.close(5)
    assert status.set_aside is not None
    assert Path(status.set_aside).stat().st_size > 4096 * 10
    assert ask("SELECT count(*) FROM flows") == [(4,)]


def test_two_broken_files_in_one_second_keep_both(path: Path, limits: Limits, names: Names, make_reports: Make) -> None:
    for _ in range(2):
        path.write_bytes(b"garbage" * 100)
        for side in ("-wal", "-shm"):
            path.with_name(path.name + side).unlink(missing_ok=True)
        filled(path, limits, make_reports(), names)
    assert (
        len([entry for entry in path.parent.glob("flows.db.broken-*") if entry.read_bytes().startswith(b"garb")]) == 2
    )


def test_a_file_removed_while_in_use_is_made_again(
    path: Path, limits: Limits, names: Names, make_reports: Make, ask: Ask
) -> None:
    store = opened(path, limits, clock=lambda: 0.0)
    store.put(make_reports(5), names)
    flushed(store, 5)
    for entry in path.parent.iterdir():
        entry.unlink()
    store.put(make_reports(2), names)
    assert flushed(store, 5)
    store.close(5)
    assert ask("SELECT count(*) FROM flows") == [(2,)]


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path, limits: Limits) -> None:
    opened(tmp_path / "missing" / "flows.db", limits).close(5)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be opened"):
        opened(tmp_path / "file" / "flows.db", limits)


def test_a_file_that_cannot_be_opened_yet_is_opened_when_it_can(
    path: Path, limits: Limits, names: Names, make_reports: Make, ask: Ask
) -> None:
    """Whoever filters does not wait: what was put meanwhile is stored, and what was asked is answered, later."""
    path.mkdir()
    store = Store.open(path, limits)
    assert store.read_bans() is None
    store.put(make_reports(3), names)
    assert not flushed(store, 0.3)
    assert "cannot be opened" in store.status().state
    path.rmdir()
    assert kept_bans(store) == []
    store.close(5)
    assert store.status().state == "closed"
    assert ask("SELECT count(*) FROM flows") == [(3,)]


def test_what_only_reads_waits_for_nobody_who_writes(path: Path, limits: Limits) -> None:
    opened(path, limits).close(5)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store = Store.open(path, limits)
        assert kept_bans(store) == []
        other.execute("ROLLBACK")
    store.close(5)


def test_a_migration_that_fails_leaves_nothing_behind(
    path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(database: Any) -> None:
        database.execute("CREATE TABLE half (x)")
        raise sqlite3.OperationalError("interrupted")

    monkeypatch.setattr(schema, "MIGRATIONS", (fail,))
    with pytest.raises(StoreError):
        opened(path, limits)
    monkeypatch.undo()
    store = opened(path, limits)
    store.close(5)
    assert sqlite3.connect(path).execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)


def as_of_version_2(path: Path) -> None:
    """A file without columns for what tunnels carry: a full partition and the one that takes rows, both of one row."""
    with sqlite3.connect(path) as connection:
        connection.execute("DROP VIEW flows")
        for name in (*schema.INNER_COLUMNS, *schema.OWNER_COLUMNS, *schema.PROCESS_COLUMNS):
            connection.execute(f"ALTER TABLE flows_1 DROP COLUMN {name}")
        connection.execute("CREATE TABLE flows_2 AS SELECT * FROM flows_1")
        connection.execute("INSERT INTO partitions SELECT 2, first_seen, last_seen, rows, 0 FROM partitions")
        connection.execute("UPDATE partitions SET sealed = 1 WHERE number = 1")
        connection.execute("CREATE INDEX flows_1_last_seen ON flows_1 (last_seen)")
        connection.execute("CREATE VIEW flows AS SELECT * FROM flows_1 UNION ALL SELECT * FROM flows_2")
        connection.execute("ALTER TABLE audit DROP COLUMN login")
        for name in ("up_bytes", "down_bytes"):
            connection.execute(f"ALTER TABLE rollups DROP COLUMN {name}")
        connection.execute("PRAGMA user_version = 2")
    connection.close()


def test_rows_from_before_tunnels_were_looked_into_stay(
    path: Path, limits: Limits, names: Names, make_reports: Make, ask: Ask
) -> None:
    filled(path, limits, make_reports(1), names)
    as_of_version_2(path)
    inner = np.zeros(1, abi.INNER)
    inner["tunnel"] = abi.IPIP
    filled(path, limits, make_reports(1, inner=9), replace(names, inners={9: inner.tobytes()}))
    assert ask("SELECT tunnel, packets, inner_src_port FROM flows") == [
        (None, 3, None),
        (None, 3, None),
        ("ipip", 3, 0),
    ]
    assert ask("SELECT number, rows FROM partitions") == [(1, 1), (2, 2)]
    assert ask("PRAGMA user_version") == [(schema.VERSION,)]
    named = [name for _, name, *_ in ask("PRAGMA table_info(flows_1)")]
    assert named == list(schema.FLOW_COLUMNS), "hundreds of full partitions are left as they are"
    plan = str(ask("EXPLAIN QUERY PLAN SELECT * FROM flows ORDER BY last_seen DESC LIMIT 1"))
    assert "flows_1_last_seen" in plan, "and their indexes serve"


def test_an_older_file_is_brought_forward_with_its_rows(
    path: Path, limits: Limits, names: Names, make_reports: Make, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path, limits, make_reports(7), names)
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    monkeypatch.setattr(
        schema, "MIGRATIONS", (*schema.MIGRATIONS, lambda database: database.execute("CREATE TABLE added (x)"))
    )
    filled(path, limits, make_reports(1), names)
    assert ask("SELECT count(*) FROM flows") == [(8,)]
    assert ask("SELECT count(*) FROM added") == [(0,)]
    assert ask("PRAGMA user_version") == [(schema.VERSION,)]


def test_bans_of_the_first_version_were_not_forced(path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "VERSION", 1)
    opened(path, limits).close(5)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO bans VALUES ('192.0.2.1/32', 'ada', '', 1.0, NULL, NULL, 2)")
    monkeypatch.undo()
    store = opened(path, limits)
    assert kept_bans(store) == [Ban("192.0.2.1/32", "ada", "", 1.0, None, None, 2, forced=False)]
    store.close(5)


def test_a_file_restored_from_a_dump_is_distinguished_from_a_strangers_with_a_hint(tmp_path: Path) -> None:
    path, restored = tmp_path / "flows.db", tmp_path / "restored.db"
    opened(path, Limits(86400.0, 1 << 30)).close()
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(restored)) as target:
        target.executescript("\n".join(source.iterdump()))
        target.execute("PRAGMA journal_mode = WAL")
    with pytest.raises(StoreError, match="restored from") as error:
        opened(restored, Limits(86400.0, 1 << 30))
    marks = re.findall(r"PRAGMA \w+ = \d+", error.value.hint)
    with contextlib.closing(sqlite3.connect(restored)) as target:
        for mark in marks:
            target.execute(mark)
    store = opened(restored, Limits(86400.0, 1 << 30))
    assert store.status().state == "ok"
    store.close()


def test_what_is_no_file_keeps_nobody_waiting(path: Path, limits: Limits) -> None:
    os.mkfifo(path)
    with pytest.raises(StoreError, match="not a regular file"):
        opened(path, limits)
