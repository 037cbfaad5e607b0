"""Rollups: the traffic of each minute, hour and day by host, port, protocol, interface, action, unit and place.

They change in the transaction that stores the flows, so they are as exact as `flows` and outlive it. Only the largest
of each kind are kept by name; the rest is summed under OTHER, so every kind adds up to the total ("host" to twice
the whole: each flow has two ends). A flow counts in the period of its `last_seen`.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from trafficmond.detect.windows import Grouped
from trafficmond.flows import compiled
from trafficmond.flows.batch import Batch, Column, addresses, left_aligned, take
from trafficmond.flows.names import Names
from trafficmond.geo.geoip import EMPTY, GeoIp
from trafficmond.model import Action, Direction
from trafficmond.protocols import SERVED, protocol_name
from trafficmond.verdict import action_of

OTHER = "(other)"
PERIODS = {"minute": 60, "hour": 3600, "day": 86400}  # seconds
KEEP_S = {"minute": 2 * 86400, "hour": 60 * 86400, "day": 5 * 366 * 86400}
TOP = {"minute": 25, "hour": 50, "day": 100}  # keys kept by name, each kind

_COUNTERS = ("packets", "bytes", "reply_packets", "reply_bytes")
_SIDED = ("up_bytes", "down_bytes")  # out of the interface, and in; NULL in sums from before version 7
_ALL = ("flows", *_COUNTERS, *_SIDED)
UP, DOWN = "coalesce(up_bytes, bytes)", "coalesce(down_bytes, reply_bytes)"  # by who began where it is not known
_CROWD = 4  # a period is pruned when it has this many times TOP

_ADD = (
    f"INSERT INTO rollups (period, start, kind, key, {', '.join(_ALL)}) VALUES (?, ?, ?, ?"
    f"{', ?' * len(_ALL)}) ON CONFLICT (period, start, kind, key) DO UPDATE SET flows = flows + excluded.flows, "
    f"up_bytes = {UP} + excluded.up_bytes, down_bytes = {DOWN} + excluded.down_bytes, "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _COUNTERS)
)

Sums = tuple[str | int, ...]  # kind, key, _ALL


def add(connection: sqlite3.Connection, batch: Batch, names: Names, geoip: GeoIp = EMPTY) -> None:
    """Add a REPORT batch, within the caller's transaction; `geoip` gives the places of its addresses."""
    minute = batch["last"].astype(np.int64) // PERIODS["minute"]
    alone = minute.min() == minute.max()
    for which in [int(minute[0])] if alone else np.unique(minute).tolist():
        start = which * PERIODS["minute"]
        chosen = batch if alone else take(batch, minute == which)
        sums = [*_sums(chosen, names), *_places(chosen, geoip)]
        for period, seconds in PERIODS.items():
            connection.executemany(_ADD, [(period, float(start - start % seconds), *row) for row in sums])


def prune(connection: sqlite3.Connection, now: float) -> None:
    """Merge all but the largest into OTHER, and delete sums older than KEEP_S; in a transaction."""
    for period, top in TOP.items():
        connection.execute("DELETE FROM rollups WHERE period = ? AND start < ?", (period, now - KEEP_S[period]))
        crowded = connection.execute(
            "SELECT start, kind FROM rollups WHERE period = ? AND start >= ? GROUP BY start, kind HAVING count(*) > ?",
            (period, now - 2 * PERIODS[period], top * _CROWD),
        ).fetchall()
        for start, kind in crowded:
            _fold(connection, period, start, kind, top)


def _fold(connection: sqlite3.Connection, period: str, start: float, kind: str, top: int) -> None:
    where = "period = ? AND start = ? AND kind = ?"
    kept = (
        f"SELECT key FROM rollups WHERE {where} AND key != '{OTHER}' ORDER BY bytes + reply_bytes DESC LIMIT {int(top)}"
    )
    one = (period, start, kind)
    small = f"{where} AND key != '{OTHER}' AND key NOT IN ({kept})"
    sums = connection.execute(
        f"SELECT sum(flows), {', '.join(f'sum({name})' for name in _COUNTERS)}, sum({UP}), sum({DOWN}) "
        f"FROM rollups WHERE {small}",
        one + one,
    ).fetchone()
    if sums[0] is None:
        return
    connection.execute(f"DELETE FROM rollups WHERE {small}", one + one)
    connection.execute(_ADD, (period, start, kind, OTHER, *sums))


