"""The fleet's flows in ClickHouse, asked with the filters that flows.db is asked with (store/query.py).

The SQL is complete as it stands, so what `--sql` prints is what runs. What was sent twice is left out: of sums by
FINAL, of rows by LIMIT 1 BY. Since LIMIT 1 BY has the server read every column it is given of every row, it is first
given the keys alone, and then the rows that have them: of ten million rows in a seventh of the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from trafficmond import choice, networks
from trafficmond.config.target import Target
from trafficmond.errors import ConfigError, Mistake, StoreError
from trafficmond.export.clickhouse_http import Server, ServerError, literal
from trafficmond.flows.owners import unit_name
from trafficmond.model import Action, FlowQuery
from trafficmond.networks import MAPPED, within
from trafficmond.protocols import protocol_number
from trafficmond.store.query import MADE, TOTALS, Question, any_of, ordered, ports_sql, question
from trafficmond.store.schema import STORED_COLUMNS

_KEY = "last_seen, batch, row"  # that names a row, in the table's order
_BYTES = {"src_ip": "src", "dst_ip": "dst"}  # grouped by 16 bytes, of which the text is made once a group
_TEXT = (
    "if(substring({0}, 1, 12) = unhex('00000000000000000000FFFF'), substring(IPv6NumToString({0}), 8), "
    "IPv6NumToString({0}))"
)

SENSOR = "sensor"  # the column that a fleet has and a host's own flows.db has not


def fleet_question(wanted: FlowQuery) -> Question:
    """The question a filter asks of a fleet: as of one host, and `sensor` besides, to be shown, grouped and sorted by.

    Raises ConfigError with every part of it that makes no sense.
    """
    question(replace(wanted, group_by=tuple(name for name in wanted.group_by if name != SENSOR), sort=None))
    groups = tuple(dict.fromkeys(map(_column, wanted.group_by)))
    columns = (*groups, *TOTALS) if groups else (SENSOR, *STORED_COLUMNS)
    mistakes = [
        Mistake("group_by", f"{name} is for the flows of one host; leave --from out") for name in groups if name in MADE
    ]
    order = ordered(wanted.sort, columns, TOTALS if groups else {}, mistakes)
    if mistakes:
        raise ConfigError(mistakes)

    conditions = "".join(f"\nWHERE {each}" for each in ["\n  AND ".join(_conditions(wanted))] if each)
    if groups:
        keys = ", ".join(_BYTES.get(name, name) for name in groups)
        shown = [f"{_TEXT.format(_BYTES[name])} AS {name}" if name in _BYTES else name for name in groups]
        totals = ", ".join([*shown, *TOTALS.values()])
        sums = f"SELECT {totals}\nFROM flows FINAL{conditions}\nGROUP BY {keys}\nORDER BY {order}\nLIMIT {wanted.limit}"
        return Question(sums, columns)
    latest = f"ORDER BY {order}\nLIMIT 1 BY batch, row\nLIMIT {wanted.limit}"
    found = f"SELECT {_KEY}\nFROM flows{conditions}\n{latest}"
    rows = f"SELECT {', '.join(columns)}\nFROM flows\nWHERE ({_KEY}) IN (\n{found}\n)\n{latest}"
    return Question(rows, columns)


def fleet_flows(target: Target, asked: Question, password: str = "") -> Iterator[dict[str, Any]]:
    """The rows that answer. Raises StoreError if the server cannot be reached or refuses."""
    server = Server(target, password)
    try:
        rows: Sequence[Sequence[Any]] = server.ask(asked.sql)
    except ServerError as error:
        raise StoreError(
            str(error.strerror), hint="check database, user and password; flows.sql makes the table (see export.md)"
        ) from error
    except OSError as error:
        raise StoreError(
            str(error.strerror), hint="check that ClickHouse runs there and is allowed to be asked"
        ) from error
    finally:
        server.close()
    for row in rows:
        yield dict(zip(asked.columns, row, strict=True))


def _column(name: str) -> str:
    """The column that a person means ("src": "src_ip"); the name itself where it means none."""
    if name == SENSOR or name in STORED_COLUMNS:
        return name
    try:
        return question(FlowQuery(group_by=(name,))).columns[0]
    except ConfigError:
        return name


def _conditions(wanted: FlowQuery) -> Iterator[str]:
    if wanted.since is not None:
        yield f"last_seen >= {wanted.since!r}"
    if wanted.until is not None:
        yield f"last_seen <= {wanted.until!r}"
    if wanted.src is not None:
        yield _of_prefixes(("src",), wanted.src)
    if wanted.dst is not None:
        yield _of_prefixes(("dst",), wanted.dst)
    if wanted.host is not None:
        yield _of_prefixes(("src", "dst"), wanted.host)
    if wanted.port is not None:
        yield ports_sql(wanted.port)
    if wanted.proto is not None:
        yield f"protocol_num = {protocol_number(wanted.proto)}"
    if wanted.action is not None:
        yield f"action = {literal(str(Action.parse(wanted.action)))}"
    if wanted.rule is not None:
        yield f"rule = {literal(wanted.rule)}"
    if wanted.interface is not None:
        yield f"interface = {literal(wanted.interface)}"
    if wanted.unit is not None:
        yield f"unit = {literal(unit_name(wanted.unit))}"


def _of_prefixes(columns: Sequence[str], text: str) -> str:
    wanted = choice.prefixes(text)
    return any_of([_within(column, network) for column in columns for network in wanted.items], wanted.but)


def _within(column: str, network: networks.Network) -> str:
    low, high = (_bytes(address) for address in (network.network_address, network.broadcast_address))
    if low == high:
        return f"{column} = {low}"
    inside = f"{column} >= {low} AND {column} <= {high}"
    if within(MAPPED, network):
        inside += f" AND NOT {_within(column, networks.parse('0.0.0.0/0'))}"  # ::/0 means what people call IPv6
    return f"({inside})"


def _bytes(address: networks.Address) -> str:
    return f"toFixedString(unhex('{networks.sixteen(address).hex()}'), 16)"
