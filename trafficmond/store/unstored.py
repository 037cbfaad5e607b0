"""Rows of an answer that flows.db does not have yet: the same conditions, on columns instead of SQL."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from trafficmond import choice
from trafficmond.flows.batch import Batch, Column, of_ports, of_prefixes, take
from trafficmond.flows.names import Names
from trafficmond.flows.owners import of_unit
from trafficmond.model import Action, FlowQuery
from trafficmond.verdict import action_of

# Sort keys and their columns here; with other keys no row can be left out beforehand.
_KEYS: Mapping[str, Callable[[Batch], Column]] = {
    "last_seen": lambda rows: rows["last"],
    "first_seen": lambda rows: rows["first"],
    "packets": lambda rows: rows["packets"] + rows["reply_packets"],
    "bytes": lambda rows: rows["bytes"] + rows["reply_bytes"],
}


def chosen(rows: Batch, names: Names, wanted: FlowQuery) -> Batch:
    """The REPORT rows that match a valid query; no more than its limit, if its sort key is in _KEYS."""
    mask = np.ones(len(rows), bool)
    for each in _conditions(rows, names, wanted):
        mask &= each
    rows = rows if mask.all() else take(rows, np.flatnonzero(mask))
    sort = wanted.sort or "last_seen"
    key = _KEYS.get(sort.removeprefix("-"))
    if wanted.group_by or key is None or len(rows) <= wanted.limit:
        return rows
    order = np.argsort(key(rows), kind="stable")
    return take(rows, order[: wanted.limit] if sort.startswith("-") else order[-wanted.limit :])


def _conditions(rows: Batch, names: Names, wanted: FlowQuery) -> Iterator[Column]:
    if wanted.since is not None:
        yield rows["last"] >= wanted.since
    if wanted.until is not None:
        yield rows["last"] <= wanted.until
    for side, text in (("src", wanted.src), ("dst", wanted.dst)):
        if text is not None:
            yield of_prefixes(rows, (side,), choice.prefixes(text))
    if wanted.host is not None:
        yield of_prefixes(rows, ("src", "dst"), choice.prefixes(wanted.host))
    if wanted.port is not None:
        yield of_ports(rows, choice.ports(wanted.port))
    if wanted.proto is not None:
        protocols = choice.protocols(wanted.proto)
        yield np.isin(rows["proto"], protocols.items) != protocols.but
    if wanted.action is not None:
        yield action_of(rows["verdict"]) == Action.parse(wanted.action)
    if wanted.rule is not None:
        yield _called(rows["verdict"], names.rule, wanted.rule)
    if wanted.interface is not None:
        yield _called(rows["ifindex"], names.interface, wanted.interface)
    if wanted.unit is not None:
        is_it = of_unit(wanted.unit)
        yield _called(rows["owner"], lambda number: str(is_it(names.owner(number).unit)), "True")
    if wanted.process is not None:
        by_number = _called(rows["owner"], lambda number: str(names.owner(number).pid), wanted.process)
        yield by_number | _called(rows["owner"], lambda number: names.owner(number).process, wanted.process)


def _called(numbers: Column, name: Callable[[int], str | None], text: str) -> Column:
    return np.asarray(np.isin(numbers, [number for number in np.unique(numbers).tolist() if name(number) == text]))
