"""Converts threats to blocks of ClickHouse's table `threats`. Pure.

They are queued like flows, in numpy batches: an update of a threat is a row of THREAT.
"""

import json
from collections.abc import Iterator

import numpy as np

from trafficmond import networks
from trafficmond.export.native import DAY_S, Block, block_of, nullable, text
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.model import Threat, columns

# `revision` grows with each row of a sensor; `threat` is a copy that does not change.
THREAT = np.dtype([("revision", "u8"), ("first", "f8"), ("last", "f8"), ("state", "U8"), ("threat", "O")])

# The columns of packaging/clickhouse/flows.sql that are sent, with their types.
COLUMNS = columns(
    "day Date, sensor String, batch String, revision UInt64, id String, detector String, severity String, "
    "technique String, src Nullable(FixedString(16)), dst Nullable(FixedString(16)), first_seen Float64, "
    "last_seen Float64, count UInt64, summary String, evidence String, state String"
)


def update(threat: Threat, state: str, revision: int) -> Batch:
    """The state of a threat ("opened", "updated", "closed"), as a batch of one."""
    return np.array([(revision, threat.first_seen, threat.last_seen, state, threat)], THREAT)


def by_month(rows: Batch) -> Iterator[Batch]:
    """The rows of each UTC month in which threats began, which is a partition."""
    months = (rows["first"] // DAY_S).astype("M8[D]").astype("M8[M]")
    for month in np.unique(months):
        yield rows[months == month]


def block(rows: Batch, names: Names, sensor: str, batch: str) -> Block:  # noqa: ARG001 - threats have theirs
    """A block of rows of one month. `batch` is its unique name."""
    threats: list[Threat] = rows["threat"].tolist()
    plain = ("id", "detector", "severity", "technique", "summary")
    texts = {name: [str(getattr(each, name)) for each in threats] for name in plain}
    texts |= {"evidence": [json.dumps(each.evidence, default=str) for each in threats], "state": rows["state"].tolist()}
    made = {name: b"".join(map(text, column)) for name, column in texts.items()}
    made |= {"sensor": text(sensor) * len(rows), "batch": text(batch) * len(rows)}
    for name, column in (("src", [each.src_ip for each in threats]), ("dst", [each.dst_ip for each in threats])):
        made[name] = nullable([_bytes(address) for address in column], COLUMNS[name], len(rows))
    numbers = {
        "day": rows["first"] // DAY_S,
        "revision": rows["revision"],
        "first_seen": rows["first"],
        "last_seen": rows["last"],
        "count": np.array([each.count for each in threats], "u8"),
    }
    return block_of(COLUMNS, made, numbers, rows["last"])


def _bytes(address: str | None) -> bytes | None:
    return None if address is None else networks.sixteen(networks.parse_address(address))
