"""Questions to `flows`, as filters that people expect, and the SQL that answers them.

The SQL is complete as it stands, so what `--sql` prints is what runs; a plain sqlite3 runs it too, unless it
asks for an IPv6 prefix that needs `in_prefix` (see prefix_sql).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from trafficmond import networks
from trafficmond.errors import ConfigError, Mistake
from trafficmond.model import Action, FlowQuery
from trafficmond.networks import Network
from trafficmond.protocols import protocol_number
from trafficmond.store.prefix_sql import within
from trafficmond.store.schema import STORED_COLUMNS
from trafficmond.store.sql import literal

MAX_LIMIT = 1_000_000
_BROAD = 0.5  # of an address's bits: 10.0.0.0/8, 2001:db8::/32, but not 192.0.2.0/24

# What people call columns besides their names.
_ALIASES = {
    "src": "src_ip",
    "dst": "dst_ip",
    "sport": "src_port",
    "dport": "dst_port",
    "port": "dst_port",
    "proto": "protocol",
    "time": "last_seen",
}
# What a grouping tells of each group, in words that other databases know as well.
TOTALS = {
    "flows": "count(*)",
    "packets": "sum(packets)",
    "bytes": "sum(bytes)",
    "reply_packets": "sum(reply_packets)",
    "reply_bytes": "sum(reply_bytes)",
    "first_seen": "min(first_seen)",
    "last_seen": "max(last_seen)",
}
_NOT_GROUPED = set(TOTALS)
# Rows are sorted by the traffic of both directions: who downloads a lot sends little.
_BOTH_WAYS = {"packets": "packets + reply_packets", "bytes": "bytes + reply_bytes"}


@dataclass(frozen=True, slots=True)
class Question:
    """The SQL of a query and the names of the columns it answers with."""

    sql: str
    columns: tuple[str, ...]


def question(wanted: FlowQuery) -> Question:
    """The question a query asks. Raises ConfigError with every part of it that makes no sense."""
    mistakes: list[Mistake] = []
    groups = _columns(wanted.group_by, mistakes)
    columns = (*groups, *TOTALS) if groups else tuple(STORED_COLUMNS)
    conditions = list(_conditions(wanted, mistakes))
    order = ordered(wanted.sort, columns, TOTALS if groups else {}, mistakes)
    if not 1 <= wanted.limit <= MAX_LIMIT:
        mistakes.append(Mistake("limit", f"{wanted.limit} is out of range; use 1 to {MAX_LIMIT}"))
    if mistakes:
        raise ConfigError(mistakes)

    chosen = [*groups, *(f"{what} AS {name}" for name, what in TOTALS.items())] if groups else columns
    lines = [f"SELECT {', '.join(chosen)}", "FROM flows"]
    if conditions:
        lines.append("WHERE " + "\n  AND ".join(conditions))
    if groups:
        lines.append(f"GROUP BY {', '.join(groups)}")
    lines += [f"ORDER BY {order}", f"LIMIT {wanted.limit}"]
    return Question("\n".join(lines), columns)


def _conditions(wanted: FlowQuery, mistakes: list[Mistake]) -> Iterator[str]:
    def asked(name: str, condition: Callable[[], str]) -> Iterator[str]:
        if getattr(wanted, name) is None:
            return
        try:
            yield condition()
        except ValueError as error:
            mistakes.append(Mistake(name, str(error)))

    yield from asked("since", lambda: f"last_seen >= {literal(wanted.since or 0.0)}")
    yield from asked("until", lambda: f"last_seen <= {literal(wanted.until or 0.0)}")
    timed = wanted.since is not None
    yield from asked("src", lambda: _within("src_ip", wanted.src, timed))
    yield from asked("dst", lambda: _within("dst_ip", wanted.dst, timed))
    yield from asked(
        "host", lambda: f"({_within('src_ip', wanted.host, timed)} OR {_within('dst_ip', wanted.host, timed)})"
    )
    yield from asked("port", lambda: "(src_port = {0} OR dst_port = {0})".format(_port(wanted.port)))
    yield from asked("proto", lambda: f"protocol_num = {protocol_number(wanted.proto or '')}")
    yield from asked("action", lambda: f"action = {literal(str(Action.parse(wanted.action or '')))}")
    yield from asked("rule", lambda: f"rule = {literal(wanted.rule or '')}")
    yield from asked("interface", lambda: f"interface = {literal(wanted.interface or '')}")


def _within(column: str, text: str | None, timed: bool) -> str:
    """The condition of a prefix. A broad one may well be most of the traffic: where there is a time to go by, a unary
    plus leaves the address's index aside, for SQLite would prefer it whatever the time."""
    network = _network(text)
    broad = network.prefixlen <= network.max_prefixlen * _BROAD
    return within("+" + column if timed and broad else column, network)


def _network(text: str | None) -> Network:
    """The prefix that contains what was given; host bits are no mistake in a question."""
    return networks.parse(text or "")


def _port(port: int | None) -> int:
    if port is None or not 0 <= port <= 65535:
        raise ValueError(f"{port} is no port; use 0 to 65535")
    return port


def _columns(names: tuple[str, ...], mistakes: list[Mistake]) -> tuple[str, ...]:
    usable = [name for name in STORED_COLUMNS if name not in _NOT_GROUPED]
    found = []
    for name in names:
        column = _ALIASES.get(name, name)
        if column in usable:
            found.append(column)
        else:
            mistakes.append(Mistake("group_by", f"{name!r} cannot be grouped by; use {', '.join(usable)}"))
    return tuple(dict.fromkeys(found))


def ordered(sort: str | None, columns: Sequence[str], totals: Mapping[str, str], mistakes: list[Mistake]) -> str:
    """What follows ORDER BY. `totals`: of a grouping, the expressions of its sums by the columns they make."""
    wanted = sort or ("bytes" if totals else "last_seen")
    name = wanted.removeprefix("-")
    column = name if name in columns else _ALIASES.get(name, name)
    if column not in columns:
        mistakes.append(Mistake("sort", f"{name!r} is no column of the answer; use {', '.join(columns)}"))
    what = _BOTH_WAYS.get(column)
    if totals:
        what = f"sum({what})" if what else totals.get(column)
    return f"{what or column} {'ASC' if wanted.startswith('-') else 'DESC'}"
