"""Reads a database in MaxMind's format (version 2) into columns of networks and their records.

The search tree is walked level by level, all nodes of a level at once. Each record is decoded once, and only its fields
that are needed here. The format is described in MaxMind's "MaxMind DB File Format Specification".
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from trafficmond.npt import I32, U32
from trafficmond.policy import prefixes
from trafficmond.policy.prefixes import Prefixes

_MARKER = b"\xab\xcd\xefMaxMind.com"
_FARTHEST = 128 << 10  # greatest distance of the metadata from the end
_GAP = 16  # bytes between tree and data
_DEEPEST = 16  # nested maps
_MOST_VALUES = 4096  # in one record
_MOST_NODES = 1 << 26
_LATEST = 1 << 36  # of dates, in seconds: what is later was written in another unit
_WANTED = frozenset(
    (
        *("country", "registered_country", "iso_code", "country_code", "traits"),
        *("autonomous_system_number", "autonomous_system_organization", "asn", "as_name"),
    )
)


class Damaged(ValueError):
    """The file is not such a database, or incomplete; the text says why."""


class Record(NamedTuple):
    """The data of a network; unknown fields are empty or 0."""

    country: str = ""  # ISO 3166 code, upper case
    asn: int = 0
    organisation: str = ""


class Content(NamedTuple):
    """`networks` are sorted by family and address; `record[i]` is the row in `records` for the i-th."""

    networks: Prefixes
    record: I32
    records: list[Record]
    built: float  # epoch seconds


def read(data: bytes) -> Content:
    """The content of a file. Raises Damaged."""
    try:
        return _read(data)
    except (IndexError, KeyError, TypeError, OverflowError, RecursionError, UnicodeDecodeError) as error:
        raise Damaged(f"it is damaged ({type(error).__name__}: {error})") from None


def _read(data: bytes) -> Content:
    at = data.rfind(_MARKER, max(0, len(data) - _FARTHEST))
    if at < 0:
        raise Damaged("it is not a database in MaxMind's format (.mmdb), or its end is missing")
    about = _Decoder(data[at + len(_MARKER) :], wanted=None).value(0)
    if not isinstance(about, dict) or about.get("binary_format_major_version") != 2:
        raise Damaged("its format version is not 2")
    count, bits, version = (about.get(name) for name in ("node_count", "record_size", "ip_version"))
    if not isinstance(count, int) or bits not in (24, 28, 32) or version not in (4, 6) or not 0 < count <= _MOST_NODES:
        raise Damaged("its metadata is not valid")
    size = count * bits // 4
    if size + _GAP > at:
        raise Damaged("its search tree is incomplete")
    tree = _tree(data, count, bits)
    root = _root4(tree, count) if version == 6 else 0
    parts = [_walk(tree, count, root, 4)]
    if version == 6:
        parts.append(_walk(tree, count, 0, 6, without=root))
    rows = prefixes.concat([part[0] for part in parts])
    place = np.concatenate([part[1] for part in parts]).astype(np.int64) - (count + _GAP)
    section = data[size + _GAP : at]
    if len(place) and not 0 <= int(place.min()) <= int(place.max()) < len(section):
        raise Damaged("its search tree leads outside its data")
    used = np.zeros(len(section), np.bool_)
    used[place] = True
    offsets = np.flatnonzero(used)
    decoder = _Decoder(section, _WANTED)
    records = [_record(decoder.value(offset)) for offset in offsets.tolist()]
    built = about.get("build_epoch")
    built = float(built) if isinstance(built, int) and 0 <= built < _LATEST else 0.0
    return Content(rows, np.searchsorted(offsets, place).astype(np.int32), records, built)


def _tree(data: bytes, count: int, bits: int) -> U32:
    size = bits // 4

    def words(at: int) -> U32:
        return np.ndarray(count, ">u4", data, at, (size,)).astype(np.uint32)

    left, right = words(0), words(size - 4)
    if bits < 32:
        left, right = left >> np.uint32(8), right & np.uint32((1 << bits) - 1)
    if bits == 28:  # the octet in the middle has the upper bits of both
        left |= words(3) >> np.uint32(28) << np.uint32(24)
    return np.stack([left, right], 1)


def _root4(tree: U32, count: int) -> int:
    """The node of ::/96, which has IPv4 below it, or the record of all IPv4 addresses."""
    node = 0
    for _ in range(96):
        node = int(tree[node, 0])
        if node >= count:
            break
    return node


def _walk(tree: U32, count: int, root: int, family: int, without: int | None = None) -> tuple[Prefixes, U32]:
    """The networks below a node, in order, and their records' offsets; not below `without`, where 6to4 leads too."""
    nothing = np.zeros(int(root > count), np.uint64)  # one record for all, which has no node
    found = [(nothing, nothing, nothing.astype(np.uint8), np.full(len(nothing), root, np.uint32))]
    node = np.full(int(root < count), root, np.uint32)
    hi, lo = (np.zeros(len(node), np.uint64) for _ in range(2))
    for depth in range(32 if family == 4 else 128):
        if without is not None:
            keep = node != without
            node, hi, lo = node[keep], hi[keep], lo[keep]
        if len(node) > count:
            raise Damaged("its search tree has a loop")
        child = tree[node].ravel()
        hi = np.repeat(hi, 2)
        lo = np.repeat(lo, 2) if family == 6 else np.zeros(len(hi), np.uint64)
        word = hi if depth < 64 else lo
        word[1::2] |= np.uint64(1 << (63 - depth % 64))
        leaf, inner = np.flatnonzero(child > count), np.flatnonzero(child < count)
        found.append((hi[leaf], lo[leaf], np.full(len(leaf), depth + 1, np.uint8), child[leaf]))
        node, hi, lo = child[inner], hi[inner], lo[inner]
    his, los, plen, ref = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((los, his)) if family == 6 else np.argsort(his)
    rows = Prefixes(his[order], los[order], plen[order], np.full(len(order), family, np.uint8))
    return rows, ref[order]


