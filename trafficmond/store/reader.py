"""Reading flows.db beside the writer: a connection of its own that cannot change anything, and cannot stay long."""

from __future__ import annotations

import itertools
import marshal
import sqlite3
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trafficmond.errors import StoreError
from trafficmond.store.prefix_sql import register
from trafficmond.store.query import Question

Row = dict[str, Any]

_STEPS = 10_000  # of SQLite's machine between two looks at the clock
_CACHE_KIB = 4096
_KEPT_BYTES = 4 << 20  # of an answer in memory


class Reader:
    """A read-only connection, for one thread. Raises StoreError if there is no readable file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._connection = sqlite3.connect(
                f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA query_only = ON")
            self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._connection.execute("SELECT 1 FROM partitions LIMIT 1")
        except sqlite3.Error as error:
            raise StoreError(f"{path}: cannot be read: {error}", hint="check that trafficmond stores there") from error
        register(self._connection)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def pages(
        self, asked: Question, page_rows: int = 1000, timeout_s: float = 30.0
    ) -> Generator[list[Row], None, None]:
        """The answer, `page_rows` dicts at a time. Raises StoreError if it takes longer than `timeout_s`.

        All of it is read before the first page, into a file where it is large: whoever takes the pages slowly holds
        no transaction open, and no memory.
        """
        with tempfile.SpooledTemporaryFile(_KEPT_BYTES, dir=str(self._path.parent)) as spool:
            rows, sizes = self.each(asked.sql, timeout_s=timeout_s), []
            try:
                while page := list(itertools.islice(rows, page_rows)):
                    sizes.append(spool.write(marshal.dumps(page)))
                spool.seek(0)
            except OSError as error:
                hint = "ask for less, or make room"
                raise StoreError(f"{self._path.parent}: the answer cannot be kept: {error}", hint=hint) from error
            for size in sizes:
                yield [dict(zip(asked.columns, row, strict=True)) for row in marshal.loads(spool.read(size))]

    def rows(self, sql: str, parameters: Sequence[Any] = (), timeout_s: float = 30.0) -> list[tuple[Any, ...]]:
        """The rows of any SELECT. Raises StoreError for bad SQL, or if it takes longer than `timeout_s`."""
        return list(self.each(sql, parameters, timeout_s))

    def each(self, sql: str, parameters: Sequence[Any] = (), timeout_s: float = 30.0) -> Iterator[tuple[Any, ...]]:
        """The rows of any SELECT, as they are read. Raises as `rows`; one at a time."""
        deadline = time.monotonic() + timeout_s
        self._connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
        try:
            yield from self._connection.execute(sql, parameters)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise StoreError(
                    f"{self._path}: the answer took more than {timeout_s:g} s",
                    hint="ask for less: --since, --src, --limit",
                ) from error
            raise StoreError(f"{self._path}: {error}") from error
        finally:
            self._connection.set_progress_handler(None, 0)
