"""Looks up the country and autonomous system of addresses in one or more databases, and the prefixes of these."""

import time
from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from trafficmond import npt
from trafficmond.dataclass import dataclass, field
from trafficmond.errors import Advice
from trafficmond.geo.mmdb import Content, Record
from trafficmond.npt import I32, U8, U64
from trafficmond.policy import prefixes
from trafficmond.policy.prefixes import Prefixes, mask

Objects = npt.NDArray[np.object_]

NOWHERE = Record()
_KINDS = ("country", "asn")


@dataclass(frozen=True, eq=False)
class Database:
    path: Path
    mark: tuple[int, ...]  # identifies the state of the file
    content: Content

    @property
    def dated(self) -> str:
        """ "GeoLite2-Country.mmdb of 2026-06-17"."""
        day = time.strftime("%Y-%m-%d", time.gmtime(self.content.built)) if self.content.built else "unknown date"
        return f"{self.path.name} of {day}"

    @cached_property
    def table(self) -> dict[int, tuple[Prefixes, I32]]:
        """The networks and their records by family: parts of the content, since copies would double the memory."""
        rows, record = self.content.networks, self.content.record
        split = int(np.searchsorted(rows.family, 6))
        chosen = {4: slice(split), 6: slice(split, None)}
        return {family: (rows.take(part), record[part]) for family, part in chosen.items() if len(record[part])}

    @cached_property
    def columns(self) -> dict[str, Objects]:
        """The fields of all records, a column for each field."""
        columns = zip(Record._fields, zip(*self.content.records, strict=True), strict=False)
        return {kind: np.array(values, np.object_) for kind, values in columns}

    def knows(self, kind: str, family: int) -> bool:
        """Whether it has any value of a kind for addresses of a family."""
        if family not in self.table:
            return False
        used = np.zeros(len(self.content.records), np.bool_)
        used[self.table[family][1]] = True  # each record is looked at once: there are far more networks
        return any(self.columns[kind][used])

    def look_up(self, hi: U64, lo: U64, family: int) -> I32:
        """The row in `content.records` for each address (left-aligned words), -1 for none."""
        rows, record = self.table[family]
        at, order = np.empty(len(hi), np.int64), np.argsort(hi)
        at[order] = np.searchsorted(rows.hi, hi[order], "right") - 1  # sorted needles take half the time
        if family == 6:
            # Networks longer than /64 may share their upper half: go back to the one that contains the lower half.
            while len(late := np.flatnonzero((at >= 0) & (rows.hi[at] == hi) & (rows.lo[at] > lo))):
                at[late] -= 1
        found = np.maximum(at, 0)
        plen = rows.plen[found].astype(np.int64)
        inside = (at >= 0) & ((rows.hi[found] ^ hi) & mask(plen) == 0)
        if family == 6:
            inside &= (rows.lo[found] ^ lo) & mask(plen - 64) == 0
        return np.where(inside, record[found], -1)


@dataclass(frozen=True, eq=False)
class GeoIp:
    """All databases in the order of the settings; for each kind and family the first one counts. `notes`: mistakes."""

    databases: tuple[Database, ...] = ()
    notes: tuple[Advice, ...] = ()
    _chosen: dict[tuple[str, int], Database] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for kind in _KINDS:
            for family in (4, 6):
                for each in self.databases:
                    if each.knows(kind, family):
                        self._chosen[kind, family] = each
                        break

    def __bool__(self) -> bool:
        return bool(self._chosen)

    @property
    def mark(self) -> tuple[object, ...]:
        """Identifies the files and their states."""
        return tuple((str(each.path), each.mark) for each in self.databases)

    def knows(self, kind: str) -> bool:
        """Whether there is a database for "country" or "asn"."""
        return any(chosen == kind for chosen, _ in self._chosen)

    def sources(self, kind: str) -> str:
        """The databases that are used for a kind, with their dates."""
        used = {id(each) for (chosen, _), each in self._chosen.items() if chosen == kind}
        return ", ".join(each.dated for each in self.databases if id(each) in used)

    def column(self, kind: str, hi: U64, lo: U64, family: U8) -> Objects:
        """The "country", "asn" or "organisation" of addresses (left-aligned words, family 4 or 6); "" or 0: unknown."""
        found = np.full(len(hi), 0 if kind == "asn" else "", np.object_)
        for (chosen, wanted), database in self._chosen.items():
            if chosen != ("asn" if kind == "organisation" else kind):
                continue
            index = np.flatnonzero(family == wanted)
            if len(index):
                row = database.look_up(hi[index], lo[index], wanted)
                found[index[row >= 0]] = database.columns[kind][row[row >= 0]]
        return found

    def records(self, hi: U64, lo: U64, family: U8) -> list[Record]:
        columns = (self.column(kind, hi, lo, family).tolist() for kind in Record._fields)
        return list(map(Record, *columns))

    def of(self, addresses: Iterable[str]) -> dict[str, Record]:
        """The records by address; a text that is not an address has an empty record."""
        texts = list(dict.fromkeys(addresses))
        if not texts or not self:
            return dict.fromkeys(texts, NOWHERE)
        parsed = prefixes.parse(texts)
        good = [text for at, text in enumerate(texts) if at not in parsed.bad]
        rows = parsed.prefixes
        return dict.fromkeys(texts, NOWHERE) | dict(zip(good, self.records(rows.hi, rows.lo, rows.family), strict=True))

    def each(self, addresses: list[str]) -> list[Record]:
        known = self.of(addresses)
        return [known[address] for address in addresses]

    def values(self, kind: str) -> Collection[object]:
        """All countries, or the numbers of all systems, in the databases."""
        used = (each for (chosen, _), each in self._chosen.items() if chosen == kind)
        return {value for each in used for value in each.columns[kind].tolist()} - {"", 0}

    def organisations(self, numbers: Collection[int]) -> dict[str, str]:
        """The names of systems, by their numbers as text."""
        used = (each.content.records for (chosen, _), each in self._chosen.items() if chosen == "asn")
        return {str(each.asn): each.organisation for records in used for each in records if each.asn in numbers}

    def prefixes_of(self, kind: str, wanted: Collection[object]) -> Prefixes:
        """The prefixes of the wanted countries, or of systems by number."""
        parts = []
        for (chosen, family), each in self._chosen.items():
            if chosen == kind:
                rows, record = each.table[family]
                mine = np.array([value in wanted for value in each.columns[kind].tolist()], np.bool_)
                parts.append(rows.take(np.flatnonzero(mine[record])))
        return prefixes.concat(parts)


EMPTY = GeoIp()