def _record(value: Any) -> Record:
    """The record of a map as MaxMind, DB-IP, ip-location-db and IPinfo write it."""
    if not isinstance(value, Mapping):
        return Record()
    places = [value.get(name) for name in ("country_code", "country", "registered_country")]
    codes = [place.get("iso_code") if isinstance(place, Mapping) else place for place in places]
    country = next((code for code in codes if code and isinstance(code, str)), "")
    if isinstance(inner := value.get("traits"), Mapping):  # GeoIP2 Enterprise
        value = {**inner, **value}
    number = value.get("autonomous_system_number", value.get("asn"))
    if isinstance(number, str):
        digits = number.upper().removeprefix("AS")
        number = int(digits) if digits.isascii() and digits.isdigit() else 0
    name = value.get("autonomous_system_organization", value.get("as_name"))
    code = country.upper() if len(country) == 2 and country.isascii() else ""
    asn = number if type(number) is int and 0 < number < 1 << 32 else 0  # True is a value of the format, too
    return Record(code if code.isalnum() else "", asn, name if isinstance(name, str) else "")


class _Decoder:
    """Decodes values of a data section. In maps, keys that are not `wanted` (None: all) are skipped."""

    def __init__(self, data: bytes, wanted: frozenset[str] | None) -> None:
        self._data = data
        self._wanted = wanted
        self._known: dict[int, Any] = {}  # values by the offset in pointers
        self._left = 0

    def value(self, at: int) -> Any:
        """The value at an offset. Raises Damaged, IndexError and other errors of damaged data."""
        self._left = _MOST_VALUES
        return self._value(at, 0)[0]

    def _value(self, at: int, depth: int) -> tuple[Any, int]:
        """The value, and the offset of the next one."""
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            raise Damaged("one of its records has no end")
        kind, size, at = self._control(at)
        if kind == 1:
            return self._pointed(size, depth), at
        if kind == 7:
            return self._map(at, size, depth)
        if kind == 11:
            items = []
            for _ in range(size):
                item, at = self._value(at, depth + 1)
                items.append(item)
            return items, at
        if kind == 14:
            return bool(size), at
        end = at + size
        if end > len(self._data):
            raise Damaged("its data is incomplete")
        raw = self._data[at:end]
        if kind == 2:
            return raw.decode(), end
        if kind in (5, 6, 8, 9, 10):
            return int.from_bytes(raw, "big", signed=kind == 8 and size == 4), end
        return None, end  # floating-point numbers and bytes are not needed

    def _pointed(self, target: int, depth: int) -> Any:
        if target not in self._known:
            self._known[target] = self._value(target, depth + 1)[0]
        return self._known[target]

    def _map(self, at: int, size: int, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        for _ in range(size):
            key, at = self._value(at, depth + 1)
            if self._wanted is None or key in self._wanted:
                found[key], at = self._value(at, depth + 1)
            else:
                at = self._after(at)
        return found, at

    def _after(self, at: int) -> int:
        values = 1
        while values:
            self._left -= 1
            if self._left < 0:
                raise Damaged("one of its records has no end")
            kind, size, at = self._control(at)
            values += -1 + (2 * size if kind == 7 else size if kind == 11 else 0)
            at += 0 if kind in (1, 7, 11, 14) else size
        return at

    def _control(self, at: int) -> tuple[int, int, int]:
        """The kind and size of a value (of a pointer, its target), and the offset of its content."""
        data = self._data
        first = data[at]
        kind, size, at = first >> 5, first & 31, at + 1
        if kind == 1:
            octets = (size >> 3) + 1
            base = int.from_bytes(data[at : at + octets], "big")
            target = base if octets == 4 else ((size & 7) << (8 * octets) | base) + (0, 2048, 526336)[octets - 1]
            return 1, target, at + octets
        if kind == 0:
            kind, at = data[at] + 7, at + 1
        if size >= 29:
            octets = size - 28
            size = int.from_bytes(data[at : at + octets], "big") + (29, 285, 65821)[octets - 1]
            at += octets
        return kind, size, at
