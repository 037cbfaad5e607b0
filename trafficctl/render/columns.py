"""The columns of each table: which fields, in which order, with which units."""

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

from trafficctl import values
from trafficctl.names import ENDS, EPHEMERAL
from trafficctl.render.events import address_of, end_of
from trafficctl.render.table import Column, Row
from trafficmond import figures
from trafficmond.protocols import endpoint, has_ports

INTERFACES = (
    Column("name", "INTERFACE", weight=9),
    Column("ifindex", "INDEX", right=True, weight=1),
    Column("mode", "MODE", weight=7, shrinks_to=8, meaningful=True),
    Column("packets", "PACKETS", figures.number, right=True, weight=8),
    Column("bytes", "BYTES", figures.size, right=True, weight=8),
    Column("dropped_packets", "DROPPED", figures.number, right=True, weight=8),
    Column("dropped_bytes", "DROPPED BYTES", figures.size, right=True, weight=2),
)


def named_services(row: Row) -> str:
    """The services that a rule is for; empty if it is for all."""
    return ", ".join(row.get("ports") or ())


def _prefixes(rule: Row) -> str:
    """The name of a list, or the first prefix of a rule and how many more it has."""
    if rule["kind"] == "list":
        return str(rule["cidr"]).rpartition("/")[2]  # the column SOURCE has the whole path
    more = (rule.get("prefixes") or 1) - 1
    return f"{rule['cidr']} +{more}" if more else str(rule["cidr"])


def _watching(rule: Row) -> str | None:
    """The number of packets that a rule in shadow would have dropped."""
    if not rule.get("shadow"):
        return None
    return f"would drop {figures.number((rule.get('would_drop') or {}).get('packets', 0))}"


RULES = (
    Column("cidr", "PREFIX", weight=9, shrinks_to=39, of=_prefixes),
    Column("kind", "KIND", weight=6),
    Column("action", "ACTION", weight=9, meaningful=True),
    Column("shadow", "SHADOW", weight=8, of=_watching),
    Column("rate_per_s", "LIMIT", figures.rate, right=True, weight=6),
    Column("direction", "DIRECTION", weight=3),
    Column("ports", "PORTS", weight=8, shrinks_to=12, of=named_services),
    Column("label", "LABEL", weight=5, shrinks_to=8),
    Column("prefixes", "PREFIXES", figures.exact, right=True, weight=2),
    Column("packets", "PACKETS", figures.number, right=True, weight=7),
    Column("bytes", "BYTES", figures.size, right=True, weight=3),
    Column("expires", "UNTIL", figures.when, weight=6),
    Column("source", "SOURCE", weight=4, shrinks_to=12, keep_end=True),
)

CHANGES = (
    Column("number", "NUMBER", right=True, weight=9),
    Column("at", "AT", figures.when, weight=8),
    Column("user", "BY", weight=6),
    Column("change", "CHANGE", weight=8),
    Column("subject", "SUBJECT", values.hosts, weight=7, shrinks_to=12),
    Column("removed", "REMOVED", figures.exact, right=True, weight=5),
    Column("added", "ADDED", figures.exact, right=True, weight=5),
)

BANS = (
    Column("cidr", "PREFIX", values.host, weight=9),
    Column("ports", "PORTS", weight=8, shrinks_to=12, of=named_services),
    Column("owner", "OWNER", weight=6, shrinks_to=8),
    Column("by", "BY", weight=3, shrinks_to=8),
    Column("reason", "REASON", weight=5, shrinks_to=10, below=True),
    Column("since", "SINCE", figures.when, weight=4),
    Column("expires", "UNTIL", weight=8, of=lambda ban: figures.when(ban["expires"]) or "forever"),
    Column("count", "TIMES", figures.exact, right=True, weight=3),
    Column("threat", "THREAT", weight=2),
)


def _address(end: str) -> Callable[[Row], str | None]:
    """Shows the field `end` (one of `names.ENDS`) by name if the row has one; None without an address."""
    return lambda row: address_of(row, end) if row.get(end) else None


