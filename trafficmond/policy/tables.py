"""Rules by hand as tables with the keys of a [[rule]]: comparison, ends, and prefixes excluded from the guard."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from trafficmond import networks, services
from trafficmond.model import Direction
from trafficmond.networks import Network

Table = dict[str, Any]

CIDR, DIRECTION, PORTS, FORCE = "cidr", "direction", "ports", "force"
_SINCE, _EXPIRES = "since", "expires"


def has_ended(table: Mapping[str, Any], now: float) -> bool:
    """Whether the rule has ended by `now` (epoch s)."""
    expires = _moment(table.get(_EXPIRES))
    return expires is not None and expires <= now


def moved(table: Table, by: float) -> Table:
    """The same, ending so much later, after a step of the wall clock: rules last for a time, not until a date."""
    if _EXPIRES not in table:
        return table
    ends = {key: _moment(table[key]) for key in (_SINCE, _EXPIRES) if key in table}
    return table | {key: value + by for key, value in ends.items() if value is not None}


def begun_by(table: Table, now: float) -> Table:
    """A table of the last run, begun by `now`: with a clock that is behind, it lasts no longer than its duration."""
    since = _moment(table.get(_SINCE))
    return table if since is None or since <= now else moved(table, now - since)


def same(table: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a table has the prefix of `wanted`, and its direction and ports if given there."""
    if table[CIDR] != wanted[CIDR]:  # most, and there may be thousands
        return False
    direction, ports = table.get(DIRECTION, str(Direction.INGRESS)), table.get(PORTS, [])
    return bool(wanted.get(DIRECTION, direction) == direction and wanted.get(PORTS, ports) == ports)


def without(tables: Sequence[Table], unwanted: Mapping[str, Any]) -> list[Table]:
    """The tables that are not `same` as `unwanted`."""
    return [table for table in tables if not same(table, unwanted)]


def adds_nothing(table: Table, tables: Sequence[Table]) -> bool:
    """Whether an identical rule is among these, and no later one is on the same packets: of two rules on one prefix the
    later decides. A rule with an end never counts as identical."""
    others = [each for each in tables if each[CIDR] == table[CIDR] and _overlap(each, table)]
    return _EXPIRES not in table and others[-1:] == [table]


def _overlap(one: Table, other: Table) -> bool:
    ways = {table.get(DIRECTION, str(Direction.INGRESS)) for table in (one, other)}
    places = [services.parse(table.get(PORTS, [])) for table in (one, other)]
    return (len(ways) == 1 or str(Direction.BOTH) in ways) and services.overlap(*places)


def left(cidr: str, forced: Sequence[Network]) -> list[str]:
    """The parts of a protected prefix outside of the forced ones."""
    if not forced:
        return [cidr]
    parts: list[Network] = [networks.parse(cidr)]
    for taken in forced:
        parts = [each for part in parts for each in _minus(part, taken)]
    return [str(part) for part in parts]


def _minus(part: Network, taken: Network) -> Sequence[Network]:
    if part.version != taken.version or not part.overlaps(taken):
        return [part]
    if part.subnet_of(taken):  # type: ignore[arg-type]
        return []
    return list(part.address_exclude(taken))  # type: ignore[arg-type]


def _moment(value: Any) -> float | None:
    if isinstance(value, float):
        return value
    if isinstance(value, datetime):
        return value.timestamp()
    return float(value) if isinstance(value, int) else None
