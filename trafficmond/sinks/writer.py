"""A writer renders events and threats in one format; files and streams are common to all formats."""

from __future__ import annotations

from typing import Protocol

from trafficmond.config.streams import Log
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.model import Threat
from trafficmond.sinks.files import LineFile, Stream, is_stream
from trafficmond.sinks.messages import Note


class Writer(Protocol):
    """One format. Called only from the sink's thread.

    A method that raises OSError has written nothing, and is called again with the same arguments until it succeeds.
    """

    @property
    def shortened(self) -> int:
        """How often another program has shortened the file in place."""

    def events(self, batch: Batch, names: Names) -> None:
        """Write events."""

    def threat(self, threat: Threat) -> None:
        """Write a threat."""

    def note(self, note: Note) -> None:
        """Write a message about the daemon itself."""

    def reopen(self) -> None:
        """Create a new file at the path, after the old one was moved away."""

    def close(self) -> None:
        """Finish what is open."""


class Appended(Protocol):
    """A destination for whole records: a file, a stream, an array."""

    @property
    def shortened(self) -> int: ...
    def append(self, data: bytes, /) -> None: ...
    def reopen(self) -> None: ...
    def close(self) -> None: ...


class FileWriter:
    """A Writer without its `events`. Threats and notes are ignored, unless a format has a place for them."""

    def __init__(self, log: Log, header: bytes = b"") -> None:
        """`header` begins each new file."""
        self._file: Appended = Stream(log.path) if is_stream(log.path) else LineFile(log, header)

    @property
    def shortened(self) -> int:
        """As counted by the file."""
        return self._file.shortened

    def threat(self, threat: Threat) -> None:
        """Write a threat."""

    def note(self, note: Note) -> None:
        """Write a message about the daemon itself; the journal and the console have them in any case."""

    def reopen(self) -> None:
        """Create a new file at the path, if the old one was moved away."""
        self._file.reopen()

    def close(self) -> None:
        """Sync the file to disk and close it."""
        self._file.close()