THREATS = (
    Column("last_seen", "LAST SEEN", figures.when, weight=7),
    Column("severity", "SEVERITY", weight=9, meaningful=True),
    Column("detector", "DETECTOR", weight=7),
    Column("src_ip", "FROM", weight=9, shrinks_to=15, keep_end=True, of=_address("src_ip")),
    Column("dst_ip", "TO", weight=2, of=_address("dst_ip")),  # the summary names it
    Column("count", "COUNT", figures.number, right=True, weight=4),
    Column("state", "STATE", weight=3),
    Column("summary", "SUMMARY", weight=8, shrinks_to=14, below=True),
    Column("place", "PLACE", weight=3, shrinks_to=10, of=lambda row: place(row, "src_")),
    Column("not_banned", "NOT BANNED", weight=3, shrinks_to=12),
    Column("technique", "TECHNIQUE", weight=1),
    Column("id", "ID", weight=8),
)


def _who(change: Row) -> str:
    """The user, and the login behind it if that is another one, or unknown for root."""
    login = change.get("login")
    if login is None:
        return "root (login unknown)" if change["user"] == "root" else str(change["user"])
    return str(change["user"]) if login == change["user"] else f"{change['user']} ({login})"


AUDIT = (
    Column("at", "WHEN", figures.when, weight=8),
    Column("user", "WHO", weight=9, of=_who),
    Column("uid", "UID", right=True, weight=2),
    Column("pid", "PID", right=True, weight=1),
    Column("change", "CHANGE", weight=9),
    Column("subject", "WHAT", values.host, weight=9, shrinks_to=16),
    Column("before", "BEFORE", weight=4, shrinks_to=8, below=True),
    Column("after", "AFTER", weight=5, shrinks_to=8, below=True),
)


def _brief_unit(row: Row) -> str | None:
    unit = row.get("unit")
    return unit and figures.brief_unit(str(unit))


def _brief_from(row: Row) -> str:
    """The source without an ephemeral port; other ports by number, which is shorter than the name."""
    port = row.get("src_port")
    return endpoint(address_of(row, "src_ip"), None if (port or 0) >= EPHEMERAL else port, str(row.get("protocol")))


HOST = Column("address", "HOST", weight=9, shrinks_to=15, of=_address("address"))
PROTOCOL = Column("protocol", "PROTO", weight=6)
UNIT = Column("unit", "UNIT", weight=8, shrinks_to=8, unknown="(none)", brief=_brief_unit)
FROM = Column(
    "from", "FROM", weight=9, shrinks_to=15, keep_end=True, of=lambda row: end_of(row, "src"), brief=_brief_from
)
TO = Column("to", "TO", weight=9, shrinks_to=21, keep_end=True, of=lambda row: end_of(row, "dst"))


def _both_ways(counter: str) -> Callable[[Row], int]:
    return lambda row: int(row[counter]) + int(row[f"reply_{counter}"])


def place(row: Row, side: str = "") -> str:
    """ "CH AS64500 Example": country, system and its name of a side, as far as the daemon's databases have them."""
    number = row.get(f"{side}asn")
    parts = (row.get(f"{side}country"), f"AS{number}" if number else "", row.get(f"{side}as_name"))
    return " ".join(figures.plain(part) for part in parts if part)


def _places(row: Row) -> str:
    return " > ".join(filter(None, (place(row, "src_"), place(row, "dst_"))))


PLACES = Column("places", "PLACE", weight=4, shrinks_to=10, of=_places)
PLACE = Column("place", "PLACE", weight=4, shrinks_to=10, of=place)
_TOTAL = Column("total", "TOTAL", figures.size, right=True, weight=9, of=_both_ways("bytes"))


def _process(row: Row) -> str:
    """ "curl 4711": command and number, as far as the row has them."""
    return " ".join(str(row[name]) for name in ("process", "pid") if row.get(name) is not None)


PROCESS = Column("process", "PROCESS", weight=5, shrinks_to=8, of=_process)

