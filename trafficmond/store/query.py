"""Queries of `flows`: the usual filters, and the SQL that answers them.

`--sql` prints this SQL. Plain sqlite3 can run it too, unless an IPv6 prefix needs `in_prefix` (sql.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from trafficmond import choice
from trafficmond.config.declare import guess
from trafficmond.dataclass import dataclass
from trafficmond.errors import ConfigError, Mistake
from trafficmond.flows.owners import is_pattern, unit_name
from trafficmond.model import Action, FlowQuery
from trafficmond.protocols import WITH_PORTS, protocol_name
from trafficmond.store.schema import STORED_COLUMNS
from trafficmond.store.sql import literal, within

MAX_LIMIT = 1_000_000
_BROAD = 0.5  # of an address's bits: 10.0.0.0/8, 2001:db8::/32, but not 192.0.2.0/24

# Other names for columns.
_ALIASES = {
    "src": "src_ip",
    "dst": "dst_ip",
    "sport": "src_port",
    "dport": "dst_port",
    "port": "dst_port",
    "proto": "protocol",
    "time": "last_seen",
    "up": "up_bytes",
    "down": "down_bytes",
}
_MEANT = {"service": "unit", "command": "process", "program": "process", "user": "uid", "address": "host", "ip": "host"}
_MEANT |= {"size": "bytes", "total": "bytes", "volume": "bytes", "up": "bytes", "down": "bytes"}
# The remote end: the initiator of incoming flows, the responder of outgoing ones.
_PEER = "CASE WHEN direction = 'ingress' THEN src_ip ELSE dst_ip END"
# ICMP's type and code, and the 0 of protocols without ports, are not ports.
_HAS_PORTS = f"protocol_num IN ({', '.join(map(str, WITH_PORTS))})"
_NAMED_WITH_PORTS = ", ".join(literal(protocol_name(number)) for number in WITH_PORTS)
_PORTS = ("src_port", "dst_port")
_PROTOCOL_OF = {f"{inner}{name}": f"{inner}protocol" for inner in ("", "inner_") for name in _PORTS}
# Places of addresses, from a table that the reader makes from databases (Question.addresses).
PLACES = "places (address TEXT PRIMARY KEY, country TEXT, asn INTEGER, as_name TEXT) WITHOUT ROWID"
_AS_PLACED = ("country", "asn", "as_name")
_PLACED = {"": _PEER, "src_": "src_ip", "dst_": "dst_ip"}
_OF_PLACES = {f"{side}{name}": f"{side}place.{name}" for side in _PLACED for name in _AS_PLACED}
_ENDS_PLACED = [name for name in _OF_PLACES if name.startswith(("src_", "dst_"))]
# What can be grouped by besides columns: an address on either side, the one beyond the interface, where that one is or
# those of both sides, and the local day and hour of the last packet.
MADE = {
    "host": "host",
    "peer": _PEER,
    **_OF_PLACES,
    "day": "strftime('%Y-%m-%d', last_seen, 'unixepoch', 'localtime')",
    "hour": "strftime('%Y-%m-%d %H:00', last_seen, 'unixepoch', 'localtime')",
}
# The columns of a group, in SQL that other databases know as well.
TOTALS = {
    "flows": "count(*)",
    "packets": "sum(packets)",
    "bytes": "sum(bytes)",
    "reply_packets": "sum(reply_packets)",
    "reply_bytes": "sum(reply_bytes)",
    # out of the interface and in through it
    "up_bytes": "sum(CASE WHEN direction = 'egress' THEN bytes ELSE reply_bytes END)",
    "down_bytes": "sum(CASE WHEN direction = 'egress' THEN reply_bytes ELSE bytes END)",
    "first_seen": "min(first_seen)",
    "last_seen": "max(last_seen)",
}
_OF_HOST = {"up_bytes": "sum(bytes)", "down_bytes": "sum(reply_bytes)"}  # seen from the host itself
# Rows are sorted by the traffic of both directions, since a large download sends little.
_BOTH_WAYS = {"packets": "packets + reply_packets", "bytes": "bytes + reply_bytes"}


@dataclass(frozen=True, slots=True)
class Question:
    """A query's SQL and its columns. `addresses`: SQL for those whose places it needs (Reader.locate); empty: none."""

    sql: str
    columns: tuple[str, ...]
    addresses: str = ""


