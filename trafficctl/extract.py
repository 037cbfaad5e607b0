"""A part of the daemon's flows.db as a flows.db of its own, copied by SQLite without holding up the daemon."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote

from trafficmond.errors import StoreError


def extract(store: Path, part: Path, since: float, until: float) -> int:
    """Copy the flows seen between two moments (epoch seconds) from `store` into the new file `part`; how many.

    Raises StoreError if the store cannot be read or there is no room for the copy.
    """
    try:
        with contextlib.closing(sqlite3.connect(part, uri=True, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("ATTACH ? AS daemon", (f"file:{quote(str(store))}?mode=ro",))
            select = "SELECT * FROM daemon.flows WHERE last_seen >= ? AND first_seen <= ?"
            connection.execute(f"CREATE TABLE flows AS {select}", (since, until))
            return int(connection.execute("SELECT count(*) FROM flows").fetchone()[0])
    except sqlite3.Error as error:
        hint = "use sudo or join group trafficmon; the copy needs room in $TMPDIR"
        raise StoreError(f"{store}: cannot be copied from: {error}", hint=hint) from error
