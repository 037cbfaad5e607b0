"""All [[export]] tables at work."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trafficmond.config.streams import Export
from trafficmond.config.target import parse_target
from trafficmond.export.base import Carrier, Exporter
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names

_FOLDER = "export"


class ExportSet:
    """The exporters that the settings name. For the daemon's loop; nothing waits, but `join`."""

    def __init__(self, exports: Sequence[Export], state_dir: Path) -> None:
        self._state_dir = state_dir
        self._running: dict[Export, Exporter] = {}
        self._leaving: list[Exporter] = []
        self._failing: set[Export] = set()
        self.configure(exports, 0.0)

    def configure(self, exports: Sequence[Export], deadline: float) -> None:
        """Make it these from now on. Others have until `deadline` (time.monotonic) to send what they hold."""
        self._leaving = [each for each in self._leaving if not each.ended]
        for export in [export for export in self._running if export not in exports]:
            exporter = self._running.pop(export)
            self._failing.discard(export)
            exporter.finish(deadline)
            self._leaving.append(exporter)
        for export in exports:
            if export not in self._running:
                name = str(parse_target(export.to))
                exporter = Exporter(name, partial(_carrier, export, self._state_dir), export.buffer_rows)
                exporter.start(next((each for each in reversed(self._leaving) if each.name == name), None))
                self._running[export] = exporter

    def put(self, rows: Batch, names: Names) -> None:
        """Queue a REPORT batch for each."""
        for exporter in self._running.values():
            exporter.put(rows, names)

    @property
    def room(self) -> int:
        """Rows that each still takes; those that fail are not waited for."""
        working = (each.room for each in self._running.values() if not each.status()["error"])
        return min(working, default=sys.maxsize)

    def status(self) -> list[dict[str, Any]]:
        """One row an export: to, sent, queue, lost (flows), error."""
        return [exporter.status() for exporter in self._running.values()]

    def changes(self) -> Iterator[tuple[str, str]]:
        """(to, error) of each export that began to fail or, the error empty, works again since the last call."""
        for export, exporter in self._running.items():
            error = exporter.status()["error"]
            if bool(error) != (export in self._failing):
                (self._failing.add if error else self._failing.discard)(export)
                yield exporter.name, error

    def finish(self, deadline: float) -> None:
        """Tell all to send what they hold by `deadline` (time.monotonic), without waiting for it."""
        for exporter in self._running.values():
            exporter.finish(deadline)

    def join(self, deadline: float) -> None:
        """Wait until all have ended, until shortly after `deadline`."""
        for exporter in [*self._running.values(), *self._leaving]:
            exporter.join(deadline)


def _carrier(export: Export, state_dir: Path) -> Carrier[Any]:
    """Its way out; the modules are read only where one is asked for. Raises OSError."""
    target = parse_target(export.to)
    if not target.is_ipfix:
        from trafficmond.export.clickhouse import ClickHouse

        # A name that stays the same while other settings of the export change.
        folder = hashlib.sha256(str(target).encode()).hexdigest()[:16]
        return ClickHouse(target, export, state_dir / _FOLDER / folder)
    from trafficmond.export.collector import TcpCollector, UdpCollector

    return (UdpCollector if target.scheme == "ipfix+udp" else TcpCollector)(target, export)
