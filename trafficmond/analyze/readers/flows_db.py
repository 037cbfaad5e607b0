"""The daemon's own store, flows.db: opened for reading only, while the daemon writes or long after."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from trafficmond.analyze.intake import Intake
from trafficmond.analyze.rows import BATCH, Records, address, counted_records, sent
from trafficmond.analyze.source import InputError, Source
from trafficmond.flows.batch import Batch
from trafficmond.model import Action, Direction

TITLE = "flow store (flows.db)"

_COLUMNS = (
    "src_ip, dst_ip, src_port, dst_port, protocol_num, first_seen, last_seen, packets, bytes, "
    "reply_packets, reply_bytes, tcp_flags, reply_tcp_flags, action, direction, interface, vlan"
)


def matches(head: bytes) -> bool:
    """Whether a file that begins so is an SQLite database."""
    return head.startswith(b"SQLite format 3\0")


def read(source: Source, intake: Intake) -> Iterator[Batch]:
    """RECORD rows, one a flow and reporting interval. Raises InputError if it is not a flow store."""
    if source.compressed or source.path == "-":
        raise InputError(f"{source.name} is a database that cannot be streamed", hint="unpack it to a file first")
    uri = Path(source.path).resolve().as_uri() + "?mode=ro"
    try:
        with sqlite3.connect(uri, uri=True) as database:
            yield from _rows(database, source, intake)
    except sqlite3.Error as error:
        if intake.records == 0:
            hint = "give the path of a trafficmon flows.db"
            raise InputError(f"{source.path} cannot be read as a flow store: {error}", hint=hint) from error
        source.damage.offset(source.name, 0, "database damaged", str(error))
    finally:
        if "database" in locals():
            database.close()


def _rows(database: sqlite3.Connection, source: Source, intake: Intake) -> Iterator[Batch]:
    records = Records()
    cursor = database.execute(f"SELECT {_COLUMNS} FROM flows")
    number = 0
    while rows := cursor.fetchmany(BATCH):
        for row in rows:
            number += 1
            try:
                _add(row, records, intake)
            except (ValueError, TypeError) as error:
                source.damage.line(source.name, number, "no flow", str(error))
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
        sent(protocol, source.family, _number(packets), _number(octets)),
        sent(protocol, source.family, _number(replies), _number(reply_octets)),
        (_number(flags), _number(flags) & 0x02, _number(reply_flags), _number(reply_flags) & 0x12),
        action=Action.parse(str(action)),
        direction=Direction.parse(str(direction)),
        ifindex=intake.ifindex(str(interface or "")),
        vlan=_number(vlan),
    )


def _number(value: object) -> int:
    return int(str(value)) if value is not None else 0
