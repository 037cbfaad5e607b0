"""The state of trafficmon-notify: which threats were reported, and the news that wait for targets.

It is an SQLite file, so a kill or a power failure neither loses nor doubles its contents. A piece of news is kept until
every target has it. The position of a target in the news moves when the target has accepted a message.
"""

import contextlib
import json
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from trafficmond.dataclass import dataclass
from trafficmond.errors import TrafficmonError
from trafficmond.model import THREAT_FIELDS, Severity
from trafficmond.notifier.news import News, Record, Reported, news_of, reported_after
from trafficmond.notifier.schedule import HOUR_S

log = logging.getLogger(__name__)

FILE_NAME = "notify.db"
# bound: notifications that wait for an unreachable target | the oldest are lost, counted and reported
MOST_NEWS = 20_000
OVERLAP_S = 3600.0  # queries begin so long before the last one: threats are reported late
_FORGOTTEN_S = 30 * 86400.0  # after so long a threat whose end was never reported is deleted

_SCHEMA = """
CREATE TABLE IF NOT EXISTS told (id TEXT PRIMARY KEY, severity INT, open INT, last_seen REAL);
CREATE TABLE IF NOT EXISTS news (seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL, kind TEXT, threat TEXT);
CREATE TABLE IF NOT EXISTS target (
  name TEXT PRIMARY KEY, seq INT, messages INT DEFAULT 0, lost INT DEFAULT 0, untold_lost INT DEFAULT 0, last_sent REAL,
  failing_since REAL, error TEXT DEFAULT '');
CREATE TABLE IF NOT EXISTS sent (target TEXT, at REAL);
CREATE TABLE IF NOT EXISTS followed (at REAL);
"""
_STATES = "SELECT name, messages, (SELECT count(*) FROM news WHERE news.seq > target.seq), lost, last_sent, "
_STATES += "failing_since, error FROM target ORDER BY name"


@dataclass(frozen=True, slots=True)
class TargetState:
    """State of a target. Times are epoch seconds; counts begin when the target was first in the settings."""

    name: str
    messages: int  # delivered
    waiting: int  # news
    lost: int  # news
    last_sent: float | None
    failing_since: float | None
    error: str  # empty: the last delivery worked


