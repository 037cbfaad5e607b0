"""REPORT batches as rows of `flows`, by tuples of Python: the referee of the images that bpf/host_store.h makes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from trafficmond.flows.batch import Batch, named
from trafficmond.flows.community_id import community_ids
from trafficmond.flows.compiled import addresses
from trafficmond.flows.inner import NOTHING, inner_flows
from trafficmond.flows.names import Names
from trafficmond.flows.owners import UNKNOWN
from trafficmond.flows.report import FIELDS
from trafficmond.store.schema import FLOW_COLUMNS, STORED_COLUMNS


def insert_tuples(connection: sqlite3.Connection, table: str, batch: Batch, names: Names) -> None:
    into = f"{table} VALUES ({', '.join('?' * len(STORED_COLUMNS))})"
    connection.executemany(f"INSERT INTO {into}", flow_rows(batch, names))


def flow_rows(batch: Batch, names: Names) -> Iterable[tuple[Any, ...]]:
    """One tuple a report, in the order of STORED_COLUMNS."""
    inners = inner_flows(batch["inner"], names.inners) if names.inners else [NOTHING] * len(batch)
    owners = named(batch["owner"].tolist(), names.owner) if names.owners else [UNKNOWN] * len(batch)
    texts, columns_of = names.texts(), []
    for name in FLOW_COLUMNS:
        if name in texts:
            columns_of.append(named(batch[texts[name][0]].tolist(), texts[name][1]))
        elif name in ("src_ip", "dst_ip"):
            columns_of.append(addresses(batch[f"{name[:3]}_hi"], batch[f"{name[:3]}_lo"], batch["family"]))
        else:
            field = FIELDS.get(name, name)
            columns_of.append(community_ids(batch) if name == "community_id" else batch[field].tolist())
    return zip(*columns_of, *zip(*inners, strict=True), *zip(*owners, strict=True), strict=True)
