"""An input file as a stream of bytes or lines: decompressed, with its position, never whole in memory."""

from __future__ import annotations

import gzip
import importlib
import io
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from trafficmond.analyze.damage import Damage
from trafficmond.errors import TrafficmonError

HEAD = 1 << 16
CHUNK = 1 << 20
LINE_MAX = 1 << 20
"""A longer line is damage: no format here has one, and a file without newlines must not fill the memory."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


class InputError(TrafficmonError):
    """A file that cannot be analysed at all: missing, unreadable, or of no known format."""


class Source:
    """One input. `head` is its first bytes (up to HEAD, decompressed), which reading yields again.

    Raises InputError if the file cannot be opened, or is compressed in a way this host cannot undo.
    """

    def __init__(self, path: str, damage: Damage) -> None:
        self.path = path
        self.name = "standard input" if path == "-" else Path(path).name
        self.damage = damage
        self.compressed = ""
        self.size = 0
        self.read_bytes = 0  # decompressed
        self._child: subprocess.Popen[bytes] | None = None
        self._file = self._open()
        self._stream = self._decompress(self._file)
        self.head = b""
        while len(self.head) < HEAD and (more := self._take(HEAD - len(self.head))):
            self.head += more
        self._waiting = self.head

    def _open(self) -> io.BufferedReader:
        try:
            if self.path == "-":
                return cast(io.BufferedReader, sys.stdin.buffer)
            file = open(self.path, "rb")  # noqa: SIM115 -- close() ends it
            self.size = os.fstat(file.fileno()).st_size
        except OSError as error:
            hint = "check the path and its permissions"
            raise InputError(f"cannot read {self.path}: {error.strerror}", hint=hint) from error
        return file

    def _decompress(self, file: io.BufferedReader) -> BinaryIO:
        start = file.peek(4)[:4]
        if start.startswith(_GZIP):
            self.compressed = "gzip"
            return cast(BinaryIO, gzip.GzipFile(fileobj=file))
        if start.startswith(_ZSTD):
            self.compressed = "zstd"
            return self._zstd(file)
        return file

    def _zstd(self, file: io.BufferedReader) -> BinaryIO:
        try:
            zstandard: Any = importlib.import_module("zstandard")
        except ImportError:
            pass
        else:
            return cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
        program = shutil.which("zstd")
        if program is None or self.path == "-":
            hint = f"install the zstd package (apt install zstd), or unpack it first: zstd -dc {self.path} > FILE"
            raise InputError(f"{self.path} is compressed with zstd, which nothing here can unpack", hint=hint)
        os.lseek(file.fileno(), 0, os.SEEK_SET)  # seek() would only move within the buffer
        self._child = subprocess.Popen(
            [program, "-dcq"], stdin=file.fileno(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._child.stdout is not None
        return cast(BinaryIO, self._child.stdout)

    @property
    def position(self) -> int:
        """Bytes of the file consumed so far, of `size` (0 where unknown)."""
        if self.path == "-" or self._file.closed:
            return 0
        return os.lseek(self._file.fileno(), 0, os.SEEK_CUR)

    @property
    def done(self) -> float:
        """The fraction of the file consumed so far; 0 where its size is unknown."""
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
        """(number from 1, line without its newline) of every line; one beyond LINE_MAX is damage."""
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
                    self.damage.line(self.name, number, "line too long")
                else:
                    yield number, line.removesuffix(b"\r")
            if len(rest) > LINE_MAX:
                if not skipping:
                    self.damage.line(self.name, number + 1, "line too long")
                skipping = True
                rest = b""
        if rest and not skipping:
            yield number + 1, rest.removesuffix(b"\r")

    def close(self) -> None:
        """Lets go of the file and of a decompressor that may still run."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        if self.path != "-":
            self._stream.close()
            self._file.close()

    def _take(self, size: int) -> bytes:
        try:
            data = self._stream.read(size)
        except (EOFError, zlib.error, OSError) as error:
            data = b""
            self._spoiled(str(error))
        except Exception as error:  # zstandard's own, whose class exists only where it is installed
            if self.compressed != "zstd":
                raise
            data = b""
            self._spoiled(str(error))
        if not data and size and self._child is not None:
            if self._child.wait():
                self._spoiled("the zstd program gave up")
            self._child = None
        return data

    def _spoiled(self, detail: str) -> None:
        kind = f"{self.compressed} stream damaged" if self.compressed else "read error"
        self.damage.offset(self.name, self.read_bytes, kind, detail)
        self._stream = cast(BinaryIO, io.BytesIO())
