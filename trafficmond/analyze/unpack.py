"""Decompresses gzip while it is read, up to a damaged place, and then has its position. Recognises other streams."""

from __future__ import annotations

import zlib
from typing import BinaryIO, Protocol

GZIP = b"\x1f\x8b"
PROGRAMS = {
    "zstd": (b"\x28\xb5\x2f\xfd", *(bytes((kind,)) + b"\x2a\x4d\x18" for kind in range(0x50, 0x60))),
    "xz": (b"\xfd7zXZ\0", b"\x5d\0\0"),
    "bzip2": (b"BZh",),
    "lz4": (b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18"),
    "gzip": (b"\x1f\x9d",),
    "lzip": (b"LZIP",),
}
"""The first bytes of streams that a program of this name unpacks. A zstd stream begins with a frame or, as pzstd writes
it, a frame to skip (RFC 8878, 3.1.2); xz also reads lzma, gzip what compress wrote."""

JOURNAL = b"LPKSHHRH"
"""The first bytes of a systemd journal file (https://systemd.io/JOURNAL_FILE_FORMAT)."""

_PART = 1 << 16
_MEMBER = b"\x1f\x8b\x08"
_HEADER = 18  # bytes of the smallest member


class CorruptStream(Exception):
    """A compressed stream is damaged; the text says how. Reading may continue."""


class Unpacker(Protocol):
    """A decompressed stream: `read` returns b"" at the end, and raises CorruptStream at a damaged place."""

    def read(self, size: int) -> bytes: ...

    def close(self) -> None: ...


class Gzip:
    """The members of a gzip file (RFC 1952), one after the other, as gzip(1) reads them.

    After a damaged member the next one is searched: a log that is appended to has one member for each start of its
    writer.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._input = b""  # not yet decompressed
        self._recent = b""  # the end of this member's compressed bytes, where another may have begun
        self._member: zlib._Decompress | None = None
        self._members = 0
        self._foreign = False  # what follows is not a member, which has been reported
        self._trouble = ""

    def read(self, size: int) -> bytes:
        if self._trouble:
            trouble, self._trouble = self._trouble, ""
            raise CorruptStream(trouble)
        while True:
            self._input = self._input or self._file.read(_PART)
            if not self._input:
                if self._member is None:
                    return b""
                rest, self._member = self._member.flush(), None
                self._trouble = "it is cut off"
                self._search(self._recent)
                return rest or self.read(size)
            if self._member is None and not self._begin():
                if self._trouble:
                    return self.read(size)
                continue
            data = self._inflate(size)
            if data or self._trouble:
                return data or self.read(size)

    def close(self) -> None:
        self._input = b""

    def _begin(self) -> bool:
        """Begins the next member; padding and other data are skipped."""
        self._input = self._input.lstrip(b"\0")
        while self._input and len(self._input) < len(_MEMBER) and (more := self._file.read(_PART)):
            self._input += more
        if not self._input:
            return False
        if not self._input.startswith(_MEMBER):
            at = self._input.find(_MEMBER)
            passed = len(self._input) if at < 0 else at
            if not self._foreign:
                self._trouble = f"data that is not gzip follows after member {self._members}"
            self._input, self._foreign = self._input[passed:], True
            return False
        self._members, self._foreign = self._members + 1, False
        self._member = zlib.decompressobj(wbits=31)
        self._recent = b""
        return True

    def _inflate(self, size: int) -> bytes:
        member = self._member
        assert member is not None
        before = member.copy()
        part, self._input = self._input, b""
        try:
            data = member.decompress(part, size)
        except zlib.error as error:
            self._member = None
            self._trouble = str(error)
            self._search(self._recent + part)
            return _as_far(before, part)
        self._input = member.unused_data if member.eof else member.unconsumed_tail
        self._recent = (self._recent + part[: len(part) - len(self._input)])[-_PART:]
        if member.eof:
            self._member = None
        return data

    def _search(self, recent: bytes) -> None:
        at = recent.find(_MEMBER, _HEADER)
        while at >= 0:
            try:
                zlib.decompressobj(wbits=31).decompress(recent[at : at + 4096], 4096)
            except zlib.error:
                at = recent.find(_MEMBER, at + 1)
            else:
                self._input = recent[at:]
                return
        self._input, self._foreign = b"", True


def _as_far(member: zlib._Decompress, part: bytes) -> bytes:
    """The data that can be read before the damage."""
    data = []
    try:
        for at in range(len(part)):
            data.append(member.decompress(part[at : at + 1]))
    except zlib.error:
        pass
    return b"".join(data)
