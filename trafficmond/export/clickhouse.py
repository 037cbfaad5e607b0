"""The transport to ClickHouse: batches go into a spool on the disk, and from there to the server.

Flows and threats have a spool and a thread each, so neither waits for the other. A batch is one block of one partition,
which the server inserts completely or not at all. If a reply was lost (the connection broke, this process ended), the
server is asked whether it has the batch before it is sent again. If a batch is inserted twice nevertheless, its rows
have equal keys, of which the table keeps one (packaging/clickhouse/flows.sql).
"""

import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from trafficmond import files
from trafficmond.config.streams import Export
from trafficmond.config.target import Target
from trafficmond.dataclass import dataclass
from trafficmond.export import flow_rows, threat_rows
from trafficmond.export.base import explained
from trafficmond.export.clickhouse_http import Server, Settings, literal
from trafficmond.export.native import Block
from trafficmond.export.spool import Entry, Spool
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names

_RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)
_NAP_S = 0.5  # between checks whether it is time to end
# Settings of newer servers: the hourly totals too recognise a repeated batch by its name; a reply means it is stored.
_INTO_TOTALS = "deduplicate_blocks_in_dependent_materialized_views"
_NEWER: Settings = {"insert_deduplication_token": "", "async_insert": 0, _INTO_TOTALS: 1}
_SKIPS: Settings = {"input_format_skip_unknown_fields": 1}  # ignore columns that the server computes or does not have


@dataclass(frozen=True, slots=True)
class Table:
    """A table of packaging/clickhouse/flows.sql, and how a batch becomes blocks of it."""

    name: str
    columns: Mapping[str, str]  # the columns that are sent, with their types
    partitions: Callable[[Batch], Iterable[Batch]]  # splits rows by partition: an insert into one is atomic
    block: Callable[[Batch, Names, str, str], Block]  # makes a block of rows of one partition; names, sensor, batch
    later: Collection[str] = ()  # columns that a table of an earlier version does not have

    def insert(self, but: Collection[str]) -> str:
        """The INSERT statement for blocks, on a server that does not accept the columns `but`."""
        sent = (name for name in self.columns if name not in but)
        return f"INSERT INTO {self.name} ({', '.join(sent)}) FORMAT Native"


FLOWS = Table("flows", flow_rows.COLUMNS, flow_rows.by_day, flow_rows.block, flow_rows.LATER)
THREATS = Table("threats", threat_rows.COLUMNS, threat_rows.by_month, threat_rows.block)


@dataclass(frozen=True, slots=True)
class Message:
    batch: str
    block: Block

    @property
    def flows(self) -> int:
        return self.block.rows


