"""The store as the daemon uses it: open, put, status, close."""

import json
import logging
import sqlite3
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from trafficmond import figures, files
from trafficmond.dataclass import astuple, dataclass, fields
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.geo.geoip import GeoIp
from trafficmond.model import FlowQuery, Threat
from trafficmond.store.bans import LEFT_NAME, LOST_NAME, PUT, ROW, of_last_run
from trafficmond.store.reader import Reader
from trafficmond.store.records import AuditEntry, Ban, Key
from trafficmond.store.unstored import chosen
from trafficmond.store.writer import Limits, Writer
from trafficmond.worker import Named

_PUT_CHANGE = (
    'INSERT INTO audit ("at", uid, user, pid, change, subject, "before", "after", login) '
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Status:
    """Health of the store; `state` is "ok" or the reason why nothing is stored now."""

    path: str
    rows: int  # in flows.db
    queue: int  # rows waiting to be written
    lost_rows: int  # not stored since the start: flows, threats, bans or audit entries
    written_rows: int  # since the start
    size_bytes: int  # of the file and its WAL
    state: str
    set_aside: str | None  # new name of a broken file, found at the start or later
    replaced: int  # how often another file has taken the place of the first: removed, broken, or put there


class StaleRead(Exception):
    """The state that was read is out of date; read again."""


_THREAT_FIELDS = tuple(field.name for field in fields(Threat))


def _threats(connection: sqlite3.Connection, where: str, *values: float) -> list[Threat]:
    # Without rows that somebody changed, or that are damaged.
    sound = "typeof(first_seen) || typeof(last_seen) || typeof(count) = 'realrealinteger'"
    rows = connection.execute(f"SELECT {', '.join(_THREAT_FIELDS)} FROM threats WHERE {sound} AND {where}", values)
    found = []
    for row in rows:
        each = dict(zip(_THREAT_FIELDS, row, strict=True))
        with suppress(TypeError, ValueError):
            found.append(Threat.of({**each, "evidence": json.loads(each["evidence"])}))
    return found


class Store:
    """flows.db and its writer. Only `close`, `read_bans` and `reader` wait for the disk. Thread-safe."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.lost_bans = False  # whether changes of bans could not be queued or written since the last save_bans
        self.missing_bans = ""  # why some of the last run are not among those that were read; empty: all are
        self._left, self._lost = (writer.path.with_name(name) for name in (LEFT_NAME, LOST_NAME))
        self._unstored: dict[Key, list[Any]] = {}  # prefix and owner, and unless it is gone, the ban
        self._changing = threading.Lock()

    @classmethod
    def open(cls, path: Path, limits: Limits) -> Self:
        """Start a writer, whose thread opens or makes flows.db as soon as space, rights and locks allow, and it is
        neither a newer version's nor another program's; `status` says why not yet."""
        writer = Writer(path, limits)
        writer.start()
        return cls(writer)

    @property
    def path(self) -> Path:
        return self._writer.path

    def put(self, rows: Batch, names: Names) -> int:
        """Queue a REPORT batch; returns how many rows were lost because the queue is full (also counted)."""
        return self._writer.queue.put(rows, names) if len(rows) else 0

    @property
    def room(self) -> int:
        """The free rows of the queue; without a limit while the store cannot write."""
        queue = self._writer.queue
        return max(0, queue.most_rows - queue.rows) if self.status().state == "ok" else sys.maxsize

    def put_threat(self, threat: Threat, state: str) -> Future[None]:
        """Store a threat as it stands now ("opened", "updated", "closed"); the same id is replaced."""
        row = (*threat.row().values(), json.dumps(threat.evidence, default=str), state)
        put = f"INSERT OR REPLACE INTO threats VALUES ({', '.join('?' * len(row))})"
        return self._write(f"threat {threat.id}", (put, [row]), durable=False)

    def last_threats(self, since: float, most: int) -> Future[tuple[list[Threat], list[Threat]]]:
        """The latest threats that ended and were last seen after `since` (epoch s), and those that were open when the
        last daemon ended; older open ones are closed."""

        def work(connection: sqlite3.Connection) -> tuple[list[Threat], list[Threat]]:
            latest = "ORDER BY last_seen DESC LIMIT ?"
            ended = _threats(connection, f"state = 'closed' AND last_seen >= ? {latest}", since, most)
            kept = f"SELECT id FROM threats WHERE state != 'closed' {latest}"
            close = f"UPDATE threats SET state = 'closed' WHERE state != 'closed' AND id NOT IN ({kept})"
            connection.execute(close, (most,))
            return ended, _threats(connection, "state != 'closed'")

        return self._writer.queue.submit(work, writes="the end of old threats")

    def audit(self, change: AuditEntry) -> Future[None]:
        """Record a change; on the disk, not only in its cache, once the future is done."""
        return self._write(f"the audit of {change.change} {change.subject!r}", (_PUT_CHANGE, [astuple(change)]))

    def save_bans(self, bans: Iterable[Ban]) -> Future[None]:
        self.lost_bans = False
        return self.change_bans(bans, None)

    def change_bans(self, put: Iterable[Ban], gone: Iterable[Key] | None) -> Future[None]:
        """Store bans, each replacing its owner's on that prefix, and delete others: those of these keys, or all."""
        found, keys = {(ban.cidr, ban.owner): ROW(ban) for ban in put}, list(gone or ())
        changed: dict[Key, list[Any]] = {key: [*key] for key in keys} | {key: [*key, found[key]] for key in found}
        with self._changing:
            self._unstored |= changed
            settled = dict(self._unstored) if gone is None else changed

        def settle(done: Future[None]) -> None:
            if done.exception():
                self.lost_bans = True  # several threads come here: only what is true may be written
                return
            with self._changing:
                for key, line in settled.items():
                    if self._unstored.get(key) is line:  # not changed again meanwhile
                        del self._unstored[key]
            if gone is None:
                with suppress(OSError):
                    self._left.unlink(missing_ok=True)
                    self._lost.unlink(missing_ok=True)

        what = f"a {'list' if gone is None else 'change'} of {figures.many(len(found) + len(keys), 'ban')}"
        of_keys = "DELETE FROM bans WHERE cidr = ? AND owner = ?", keys
        delete = ("DELETE FROM bans", [()]) if gone is None else of_keys
        done = self._write(what, delete, (PUT, [*found.values()]))
        done.add_done_callback(settle)
        return done

    def read_bans(self) -> list[Ban] | None:
        """The stored bans, ended ones included, with the changes that the last daemon could not store: of a damaged
        file those that can be read; None: they cannot be read at present. Waits for the disk."""
        there = self.path if files.is_there(self.path) else None  # asked first: a damaged file is named, then moved
        found, self.missing_bans = of_last_run(self.path, self._writer.file.set_aside or there)
        return found

    def _leave_bans(self) -> None:
        """Keeps the changes of bans that flows.db could not take for the next start."""
        with self._changing:
            lines = [json.dumps(line) + "\n" for line in self._unstored.values()]
        try:
            if lines:
                files.append(self._left, "".join(lines))
        except OSError as error:
            log.error("%s: changes of bans are lost: %s", self._left, error.strerror or error)
            with suppress(OSError):
                self._lost.touch()

    def _write(self, what: str, *changes: tuple[str, Sequence[Any]], durable: bool = True) -> Future[None]:
        """One transaction of statements, each with the rows that it is for; `what` it stores, in words."""

        def work(connection: sqlite3.Connection) -> None:
            for sql, rows in changes:
                connection.executemany(sql, rows)

        return self._writer.queue.submit(work, writes=what, durable=durable)

    def records_written(self) -> Future[None]:
        """A future that is done once earlier threats, bans and audit entries can be read."""
        return self._writer.queue.submit(lambda _: None)

    @property
    def given(self) -> int:
        """The number of batches put so far; see `reader`."""
        return self._writer.queue.given

    def reader(self, given: int, latest: Named, wanted: FlowQuery) -> Reader:
        """A reader of stored rows, waiting ones and `latest`, each row once: those that `wanted` (a valid query)
        selects. `latest` are the rows pending when the first `given` batches had been put. Waits for the disk. Raises
        StaleRead if later batches have been written meanwhile, and StoreError.
        """
        queue, reader = self._writer.queue, Reader(self.path)
        try:
            with queue.commit_lock:
                reader.hold()
                waiting = queue.unwritten(given)
            if waiting is None:
                raise StaleRead
            rows = ((chosen(batch, names, wanted), names) for batch, names in (*waiting, latest))
            reader.add(each for each in rows if len(each[0]))
        except BaseException:
            reader.close()
            raise
        return reader

    def configure(self, limits: Limits) -> None:
        """Change the limits, from the next write on."""
        self._writer.limits, self._writer.queue.most_rows = limits, limits.queue_rows

    def use(self, geoip: GeoIp) -> None:
        """Use these places of addresses in rollups from now on."""
        self._writer.geoip = geoip

    def status(self) -> Status:
        """Counters; cheap enough for every second."""
        writer = self._writer
        size, set_aside = 0, writer.file.set_aside
        with suppress(OSError):
            size = self.path.stat().st_size + writer.file.wal_bytes()
        return Status(
            path=str(self.path),
            rows=writer.rows,
            queue=writer.queue.rows,
            lost_rows=writer.queue.lost_rows,
            written_rows=writer.written_rows,
            size_bytes=size,
            state=writer.state,
            set_aside=str(set_aside) if set_aside else None,
            replaced=writer.file.replaced,
        )

    def close(self, timeout_s: float = 10.0) -> None:
        """Write the queue, then close; rows not written in time are lost and counted."""
        self._writer.queue.stop(timeout_s)
        self._writer.join(timeout_s + 1)
        self._leave_bans()
