"""Bans as rows of flows.db, and as lines of the file beside it, for changes that a stop could not store."""

import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trafficmond import files, networks, services
from trafficmond.dataclass import fields
from trafficmond.store.records import Ban, Key

LEFT_NAME = "unstored-bans.jsonl"  # in state_dir
LOST_NAME = "unstored-bans.lost"  # in its place, empty, if the disk had no room for it
_COLUMNS = 'cidr, "by", reason, since, expires, threat, count, forced, owner, ports'  # the fields of Ban
ROW = attrgetter(*(field.name for field in fields(Ban)))
PUT = f"INSERT OR REPLACE INTO bans ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_KINDS = (str, str, str, float | int, float | int | None, str | None, int, int, str, str)  # bool is an int


def of_last_run(path: Path, found: Path | None) -> tuple[list[Ban] | None, str]:
    """The bans in the file that was `found` as flows.db, which may be damaged and renamed by now, with the changes that
    a stop could not store, None if they cannot be read at present; and why some are missing."""
    bans: dict[Key, Ban] = {}
    bad, missing, left = 0, [], path.with_name(LEFT_NAME)
    try:
        for row in _rows(found) if found else ():
            bad += not _put(bans, row)
    except sqlite3.Error as error:
        if found is None or found == path or not files.is_file(found):
            return None, ""
        missing.append(f"{path.name} was damaged ({error})")
    try:
        bad += sum(not _change(bans, line) for line in files.read(left).splitlines())
    except OSError as error:
        if files.is_there(left):
            missing.append(f"{LEFT_NAME} cannot be read ({error.strerror or error})")
    if files.is_there(path.with_name(LOST_NAME)):
        missing.append("the disk had no room for the last changes when the daemon stopped")
    if bad:
        missing.append(f"{bad} damaged in {path.name} or {LEFT_NAME}")
    return [*bans.values()], "; ".join(missing)


def _rows(path: Path) -> Iterator[Sequence[Any]]:
    """The rows of a file, which may be one that cannot be written. Raises sqlite3.Error."""
    if not files.is_file(path):  # opening a pipe would block
        raise sqlite3.Error("it is not a regular file")
    # A file without a log is read as one that nobody writes, since the disk may be read-only.
    how = "mode=ro" if files.is_there(Path(f"{path.resolve()}-wal")) else "immutable=1"
    with closing(sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True, timeout=1.0)) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            yield from connection.execute(f"SELECT {_COLUMNS} FROM bans")


def _change(bans: dict[Key, Ban], line: bytes) -> bool:
    """Whether a line is a change of bans, which is then made."""
    try:
        cidr, owner, *put = json.loads(line)
        bans.pop((cidr, owner), None)
    except (TypeError, ValueError):
        return False
    return not put or _put(bans, put[0])


def _put(bans: dict[Key, Ban], row: Sequence[Any]) -> bool:
    """Whether a row has the values of a ban, which is then added."""
    try:
        ban = Ban(*(*row[:7], bool(row[7]), *row[8:]))
        networks.split(ban.cidr)
        if ban.ports:
            services.parse(ban.ports.split(","))
        if not all(map(isinstance, row, _KINDS)) or not math.isfinite(ban.since + (ban.expires or 0.0)):
            return False
    except (AttributeError, LookupError, TypeError, ValueError):
        return False
    bans[ban.cidr, ban.owner] = ban
    return True
