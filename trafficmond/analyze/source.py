"""An input file as a stream of bytes or lines: decompressed, with its position, never completely in memory."""

import codecs
import io
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from trafficmond.analyze.parse_errors import ParseErrors
from trafficmond.analyze.unpack import GZIP, JOURNAL, PROGRAMS, CorruptStream, Gzip, Unpacker
from trafficmond.errors import TrafficmonError

HEAD = 1 << 16
CHUNK = 1 << 20
LINE_MAX = 1 << 20
"""A longer line is damage: no format here has such lines, and a file without newlines must not fill the memory."""

BETWEEN = b" \t\r\n\x0c\0\x1e\xef\xbb\xbf"
"""Characters that may surround a record and have no meaning: blanks, NULs of a log that was emptied in place, the
record separator of RFC 7464, the byte order mark of a file that was appended to another."""

SEPARATORS = (",", "\t", ";", "|")
"""What may be between the columns of a table."""

_BEFORE = b"\0\r\x1e\xef\xbb\xbf"
NULS_MAX = 1 << 30  # at the beginning of what has no size: a device may have no end
_NOTES_MAX = 32
_OTHERS = "(other things)"
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


class InputError(TrafficmonError):
    """A file that cannot be analysed: missing, unreadable, or of an unknown format."""


class EmptyInput(InputError):
    """A file with nothing in it."""


