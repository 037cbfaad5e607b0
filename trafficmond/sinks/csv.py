"""Comma-separated values (RFC 4180, with a header once a file, lines ended by LF as the original's)."""

from trafficmond.config.streams import Log
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.sinks import record
from trafficmond.sinks.files import is_stream
from trafficmond.sinks.writer import FileWriter

HEADER = ",".join(record.FIELDS) + "\n"
_TEMPLATE = ",".join("%s" for _ in record.FIELDS)


def quote(text: str) -> str:
    """A field, in quotes where RFC 4180 requires it."""
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in '",\r\n') else text


def event_rows(batch: Batch, names: Names) -> str:
    """One line an event, each with its newline."""
    return "\n".join([_TEMPLATE % row for row in record.rows(batch, names, quote)]) + "\n"


class Csv(FileWriter):
    """The writer of format csv. It has columns for events only, none for threats."""

    def __init__(self, log: Log) -> None:
        super().__init__(log, HEADER.encode())
        self._header = HEADER.encode() if is_stream(log.path) else b""

    def events(self, batch: Batch, names: Names) -> None:
        self._file.append(self._header + event_rows(batch, names).encode())
        self._header = b""
