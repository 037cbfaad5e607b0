"""All [[export]] tables at work."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trafficmond.config.settings import Export
from trafficmond.config.target import parse_target
from trafficmond.export.base import Carrier, Exporter
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names

_FOLDER = "export"


class ExportSet:
    """The exporters that the settings name. Methods are for the daemon's loop; only `close` and `configure` wait."""

    def __init__(self, exports: Sequence[Export], state_dir: Path) -> None:
        self._state_dir = state_dir
        self._running: dict[Export, Exporter] = {}
        self._unusable: dict[Export, str] = {}
        self.configure(exports, 0.0)

    def configure(self, exports: Sequence[Export], wait_s: float) -> None:
        """Make it these from now on. What others still hold is sent within `wait_s`, or lost and counted no more."""
        gone = [self._running.pop(export) for export in list(self._running) if export not in exports]
        _finish(gone, time.monotonic() + wait_s)
        self._unusable = {}
        for export in exports:
            if export not in self._running:
                self._start(export)

    def _start(self, export: Export) -> None:
        name = str(parse_target(export.to))
        try:
            exporter = Exporter(name, _carrier(export, self._state_dir), export.buffer_rows)
        except OSError as error:
            self._unusable[export] = f"cannot be used: {error}"
        else:
            exporter.start()
            self._running[export] = exporter

    def put(self, rows: Batch, names: Names) -> None:
        """Queue a REPORT batch for each."""
        for exporter in self._running.values():
            exporter.put(rows, names)

    def status(self) -> list[dict[str, Any]]:
        """One row an export: to, sent, queue, lost (flows), error."""
        broken = [
            {"to": str(parse_target(export.to)), "sent": 0, "queue": 0, "lost": 0, "error": error}
            for export, error in self._unusable.items()
        ]
        return [exporter.status() for exporter in self._running.values()] + broken

    def close(self, deadline: float) -> None:
        """Send what waits, until `deadline` (time.monotonic)."""
        _finish(list(self._running.values()), deadline)


def _finish(exporters: Sequence[Exporter], deadline: float) -> None:
    for exporter in exporters:
        exporter.finish(deadline)
    for exporter in exporters:
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