def _sums(batch: Batch, names: Names) -> Iterator[Sums]:
    values = _values(batch)
    # Most rows are equal in these columns: they are summed once, and each kind sums the results.
    places = {"proto": 0, "dport": 16, "ifindex": 32}
    word = np.bitwise_or.reduce([batch[name].astype(np.uint64) << np.uint64(at) for name, at in places.items()])
    alike = Grouped(word | action_of(batch["verdict"]).astype(np.uint64) << np.uint64(8))
    rows, few = take(batch, alike.first), _summed(alike, values)
    yield from _by("total", np.zeros(len(rows), np.int64), few, lambda keys: ["all"] * len(keys))
    yield from _by("protocol", rows["proto"], few, lambda keys: [protocol_name(key) for key in keys.tolist()])
    yield from _by("interface", rows["ifindex"], few, lambda keys: [names.interface(key) for key in keys.tolist()])
    yield from _by("action", action_of(rows["verdict"]), few, lambda keys: [str(Action(k)) for k in keys.tolist()])
    served = np.isin(rows["proto"], SERVED)
    if served.any():
        port = rows["dport"].astype(np.int64) | rows["proto"].astype(np.int64) << 16
        yield from _by(
            "port",
            port[served],
            few[served],
            lambda keys: [f"{key & 0xFFFF}/{protocol_name(key >> 16).lower()}" for key in keys.tolist()],
        )
    yield from _hosts(batch, values)
    if names.owners:
        yield from _units(batch, values, names)


def _values(batch: Batch) -> Column:
    values = np.empty((len(batch), len(_ALL)), np.uint64)
    values[:, _ALL.index("flows")] = 1
    for counter in _COUNTERS:
        values[:, _ALL.index(counter)] = batch[counter]
    sent, answered = values[:, _ALL.index("bytes")], values[:, _ALL.index("reply_bytes")]
    out = batch["direction"] == Direction.EGRESS
    for name, way in zip(_SIDED, (True, False), strict=True):
        values[:, _ALL.index(name)] = np.where(out == way, sent, answered)
    return values


def _hosts(batch: Batch, values: Column) -> Iterator[Sums]:
    hi, lo = (np.concatenate([batch[f"src_{half}"], batch[f"dst_{half}"]]) for half in ("hi", "lo"))
    family = np.tile(batch["family"], 2)
    number = lo
    if hi.any() or (family != family[0]).any():
        order = np.lexsort((lo, hi, family))
        a, b, c = hi[order], lo[order], family[order]
        number = np.zeros(len(order), np.int64)
        number[order[1:]] = np.cumsum((a[1:] != a[:-1]) | (b[1:] != b[:-1]) | (c[1:] != c[:-1]))
    by = Grouped(number)

    def name(groups: Column) -> list[str]:
        at = by.first[groups]
        return addresses(hi[at], lo[at], family[at])

    yield from _of_groups("host", by, values, name)


def _places(batch: Batch, geoip: GeoIp) -> Iterator[Sums]:
    """The place of the remote end: the initiator of incoming flows, the responder of outgoing ones."""
    kinds = [kind for kind in ("country", "asn") if geoip.knows(kind)]
    if not kinds:
        return
    began_there = batch["direction"] == Direction.INGRESS
    hi, lo = (np.where(began_there, batch[f"src_{half}"], batch[f"dst_{half}"]) for half in ("hi", "lo"))
    words = left_aligned(hi, lo, batch["family"])
    values = _values(batch)
    for kind in kinds:
        texts = geoip.column(kind, *words, batch["family"])
        yield from _by_text(kind, [str(each) if each else "" for each in texts.tolist()], values)


def _units(batch: Batch, values: Column, names: Names) -> Iterator[Sums]:
    """The units of this host; several cgroups may belong to one unit."""
    alike = Grouped(np.ascontiguousarray(batch["owner"]))
    units = [names.owner(number).unit or "" for number in alike.keys.tolist()]
    yield from _by_text("unit", units, _summed(alike, values))


def _by_text(kind: str, texts: Sequence[str], values: Column) -> Iterator[Sums]:
    known: dict[str, int] = {}
    number = np.fromiter((known.setdefault(text, len(known)) for text in texts), np.int64, len(texts))
    every = list(known)
    yield from _by(kind, number, values, lambda keys: [every[key] for key in keys.tolist()])


def _by(kind: str, keys: Column, values: Column, name: Callable[[Column], list[str]]) -> Iterator[Sums]:
    """Sums by key, the largest by name."""
    by = Grouped(keys.astype(np.int64))
    return _of_groups(kind, by, values, lambda groups: name(by.keys[groups]))


def _of_groups(kind: str, by: Grouped, values: Column, name: Callable[[Column], list[str]]) -> Iterator[Sums]:
    """Sums by group, the largest by name; there may be several groups per row (hosts)."""
    sums = _summed(by, values)
    largest = np.argsort(sums[:, _ALL.index("bytes")] + sums[:, _ALL.index("reply_bytes")], kind="stable")[::-1]
    kept, rest = largest[: TOP["minute"]], largest[TOP["minute"] :]
    for at, key in zip(kept.tolist(), name(kept), strict=True):
        yield (kind, key, *sums[at].tolist())
    if len(rest):
        yield (kind, OTHER, *sums[rest].sum(axis=0).tolist())


def _summed(by: Grouped, values: Column) -> Column:
    sums = np.zeros((len(by), len(_ALL)), np.uint64)
    compiled.sum_up(by.of, values, sums)
    return sums