class Outbox:
    """The file, for the threads of one process. Every method raises TrafficmonError if the disk fails."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._lock = threading.Lock()
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            return _opened(self.path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise _failed(self.path, error) from error
            broken = self.path.with_suffix(".broken")
            log.error("%s is damaged (%s): a new one was made, the old file is %s", self.path, error, broken)
            self.path.replace(broken)
            return _opened(self.path)

    def begin(self, targets: Sequence[str]) -> None:
        """Sets the targets. A new one gets the news from now on; the news of a removed one are deleted."""
        marks = ",".join("?" * len(targets))
        with self._transaction() as db:
            db.execute(f"DELETE FROM target WHERE name NOT IN ({marks})", targets)
            db.execute(f"DELETE FROM sent WHERE target NOT IN ({marks})", targets)
            last = "(SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'news')"
            for name in targets:
                db.execute(f"INSERT OR IGNORE INTO target (name, seq) VALUES (?, {last})", (name,))
            _forget_delivered(db)

    def asked_since(self) -> float | None:
        """The `last_seen` from which on the daemon's threats may be news; None before the first query."""
        with self._transaction() as db:
            (followed,) = db.execute("SELECT max(at) FROM followed").fetchone()
            (oldest,) = db.execute("SELECT min(last_seen) FROM told WHERE open").fetchone()
        if followed is None:
            return None
        return float(min(followed - OVERLAP_S, followed if oldest is None else oldest))

    def note(self, records: Iterable[Record], least: Severity, now: float) -> int:
        """Stores the daemon's records of threats at `now`, and returns how many of them are news."""
        found = 0
        with self._transaction() as db:
            for record in records:
                found += _note(db, record, least, now)
            db.execute("DELETE FROM followed")
            db.execute("INSERT INTO followed VALUES (?)", (now,))
            _bound(db)
        since = self.asked_since() or 0.0
        with self._transaction() as db:
            db.execute("DELETE FROM told WHERE NOT open AND last_seen < ?", (since,))
            db.execute("DELETE FROM told WHERE last_seen < ?", (now - _FORGOTTEN_S,))
        return found

    def waiting(self, target: str) -> list[News]:
        """The news that a target does not have, oldest first."""
        asked = (
            "SELECT seq, at, kind, threat FROM news WHERE seq > (SELECT seq FROM target WHERE name = ?) ORDER BY seq"
        )
        with self._transaction() as db:
            return [News(seq, at, kind, json.loads(threat)) for seq, at, kind, threat in db.execute(asked, (target,))]

    def sent(self, target: str, now: float) -> list[float]:
        """The times of its messages in the last hour."""
        with self._transaction() as db:
            rows = db.execute("SELECT at FROM sent WHERE target = ? AND at > ?", (target, now - HOUR_S))
            return [at for (at,) in rows]

    def lost(self, target: str) -> int:
        """How many items of news were not kept for it since its last message."""
        with self._transaction() as db:
            return int(db.execute("SELECT untold_lost FROM target WHERE name = ?", (target,)).fetchone()[0])

    def delivered(self, target: str, last: News, lost: int, now: float) -> None:
        """Notes that the target has accepted a message of all news up to `last`."""
        change = "UPDATE target SET seq = ?, messages = messages + 1, untold_lost = untold_lost - ?, last_sent = ?, "
        with self._transaction() as db:
            db.execute(change + "failing_since = NULL, error = '' WHERE name = ?", (last.seq, lost, now, target))
            db.execute("DELETE FROM sent WHERE at <= ? OR at > ?", (now - HOUR_S, now))
            db.execute("INSERT INTO sent VALUES (?, ?)", (target, now))
            _forget_delivered(db)

    def failed(self, target: str, error: str, now: float) -> None:
        change = "UPDATE target SET error = ?, failing_since = coalesce(failing_since, ?) WHERE name = ?"
        with self._transaction() as db:
            db.execute(change, (error, now, target))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock, self._db:
                yield self._db
        except sqlite3.Error as error:
            raise _failed(self.path, error) from error


def states(folder: Path) -> list[TargetState]:
    """Reads the state of each target, in any process that may read the file. Raises OSError, TrafficmonError."""
    path = folder / FILE_NAME
    with path.open("rb"):
        pass  # its OSError has the reason, SQLite's error does not
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return [TargetState(*row) for row in db.execute(_STATES)]
    except sqlite3.Error as error:
        raise _failed(path, error) from error


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False)
    try:
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def _failed(path: Path, error: sqlite3.Error) -> TrafficmonError:
    return TrafficmonError(f"{path}: {error}", hint="check that its folder is writable and the disk not full")


def _note(db: sqlite3.Connection, record: Record, least: Severity, now: float) -> int:
    row = db.execute("SELECT severity, open, last_seen FROM told WHERE id = ?", (record["id"],)).fetchone()
    reported = Reported(Severity(row[0]), bool(row[1]), row[2]) if row else None
    kind = news_of(record, reported, least)
    if kind is not None:
        threat = json.dumps({name: record.get(name) for name in THREAT_FIELDS})
        db.execute("INSERT INTO news (at, kind, threat) VALUES (?, ?, ?)", (now, kind, threat))
    if kind is not None or (reported is not None and reported.open and record.get("state") != "closed"):
        known = reported_after(record, reported)
        what = (record["id"], int(known.severity), known.open, known.last_seen)
        db.execute("INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)", what)
    return int(kind is not None)


def _forget_delivered(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM news WHERE seq <= (SELECT min(seq) FROM target)")


def _bound(db: sqlite3.Connection) -> None:
    (edge,) = db.execute(f"SELECT max(seq) - {MOST_NEWS} FROM news").fetchone()
    if edge is None or edge <= 0:
        return
    behind = "(SELECT count(*) FROM news WHERE news.seq > target.seq AND news.seq <= ?)"
    db.execute(
        f"UPDATE target SET lost = lost + {behind}, untold_lost = untold_lost + {behind}, seq = max(seq, ?)",
        (edge, edge, edge),
    )
    db.execute("DELETE FROM news WHERE seq <= ?", (edge,))