# A table of flows has what the initiator sent and received, and the total, by which it is sorted. In JSON, CSV and SQL
# `packets` and `bytes` count what was sent, so no column here has one of these names.
FLOWS = (
    Column("last_seen", "LAST SEEN", figures.when, weight=8),
    FROM,
    TO,
    PROTOCOL,
    Column(
        "action", "ACTION", weight=7, meaningful=True, brief=lambda row: "drop" if row.get("action") == "drop" else ""
    ),
    Column("sent", "SENT", figures.size, right=True, weight=5, of=itemgetter("bytes")),
    Column("received", "RECEIVED", figures.size, right=True, weight=5, of=itemgetter("reply_bytes")),
    _TOTAL,
    Column("packets", "TOTAL PKTS", figures.number, right=True, weight=3, of=_both_ways("packets")),
    UNIT,
    PROCESS,
    Column("rule", "RULE", weight=4, shrinks_to=8),
    PLACES,
    Column("interface", "INTERFACE", weight=3),
)

# For the flows of many hosts, the host comes first.
SENSOR = Column("sensor", "SENSOR", weight=9, shrinks_to=8)
FLEET = (SENSOR, *FLOWS)
# A fleet's server has neither places nor the reasons why a source is not banned.
FLEET_THREATS = (SENSOR, *(column for column in THREATS if column.key not in ("place", "not_banned")))


def _port(side: str) -> Callable[[Row], str | int | None]:
    """Shows a port by name if it has one. ICMP has a type in place of the source port, and a code in the other."""
    icmp = {"src": "type", "dst": "code"}[side]

    def shown(row: Row) -> str | int | None:
        port, protocol = row.get(f"{side}_port"), row.get("protocol")
        if port is None or protocol is None or has_ports(str(protocol)):
            return row.get(f"{side}_service") or port
        return f"{icmp} {port}" if protocol in ("ICMP", "ICMPv6") else None

    return shown


_BY_FIELD = {
    **{column.key: column for column in FLOWS},
    "bytes": Column("bytes", "SENT", figures.size, right=True, weight=8),
    "reply_bytes": Column("reply_bytes", "RECEIVED", figures.size, right=True, weight=8),
    "up_bytes": Column("up_bytes", "UP", figures.size, right=True, weight=8),
    "down_bytes": Column("down_bytes", "DOWN", figures.size, right=True, weight=8),
    "packets": Column("packets", "SENT PKTS", figures.number, right=True, weight=5),
    "reply_packets": Column("reply_packets", "RECEIVED PKTS", figures.number, right=True, weight=4),
    "first_seen": Column("first_seen", "FIRST SEEN", figures.when, weight=3),
    "process": Column("process", "PROCESS", weight=9),
    "flows": Column("flows", "FLOWS", figures.number, right=True, weight=7),
    **{end: Column(end, end.upper().replace("_", " "), weight=9, keep_end=True, of=_address(end)) for end in ENDS},
    "src_port": Column("src_port", "SRC PORT", weight=9, of=_port("src")),
    "dst_port": Column("dst_port", "DST PORT", weight=9, of=_port("dst")),
}


def grouped_columns(fields: Iterable[str]) -> list[Column]:
    """The columns for flows in groups: each field in its order, and the total by which they are sorted.

    Groups by host show what each sent and received, all others what went out and came in.
    """
    fields = list(fields)
    keys = fields[: fields.index("flows")] if "flows" in fields else []
    sides = ("up_bytes", "down_bytes") if "host" in fields else ("packets", "bytes", "reply_packets", "reply_bytes")
    if "up_bytes" in fields and "reply_bytes" in fields:
        fields = [field for field in fields if field not in sides]
        fields.insert(fields.index("reply_bytes" if "host" in fields else "down_bytes") + 1, "total")
    columns = [_BY_FIELD.get(field) or Column(field, field.upper().replace("_", " "), weight=9) for field in fields]
    return [_key(column, len(keys) > 1) if column.key in keys else column for column in columns]


def _key(column: Column, several: bool) -> Column:
    """A column of the group's key: it is hidden last and shows "(none)" for no value. Of several, each may be cut."""

    def named(of: Callable[[Row], Any]) -> Callable[[Row], Any]:
        return lambda row: "(none)" if (value := of(row)) in (None, "") else value

    of, brief = column.of or itemgetter(column.key), column.brief and named(column.brief)
    return column._replace(weight=9, shrinks_to=16 if several else column.shrinks_to, of=named(of), brief=brief)
