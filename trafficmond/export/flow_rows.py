"""Converts REPORT batches to blocks of ClickHouse's table `flows`. Pure."""

from collections.abc import Iterator

import numpy as np

from trafficmond.export.native import DAY_S, Block, block_of, named, nullable, text
from trafficmond.flows.batch import Batch, octets, take
from trafficmond.flows.community_id import community_ids
from trafficmond.flows.inner import Inner, inner_flows
from trafficmond.flows.names import Names
from trafficmond.flows.owners import Owner
from trafficmond.flows.report import FIELDS
from trafficmond.model import columns

# The columns of packaging/clickhouse/flows.sql that are sent, with their types.
COLUMNS = columns(
    "day Date, sensor String, batch String, row UInt32, first_seen Float64, last_seen Float64, src FixedString(16), "
    "dst FixedString(16), src_port UInt16, dst_port UInt16, protocol String, protocol_num UInt8, packets UInt64, "
    "bytes UInt64, reply_packets UInt64, reply_bytes UInt64, tcp_flags UInt8, reply_tcp_flags UInt8, action String, "
    "rule String, interface String, direction String, vlan UInt16, community_id String, tunnel Nullable(String), "
    "vni Nullable(UInt32), inner_src_ip Nullable(String), inner_dst_ip Nullable(String), "
    "inner_src_port Nullable(UInt16), inner_dst_port Nullable(UInt16), inner_protocol Nullable(String), "
    "unit Nullable(String), cgroup Nullable(String), uid Nullable(UInt32), process Nullable(String), "
    "pid Nullable(UInt32)"
)
# Columns that a table of an earlier version does not have.
LATER = ("process", "pid")


def by_day(rows: Batch) -> Iterator[Batch]:
    """The rows of each UTC day, which is a partition: an insert into one partition is atomic."""
    days = rows["last"] // DAY_S
    for day in np.unique(days):
        yield take(rows, np.flatnonzero(days == day))


def block(rows: Batch, names: Names, sensor: str, batch: str) -> Block:
    """A block of rows of one day. `batch` is its unique name."""
    count = len(rows)
    made: dict[str, bytes] = {
        "day": np.full(count, rows["last"][0] // DAY_S, "<u2").tobytes(),
        "sensor": text(sensor) * count,
        "batch": text(batch) * count,
        "row": np.arange(count, dtype="<u4").tobytes(),
        "src": octets(rows["src_hi"], rows["src_lo"]).tobytes(),
        "dst": octets(rows["dst_hi"], rows["dst_lo"]).tobytes(),
        **{name: named(rows[field], call) for name, (field, call) in names.texts().items()},
        "community_id": b"".join(map(text, community_ids(rows))),
    }
    inner = inner_flows(rows["inner"], names.inners) if names.inners else ()
    for at, name in enumerate(Inner._fields):
        made[name] = nullable([each[at] for each in inner], COLUMNS[name], count)
    known = {number: names.owner(number) for number in np.unique(rows["owner"]).tolist()} if names.owners else {}
    owners = [known[number] for number in rows["owner"].tolist()] if known else ()
    for at, name in enumerate(Owner._fields):
        made[name] = nullable([each[at] for each in owners], COLUMNS[name], count)
    numbers = {name: rows[FIELDS.get(name, name)] for name in COLUMNS if name not in made}
    return block_of(COLUMNS, made, numbers, rows["last"])
