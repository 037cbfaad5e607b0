"""The daemon's own store, flows.db: opened for reading only, while the daemon writes or long after."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path

from trafficmond.analyze.intake import Intake
from trafficmond.analyze.rows import BATCH, Records, address, counted_records, sent
from trafficmond.analyze.sample import Lacks, Sample
from trafficmond.analyze.source import InputError, Source
from trafficmond.flows.batch import Batch
from trafficmond.model import Action, Direction, Severity, Threat
from trafficmond.protocols import ACK, SYN
from trafficmond.store.schema import partition_table

TITLE = "flow store (flows.db)"

_COLUMNS = (
    "src_ip, dst_ip, src_port, dst_port, protocol_num, first_seen, last_seen, packets, bytes, "
    "reply_packets, reply_bytes, tcp_flags, reply_tcp_flags, action, direction, interface, vlan"
)


def lacks(sample: Sample) -> Lacks:
    """Whether a file that begins so is an SQLite database."""
    return [] if sample.head.startswith(b"SQLite format 3\0") else None


def read(source: Source, intake: Intake) -> Iterator[Batch]:
    """RECORD rows, one a flow and reporting interval. Raises InputError if it is not a flow store."""
    if source.compressed or source.path == "-":
        raise InputError(f"{source.name} is a database that cannot be streamed", hint="unpack it to a file first")
    records = Records()
    try:
        with closing(_open(Path(source.path).resolve())) as database:
            intake.threats += _threats(database, source)
            # A partition at a time: a long transaction would keep the daemon from tidying up behind it.
            for (number,) in database.execute("SELECT number FROM partitions ORDER BY number").fetchall():
                yield from _partition(database, partition_table(number), source, records, intake)
    except sqlite3.Error as error:
        if intake.records == 0:
            hint = "give the path of a trafficmon flows.db"
            raise InputError(f"{source.path} cannot be read as a flow store: {error}", hint=hint) from error
        source.damage.offset(source.name, 0, "database damaged", str(error))


def _threats(database: sqlite3.Connection, source: Source) -> Iterator[Threat]:
    """What the daemon found; none in a file without that table."""
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'threats'").fetchone():
        return
    names = [each.name for each in fields(Threat)]
    for number, row in enumerate(database.execute(f"SELECT {', '.join(names)} FROM threats"), 1):
        found = dict(zip(names, row, strict=True))
        try:
            found["severity"] = Severity[str(found["severity"]).upper()]
            found["evidence"] = dict(json.loads(found["evidence"]))
            found |= {name: float(found[name]) for name in ("first_seen", "last_seen")}
            found["count"] = int(found["count"])
        except (ValueError, TypeError, KeyError) as error:
            source.damage.line(f"{source.name}, threats", number, "no threat", str(error))
            continue
        yield Threat(**found)


def _open(path: Path) -> sqlite3.Connection:
    """A connection that reads only. A copy in a directory where SQLite may not put its -shm file is read as it is."""
    database = sqlite3.connect(path.as_uri() + "?mode=ro", uri=True)
    try:
        database.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        database.close()
        if path.with_name(path.name + "-wal").exists():
            raise
        database = sqlite3.connect(path.as_uri() + "?immutable=1", uri=True)
    return database


def _partition(
    database: sqlite3.Connection, table: str, source: Source, records: Records, intake: Intake
) -> Iterator[Batch]:
    cursor = database.execute(f"SELECT {_COLUMNS} FROM {table}")
    number = 0
    while rows := cursor.fetchmany(BATCH):
        for row in rows:
            number += 1
            try:
                _add(row, records, intake)
            except (ValueError, TypeError) as error:
                source.damage.line(f"{source.name}, {table}", number, "no flow", str(error))
        yield counted_records(records.take(), intake)


def _add(row: tuple[object, ...], records: Records, intake: Intake) -> None:
    src, dst, sport, dport, proto, first, last, packets, octets, replies, reply_octets, *rest = row
    flags, reply_flags, action, direction, interface, vlan = rest
    source, protocol = address(str(src)), _number(proto)
    records.add(
        source,
        address(str(dst)),
        (_number(sport), _number(dport)),
        protocol,
        (float(str(first)), float(str(last))),
        sent(protocol, source.family, _number(packets), _number(octets), flags=_number(flags)),
        sent(protocol, source.family, _number(replies), _number(reply_octets), flags=_number(reply_flags)),
        (_number(flags), _number(flags) & SYN, _number(reply_flags), _number(reply_flags) & (SYN | ACK)),
        action=Action.parse(str(action)),
        direction=Direction.parse(str(direction)),
        ifindex=intake.ifindex(str(interface or "")),
        vlan=_number(vlan),
    )


def _number(value: object) -> int:
    return int(str(value)) if value is not None else 0
