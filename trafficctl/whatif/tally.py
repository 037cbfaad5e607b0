"""Sums the differences: by rule, peer and service, with the largest and the latest flows."""

from collections.abc import Iterable
from typing import Self, TypeVar

import numpy as np

from trafficctl.whatif.flows import Flows
from trafficmond.dataclass import dataclass, field
from trafficmond.npt import I64, U32, U64, Bool
from trafficmond.policy import judge

T = TypeVar("T")

SHOWN = 10  # flows among the largest, and among the latest
_MOST_PEERS = 1 << 16  # peers counted by address; beyond that, those with the fewest bytes are only counted together

CHANGES = ("dropped", "limited", "passed")  # the kinds of difference
_SUMS = 4  # flows, packets, bytes, answered flows


@dataclass(frozen=True, slots=True)
class Pick:
    key: int  # to sort by
    table: str
    row: int
    before: int  # verdict words
    then: int


@dataclass(slots=True)
class Peers:
    hi: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    lo: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    six: Bool = field(default_factory=lambda: np.zeros(0, np.bool_))
    sums: I64 = field(default_factory=lambda: np.zeros((0, _SUMS), np.int64))
    others: int = 0  # flows of peers that are not counted by address
    _new: list[tuple[U64, U64, Bool, I64]] = field(default_factory=list)
    _waiting: int = 0

    def add(self, hi: U64, lo: U64, six: Bool, sums: I64) -> None:
        """Adds rows of addresses, which may repeat."""
        self._new.append((hi, lo, six, sums))
        self._waiting += len(hi)
        if self._waiting > _MOST_PEERS:
            self.combine()

    def combine(self) -> None:
        """Merges the rows of each address into one."""
        parts = [(self.hi, self.lo, self.six, self.sums), *self._new]
        self._new, self._waiting = [], 0
        hi, lo, six, sums = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.lexsort((lo, hi, six))
        hi, lo, six, sums = hi[order], lo[order], six[order], sums[order]
        if not len(hi):
            return
        begins = np.ones(len(hi), np.bool_)
        begins[1:] = (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1]) | (six[1:] != six[:-1])
        at = np.flatnonzero(begins)
        self.hi, self.lo, self.six, self.sums = hi[at], lo[at], six[at], np.add.reduceat(sums, at)
        if len(at) > _MOST_PEERS:
            most = np.argpartition(self.sums[:, 2], -_MOST_PEERS // 2)
            few, kept = most[: -_MOST_PEERS // 2], most[-_MOST_PEERS // 2 :]
            self.others += int(self.sums[few, 0].sum())
            self.hi, self.lo, self.six, self.sums = self.hi[kept], self.lo[kept], self.six[kept], self.sums[kept]

    def merge(self, other: Self) -> None:
        other.combine()
        self.others += other.others
        self.add(other.hi, other.lo, other.six, other.sums)


@dataclass(slots=True)
class Change:
    sums: I64 = field(default_factory=lambda: np.zeros(_SUMS, np.int64))
    rules: dict[tuple[int, int], I64] = field(default_factory=dict)  # by the verdict words before and then
    services: dict[int, I64] = field(default_factory=dict)  # by place
    peers: Peers = field(default_factory=Peers)
    largest: list[Pick] = field(default_factory=list)
    latest: list[Pick] = field(default_factory=list)

    def add(self, table: str, rows: Flows, what: U32, before: U32, then: U32, at: I64) -> None:
        """Adds the rows `at` of a piece."""
        sums = np.stack([np.ones(len(at), np.int64), rows.packets[at], rows.bytes[at], rows.answered[at]], 1)
        self.sums += sums.sum(0)
        pairs = before[at].astype(np.uint64) << np.uint64(32) | then[at]
        for pair, total in _grouped(pairs, sums):
            _count(self.rules, (int(pair) >> 32, int(pair) & 0xFFFFFFFF), total)
        for place, total in _grouped(what[at], sums):
            _count(self.services, int(place), total)
        self.peers.add(rows.of.hi[at], rows.of.lo[at], rows.of.six[at], sums)
        for picks, keys in ((self.largest, rows.bytes), (self.latest, rows.last)):
            best = at[np.argsort(keys[at], kind="stable")[-SHOWN:]]
            picks += [Pick(int(keys[i]), table, int(rows.row[i]), int(before[i]), int(then[i])) for i in best.tolist()]
            _keep_best(picks)

    def merge(self, other: Self) -> None:
        self.sums += other.sums
        for pair, total in other.rules.items():
            _count(self.rules, pair, total)
        for place, total in other.services.items():
            _count(self.services, place, total)
        self.peers.merge(other.peers)
        for picks, others in ((self.largest, other.largest), (self.latest, other.latest)):
            picks += others
            _keep_best(picks)


@dataclass(slots=True)
class Tally:
    judged: I64 = field(default_factory=lambda: np.zeros(_SUMS, np.int64))  # of all flows
    changes: dict[str, Change] = field(default_factory=lambda: {name: Change() for name in CHANGES})

    def add(self, table: str, rows: Flows, before: U32, then: U32) -> None:
        """Adds a piece with the verdict words of both policies."""
        self.judged += (len(rows), int(rows.packets.sum()), int(rows.bytes.sum()), int(rows.answered.sum()))
        was, becomes = judge.kinds(before), judge.kinds(then)
        differs = np.flatnonzero(was != becomes)
        if not len(differs):
            return
        what = judge.asks_for(rows.of)
        kind = np.where(becomes < was, 2, np.where(becomes == 1, 1, 0))
        for number, change in enumerate(self.changes.values()):
            at = differs[kind[differs] == number]
            if len(at):
                change.add(table, rows, what, before, then, at)

    def merge(self, others: Iterable[Self]) -> None:
        for other in others:
            self.judged += other.judged
            for name, change in other.changes.items():
                self.changes[name].merge(change)

    @property
    def differs(self) -> bool:
        return any(int(change.sums[0]) for change in self.changes.values())


def _grouped(keys: U32 | U64, sums: I64) -> Iterable[tuple[int, I64]]:
    order = np.argsort(keys, kind="stable")
    found, at = np.unique(keys[order], return_index=True)
    return zip(found.tolist(), np.add.reduceat(sums[order], at), strict=True)


def _count(into: dict[T, I64], key: T, total: I64) -> None:
    into[key] = into[key] + total if key in into else total


def _keep_best(picks: list[Pick]) -> None:
    picks.sort(key=lambda pick: -pick.key)
    del picks[SHOWN:]
