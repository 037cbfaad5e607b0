"""A flows.db of each older version, as that version's own code wrote it: brought forward, step by step or at once.

`written/schema_N.sql` is what `.dump` says of a file that was filled by the code of schema N: three flows with their
rollups, a threat, two bans and an entry of the audit. 0.1.0 writes schema 3.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opened_store import flushed, kept_bans, opened
from store_reports import NAMES, NOW, reports

from trafficmond.store import schema
from trafficmond.store.records import Ban
from trafficmond.store.writer import Limits

WRITTEN = Path(__file__).parent / "written"
OLDER = range(1, schema.VERSION)
Ask = Callable[..., list[tuple[Any, ...]]]


def restore(path: Path, version: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript((WRITTEN / f"schema_{version}.sql").read_text())
        assert connection.execute("PRAGMA user_version").fetchone() == (version,)


def columns(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Of all tables but the partitions, which are left as they are: name, type, whether NULL may be, default, key."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: [row[1:] for row in connection.execute(f"PRAGMA table_info({name})")]
            for name in tables
            if not name.startswith("flows_")
        }


def test_there_is_a_file_of_each_version() -> None:
    assert sorted(WRITTEN.glob("*.sql")) == [WRITTEN / f"schema_{version}.sql" for version in OLDER]


@pytest.mark.parametrize("version", OLDER)
def test_everything_of_an_older_file_is_there(version: int, path: Path, limits: Limits, ask: Ask) -> None:
    restore(path, version)
    store = opened(path, limits, clock=lambda: NOW)
    try:
        assert kept_bans(store) == [
            Ban("192.0.2.7/32", "port_scan", "scans", NOW - 10, NOW + 600, "01-AB", 2, owner="unknown"),
            Ban("2001:db8::/32", "ada", "", NOW - 20, None, owner="unknown"),
        ]
        (threat,) = store.last_threats(0.0, 10).result(5)[1]
        assert (threat.id, threat.src_ip, threat.count) == ("01-AB", "192.0.2.7", 3)
        store.put(reports(2), NAMES)
        assert flushed(store, 5)
        store.change_bans([Ban("192.0.2.7/32", "ada", "", NOW, None, owner="ada")], [("2001:db8::/32", "unknown")])
        owners = sorted((ban.cidr, ban.owner) for ban in kept_bans(store))
        assert owners == [("192.0.2.7/32", "ada"), ("192.0.2.7/32", "unknown")]
        assert store.status().set_aside is None
    finally:
        store.close(5)
    assert ask("SELECT count(*), sum(packets) FROM flows") == [(5, 15)]
    assert ask("SELECT flows FROM rollups WHERE kind = 'total' AND period = 'day'") == [(5,)]
    assert ask('SELECT "user", change, subject, "after" FROM audit') == [("root", "ban", "192.0.2.7/32", "for 600 s")]


@pytest.mark.parametrize("version", OLDER)
def test_its_tables_become_those_of_a_new_file(version: int, tmp_path: Path, limits: Limits) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    restore(old, version)
    for path in (old, new):
        opened(path, limits).close(5)
    assert columns(old) == columns(new)


@pytest.mark.parametrize("version", OLDER)
def test_each_step_leads_to_what_that_version_wrote(
    version: int, tmp_path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a step that was once released is never another."""
    stepped, written = tmp_path / "stepped.db", tmp_path / "written.db"
    following = version + 1
    restore(stepped, version)
    monkeypatch.setattr(schema, "VERSION", following)
    opened(stepped, limits).close(5)
    if following in OLDER:
        restore(written, following)
    else:
        opened(written, limits).close(5)
    assert columns(stepped) == columns(written)


def test_the_version_before_refuses_this_one_s_file_and_leaves_it(
    path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    """What a downgrade meets."""
    restore(path, schema.VERSION - 1)
    opened(path, limits).close(5)
    before = path.read_bytes()
    monkeypatch.setattr(schema, "VERSION", schema.VERSION - 1)
    with pytest.raises(schema.StoreError, match="newer trafficmond") as refused:
        opened(path, limits)
    assert "install that version again" in refused.value.hint
    assert path.read_bytes() == before
    assert ask("SELECT count(*) FROM bans") == [(2,)]
