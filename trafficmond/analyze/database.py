"""Opens an SQLite file of unknown origin so that reading it changes nothing and always ends.

Source: https://www.sqlite.org/security.html. A schema may have views that never end, and pages of a damaged tree may
point to themselves. So only plain tables are read, and SQLite may take at most as many steps as an intact file of this
size needs.
"""

import functools
import sqlite3
from pathlib import Path

VALUE_MAX = 1 << 20
"""Bytes of the largest value, and of the longest statement in the schema."""

_STEPS = 1 << 16  # steps of SQLite's virtual machine between two checks of the limit
_LEAST_STEPS = 1 << 20
_STEPS_A_BYTE = 2  # a row of flows.db has at least 60 bytes, and takes 25 steps
_TEXT = functools.partial(str, encoding="utf-8", errors="replace")
_SIDES = ("", "-wal")

Error = (sqlite3.Error, UnicodeError)
"""Errors that reading raises; UnicodeDecodeError if SQLite's own message is not UTF-8."""


def opened(path: Path) -> sqlite3.Connection:
    """A read-only connection. It also reads a copy in a directory where SQLite may not create its -shm file."""
    database = _connected(path, "mode=ro")
    try:
        database.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        database.close()
        if path.with_name(path.name + "-wal").exists():
            raise
        database = _connected(path, "immutable=1")
    return database


def _connected(path: Path, how: str) -> sqlite3.Connection:
    database = sqlite3.connect(f"{path.as_uri()}?{how}", uri=True)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, VALUE_MAX)
    database.text_factory = _TEXT
    left = max(_LEAST_STEPS, size(path) * _STEPS_A_BYTE) // _STEPS

    def taken() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    database.set_progress_handler(taken, _STEPS)
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")
    return database


def error_text(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "its schema is damaged"
    if str(error) == "interrupted":
        return "its structure has loops: an intact file of its size is read in fewer steps"
    return str(error)


def size(path: Path) -> int:
    """Bytes of the file and of its write-ahead log."""
    files = [path.with_name(path.name + side) for side in _SIDES]
    return sum(file.stat().st_size for file in files if file.exists())


def is_plain(database: sqlite3.Connection, table: str) -> bool:
    """Whether the table exists and is plain: not a view, and without computed columns."""
    kinds = database.execute("SELECT type FROM pragma_table_list WHERE schema = 'main' AND name = ?", (table,))
    if [kind for (kind,) in kinds] != ["table"]:
        return False
    hidden = database.execute("SELECT 1 FROM pragma_table_xinfo(?) WHERE hidden != 0", (table,))
    return hidden.fetchone() is None
