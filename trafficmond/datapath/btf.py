"""Reads struct layouts from the BTF section of a BPF object (linux/include/uapi/linux/btf.h).

Used to generate `trafficmond/abi.py` from bpf/abi.h as compiled, and by the loader to check an object's layout.
"""

import struct
from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np

from trafficmond.dataclass import dataclass
from trafficmond.errors import DatapathError

_INT, _, _ARRAY, _STRUCT, _UNION, _ENUM = range(1, 7)
_TYPEDEF, _VOLATILE, _CONST, _FUNC_PROTO, _VAR, _DATASEC, _ENUM64 = 8, 9, 10, 13, 14, 15, 19
# bytes that follow the 12-byte header of a type: (fixed, each member)
_TRAILING = {
    _INT: (4, 0),
    _ARRAY: (12, 0),
    _STRUCT: (0, 12),
    _UNION: (0, 12),
    _ENUM: (0, 8),
    _FUNC_PROTO: (0, 8),
    _VAR: (4, 0),
    _DATASEC: (0, 12),
    17: (4, 0),  # DECL_TAG
    _ENUM64: (0, 12),
}
_BIG_ENDIAN = {"__be16", "__be32", "__be64"}


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    kind: int
    count: int
    size_or_type: int
    trailing: bytes


class Btf:
    def __init__(self, object_file: Path) -> None:
        raw = _section(object_file, ".BTF")
        magic, _version, _flags, header, types, types_len, names, names_len = struct.unpack_from("<HBBIIIII", raw)
        if magic != 0xEB9F:
            raise DatapathError(f"{object_file}: its BTF section is damaged", hint="build it again with make build")
        self._names = raw[header + names : header + names + names_len]
        self._types: list[_Type] = [_Type("void", 0, 0, 0, b"")]
        at, end = header + types, header + types + types_len
        while at < end:
            name, info, size = struct.unpack_from("<III", raw, at)
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            fixed, each = _TRAILING.get(kind, (0, 0))
            length = fixed + each * count
            self._types.append(_Type(self._text(name), kind, count, size, raw[at + 12 : at + 12 + length]))
            at += 12 + length

    def _text(self, offset: int) -> str:
        return self._names[offset : self._names.index(b"\0", offset)].decode()

    def structs(self, names: Container[str]) -> dict[str, np.dtype[np.void]]:
        """Every struct of one of these names, as a numpy dtype with C's offsets and size."""
        found = {t.name: t for t in self._types if t.kind == _STRUCT and t.name in names}
        return {name: self._struct(t) for name, t in sorted(found.items())}

    def _struct(self, t: _Type) -> np.dtype[np.void]:
        members = list(self._members(t, 0))
        spec = {
            "names": [name for name, _, _ in members],
            "formats": [form for _, form, _ in members],
            "offsets": [offset for _, _, offset in members],
            "itemsize": t.size_or_type,
        }
        return np.dtype(spec)  # type: ignore[call-overload,no-any-return]

    def _members(self, t: _Type, base: int) -> Iterator[tuple[str, object, int]]:
        """(name, numpy format, offset) of each member; an anonymous union gives its members as t's own."""
        for name, type_id, bits in struct.iter_unpack("<III", t.trailing):
            offset = base + bits // 8
            if self._text(name):
                yield self._text(name), self._format(type_id), offset
            else:
                yield from self._members(self._types[type_id], offset)

    def _format(self, type_id: int) -> object:
        t, order = self._types[type_id], "<"
        while t.kind in (_TYPEDEF, _CONST, _VOLATILE):
            order = ">" if t.name in _BIG_ENDIAN else order
            t = self._types[t.size_or_type]
        if t.kind == _INT:
            signed = t.trailing[3] & 1
            return f"{order if t.size_or_type > 1 else '|'}{'i' if signed else 'u'}{t.size_or_type}"
        if t.kind == _STRUCT:
            return self._struct(t)
        if t.kind == _ARRAY:
            element, _index, count = struct.unpack("<III", t.trailing)
            return (self._format(element), (count,))
        raise DatapathError(f"BTF kind {t.kind} ({t.name}) does not belong in a shared struct")


def _section(object_file: Path, wanted: str) -> bytes:
    """The bytes of one section of an ELF64 file. Raises DatapathError if it is not there."""
    data = object_file.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise DatapathError(f"{object_file} is not a little-endian ELF64 file", hint="build it again with make build")
    (offset,) = struct.unpack_from("<Q", data, 0x28)
    entry_size, count, names_index = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, offset + i * entry_size) for i in range(count)]
    names_at = headers[names_index][4]
    for header in headers:
        start = names_at + header[0]
        if data[start : data.index(b"\0", start)].decode() == wanted:
            return data[header[4] : header[4] + header[5]]
    raise DatapathError(f"{object_file} has no {wanted} section", hint="build it with -g: make build")