def question(wanted: FlowQuery) -> Question:
    """The SQL for a query. Raises ConfigError with every invalid part."""
    mistakes: list[Mistake] = []
    groups = _columns(wanted.group_by, mistakes)
    columns = (*groups, *TOTALS) if groups else tuple(STORED_COLUMNS)
    conditions = list(_conditions(wanted, mistakes))
    sums = TOTALS | (_OF_HOST if "host" in groups else {})
    order = ordered(wanted.sort, columns, sums if groups else {}, mistakes)
    if not 1 <= wanted.limit <= MAX_LIMIT:
        mistakes.append(Mistake("limit", f"{wanted.limit} is out of range; use 1 to {MAX_LIMIT}"))
    if mistakes:
        raise ConfigError(mistakes)

    grouped = {name: grouped_by(name, groups) for name in groups}
    made = {name: f"{what} AS {name}" for name, what in grouped.items() if what != name}
    totals = [f"{what} AS {name}" for name, what in sums.items()]
    chosen = [*(made.get(name, name) for name in groups), *totals] if groups else columns
    where = ["WHERE " + "\n  AND ".join(conditions)] if conditions else []
    table = "unstored" if wanted.unstored else "flows"
    sides = [side for side in _PLACED if any(f"{side}{name}" in groups for name in _AS_PLACED)]
    if "host" in groups:
        source = [*_of_hosts(groups, table, where), *(_join(side, "host") for side in sides)]
    else:
        source = [f"FROM {table}", *(_join(side, _PLACED[side]) for side in sides), *where]
    lines = [f"SELECT {', '.join(chosen)}", *source]
    if groups:
        apart = (*_OF_PLACES, *_PROTOCOL_OF)  # SQLite prefers a column to an alias of the same name
        lines.append(f"GROUP BY {', '.join(grouped[name] if name in apart else name for name in groups)}")
    lines += [f"ORDER BY {order}", f"LIMIT {wanted.limit}"]
    ends = {end for side in sides for end in (("src_ip", "dst_ip") if side == "" else (f"{side}ip",))}
    addresses = "\nUNION\n".join("\n".join([f"SELECT DISTINCT {end} FROM {table}", *where]) for end in sorted(ends))
    return Question("\n".join(lines), columns, addresses)


def grouped_by(name: str, groups: Sequence[str]) -> str:
    """A group's key as SQL. ICMP's type and code are shown only with the protocol, since they look like ports."""
    protocol = _PROTOCOL_OF.get(name)
    if protocol and not {protocol, f"{protocol}_num"} & set(groups):
        return f"CASE WHEN {protocol} IN ({_NAMED_WITH_PORTS}) THEN {name} END"
    return MADE.get(name, name)


def _join(side: str, address: str) -> str:
    return f"LEFT JOIN places AS {side}place ON {side}place.address = {address}"


def _of_hosts(groups: Sequence[str], table: str, where: Sequence[str]) -> list[str]:
    """A table with each flow twice: as seen by the initiator, and by the responder with the directions swapped."""
    rest = [name for name in groups if name not in MADE]
    rest = list(dict.fromkeys([*rest, *(_PROTOCOL_OF[name] for name in rest if name in _PROTOCOL_OF)]))
    halves = []
    for address, mine, theirs in (("src_ip", "", "reply_"), ("dst_ip", "reply_", "")):
        counts = [f"{mine}{name} AS {name}" for name in ("packets", "bytes")]
        counts += [f"{theirs}{name} AS reply_{name}" for name in ("packets", "bytes")]
        columns = ", ".join([f"{address} AS host", *rest, *counts, "first_seen", "last_seen"])
        halves.append("\n".join([f"SELECT {columns}", f"FROM {table}", *where]))
    return [f"FROM ({halves[0]}\nUNION ALL\n{halves[1]})"]


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
    yield from asked("src", lambda: _within(("src_ip",), wanted.src, timed))
    yield from asked("dst", lambda: _within(("dst_ip",), wanted.dst, timed))
    yield from asked("host", lambda: _within(("src_ip", "dst_ip"), wanted.host, timed))
    yield from asked("port", lambda: ports_sql(wanted.port))
    yield from asked("proto", lambda: protocols_sql(wanted.proto or ""))
    yield from asked("action", lambda: f"action = {literal(str(Action.parse(wanted.action or '')))}")
    yield from asked("rule", lambda: f"rule = {literal(wanted.rule or '')}")
    yield from asked("interface", lambda: f"interface = {literal(wanted.interface or '')}")
    yield from asked("process", lambda: process_sql(wanted.process or ""))
    yield from asked("unit", lambda: unit_sql("unit", wanted.unit or ""))


