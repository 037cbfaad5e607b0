"""The tables of flows.db, and migrations from any older version. Documented in docs/flows-db.md.

`flows` is a view over time partitions `flows_1`, `flows_2`...: the newest takes the inserts and has no index but its
order; a full one is indexed once, in bulk, and dropped whole when it is too old. So the insert rate does not depend on
the size of the file, and retention takes milliseconds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trafficmond import files
from trafficmond.errors import StoreError
from trafficmond.model import columns

if TYPE_CHECKING:
    from sqlite_utils import Database

Step = Callable[["Database"], None]

APPLICATION_ID = 0x746D6F6E  # "tmon", in the file's header
VERSION = 9  # PRAGMA user_version

FLOW_COLUMNS = columns(
    "first_seen REAL, last_seen REAL, src_ip TEXT, dst_ip TEXT, src_port INTEGER, dst_port INTEGER, protocol TEXT, "
    "protocol_num INTEGER, packets INTEGER, bytes INTEGER, reply_packets INTEGER, reply_bytes INTEGER, "
    "tcp_flags INTEGER, reply_tcp_flags INTEGER, action TEXT, rule TEXT, interface TEXT, direction TEXT, vlan INTEGER, "
    "community_id TEXT"
)
# The inner flow of a tunnel; NULL if there was none, or flows.look_inside is off.
INNER_COLUMNS = columns(
    "tunnel TEXT, vni INTEGER, inner_src_ip TEXT, inner_dst_ip TEXT, inner_src_port INTEGER, inner_dst_port INTEGER, "
    "inner_protocol TEXT"
)
# The owner; NULL if flows.units is off, or the owner unknown.
OWNER_COLUMNS = columns("unit TEXT, cgroup TEXT, uid INTEGER")
# Its process; NULL if flows.processes is off, or the process unknown.
PROCESS_COLUMNS = columns("process TEXT, pid INTEGER")
_LATER_COLUMNS = {**INNER_COLUMNS, **OWNER_COLUMNS, **PROCESS_COLUMNS}
STORED_COLUMNS = {**{name: f"{kind} NOT NULL" for name, kind in FLOW_COLUMNS.items()}, **_LATER_COLUMNS}
STORED = ", ".join(f"{name} {kind}" for name, kind in STORED_COLUMNS.items())
# Indexes of a full partition. docs/flows-db.md shows them query by query.
INDEXED = ("last_seen", "src_ip", "dst_ip")

_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"


def partition_table(number: int) -> str:
    return f"flows_{number}"


def create_partition(connection: sqlite3.Connection, number: int) -> None:
    """Create an empty partition, and enter it in `partitions`."""
    connection.execute(f"CREATE TABLE {partition_table(number)} ({STORED})")
    connection.execute("INSERT INTO partitions (number, rows, sealed) VALUES (?, 0, 0)", (number,))


def create_view(connection: sqlite3.Connection) -> None:
    """Create `flows` over all partitions, oldest first; columns newer than a partition are NULL."""
    numbers = connection.execute("SELECT number FROM partitions ORDER BY number").fetchall()
    tables = [partition_table(number) for (number,) in numbers]
    arms = " UNION ALL ".join(f"SELECT {_columns_of(connection, table)} FROM {table}" for table in tables)
    connection.execute("DROP VIEW IF EXISTS flows")
    connection.execute(f"CREATE VIEW flows AS {arms}")


def _columns_of(connection: sqlite3.Connection, table: str) -> str:
    """Columns with types: SQLite uses the indexes behind a view only if a column is the same in all its arms."""
    has = present(connection, table)
    missing = {name: f"CAST(NULL AS {kind}) AS {name}" for name, kind in _LATER_COLUMNS.items() if name not in has}
    return ", ".join(missing.get(name, name) for name in STORED_COLUMNS)


def present(connection: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table."""
    return [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]


def _add_to_flows(added: Mapping[str, str]) -> Step:
    """Adds columns to the open partition only: changing hundreds would take long."""

    def step(database: Database) -> None:
        connection = database.conn
        (number,) = connection.execute("SELECT max(number) FROM partitions").fetchone()
        table = partition_table(number)
        there = present(connection, table)  # all, in a new file
        for name, kind in added.items():
            if name not in there:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
        create_view(connection)

    return step


def _statements(*statements: str) -> Step:
    def step(database: Database) -> None:
        for statement in statements:
            database.execute(statement)

    return step


def _first(database: Database) -> None:
    _statements(*_FIRST)(database)
    create_partition(database.conn, 1)
    create_view(database.conn)


