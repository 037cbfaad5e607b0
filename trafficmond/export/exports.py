"""The exporters of all [[export]] tables."""

import hashlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trafficmond.config.streams import Export
from trafficmond.config.target import parse_target
from trafficmond.export import threat_rows
from trafficmond.export.base import Exporter, Transport
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import NO_NAMES, Names
from trafficmond.model import Threat

FLOWS, THREATS = "flows", "threats"

_FOLDER = "export"
# bound: threats that wait for an export | further threats are lost and counted; `status` shows them
_MOST_THREATS = 4096
# bound: bytes of threats that wait on disk for an export | further threats wait in memory (the row above)
_THREATS_SPOOL = 32 << 20

_Key = tuple[Export, str]  # with FLOWS or THREATS


class ExportSet:
    """The exporters of the settings: for each [[export]] one of flows and, if the target accepts them, one of threats.
    For the event loop's thread; only `join` waits."""

    def __init__(self, exports: Sequence[Export], state_dir: Path) -> None:
        self._state_dir = state_dir
        self._running: dict[_Key, Exporter] = {}
        self._leaving: list[Exporter] = []
        self._failing: set[_Key] = set()
        self._revision = 0  # of the latest update of a threat
        self.configure(exports, 0.0)

    def configure(self, exports: Sequence[Export], deadline: float) -> None:
        """Replaces the exports. Those that are removed have until `deadline` (time.monotonic) to send their queues."""
        self._leaving = [each for each in self._leaving if not each.ended]
        wanted = list(_keys(exports))
        for key in [key for key in self._running if key not in wanted]:
            exporter = self._running.pop(key)
            self._failing.discard(key)
            exporter.finish(deadline)
            self._leaving.append(exporter)
        for key in wanted:
            if key not in self._running:
                self._running[key] = self._start(*key)

    def _start(self, export: Export, what: str) -> Exporter:
        name = f"{what} to {parse_target(export.to)}"
        most = export.buffer_rows if what == FLOWS else _MOST_THREATS
        exporter = Exporter(name, partial(_transport, export, what, self._state_dir), most)
        exporter.start(next((each for each in reversed(self._leaving) if each.name == name), None))
        return exporter

    def put(self, rows: Batch, names: Names) -> None:
        for exporter in self._of(FLOWS):
            exporter.put(rows, names)

    def threat(self, threat: Threat, state: str) -> None:
        """Queues the state of a threat ("opened", "updated", "closed") for each export of threats."""
        self._revision = max(self._revision + 1, time.time_ns() // 1000)
        for exporter in self._of(THREATS):
            exporter.put(threat_rows.update(threat, state, self._revision), NO_NAMES)

    @property
    def room(self) -> int:
        """The number of rows that all working exports can queue."""
        working = (each.room for each in self._of(FLOWS) if not each.status()["error"])
        return min(working, default=sys.maxsize)

    def status(self) -> list[dict[str, Any]]:
        """One row for each export: to, sent, queue, lost (flows), error; the same in `threats`, or None."""
        return [
            {
                "to": str(parse_target(export.to)),
                **exporter.status(),
                "threats": threats.status() if (threats := self._running.get((export, THREATS))) else None,
            }
            for (export, what), exporter in self._running.items()
            if what == FLOWS
        ]

    def changes(self) -> Iterator[tuple[str, str, str]]:
        """(to, flows or threats, error) for each export that began to fail since the last call, or works again."""
        for key, exporter in self._running.items():
            error = exporter.status()["error"]
            if bool(error) != (key in self._failing):
                (self._failing.add if error else self._failing.discard)(key)
                export, what = key
                yield str(parse_target(export.to)), what, error

    def finish(self, deadline: float) -> None:
        """Tells all to send their queues by `deadline` (time.monotonic). Does not wait."""
        for exporter in self._running.values():
            exporter.finish(deadline)

    def join(self, deadline: float) -> None:
        """Waits until all have ended, until shortly after `deadline`."""
        for exporter in [*self._running.values(), *self._leaving]:
            exporter.join(deadline)

    def _of(self, kind: str) -> Iterator[Exporter]:
        return (exporter for (_, what), exporter in self._running.items() if what == kind)


def _keys(exports: Iterable[Export]) -> Iterator[_Key]:
    for export in exports:
        yield export, FLOWS
        if not parse_target(export.to).is_ipfix:
            yield export, THREATS


def _transport(export: Export, what: str, state_dir: Path) -> Transport[Any]:
    """Creates the transport; its module is imported only when it is needed. Raises OSError."""
    target = parse_target(export.to)
    if not target.is_ipfix:
        from trafficmond.export import clickhouse

        # The name depends on the target only, so that it stays when other settings of the export change.
        folder = state_dir / _FOLDER / hashlib.sha256(str(target).encode()).hexdigest()[:16]
        if what == FLOWS:
            return clickhouse.ClickHouse(target, export, clickhouse.FLOWS, folder, export.spool_size)
        folder = folder.with_name(f"{folder.name}-{what}")
        return clickhouse.ClickHouse(target, export, clickhouse.THREATS, folder, _THREATS_SPOOL)
    from trafficmond.export.collector import TcpCollector, UdpCollector

    return (UdpCollector if target.scheme == "ipfix+udp" else TcpCollector)(target, export)