def unit_sql(column: str, text: str) -> str:
    """The condition that a column is this unit, or matches this pattern; for SQLite."""
    unit = unit_name(text)
    return f"{column} GLOB {literal(unit.replace('[!', '[^'))}" if is_pattern(unit) else f"{column} = {literal(unit)}"


def process_sql(text: str, quoted: Callable[[str], str] = literal) -> str:
    """The condition for a process, by its command's short name or its number; for any SQL."""
    numbered = [f"pid = {text}"] if text.isascii() and text.isdigit() else []
    return any_of([f"process = {quoted(text)}", *numbered], but=False)


def _within(columns: Sequence[str], text: str | None, timed: bool) -> str:
    """The condition that one of the columns is in the prefixes, or with "!" none is."""
    wanted = choice.prefixes(text or "")
    # A broad prefix may match most rows: with a time condition, a unary plus keeps SQLite from the address's index.
    broad = {network: timed and network.prefixlen <= network.max_prefixlen * _BROAD for network in wanted.items}
    each = [within(f"{'+' * broad[network]}{column}", network) for column in columns for network in wanted.items]
    return any_of(each, wanted.but)


def ports_sql(text: str | int | None) -> str:
    """The condition that one of the ports is among those in `text`, or with "!" none is; for any SQL."""
    wanted = choice.ports("" if text is None else text)
    either = any_of(
        [
            f"{column} = {first}" if first == last else f"{column} BETWEEN {first} AND {last}"
            for first, last in wanted.items
            for column in _PORTS
        ],
        but=False,
    )
    return any_of([f"({either} AND {_HAS_PORTS})"], wanted.but)


def protocols_sql(text: str) -> str:
    """The condition that the protocol is one of those in `text`, or with "!" none; for any SQL."""
    wanted = choice.protocols(text)
    return any_of([f"protocol_num = {number}" for number in wanted.items], wanted.but)


def any_of(conditions: Sequence[str], but: bool) -> str:
    """One of the conditions, or with `but` none of them."""
    either = conditions[0] if len(conditions) == 1 else f"({' OR '.join(conditions)})"
    return f"NOT ({either})" if but else either


def _columns(names: tuple[str, ...], mistakes: list[Mistake]) -> tuple[str, ...]:
    usable = [*(name for name in STORED_COLUMNS if name not in TOTALS), *MADE]
    found = []
    for name in names:
        column = _ALIASES.get(name, name)
        if column in usable:
            found.append(column)
        else:
            short = _short_names(usable)
            near = guess(_MEANT.get(name, name), [*usable, *short])
            what = f"cannot group by {name!r}{near}; use {', '.join(usable)}, or a short name: {', '.join(short)}"
            mistakes.append(Mistake("group_by", what))
    if "host" in found:
        apart = [name for name in found if name == "peer" or name in _ENDS_PLACED]
        mistakes += [Mistake("group_by", f"{name} does not combine with host (either end)") for name in apart]
    return tuple(dict.fromkeys(found))


def _short_names(columns: Sequence[str]) -> list[str]:
    return [short for short, column in _ALIASES.items() if column in columns]


def ordered(sort: str | None, columns: Sequence[str], totals: Mapping[str, str], mistakes: list[Mistake]) -> str:
    """The text after ORDER BY. `totals`: a grouping's sums, as expressions by column."""
    wanted = sort or ("bytes" if totals else "last_seen")
    name = wanted.removeprefix("-")
    column = name if name in columns else _ALIASES.get(name, name)
    if column not in columns:
        short = _short_names(columns)
        near = guess(_MEANT.get(name, name), [*columns, *short])
        others = f"use {', '.join(columns)}" if totals else "docs/flows-db.md has all columns"
        text = f"{name!r} is not a column of the result{near}; {others}, or a short name: {', '.join(short)}"
        mistakes.append(Mistake("sort", text))
    what = _BOTH_WAYS.get(column)
    if totals:
        what = f"sum({what})" if what else totals.get(column)
    return f"{what or column} {'ASC' if wanted.startswith('-') else 'DESC'}"
