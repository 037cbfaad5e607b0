"""Reading flows.db beside the writer: a read-only connection with a time limit."""

import contextlib
import itertools
import marshal
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from trafficmond.errors import StoreError
from trafficmond.files import is_file, mode
from trafficmond.store import image
from trafficmond.store.query import PLACES, Question
from trafficmond.store.schema import STORED_COLUMNS, refuse_others
from trafficmond.store.sql import register
from trafficmond.worker import Named

Row = dict[str, Any]

_KEPT_BYTES = 1 << 20  # in memory


class Answer:
    """Rows of an answer, kept so that a slow reader holds neither a transaction nor memory."""

    def __init__(self, rows: Iterable[tuple[Any, ...]], columns: Sequence[str], folder: Path, page_rows: int) -> None:
        """Reads all rows. Raises StoreError if they do not fit into `folder`."""
        from tempfile import SpooledTemporaryFile

        self._columns = columns
        self._spool = SpooledTemporaryFile(_KEPT_BYTES, dir=str(folder))  # noqa: SIM115  (see close)
        self._sizes: list[int] = []
        rows = iter(rows)
        try:
            while page := list(itertools.islice(rows, page_rows)):
                self._sizes.append(self._spool.write(marshal.dumps(page)))
            self._spool.seek(0)
        except OSError as error:
            self.close()
            raise StoreError(
                f"{folder}: the result cannot be stored: {error}", hint="ask for less, or free some space"
            ) from error
        except BaseException:
            self.close()
            raise

    def pages(self) -> Iterator[list[Row]]:
        """`page_rows` dicts at a time, once."""
        for size in self._sizes:
            yield [dict(zip(self._columns, row, strict=True)) for row in marshal.loads(self._spool.read(size))]

    def close(self) -> None:
        self._spool.close()


_STEPS = 10_000  # of SQLite's virtual machine between two checks of the clock
_CACHE_KIB = 4096
_LOCKED_S = 1.0  # longest wait for a program that has locked the file


class Reader:
    """A read-only connection, for one thread. Raises StoreError if there is no readable file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if mode(path) and not is_file(path):  # opening a pipe would block
            raise StoreError(f"{path}: is not a regular file", hint="move it away")
        try:
            self._connection = sqlite3.connect(
                f"file:{quote(str(path))}?mode=ro",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=_LOCKED_S,
            )
            self._connection.execute("PRAGMA temp_store = MEMORY")
            self._connection.execute("PRAGMA query_only = ON")
            self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            pragmas = ("application_id", "user_version")
            refuse_others(path, *(self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas))
            self._connection.execute("SELECT 1 FROM partitions LIMIT 1")
        except sqlite3.Error as error:
            raise StoreError(
                f"{path}: cannot be read: {error}", hint="check that trafficmond writes to this file"
            ) from error
        register(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def hold(self) -> None:
        """Read the file as it is now, until `release` or `close`. Raises StoreError."""
        self.rows("BEGIN")
        self.rows("SELECT 1 FROM partitions LIMIT 1")

    def release(self) -> None:
        """End what `hold` began."""
        self.rows("ROLLBACK")

    def add(self, batches: Iterable[Named]) -> None:
        """Add these REPORT rows to `flows`, in memory and for this reader only. Call it after `hold`."""
        ask = self._connection.execute
        (view,) = ask("SELECT sql FROM main.sqlite_master WHERE type = 'view' AND name = 'flows'").fetchone()
        ask("PRAGMA query_only = OFF")  # the file stays read-only in any case
        image.attach(self._connection)
        image.set_rows(self._connection, [*batches])
        # A temporary view hides the file's. It is one view of all tables: a view on `flows` would not use its indexes.
        arms = view.partition(" AS ")[2]
        ask(f"CREATE TEMP VIEW flows AS {arms} UNION ALL SELECT {', '.join(STORED_COLUMNS)} FROM {image.TABLE}")
        ask("PRAGMA query_only = ON")

    def locate(self, asked: Question, look_up: Callable[[list[str]], Iterable[Sequence[Any]]]) -> Self:
        """Add the places that a question needs: `look_up` returns country, number and name of each address's network,
        empty or 0 if unknown. Raises StoreError."""
        if not asked.addresses:
            return self
        ask = self._connection.execute
        found = [address for (address,) in self.each(asked.addresses)]
        rows = ((text, *(part or None for part in places)) for text, places in zip(found, look_up(found), strict=True))
        ask("PRAGMA query_only = OFF")  # the file stays read-only in any case
        ask(f"CREATE TEMP TABLE {PLACES}")
        self._connection.executemany("INSERT INTO temp.places VALUES (?, ?, ?, ?)", rows)
        ask("PRAGMA query_only = ON")
        return self

    def interrupt(self) -> None:
        """End another thread's query, which raises StoreError."""
        with contextlib.suppress(sqlite3.ProgrammingError):  # closed already
            self._connection.interrupt()

    def answer(self, asked: Question, page_rows: int = 1000) -> Answer:
        """The whole answer; the caller closes it. Raises the same errors as `rows`."""
        return Answer(self.each(asked.sql), asked.columns, self._path.parent, page_rows)

    def pages(self, asked: Question, page_rows: int = 1000) -> Generator[list[Row], None, None]:
        """The answer, `page_rows` dicts at a time. Raises the same errors as `answer`."""
        with contextlib.closing(self.answer(asked, page_rows)) as answer:
            yield from answer.pages()

    def rows(self, sql: str, parameters: Sequence[Any] = (), timeout_s: float = 30.0) -> list[tuple[Any, ...]]:
        """The rows of any SELECT. Raises StoreError for bad SQL, or if it takes longer than `timeout_s`."""
        return list(self.each(sql, parameters, timeout_s))

    def each(self, sql: str, parameters: Sequence[Any] = (), timeout_s: float = 30.0) -> Iterator[tuple[Any, ...]]:
        """The rows of any SELECT, as they are read. Raises the same errors as `rows`."""
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