_FIRST = (
    "CREATE TABLE partitions (number INTEGER PRIMARY KEY, first_seen FLOAT, last_seen FLOAT, rows INTEGER, "
    "sealed INTEGER)",
    "CREATE TABLE threats (id TEXT PRIMARY KEY, detector TEXT NOT NULL, severity TEXT NOT NULL, "
    "technique TEXT NOT NULL, src_ip TEXT, dst_ip TEXT, first_seen FLOAT NOT NULL, last_seen FLOAT NOT NULL, "
    "count INTEGER NOT NULL, summary TEXT NOT NULL, evidence TEXT NOT NULL, state TEXT NOT NULL)",
    "CREATE INDEX threats_last_seen ON threats (last_seen)",
    'CREATE TABLE bans (cidr TEXT PRIMARY KEY, "by" TEXT NOT NULL, reason TEXT NOT NULL, since FLOAT NOT NULL, '
    "expires FLOAT, threat TEXT, count INTEGER NOT NULL)",
    "CREATE TABLE audit (id INTEGER PRIMARY KEY, at FLOAT NOT NULL, uid INTEGER NOT NULL, user TEXT NOT NULL, "
    "pid INTEGER NOT NULL, change TEXT NOT NULL, subject TEXT NOT NULL, before TEXT, after TEXT)",
    "CREATE INDEX audit_at ON audit (at)",
    "CREATE TABLE rollups (period TEXT NOT NULL, start REAL NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, "
    "flows INTEGER NOT NULL, packets INTEGER NOT NULL, bytes INTEGER NOT NULL, "
    "reply_packets INTEGER NOT NULL, reply_bytes INTEGER NOT NULL, "
    "PRIMARY KEY (period, start, kind, key)) WITHOUT ROWID",
)
# MIGRATIONS[n] leads from version n to n + 1.
MIGRATIONS: tuple[Step, ...] = (
    _first,
    _statements("ALTER TABLE bans ADD COLUMN forced INTEGER NOT NULL DEFAULT 0"),
    _add_to_flows(INNER_COLUMNS),
    _statements(  # several owners may ban one prefix; those of earlier bans are unknown
        'CREATE TABLE bans_with_owners (cidr TEXT NOT NULL, "by" TEXT NOT NULL, reason TEXT NOT NULL, '
        "since FLOAT NOT NULL, expires FLOAT, threat TEXT, count INTEGER NOT NULL, forced INTEGER NOT NULL DEFAULT 0, "
        "owner TEXT NOT NULL, PRIMARY KEY (cidr, owner))",
        "INSERT INTO bans_with_owners SELECT cidr, \"by\", reason, since, expires, threat, count, forced, 'unknown' "
        "FROM bans",
        "DROP TABLE bans",
        "ALTER TABLE bans_with_owners RENAME TO bans",
    ),
    _statements("ALTER TABLE audit ADD COLUMN login TEXT"),  # unknown for earlier changes
    _statements("ALTER TABLE bans ADD COLUMN ports TEXT NOT NULL DEFAULT ''"),  # of bans for some services only
    # Bytes out of the interface and into it. Earlier sums have only those by initiator and responder.
    _statements("ALTER TABLE rollups ADD COLUMN up_bytes INTEGER", "ALTER TABLE rollups ADD COLUMN down_bytes INTEGER"),
    _add_to_flows(OWNER_COLUMNS),
    _add_to_flows(PROCESS_COLUMNS),
)


def examine(path: Path) -> bool:
    """Whether the file at `path` is missing, empty or a database; it is only read. Raises StoreError if it belongs to
    another program or to a newer trafficmond, OSError if it cannot be read."""
    try:
        with open(files.opened(path), "rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return True
    if not header:
        return True
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        return False
    refuse_others(path, int.from_bytes(header[68:72], "big"), int.from_bytes(header[60:64], "big"))
    return True


def refuse_others(path: Path, owner: int, version: int) -> None:
    """Raises StoreError for a database with another program's application id, or a newer trafficmond's version."""
    if owner not in (0, APPLICATION_ID):
        raise StoreError(
            f"{path}: is a database of another program (application id {owner:#x})",
            hint="move the file away, or set another state_dir",
        )
    if version > VERSION:
        raise StoreError(
            f"{path}: was written by a newer trafficmond (schema {version}; this one knows {VERSION})",
            hint="install that version again, or move the file away to start a new history",
        )


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Migrate the file to VERSION, each step atomically. Raises StoreError for another program's tables."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return
    if version == 0 and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if {"partitions", "flows", "threats", "bans", "audit", "rollups"} <= names:  # of some version of this program
            raise StoreError(
                f"{path}: has the tables of trafficmon without its application_id, as if restored from .dump or .clone",
                hint=f"set them: sqlite3 {path} 'PRAGMA application_id = {APPLICATION_ID}; "
                f"PRAGMA user_version = {VERSION}'; {VERSION} is the schema of this version; write the one of "
                "the version that made the file",
            )
        raise StoreError(
            f"{path}: is a database of another program", hint="move the file away, or set another state_dir"
        )
    from sqlite_utils import Database  # an ordinary start saves 15 MiB and 60 ms

    for number in range(version, VERSION):
        connection.execute("BEGIN IMMEDIATE")
        try:
            MIGRATIONS[number](Database(connection))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    # The version is read from the file's header before the next open (`examine`): it must not be in the WAL.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
