"""Builds conditions of ClickHouse's SQL from filters. Addresses have 16 bytes there; IPv4 is mapped into IPv6."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from trafficctl.fleet.ask import SENSOR
from trafficmond import choice, networks
from trafficmond.export.clickhouse_http import literal
from trafficmond.flows.owners import is_pattern, unit_name
from trafficmond.model import Action, FlowQuery
from trafficmond.networks import MAPPED, within
from trafficmond.store.query import any_of, ports_sql, process_sql, protocols_sql

_PARTS = re.compile(r"\[!?.[^]]*\]|.", re.DOTALL)  # of a pattern: a class of letters, or one letter
_TEXT = (
    "if(substring({0}, 1, 12) = unhex('00000000000000000000FFFF'), substring(IPv6NumToString({0}), 8), "
    "IPv6NumToString({0}))"
)


def text_of(column: str) -> str:
    """The expression for the text of an address in a column of 16 bytes."""
    return _TEXT.format(column)


def where(conditions: Iterable[str]) -> str:
    """The clause, on a line of its own; empty without conditions."""
    return "".join(f"\nWHERE {each}" for each in ["\n  AND ".join(conditions)] if each)


def of_sensor(sensor: str | None) -> Iterator[str]:
    if sensor is not None:
        yield equals(SENSOR, sensor)


def of_flows(wanted: FlowQuery) -> Iterator[str]:
    for name, condition in _CONDITIONS.items():
        if (value := getattr(wanted, name)) is not None:
            yield condition(value)


def equals(column: str, value: str) -> str:
    return f"{column} = {literal(value)}"


def of_unit(column: str, text: str) -> str:
    unit = unit_name(text)
    if not is_pattern(unit):
        return equals(column, unit)
    expression = "".join(map(_expression, _PARTS.findall(unit)))
    return f"match({column}, {literal(f'^(?s:{expression})$')})"


def _expression(part: str) -> str:
    """A part of a pattern in ClickHouse's regular expressions, which are not Python's."""
    if len(part) > 1:
        return re.sub(r"^\[!", "[^", part.replace("\\", r"\\"))
    return {"*": ".*", "?": "."}.get(part) or re.escape(part)


def of_prefixes(columns: Sequence[str], text: str) -> str:
    """The condition that an address in one of the columns is in one of the prefixes, or with "!" in none."""
    wanted = choice.prefixes(text)
    return any_of([_within(column, network) for column in columns for network in wanted.items], wanted.but)


def _within(column: str, network: networks.Network) -> str:
    ends = (networks.sixteen(address).hex() for address in (network.network_address, network.broadcast_address))
    low, high = (f"toFixedString(unhex('{end}'), 16)" for end in ends)
    if low == high:
        return f"{column} = {low}"
    inside = f"{column} >= {low} AND {column} <= {high}"
    if within(MAPPED, network):
        inside += f" AND NOT {_within(column, networks.parse('0.0.0.0/0'))}"  # ::/0 is IPv6 without mapped IPv4
    return f"({inside})"


_CONDITIONS: dict[str, Callable[[Any], str]] = {
    "since": lambda moment: f"last_seen >= {moment!r}",
    "until": lambda moment: f"last_seen <= {moment!r}",
    "src": lambda text: of_prefixes(("src",), text),
    "dst": lambda text: of_prefixes(("dst",), text),
    "host": lambda text: of_prefixes(("src", "dst"), text),
    "port": ports_sql,
    "proto": protocols_sql,
    "action": lambda name: equals("action", str(Action.parse(name))),
    "rule": lambda label: equals("rule", label),
    "interface": lambda name: equals("interface", name),
    "unit": lambda name: of_unit("unit", name),
    "process": lambda name: process_sql(name, literal),
}
