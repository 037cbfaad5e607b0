"""Reads a flows.db: its flows as rows, and the threats that the daemon found."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from trafficmond.analyze import database
from trafficmond.analyze.rows import Records, sent
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.source import InputError, Source
from trafficmond.analyze.values import TIME_MAX, address, count, port
from trafficmond.dataclass import fields
from trafficmond.flows.batch import Batch
from trafficmond.model import Action, Direction, Severity, Threat
from trafficmond.protocols import ACK, SYN
from trafficmond.store.schema import partition_table

_COLUMNS = (
    "src_ip, dst_ip, src_port, dst_port, protocol_num, first_seen, last_seen, packets, bytes, "
    "reply_packets, reply_bytes, tcp_flags, reply_tcp_flags, action, direction, interface, vlan"
)
_BYTE, _VLANS = 256, 65536
_DAMAGED = "database damaged"
_EVIDENCE_MAX = 1 << 16
_SHOWN = 80


def flows(source: Source, stats: RunStats) -> Iterator[Batch]:
    """RECORD rows, one for each flow and reporting interval. Raises InputError if the file is not a flow store."""
    path, rows = Path(source.path).resolve(), 0
    try:
        with closing(database.opened(path)) as store:
            stats.threats += _threats(store, source, database.size(path))
            # One partition at a time: a long transaction would keep the daemon from clearing its write-ahead log.
            for number in _partitions(store, source):
                for batch in _partition(store, partition_table(number), source, stats):
                    rows += len(batch)
                    yield batch
    except database.Error as error:
        if not rows:
            hint = "give the path of a trafficmon flows.db"
            what = f"{source.path} cannot be read as a flow store: {database.error_text(error)}"
            raise InputError(what, hint=hint) from error
        source.parse_errors.offset(source.name, 0, _DAMAGED, database.error_text(error))


def _partitions(store: sqlite3.Connection, source: Source) -> Iterator[int]:
    """The partition numbers, each once, in order."""
    if not database.is_plain(store, "partitions"):
        raise sqlite3.DatabaseError("no such table: partitions")
    numbers: set[int] = set()
    for row, (number,) in enumerate(store.execute("SELECT number FROM partitions"), 1):
        if number in numbers:
            continue
        if type(number) is int and database.is_plain(store, partition_table(number)):
            numbers.add(number)
        else:
            source.parse_errors.line(f"{source.name}, partitions", row, "no partition", str(number))
    yield from sorted(numbers)


def _threats(store: sqlite3.Connection, source: Source, most: int) -> Iterator[Threat]:
    """The threats that the daemon found; none if the table is missing. Their texts may have `most` bytes in all."""
    if not database.is_plain(store, "threats"):
        return
    names = [each.name for each in fields(Threat)]
    for number, row in enumerate(store.execute(f"SELECT {', '.join(names)} FROM threats"), 1):
        most -= sum(len(value) for value in row if isinstance(value, str))
        if most < 0:
            raise sqlite3.DatabaseError("it has more text than its size allows")
        try:
            yield _threat(dict(zip(names, row, strict=True)))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            source.parse_errors.line(f"{source.name}, threats", number, "no threat", str(error))


def _threat(found: dict[str, Any]) -> Threat:
    for name in ("id", "detector", "technique", "summary"):
        _text(found[name])
    for name in ("src_ip", "dst_ip"):
        if found[name] is not None:
            address(_text(found[name]))
    found["severity"] = Severity[_text(found["severity"]).upper()]
    if len(_text(found["evidence"])) > _EVIDENCE_MAX:
        raise ValueError("too much evidence")
    found["evidence"] = dict(json.loads(found["evidence"]))
    found |= {name: _moment(found[name]) for name in ("first_seen", "last_seen")}
    found["count"] = count(found["count"])
    return Threat(**found)


def _partition(store: sqlite3.Connection, table: str, source: Source, stats: RunStats) -> Iterator[Batch]:
    """The rows of a partition, up to a damaged place."""
    records = Records()
    try:
        for number, row in enumerate(store.execute(f"SELECT {_COLUMNS} FROM {table}"), 1):
            try:
                _add(row, records, stats)
            except (ValueError, TypeError) as error:
                source.parse_errors.line(f"{source.name}, {table}", number, "no flow", str(error))
            if records.full:
                yield records.take()
    except database.Error as error:
        source.parse_errors.offset(f"{source.name}, {table}", 0, _DAMAGED, database.error_text(error))
    yield records.take()


def _add(row: tuple[object, ...], records: Records, stats: RunStats) -> None:
    src, dst, sport, dport, number, first, last, packets, octets, replies, reply_octets, *rest = row
    flags, reply_flags, action, direction, interface, vlan = rest
    source, target, proto = address(_text(src)), address(_text(dst)), _below(_BYTE, number)
    if source.family != target.family:
        raise ValueError(f"{src} and {dst} are not of one family (IPv4 or IPv6)")
    ours, theirs = _below(_BYTE, flags), _below(_BYTE, reply_flags)
    out = sent(proto, source.family, count(packets), count(octets), flags=ours)
    back = sent(proto, source.family, count(replies), count(reply_octets), flags=theirs)
    more: dict[str, Any] = {"action": Action.parse(_text(action)), "direction": Direction.parse(_text(direction))}
    more |= {"ifindex": stats.ifindex(_text(interface or "")), "vlan": _below(_VLANS, vlan)}
    ports, span = (port(sport), port(dport)), (_moment(first), _moment(last))
    seen = (ours, ours & SYN, theirs, theirs & (SYN | ACK))
    records.add(source, target, ports, proto, span, out, back, seen, **more)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:_SHOWN]} is not text")
    return value


def _below(end: int, value: object) -> int:
    number = count(value)
    if number >= end:
        raise ValueError(f"{number} is too large; the maximum is {end - 1}")
    return number


def _moment(value: Any) -> float:
    moment = float(value)
    if not 0 <= moment < TIME_MAX:
        raise ValueError(f"{moment} is not a valid time in seconds since 1970")
    return moment
