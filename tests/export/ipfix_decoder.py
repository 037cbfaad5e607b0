"""IPFIX read back by the letter of RFC 7011: a decoder of its own, sharing nothing with the exporter."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

Record = dict[tuple[int, int], bytes]  # (enterprise, element) -> value


@dataclass
class Decoder:
    """One Transport Session."""

    templates: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)  # id -> enterprise, element, length
    sequence: int | None = None
    gaps: int = 0
    records: list[tuple[int, Record]] = field(default_factory=list)  # template id, values
    unknown: int = 0  # data sets whose template has not come
    messages: int = 0

    def message(self, data: bytes) -> None:
        version, length, _time, sequence, _domain = struct.unpack_from(">HHIII", data)
        assert version == 10
        assert length == len(data), "a message says its own length"
        if self.sequence is not None and sequence != self.sequence:
            self.gaps += 1
        self.messages += 1
        at, before = 16, len(self.records)
        while at < length:
            number, size = struct.unpack_from(">HH", data, at)
            assert size >= 4
            body = data[at + 4 : at + size]
            assert len(body) == size - 4, "a set lies within its message"
            if number == 2:
                self._templates(body)
            elif number in self.templates:
                self._data(number, body)
            else:
                assert number >= 256
                self.unknown += 1
            at += size
        assert at == length
        self.sequence = (sequence + len(self.records) - before) % (1 << 32)

    def stream(self, data: bytes) -> None:
        """Messages one after the other, as over TCP."""
        while data:
            (length,) = struct.unpack_from(">H", data, 2)
            self.message(data[:length])
            data = data[length:]

    def _templates(self, body: bytes) -> None:
        at = 0
        while at < len(body):
            number, count = struct.unpack_from(">HH", body, at)
            assert number >= 256
            at += 4
            fields = []
            for _ in range(count):
                element, length = struct.unpack_from(">HH", body, at)
                at += 4
                enterprise = 0
                if element & 0x8000:
                    (enterprise,) = struct.unpack_from(">I", body, at)
                    at += 4
                fields.append((enterprise, element & 0x7FFF, length))
            self.templates[number] = fields

    def _data(self, number: int, body: bytes) -> None:
        fields = self.templates[number]
        size = sum(length for _, _, length in fields)
        assert len(body) % size == 0, "whole records, no padding"
        for start in range(0, len(body), size):
            record: Record = {}
            at = start
            for enterprise, element, length in fields:
                record[enterprise, element] = body[at : at + length]
                at += length
            self.records.append((number, record))

    def sums(self, element: int, enterprise: int = 0) -> int:
        """Of an unsigned element over all records."""
        return sum(number(record, element, enterprise) for _, record in self.records)


def number(record: Record, element: int, enterprise: int = 0) -> int:
    """An unsigned element's value, 0 where the record has none."""
    return int.from_bytes(record.get((enterprise, element), b""), "big")