class ClickHouse:
    """`send` writes a message to the spool; a thread sends it from there to the server."""

    def __init__(self, target: Target, export: Export, table: Table, folder: Path, spool_size: int) -> None:
        """Continues with the spool in `folder`. Raises OSError if it cannot be used."""
        # A threat is written to the disk at once: a lost row may have been its last one.
        self.gather_s = export.batch_interval if table is FLOWS else 0.0
        self.sent = self.lost = 0
        self.error = ""
        self._sensor = export.sensor or socket.gethostname()
        self._spool = Spool(folder, spool_size)
        self._batch = f"{self._sensor}-{secrets.token_hex(8)}"
        self._batches = 0
        self._target = target
        self._table = table
        self._password_file = export.password_file
        self._server: tuple[Server, str, Settings] | None = None  # with the INSERT for it
        self._in_doubt: Path | None = None  # the entry that may have arrived, though there was no reply
        self._stop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="clickhouse", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._spool.flows

    def pack(self, rows: Batch, names: Names) -> Iterable[Message]:
        for each in self._table.partitions(rows):
            self._batches += 1
            batch = f"{self._batch}-{self._batches}"
            yield Message(batch, self._table.block(each, names, self._sensor, batch))

    def send(self, message: Message) -> None:
        """Stores a message on the disk until the server has it. Raises OSError if the spool is full or not writable."""
        made = message.block
        self._spool.put(made.rows, {"batch": message.batch, "first": made.first, "last": made.last}, made.body)

    def close(self, deadline: float) -> None:
        """Sends what can be sent by `deadline`; the rest stays on the disk for the next start."""
        self._stop_at = deadline
        self._thread.join(max(0.0, deadline - time.monotonic()) + _NAP_S)

    # ---- the thread ----

    def _run(self) -> None:
        failures = 0
        while True:
            entry = self._spool.oldest(_NAP_S)
            if entry is None:
                if self._stop_at is not None:
                    break
                continue
            try:
                self._deliver(entry)
            except Exception as error:  # noqa: BLE001 - after any error the flows stay on the disk
                self.error = explained(error)
                self._hang_up()
                retry_at = time.monotonic() + _RETRY_S[min(failures, len(_RETRY_S) - 1)]
                failures += 1
                while time.monotonic() < retry_at and self._stop_at is None:
                    time.sleep(_NAP_S)
            else:
                self.error, failures = "", 0
            if self._stop_at is not None and (failures or time.monotonic() >= self._stop_at):
                break
        self._hang_up()

    def _deliver(self, entry: Entry) -> None:
        try:
            about, body = self._spool.read(entry)
        except (ValueError, FileNotFoundError):  # damaged, or removed by hand
            self.lost += entry.flows
            self._spool.remove(entry)
            return
        server, insert, settings = self._connected()
        in_doubt = entry.left or entry.path == self._in_doubt
        if not (in_doubt and self._has(server, about)) or (_INTO_TOTALS in settings and self._torn(server, entry)):
            self._in_doubt = entry.path
            name = str(about["batch"])
            # A server does not run two queries with one id, so an insert that is still running is not repeated.
            settings = {**settings, "query_id": name}
            if "insert_deduplication_token" in settings:
                settings["insert_deduplication_token"] = name
            server.insert(insert, body, settings)
        self._spool.remove(entry)
        self._in_doubt = None
        self.sent += entry.flows

    def _connected(self) -> tuple[Server, str, Settings]:
        """The server, its INSERT statement and its settings; read again after each failure: it may have changed."""
        if self._server is None:
            path = self._password_file
            password = files.read(path).decode("utf-8").strip().partition("\n")[0].strip() if path else ""
            server = Server(self._target, password)
            names = ", ".join(f"'{name}'" for name in _NEWER)
            known = {row[0] for row in server.ask(f"SELECT name FROM system.settings WHERE name IN ({names})")}
            settings = {name: value for name, value in _NEWER.items() if name in known}
            kinds = f"SELECT name, default_kind FROM system.columns WHERE table = '{self._table.name}' AND "
            columns = dict(server.ask(kinds + f"database = {literal(self._target.database)}"))
            but = {name for name, kind in columns.items() if kind == "ALIAS"} & set(self._table.columns)
            if columns:
                but |= set(self._table.later) - columns.keys()
            self._server = server, self._table.insert(but), settings | (_SKIPS if but else {})
        return self._server

    def _hang_up(self) -> None:
        if self._server is not None:
            self._server[0].close()
            self._server = None

    def _has(self, server: Server, about: dict[str, Any]) -> bool:
        """Whether the server has the batch; the times limit the rows to be read."""
        batch = literal(str(about["batch"]))
        when = f"last_seen >= {float(about['first'])!r} AND last_seen <= {float(about['last'])!r}"
        return bool(server.ask(f"SELECT count() FROM {self._table.name} WHERE {when} AND batch = {batch}")[0][0])

    def _torn(self, server: Server, entry: Entry) -> bool:
        """Whether the server restarted since the batch was made, so that the hourly totals may lack it. The server then
        completes them, as it drops what it has: if both tables are set to recognise repeated batches."""
        age_s = time.time() - entry.path.stat().st_mtime
        recognise = "name IN ('flows', 'flows_hourly') AND match(engine_full, '^Replicated|_deduplication_window')"
        both = f"SELECT count() = 2 FROM system.tables WHERE database = currentDatabase() AND {recognise}"
        return bool(server.ask(f"SELECT uptime() < {age_s!r} AND ({both})")[0][0])
