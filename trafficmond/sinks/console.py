"""Lines for people, in colour on a terminal."""

import os
from collections.abc import Mapping

from trafficmond.config.streams import Log
from trafficmond.figures import plain
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.model import Severity, Threat
from trafficmond.sinks import record
from trafficmond.sinks.files import Stream, is_stream
from trafficmond.sinks.messages import PRIORITY_NAMES, WARNING, Note
from trafficmond.sinks.writer import FileWriter

_RESET, _DIM, _RED, _YELLOW, _BOLD = "\033[0m", "\033[2m", "\033[31m", "\033[33m", "\033[1m"
_COLOUR_OF_SEVERITY: Mapping[Severity, str] = {
    Severity.LOW: _DIM,
    Severity.MEDIUM: _YELLOW,
    Severity.HIGH: _RED,
    Severity.CRITICAL: _BOLD + _RED,
}


class Console(FileWriter):
    def __init__(self, log: Log, fd: int = 1) -> None:
        """Without a path in `log`, writes to `fd`."""
        super().__init__(log)
        self._colour = False
        if is_stream(log.path):
            self._file = stream = Stream(log.path, fd)
            self._colour = stream.is_terminal and not os.environ.get("NO_COLOR")

    def events(self, batch: Batch, names: Names) -> None:
        """Write a line per event: time, action, interface, direction, endpoints, size, rule."""
        lines = (self._event(dict(zip(record.FIELDS, row, strict=True))) for row in record.rows(batch, names))
        self._file.append("".join(lines).encode())

    def threat(self, threat: Threat, state: str) -> None:
        label = self._paint(f"{str(threat.severity).upper():8}", _COLOUR_OF_SEVERITY[threat.severity])
        what = f"{record.of_state(state)}{threat.detector} {threat.technique} {threat.summary}"
        self._file.append(f"{record.iso_time(threat.last_seen)} {label} {plain(what)}\n".encode())

    def note(self, note: Note) -> None:
        label = self._paint(
            f"{PRIORITY_NAMES[note.message.priority]:8}", _RED if note.message.priority < WARNING else _DIM
        )
        self._file.append(f"{record.iso_time(note.timestamp)} {label} {plain(note.text)}\n".encode())

    def _event(self, event: Mapping[str, str]) -> str:
        label = self._paint(f"{event['action']:8}", _RED if event["action"] == "DROP" else _DIM)
        return (
            f"{event['timestamp_iso']} {label} "
            f"{plain(event['interface'])} {'->' if event['direction'] == 'ingress' else '<-'} "
            f"{record.parties(event)} {event['packet_size']} B "
            f"[{plain(event['rule'])}]\n"
        )

    def _paint(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_RESET}" if self._colour else text
