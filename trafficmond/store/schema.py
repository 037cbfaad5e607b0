"""The tables of flows.db, and migrations from any older version. Documented in docs/flows-db.md.

`flows` is a view over time partitions `flows_1`, `flows_2`...: the newest takes the inserts and has no index but its
order; a full one is indexed once, in bulk, and dropped whole when it is too old. So the insert rate does not depend on
the size of the file, and retention takes milliseconds.
"""

from __future__ import annotations

import errno
import sqlite3
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trafficmond.errors import StoreError

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID = 0x746D6F6E  # "tmon", in the file's header
VERSION = 9  # PRAGMA user_version

FLOW_COLUMNS = {
    "first_seen": "REAL",
    "last_seen": "REAL",
    "src_ip": "TEXT",
    "dst_ip": "TEXT",
    "src_port": "INTEGER",
    "dst_port": "INTEGER",
    "protocol": "TEXT",
    "protocol_num": "INTEGER",
    "packets": "INTEGER",
    "bytes": "INTEGER",
    "reply_packets": "INTEGER",
    "reply_bytes": "INTEGER",
    "tcp_flags": "INTEGER",
    "reply_tcp_flags": "INTEGER",
    "action": "TEXT",
    "rule": "TEXT",
    "interface": "TEXT",
    "direction": "TEXT",
    "vlan": "INTEGER",
    "community_id": "TEXT",
}
# The inner flow of a tunnel; NULL if there was none, or flows.look_inside is off.
INNER_COLUMNS = {
    "tunnel": "TEXT",
    "vni": "INTEGER",
    "inner_src_ip": "TEXT",
    "inner_dst_ip": "TEXT",
    "inner_src_port": "INTEGER",
    "inner_dst_port": "INTEGER",
    "inner_protocol": "TEXT",
}
# The owner; NULL if flows.units is off, or the owner unknown.
OWNER_COLUMNS = {
    "unit": "TEXT",
    "cgroup": "TEXT",
    "uid": "INTEGER",
}
# Its process; NULL if flows.processes is off, or the process unknown.
PROCESS_COLUMNS = {
    "process": "TEXT",
    "pid": "INTEGER",
}
_LATER_COLUMNS = {**INNER_COLUMNS, **OWNER_COLUMNS, **PROCESS_COLUMNS}
STORED_COLUMNS = {**{name: f"{kind} NOT NULL" for name, kind in FLOW_COLUMNS.items()}, **_LATER_COLUMNS}
# Indexes of a full partition. docs/flows-db.md shows them query by query.
INDEXED = ("last_seen", "src_ip", "dst_ip")

_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"


def partition_table(number: int) -> str:
    """The name of a partition."""
    return f"flows_{number}"


def create_partition(connection: sqlite3.Connection, number: int) -> None:
    """Create an empty partition, and enter it in `partitions`."""
    columns = ", ".join(f"{name} {kind}" for name, kind in STORED_COLUMNS.items())
    connection.execute(f"CREATE TABLE {partition_table(number)} ({columns})")
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
    has = _present(connection, table)
    missing = {name: f"CAST(NULL AS {kind}) AS {name}" for name, kind in _LATER_COLUMNS.items() if name not in has}
    return ", ".join(missing.get(name, name) for name in STORED_COLUMNS)


def _present(connection: sqlite3.Connection, table: str) -> set[str]:
    return {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}


def _create(
    database: Database, table: str, columns: Mapping[str, type], pk: str, not_null: Collection[str] = ()
) -> None:
    """Create a table with the types of the first version: sqlite-utils calls a float REAL since version 4, before
    FLOAT."""
    marks = {pk: " PRIMARY KEY"} | dict.fromkeys(not_null, " NOT NULL")
    kinds = {int: "INTEGER", float: "FLOAT", str: "TEXT"}
    told = ", ".join(f'"{name}" {kinds[kind]}{marks.get(name, "")}' for name, kind in columns.items())
    database.execute(f"CREATE TABLE {table} ({told})")


