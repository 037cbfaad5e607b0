"""Builds conditions of ClickHouse's SQL from filters. Addresses have 16 bytes there; IPv4 is mapped into IPv6."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from trafficctl.fleet.ask import SENSOR
from trafficmond import choice, networks
from trafficmond.export.clickhouse_http import literal
from trafficmond.flows.owners import unit_name
from trafficmond.model import Action, FlowQuery
from trafficmond.networks import MAPPED, within
from trafficmond.store.query import any_of, ports_sql, process_sql, protocols_sql

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
    """The condition for one host."""
    if sensor is not None:
        yield f"{SENSOR} = {literal(sensor)}"


def of_flows(wanted: FlowQuery) -> Iterator[str]:
    """The conditions of a filter for flows."""
    if wanted.since is not None:
        yield f"last_seen >= {wanted.since!r}"
    if wanted.until is not None:
        yield f"last_seen <= {wanted.until!r}"
    if wanted.src is not None:
        yield of_prefixes(("src",), wanted.src)
    if wanted.dst is not None:
        yield of_prefixes(("dst",), wanted.dst)
    if wanted.host is not None:
        yield of_prefixes(("src", "dst"), wanted.host)
    if wanted.port is not None:
        yield ports_sql(wanted.port)
    if wanted.proto is not None:
        yield protocols_sql(wanted.proto)
    if wanted.action is not None:
        yield f"action = {literal(str(Action.parse(wanted.action)))}"
    if wanted.rule is not None:
        yield f"rule = {literal(wanted.rule)}"
    if wanted.interface is not None:
        yield f"interface = {literal(wanted.interface)}"
    if wanted.unit is not None:
        yield f"unit = {literal(unit_name(wanted.unit))}"
    if wanted.process is not None:
        yield process_sql(wanted.process, literal)


def of_prefixes(columns: Sequence[str], text: str) -> str:
    """The condition that an address in one of the columns is in one of the prefixes, or with "!" in none."""
    wanted = choice.prefixes(text)
    return any_of([_within(column, network) for column in columns for network in wanted.items], wanted.but)


def _within(column: str, network: networks.Network) -> str:
    low, high = (_bytes(address) for address in (network.network_address, network.broadcast_address))
    if low == high:
        return f"{column} = {low}"
    inside = f"{column} >= {low} AND {column} <= {high}"
    if within(MAPPED, network):
        inside += f" AND NOT {_within(column, networks.parse('0.0.0.0/0'))}"  # ::/0 is IPv6 without mapped IPv4
    return f"({inside})"


def _bytes(address: networks.Address) -> str:
    return f"toFixedString(unhex('{networks.sixteen(address).hex()}'), 16)"