class Source:
    """One input. `head` has its first bytes (HEAD, more after `look`), which reading returns again.

    For all readers, byte order marks and NULs at the beginning are removed, and UTF-16 becomes UTF-8. Raises InputError
    if the file cannot be opened, or if this host cannot decompress it.
    """

    def __init__(self, path: str, parse_errors: ParseErrors) -> None:
        self.path = path
        self.name = "standard input" if path == "-" else Path(path).name
        self.parse_errors = parse_errors
        self.notes: Counter[str] = Counter()
        self.compressed = ""
        self.trouble = ""  # what was last found wrong with it as a stream
        self.enveloped = False  # its records are inside those of a log shipper: jsonstream.py
        self.size = 0
        self.modified = time.time()  # epoch seconds
        self.read_bytes = 0  # of decompressed data
        self._unpacked = 0  # the same, including data that waits
        self._decoder: codecs.IncrementalDecoder | io.IncrementalNewlineDecoder | None = None
        self._file = self._open()
        self._stream = self._decompress(self._file)
        self.head = b""
        self._fill(HEAD)
        self._strip_nuls()
        self._waiting = self.head

    def note(self, what: str, count: int = 1) -> None:
        """Adds a note for the reader of the report; equal texts are counted (count 0: shown without a number)."""
        if what not in self.notes and len(self.notes) >= _NOTES_MAX:
            what = _OTHERS
        self.notes[what] += count

    def look(self) -> bool:
        """Extends `head` to have a whole line even after half a line; False at the end. Call it before reading."""
        before = len(self.head)
        self._fill(2 * LINE_MAX)
        self._waiting = self.head
        return len(self.head) > before

    def _open(self) -> io.BufferedReader:
        try:
            if self.path == "-":
                file = cast(io.BufferedReader, sys.stdin.buffer)
            else:
                file = open(self.path, "rb")  # noqa: SIM115 -- close() ends it
                status = os.fstat(file.fileno())
                self.size, self.modified = status.st_size, status.st_mtime
            file.peek(1)
        except OSError as error:
            hint = "check the path and its permissions"
            name = "standard input" if self.path == "-" else self.path or "''"
            raise InputError(f"cannot read {name}: {error.strerror}", hint=hint) from error
        return file

    def _decompress(self, file: io.BufferedReader) -> Unpacker | BinaryIO:
        start = file.peek(len(JOURNAL))[: len(JOURNAL)]
        if start.startswith(GZIP):
            self.compressed = "gzip"
            return Gzip(file)
        name = next((name for name, magic in PROGRAMS.items() if start.startswith(magic)), "")
        if not name and not start.startswith(JOURNAL):
            return file
        from trafficmond.analyze import programs  # import what starts programs only if it is needed

        if not name:
            entries = programs.journal(self.path)
            self.compressed = "journal" if entries else ""
            return entries or file
        self.compressed = name
        if not (unpacked := programs.unpacked(file, name)):
            package = {"xz": "xz-utils"}.get(name, name)
            hint = f"install it (apt install {package}), or unpack the file on another host: {name} -dc {self.path}"
            what = f"{self.path} is compressed with {name}, and the program {name} is not installed"
            raise InputError(what, hint=hint)
        return unpacked

    def _fill(self, size: int) -> None:
        while len(self.head) < size and (more := self._take(size - len(self.head))):
            self.head += more

    def _strip_nuls(self) -> None:
        """Removes NULs before the beginning of a text."""
        nuls = 0
        while self.head.startswith(b"\0"):
            rest = self.head.lstrip(b"\0")
            nuls += len(self.head) - len(rest)
            self.head = rest
            self._fill(HEAD)
            if nuls > NULS_MAX and not self.size:
                hint = "in a file any number is skipped; in a pipe or a device they may never end"
                raise InputError(f"{self.name} begins with more than 1 GiB of NUL bytes", hint=hint)
        if nuls:
            self.note("NUL bytes at the beginning were skipped", nuls)
        mark = self.head[:2]
        if mark in _UTF16:
            self._decoder = codecs.getincrementaldecoder(_UTF16[mark])("replace")
            self.head = self._decoder.decode(self.head[2:]).encode()
        elif self.head.startswith(_UTF8_MARK):
            self.head = self.head.removeprefix(_UTF8_MARK)
            nuls += len(_UTF8_MARK)
        if b"\r" in self.head and b"\n" not in self.head and b"\0" not in self.head:  # text with CR alone (old Macs)
            plain = codecs.getincrementaldecoder("utf-8")("replace")
            self._decoder = io.IncrementalNewlineDecoder(plain, translate=True)
            self.head = self._decoder.decode(self.head).encode()
        self.read_bytes = nuls

    @property
    def position(self) -> int:
        """Bytes of the file read so far, of `size` (0 if unknown)."""
        if self.path == "-" or self._file.closed or not self._file.seekable():
            return 0
        return os.lseek(self._file.fileno(), 0, os.SEEK_CUR)

    @property
    def done(self) -> float:
        """The fraction of the file read so far; 0 if its size is unknown."""
        return min(1.0, self.position / self.size) if self.size else 0.0

    def read(self, size: int = CHUNK) -> bytes:
        """The next bytes, at most `size`; empty at the end."""
        if self._waiting:
            data, self._waiting = self._waiting[:size], self._waiting[size:]
        else:
            data = self._take(size)
        self.read_bytes += len(data)
        return data

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yields (line number from 1, line without its newline); a line longer than LINE_MAX counts as damage."""
        number = 0
        rest = b""
        skipping = False
        while data := self.read():
            parts = (rest + data).split(b"\n")
            rest = parts.pop()
            for line in parts:
                number += 1
                if skipping:
                    skipping = False
                elif len(line) > LINE_MAX:
                    self.parse_errors.line(self.name, number, "line too long")
                else:
                    yield number, line.rstrip(b"\r").lstrip(_BEFORE)
            if len(rest) > LINE_MAX:
                if not skipping:
                    self.parse_errors.line(self.name, number + 1, "line too long")
                skipping = True
                rest = b""
        if rest and not skipping:
            yield number + 1, rest.rstrip(b"\r").lstrip(_BEFORE)

    def close(self) -> None:
        """Closes the file, and ends a decompressor that still runs."""
        if self._stream is not self._file:
            self._stream.close()
        if self.path != "-":
            self._file.close()

    def _take(self, size: int) -> bytes:
        """The next bytes; damage before them is reported. Empty at the end."""
        while True:
            try:
                data = self._stream.read(size)
            except (CorruptStream, OSError) as error:
                kind = f"{self.compressed} stream damaged" if self.compressed else "read error"
                self.parse_errors.offset(self.name, self._unpacked, kind, str(error))
                self.trouble = str(error)
                if isinstance(error, CorruptStream):
                    continue
                self._stream = cast(BinaryIO, io.BytesIO())
                return b""
            self._unpacked += len(data)
            return data if self._decoder is None or not data else self._decoder.decode(data).encode()
