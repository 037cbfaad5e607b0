"""A writer renders events and threats in one format; files and streams are common to all formats."""

from abc import ABC, abstractmethod
from typing import Protocol

from trafficmond.config.streams import Log
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.model import Threat
from trafficmond.sinks.files import LineFile, Stream, is_stream
from trafficmond.sinks.messages import Note


class Appended(Protocol):
    """A destination for whole records: a file, a stream, an array."""

    @property
    def shortened(self) -> int: ...
    def append(self, data: bytes, /) -> None: ...
    def reopen(self) -> None: ...
    def close(self) -> None: ...


class Writer(ABC):
    """One format. Called only from the sink's thread. Threats and notes are ignored where a format has no place for
    them; the journal and the console have the notes in any case.

    A method that raises OSError has written nothing, and is called again with the same arguments until it succeeds.
    """

    _file: Appended | None = None  # the journal has none

    @property
    def shortened(self) -> int:
        """How often another program has shortened the file in place."""
        return self._file.shortened if self._file else 0

    @abstractmethod
    def events(self, batch: Batch, names: Names) -> None: ...

    def threat(self, threat: Threat, state: str) -> None:  # noqa: B027
        pass

    def note(self, note: Note) -> None:  # noqa: B027
        pass

    def reopen(self) -> None:
        """Create a new file at the path, after the old one was moved away."""
        if self._file:
            self._file.reopen()

    def close(self) -> None:
        if self._file:
            self._file.close()


class FileWriter(Writer):
    """A Writer to a file or a stream, without its `events`."""

    _file: Appended

    def __init__(self, log: Log, header: bytes = b"") -> None:
        """`header` begins each new file."""
        self._file = Stream(log.path) if is_stream(log.path) else LineFile(log, header)
