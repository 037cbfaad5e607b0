"""Copies a time range of the daemon's flows.db into a new flows.db, by SQLite and without blocking the daemon."""

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trafficmond.errors import StoreError
from trafficmond.store.schema import STORED_COLUMNS, partition_table

_LIVE = 0  # the number of the partition for flows that are not stored yet; the daemon's own begin at 1
_SAME = "first_seen, src_ip, dst_ip, src_port, dst_port, protocol_num, interface"


def extract(store: Path, part: Path, since: float, until: float, live: Iterable[Mapping[str, Any]] = ()) -> int:
    """Copies the flows seen between two moments (epoch s) from `store` into the new file `part`; returns how many.

    `live` are flows that were not stored yet when they were asked for, just before; one that is stored by now is copied
    once. Raises StoreError if the store cannot be read or there is no room for the copy.
    """
    try:
        with contextlib.closing(sqlite3.connect(part, uri=True, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("ATTACH ? AS daemon", (f"file:{quote(str(store))}?mode=ro",))
            connection.execute("CREATE TABLE partitions (number INTEGER)")
            numbers = connection.execute("SELECT number FROM daemon.partitions ORDER BY number").fetchall()
            _copy_threats(connection, since, until)
            # One partition at a time: during a long transaction the daemon could not shrink its write-ahead log.
            copied = {number: _copy(connection, number, since, until) for (number,) in numbers}
            return sum(copied.values()) + _add(connection, live, [number for number in copied if copied[number]])
    except sqlite3.Error as error:
        hint = "use sudo or join group trafficmon; the copy needs room in $TMPDIR"
        raise StoreError(f"cannot copy flows from {store}: {error}", hint=hint) from error


def _copy_threats(connection: sqlite3.Connection, since: float, until: float) -> None:
    if not connection.execute("SELECT 1 FROM daemon.sqlite_master WHERE name = 'threats'").fetchone():
        return
    where = "last_seen >= ? AND first_seen <= ?"
    connection.execute(f"CREATE TABLE threats AS SELECT * FROM daemon.threats WHERE {where}", (since, until))


def _copy(connection: sqlite3.Connection, number: int, since: float, until: float) -> int:
    table = partition_table(number)
    there = connection.execute("SELECT 1 FROM daemon.sqlite_master WHERE name = ?", (table,)).fetchone()
    if not there:  # removed because of its age since the list was read
        return 0
    select = f"SELECT * FROM daemon.{table} WHERE last_seen >= ? AND first_seen <= ?"
    connection.execute(f"CREATE TABLE {table} AS {select}", (since, until))
    connection.execute("INSERT INTO partitions VALUES (?)", (number,))
    return int(connection.execute(f"SELECT count(*) FROM main.{table}").fetchone()[0])


def _add(connection: sqlite3.Connection, live: Iterable[Mapping[str, Any]], stored: Sequence[int]) -> int:
    table = partition_table(_LIVE)
    columns = tuple(STORED_COLUMNS)
    connection.execute(f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in STORED_COLUMNS.items())})")
    into = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    connection.executemany(into, ([row.get(name) for name in columns] for row in live))
    (first,) = connection.execute(f"SELECT min(first_seen) FROM {table}").fetchone()
    if first is None:
        return 0
    for number in stored:
        there = f"SELECT {_SAME} FROM main.{partition_table(number)} WHERE first_seen >= ?"
        connection.execute(f"DELETE FROM {table} WHERE ({_SAME}) IN ({there})", (first,))
    connection.execute("INSERT INTO partitions VALUES (?)", (_LIVE,))
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
