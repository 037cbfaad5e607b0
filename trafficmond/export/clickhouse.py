"""ClickHouse: batches into a spool on the disk, and from there to the server, at least once and in effect once.

Flows have a spool and a thread, and threats have theirs: neither waits for the other's, or for want of its table.
A batch is one block into one partition, which the server takes whole or not at all. Where an answer was lost (a
connection broke, this process ended) the server is asked whether it has the batch before it gets it again. Should
both cross, the rows have equal keys, of which the table keeps one (packaging/clickhouse/flows.sql).
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trafficmond.config.streams import Export
from trafficmond.config.target import Target
from trafficmond.export import flow_rows, threat_rows
from trafficmond.export.base import explained
from trafficmond.export.clickhouse_http import Server, Settings, literal
from trafficmond.export.native import Block
from trafficmond.export.spool import Entry, Spool
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names

_RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)
_NAP_S = 0.5  # between looks at whether it is time to end
# Settings of newer servers: a repeated batch is recognised by its name, and an answer means that it is stored.
_NEWER: Settings = {"insert_deduplication_token": "", "async_insert": 0}
_SKIPS: Settings = {"input_format_skip_unknown_fields": 1}  # of a block, what the server computes or has no column for


@dataclass(frozen=True, slots=True)
class Table:
    """A table of packaging/clickhouse/flows.sql, and how a batch becomes blocks of it."""

    name: str
    columns: Mapping[str, str]  # that are sent, with their types
    partitions: Callable[[Batch], Iterable[Batch]]  # the rows of each partition: an insert into one is atomic
    block: Callable[[Batch, Names, str, str], Block]  # of rows of one partition; names, sensor, batch
    later: Collection[str] = ()  # columns that a table of an earlier version does not have

    def insert(self, but: Collection[str]) -> str:
        """What a block is the data of, on a server that takes all columns but these."""
        sent = (name for name in self.columns if name not in but)
        return f"INSERT INTO {self.name} ({', '.join(sent)}) FORMAT Native"


FLOWS = Table("flows", flow_rows.COLUMNS, flow_rows.by_day, flow_rows.block, flow_rows.LATER)
THREATS = Table("threats", threat_rows.COLUMNS, threat_rows.by_month, threat_rows.block)


@dataclass(frozen=True, slots=True)
class Message:
    """A block and its name."""

    batch: str
    block: Block

    @property
    def flows(self) -> int:
        """Reports in it."""
        return self.block.rows


class ClickHouse:
    """The transport: `send` keeps a message in the spool; a thread of its own takes it from there to the server."""

    def __init__(self, target: Target, export: Export, table: Table, folder: Path, spool_size: int) -> None:
        """Goes on with what waits in `folder`. Raises OSError if it cannot be used."""
        # A threat is on the disk at once: a row that a kill takes would be its last one.
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
        self._in_doubt: Path | None = None  # the entry that may have arrived, though no answer did
        self._stop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="clickhouse", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Flows in the spool."""
        return self._spool.flows

    def pack(self, rows: Batch, names: Names) -> Iterable[Message]:
        """A message for each partition there is."""
        for each in self._table.partitions(rows):
            self._batches += 1
            batch = f"{self._batch}-{self._batches}"
            yield Message(batch, self._table.block(each, names, self._sensor, batch))

    def send(self, message: Message) -> None:
        """Keep it on the disk until the server has it. Raises OSError if the spool is full or cannot be written."""
        made = message.block
        self._spool.put(made.rows, {"batch": message.batch, "first": made.first, "last": made.last}, made.body)

    def close(self, deadline: float) -> None:
        """Send by `deadline` what can be sent; the rest waits on the disk for the next start."""
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
            except Exception as error:  # noqa: BLE001 - whatever the server says, the flows stay on the disk
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
        except ValueError:
            self.lost += entry.flows
            self._spool.remove(entry)
            return
        server, insert, settings = self._connected()
        if not ((entry.left or entry.path == self._in_doubt) and self._has(server, about)):
            self._in_doubt = entry.path
            name = str(about["batch"])
            # No server runs two queries of one id: a try that outlived its sender is waited for.
            settings = {**settings, "query_id": name}
            if "insert_deduplication_token" in settings:
                settings["insert_deduplication_token"] = name
            server.insert(insert, body, settings)
        self._spool.remove(entry)
        self._in_doubt = None
        self.sent += entry.flows

    def _connected(self) -> tuple[Server, str, Settings]:
        """The server, what inserts there, and with which settings; asked anew after each failure, for it may be another
        one."""
        if self._server is None:
            server = Server(self._target, _password(self._password_file))
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
        """Whether the server has the batch; the times let it look at few rows."""
        batch = literal(str(about["batch"]))
        when = f"last_seen >= {float(about['first'])!r} AND last_seen <= {float(about['last'])!r}"
        return bool(server.ask(f"SELECT count() FROM {self._table.name} WHERE {when} AND batch = {batch}")[0][0])


def _password(path: Path | None) -> str:
    """The file's first line. Raises OSError."""
    return (path.read_text("utf-8").splitlines() or [""])[0].strip() if path else ""