def _version_1(database: Database) -> None:
    _create(
        database,
        "partitions",
        {"number": int, "first_seen": float, "last_seen": float, "rows": int, "sealed": int},
        pk="number",
    )
    _create(
        database,
        "threats",
        {
            "id": str,
            "detector": str,
            "severity": str,
            "technique": str,
            "src_ip": str,
            "dst_ip": str,
            "first_seen": float,
            "last_seen": float,
            "count": int,
            "summary": str,
            "evidence": str,
            "state": str,
        },
        pk="id",
        not_null={
            "detector",
            "severity",
            "technique",
            "first_seen",
            "last_seen",
            "count",
            "summary",
            "evidence",
            "state",
        },
    )
    database.execute("CREATE INDEX threats_last_seen ON threats (last_seen)")
    _create(
        database,
        "bans",
        {
            "cidr": str,
            "by": str,
            "reason": str,
            "since": float,
            "expires": float,
            "threat": str,
            "count": int,
        },
        pk="cidr",
        not_null={"by", "reason", "since", "count"},
    )
    _create(
        database,
        "audit",
        {
            "id": int,
            "at": float,
            "uid": int,
            "user": str,
            "pid": int,
            "change": str,
            "subject": str,
            "before": str,
            "after": str,
        },
        pk="id",
        not_null={"at", "uid", "user", "pid", "change", "subject"},
    )
    database.execute("CREATE INDEX audit_at ON audit (at)")
    database.execute(
        "CREATE TABLE rollups (period TEXT NOT NULL, start REAL NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, "
        "flows INTEGER NOT NULL, packets INTEGER NOT NULL, bytes INTEGER NOT NULL, "
        "reply_packets INTEGER NOT NULL, reply_bytes INTEGER NOT NULL, "
        "PRIMARY KEY (period, start, kind, key)) WITHOUT ROWID"
    )
    create_partition(database.conn, 1)
    create_view(database.conn)


def _version_2(database: Database) -> None:
    database.execute("ALTER TABLE bans ADD COLUMN forced INTEGER NOT NULL DEFAULT 0")


def _version_3(database: Database) -> None:
    """Inner flows of tunnels."""
    _add_to_flows(database.conn, INNER_COLUMNS)


def _add_to_flows(connection: sqlite3.Connection, columns: Mapping[str, str]) -> None:
    """Add columns to the open partition only: changing hundreds would take long."""
    (number,) = connection.execute("SELECT max(number) FROM partitions").fetchone()
    table = partition_table(number)
    present = _present(connection, table)  # all, in a new file
    for name, kind in columns.items():
        if name not in present:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
    create_view(connection)


def _version_4(database: Database) -> None:
    """Several owners may ban one prefix. The owners of earlier bans are unknown."""
    connection = database.conn
    connection.execute(
        'CREATE TABLE bans_with_owners (cidr TEXT NOT NULL, "by" TEXT NOT NULL, reason TEXT NOT NULL, '
        "since FLOAT NOT NULL, expires FLOAT, threat TEXT, count INTEGER NOT NULL, forced INTEGER NOT NULL DEFAULT 0, "
        "owner TEXT NOT NULL, PRIMARY KEY (cidr, owner))"
    )
    connection.execute(
        "INSERT INTO bans_with_owners SELECT cidr, \"by\", reason, since, expires, threat, count, forced, 'unknown' "
        "FROM bans"
    )
    connection.execute("DROP TABLE bans")
    connection.execute("ALTER TABLE bans_with_owners RENAME TO bans")


def _version_5(database: Database) -> None:
    """The login user of changes, unknown for earlier ones."""
    database.execute("ALTER TABLE audit ADD COLUMN login TEXT")


def _version_6(database: Database) -> None:
    """Bans for some services only."""
    database.execute("ALTER TABLE bans ADD COLUMN ports TEXT NOT NULL DEFAULT ''")


def _version_7(database: Database) -> None:
    """Bytes out of the interface and into it. Earlier sums have only those by initiator and responder."""
    for name in ("up_bytes", "down_bytes"):
        database.execute(f"ALTER TABLE rollups ADD COLUMN {name} INTEGER")


def _version_8(database: Database) -> None:
    """Owners of flows."""
    _add_to_flows(database.conn, OWNER_COLUMNS)


def _version_9(database: Database) -> None:
    """Processes of flows."""
    _add_to_flows(database.conn, PROCESS_COLUMNS)


# MIGRATIONS[n] leads from version n to n + 1.
MIGRATIONS: tuple[Callable[[Database], None], ...] = (
    _version_1,
    _version_2,
    _version_3,
    _version_4,
    _version_5,
    _version_6,
    _version_7,
    _version_8,
    _version_9,
)


def examine(path: Path) -> bool:
    """Whether the file at `path` is missing, empty or a database; it is only read.

    Raises StoreError if it belongs to another program or to a newer trafficmond, OSError if it cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")  # a pipe would block
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return True
    if not header:
        return True
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        return False
    version = int.from_bytes(header[60:64], "big")
    owner = int.from_bytes(header[68:72], "big")
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
    return True


def _is_ours(connection: sqlite3.Connection) -> bool:
    """Whether the tables belong to some version of this program."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    return {"partitions", "flows", "threats", "bans", "audit", "rollups"} <= names


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Migrate the file to VERSION, each step atomically. Raises StoreError for another program's tables."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return
    if version == 0 and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        if _is_ours(connection):
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
