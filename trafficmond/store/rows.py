"""REPORT batches as rows of `flows`: numbers become text here, in the writer's thread."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from trafficmond.flows.batch import Batch, named
from trafficmond.flows.community_id import community_ids
from trafficmond.flows.compiled import addresses
from trafficmond.flows.inner import inner_flows
from trafficmond.flows.names import Names
from trafficmond.flows.report import FIELDS
from trafficmond.store.schema import FLOW_COLUMNS, INNER_COLUMNS, OWNER_COLUMNS, PROCESS_COLUMNS

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
    texts, columns_of = names.texts(), []
    for name in FLOW_COLUMNS:
        if name in texts:
            columns_of.append(named(batch[texts[name][0]].tolist(), texts[name][1]))
        elif name in ("src_ip", "dst_ip"):
            columns_of.append(addresses(batch[f"{name[:3]}_hi"], batch[f"{name[:3]}_lo"], batch["family"]))
        else:
            field = FIELDS.get(name, name)
            columns_of.append(community_ids(batch) if name == "community_id" else batch[field].tolist())
    return zip(*columns_of, *inner, *owner, strict=True)
