"""One JSON array of events and threats, valid at every moment."""

from trafficmond.config.streams import Log
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.model import Threat
from trafficmond.sinks.array import ArrayFile
from trafficmond.sinks.files import Stream, is_stream
from trafficmond.sinks.jsonl import event_lines, threat_line
from trafficmond.sinks.writer import FileWriter


class _ArrayStream:
    shortened = 0

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._begin = b"[\n"

    def append(self, records: bytes) -> None:
        self._stream.append(self._begin + records)
        self._begin = b",\n"

    def reopen(self) -> None:
        """Does nothing: a stream continues its array."""

    def close(self) -> None:
        self._stream.append(b"[]\n" if self._begin == b"[\n" else b"\n]\n")
        self._stream.close()


class JsonArray(FileWriter):
    def __init__(self, log: Log) -> None:
        self._file = _ArrayStream(Stream(log.path)) if is_stream(log.path) else ArrayFile(log)

    def events(self, batch: Batch, names: Names) -> None:
        """One object each, on a line of its own."""
        self._file.append(",\n".join(event_lines(batch, names)).encode())

    def threat(self, threat: Threat, state: str) -> None:
        self._file.append(threat_line(threat, state).encode())
