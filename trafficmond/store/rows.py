"""REPORT batches as rows of `flows`: numbers become text here, in the writer's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from trafficmond.flows.batch import Batch, named
from trafficmond.flows.community_id import community_ids
from trafficmond.flows.compiled import addresses
from trafficmond.flows.inner import inner_flows
from trafficmond.flows.names import Names
from trafficmond.model import Action, Direction
from trafficmond.protocols import protocol_name
from trafficmond.store.schema import FLOW_COLUMNS, INNER_COLUMNS, OWNER_COLUMNS, PROCESS_COLUMNS
from trafficmond.verdict import action_of

Row = tuple[Any, ...]


def columns(names: Names) -> Iterable[str]:
    """The stored columns of a batch with these `names`: columns that would all be NULL cost a third of the time."""
    inner = INNER_COLUMNS if names.inners else ()
    return (*FLOW_COLUMNS, *inner, *owner_columns(names))


def owner_columns(names: Names) -> Sequence[str]:
    """The stored columns that are fields of an Owner, in its order."""
    if not names.owners:
        return ()
    named = any(owner.pid is not None for owner in names.owners.values())
    return (*OWNER_COLUMNS, *(PROCESS_COLUMNS if named else ()))


def insert_tuples(connection: sqlite3.Connection, table: str, batch: Batch, names: Names) -> None:
    given = tuple(columns(names))
    into = f"{table} ({', '.join(given)}) VALUES ({', '.join('?' * len(given))})"
    connection.executemany(f"INSERT INTO {into}", flow_rows(batch, names))


def flow_rows(batch: Batch, names: Names) -> Iterable[Row]:
    """One tuple a report, in the order of `columns`."""
    inner = zip(*inner_flows(batch["inner"], names.inners), strict=True) if names.inners else ()
    owners = named(batch["owner"].tolist(), names.owner) if names.owners else []
    owner = ([each[at] for each in owners] for at in range(len(owner_columns(names))))
    return zip(
        batch["first"].tolist(),
        batch["last"].tolist(),
        addresses(batch["src_hi"], batch["src_lo"], batch["family"]),
        addresses(batch["dst_hi"], batch["dst_lo"], batch["family"]),
        batch["sport"].tolist(),
        batch["dport"].tolist(),
        named(batch["proto"].tolist(), protocol_name),
        batch["proto"].tolist(),
        batch["packets"].tolist(),
        batch["bytes"].tolist(),
        batch["reply_packets"].tolist(),
        batch["reply_bytes"].tolist(),
        batch["tcp_flags"].tolist(),
        batch["reply_tcp_flags"].tolist(),
        named(action_of(batch["verdict"]).tolist(), lambda number: str(Action(number))),
        named(batch["verdict"].tolist(), names.rule),
        named(batch["ifindex"].tolist(), names.interface),
        named(batch["direction"].tolist(), lambda number: str(Direction(number))),
        batch["vlan"].tolist(),
        community_ids(batch),
        *inner,
        *owner,
        strict=True,
    )
