"""Plain prefix lists: one prefix or address a line, comments after `#` or `;`, any line ends.

A million lines must not take a million calls. A list is read in blocks. Numpy parses blocks of IPv4 as bytes (0.05 us a
line); all others go line by line through `prefixes.parse`, which also reports mistakes.
"""

import re
from collections.abc import Iterator

import numpy as np

from trafficmond.dataclass import dataclass
from trafficmond.errors import Mistake
from trafficmond.policy import prefixes
from trafficmond.policy.prefixes import Parsed, Prefixes

_MAX_MISTAKES = 100  # named; the rest are counted
_BLOCK_BYTES = 1 << 18  # fits the cache with all its intermediate columns
_MOST_ROOM = 1 << 22  # prefixes, at first
_COMMENT = re.compile(rb"[ \t]*[#;][^\n]*")
_NEWLINE, _DOT, _SLASH, _ZERO, _NINE = b"\n./09"


@dataclass(frozen=True, slots=True, eq=False)
class PrefixList:
    """A plain list as read: its prefixes in their order, the number of wrong lines, and the first of these."""

    prefixes: Prefixes
    host_bits: int  # prefixes that had bits set beyond their length; they are cleared
    wrong: int
    mistakes: list[Mistake]


def parse_list(data: bytes, where: str) -> PrefixList:
    """The prefixes of `data`, and "`where`:line" for invalid lines; an empty list is valid."""
    if b"\0" in data:
        return PrefixList(prefixes.concat([]), 0, 1, [Mistake(where, "is not plain text; unpack it first")])
    rows = _Filling(data.count(b"\n") + data.count(b"\r") + 1)
    mistakes: list[Mistake] = []
    wrong = host_bits = 0
    for first_line, block in _blocks(data):
        columns = _ipv4_columns(block)
        if columns is not None:
            columns, odd = prefixes.masked(columns)
            rows.add(columns)
            host_bits += odd
            continue
        lines = [line.strip() for line in block.decode("utf-8", "replace").split("\n")]
        parsed = prefixes.parse([line for line in lines if line])
        rows.add(parsed.prefixes)
        host_bits += parsed.host_bits
        wrong += len(parsed.bad)
        if len(mistakes) < _MAX_MISTAKES:
            mistakes += _mistakes(where, first_line, lines, parsed)[: _MAX_MISTAKES - len(mistakes)]
    return PrefixList(rows.filled(), host_bits, wrong, mistakes)


class _Filling:
    """Columns that take memory only as far as they are filled."""

    def __init__(self, room: int) -> None:
        self._rows, self._count = prefixes.zeroed(min(room, _MOST_ROOM)), 0

    def add(self, part: Prefixes) -> None:
        place = slice(self._count, self._count + len(part))
        if place.stop > len(self._rows):
            self._rows = prefixes.concat([self.filled(), prefixes.zeroed(2 * place.stop)])
        self._rows.hi[place], self._rows.plen[place], self._rows.family[place] = part.hi, part.plen, part.family
        if part.lo.any():  # stays zero for IPv4
            self._rows.lo[place] = part.lo
        self._count = place.stop

    def filled(self) -> Prefixes:
        return self._rows.take(slice(self._count))


def _blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number of its first line, whole lines without comments) for a part of `data` at a time."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    start, number = 0, 1
    while start < len(data):
        end = data.find(b"\n", start + _BLOCK_BYTES) + 1 or len(data)
        block = data[start:end]
        if b"#" in block or b";" in block:
            block = _COMMENT.sub(b"", block)
        if block.strip():
            yield number, block if block.endswith(b"\n") else block + b"\n"
        number += block.count(b"\n")
        start = end


def _mistakes(where: str, first_line: int, lines: list[str], parsed: Parsed) -> list[Mistake]:
    numbers = [number for number, line in enumerate(lines, first_line) if line]
    return [Mistake(f"{where}:{numbers[position]}", what) for position, what in parsed.bad.items()]


def _ipv4_columns(block: bytes) -> Prefixes | None:
    """Prefixes of a block of lines that are all blank, `a.b.c.d` or `a.b.c.d/n`, as strict as inet_pton; else None."""
    text = np.frombuffer(b"\n\n" + block, np.uint8)  # so that there are two characters before each digit
    end = np.flatnonzero(text < _ZERO).astype(np.int32)  # of each field: at a dot, a slash or a newline
    ending = text[end]
    if (text > _NINE).any() or not np.isin(ending, (_NEWLINE, _DOT, _SLASH)).all():
        return None
    width = np.diff(end, prepend=-1) - 1
    digit = text.astype(np.int16) - _ZERO
    # For a field of fewer than three digits, end - 2 or end - 3 is another field: its width sets that part to 0.
    value = digit[end - 1] + 10 * digit[end - 2] * (width > 1) + 100 * digit[end - 3] * (width > 2)

    last = np.flatnonzero(ending == _NEWLINE).astype(np.int32)  # field of each line
    fields = np.diff(last, prepend=-1)
    filled = (fields > 1) | (width[last] > 0)
    last, fields = last[filled], fields[filled]
    first = last - fields + 1
    with_length = fields == 5
    if not (with_length | (fields == 4)).all():
        return None
    blank = np.count_nonzero(~filled)
    leading_zero = (width > 1) & (text[end - width] == _ZERO)
    if np.count_nonzero((width < 1) | (width > 3) | leading_zero) != blank:
        return None
    length = np.where(with_length, value[last], 32)
    if not all((ending[first + at] == _DOT).all() for at in range(3)) or (length > 32).any():
        return None
    if not (ending[first[with_length] + 3] == _SLASH).all():
        return None
    octets = np.stack([value[first + at] for at in range(4)]).astype(np.uint64)
    if (octets > 255).any():
        return None
    hi = (
        octets[0] << np.uint64(56)
        | octets[1] << np.uint64(48)
        | octets[2] << np.uint64(40)
        | octets[3] << np.uint64(32)
    )
    return Prefixes(hi, np.zeros(len(hi), np.uint64), length.astype(np.uint8), np.full(len(hi), 4, np.uint8))
