"""flows.db as the writer opens it: pragmas, and setting a broken file aside."""

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from trafficmond.errors import StoreError
from trafficmond.store.schema import examine, migrate

log = logging.getLogger(__name__)

_CACHE_KIB = 8192
_WAL_KEEP_BYTES = 16 << 20  # size that a WAL is truncated to once it is copied
_CHECKPOINT_PAGES = 2048
_BUSY_MS = 2000
_TRUNCATE_BUSY_MS = 50
_CHECK_STEPS = 1000  # of SQLite's virtual machine between two checks of the clock
_MODE = 0o640  # the group reads
_SIDES = ("-wal", "-shm")

_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PASSING = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOMEM,
)


class Damaged(sqlite3.DatabaseError):
    """Damage that SQLite's own check found."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def is_broken(error: sqlite3.Error) -> bool:
    """Whether the error says that the file itself is damaged."""
    return _code(error) in _BROKEN


def is_passing(error: sqlite3.Error) -> bool:
    """Whether the error comes from the disk or a lock, and may be temporary."""
    return _code(error) in _PASSING


class File:
    """An open flows.db of the current schema, made where missing.

    A broken file is renamed (to `set_aside`) and a new one made. Raises StoreError if the file is another program's or
    a newer version's, which is left untouched, or if it cannot be opened or made.
    """

    def __init__(self, path: Path) -> None:
        """`reopen` opens it."""
        self.path = path
        self.set_aside: Path | None = None
        self.replaced = 0  # how often another file has taken its place, an empty one or what somebody put there
        self._identity: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None

    @property
    def connection(self) -> sqlite3.Connection:
        """The writer's connection, in autocommit mode: transactions are explicit."""
        assert self._connection is not None
        return self._connection

    def reopen(self) -> None:
        """Open the file again, after `close`, or when it was removed."""
        another = self._identity is not None and self._is_another()  # asked first: the new one may get the old inode
        self.close()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            broken = "" if examine(self.path) else "its first bytes are not those of a database"
            try:
                if not broken:
                    self._connection = _connect(self.path)
            except sqlite3.DatabaseError as error:
                if not is_broken(error):
                    raise
                broken = str(error)
            if broken:
                self.give_up(broken)
                self._connection = _connect(self.path)
            self.replaced += another
            self._identity = self._identify()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StoreError(
                f"{self.path}: cannot be opened: {error}", hint="check the directory's owner, mode and space"
            ) from error

    def check(self, tables: Iterable[str], budget_s: float) -> None:
        """Check table by table for damage, for at most `budget_s`. Raises Damaged."""
        deadline = time.monotonic() + budget_s
        self.connection.set_progress_handler(lambda: time.monotonic() > deadline, _CHECK_STEPS)
        try:
            for table in tables:
                (verdict,) = self.connection.execute(f"PRAGMA quick_check('{table}')").fetchone()
                if verdict != "ok":
                    raise Damaged(f"{table}: {verdict}")
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_INTERRUPT:
                raise
        finally:
            self.connection.set_progress_handler(None, 0)

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def is_lost(self) -> bool:
        """Whether it must be opened again: closed, or removed or replaced."""
        return self._connection is None or self._is_another()

    def _is_another(self) -> bool:
        try:
            return self._identify() != self._identity
        except FileNotFoundError:
            return True

    def _identify(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_dev, found.st_ino

    def give_up(self, why: str) -> None:
        """Rename the broken file and its WAL, so that a new one can replace it."""
        self.close()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        target = self.path.with_name(f"{self.path.name}.broken-{stamp}")
        number = 1
        while target.exists():
            number += 1
            target = self.path.with_name(f"{self.path.name}.broken-{stamp}-{number}")
        self.set_aside = target  # named first, so that a reader of bans sees no missing file
        for side in (*_SIDES, ""):
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(self.path.name + side).rename(target.with_name(target.name + side))
        log.error("%s is damaged (%s): renamed to %s, and replaced by an empty file", self.path, why, target)

    @contextlib.contextmanager
    def durable(self, wanted: bool) -> Iterator[None]:
        """Commits within wait for the disk if `wanted` (audit); others survive only a crash of the daemon (flows)."""
        if wanted:
            self.connection.execute("PRAGMA synchronous = FULL")
        try:
            yield
        finally:
            if wanted and self._connection is not None:
                self._connection.execute("PRAGMA synchronous = NORMAL")

    def wal_bytes(self) -> int:
        """Size of the write-ahead log, which SQLite keeps beside the file itself where the path is a link."""
        try:
            return Path(f"{self.path.resolve()}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def truncate_wal(self) -> bool:
        """Copy the write-ahead log back and empty it; False if a reader prevents it."""
        self.connection.execute(f"PRAGMA busy_timeout = {_TRUNCATE_BUSY_MS}")
        try:
            (busy, _, _) = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        return not busy


def _connect(path: Path) -> sqlite3.Connection:
    if not path.exists():
        path.touch(_MODE)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        # Debian's SQLite overwrites freed pages with zeros by default, which makes dropping a partition slow.
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEEP_BYTES}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection
