"""How the rows of each kind are shown in tables: which columns, in which order, with which units."""

from __future__ import annotations

from trafficctl.render import units
from trafficctl.render.table import Column

INTERFACES = (
    Column("name", "INTERFACE", weight=9),
    Column("ifindex", "INDEX", right=True, weight=1),
    Column("mode", "MODE", weight=7, shrinks_to=8, meaningful=True),
    Column("packets", "PACKETS", units.number, right=True, weight=8),
    Column("bytes", "BYTES", units.octets, right=True, weight=8),
    Column("dropped_packets", "DROPPED", units.number, right=True, weight=8),
    Column("dropped_bytes", "DROPPED BYTES", units.octets, right=True, weight=2),
)

RULES = (
    Column("cidr", "PREFIX", weight=9, shrinks_to=18),
    Column("kind", "KIND", weight=6),
    Column("action", "ACTION", weight=9, meaningful=True),
    Column("rate_per_s", "LIMIT", units.rate, right=True, weight=6),
    Column("direction", "DIRECTION", weight=3),
    Column("label", "LABEL", weight=5, shrinks_to=8),
    Column("prefixes", "PREFIXES", units.exact, right=True, weight=4),
    Column("packets", "PACKETS", units.number, right=True, weight=7),
    Column("bytes", "BYTES", units.octets, right=True, weight=5),
    Column("expires", "EXPIRES", units.when, weight=6),
    Column("source", "SOURCE", weight=4, shrinks_to=12),
)

BANS = (
    Column("cidr", "PREFIX", weight=9),
    Column("by", "BY", weight=6, shrinks_to=8),
    Column("reason", "REASON", weight=5, shrinks_to=10),
    Column("since", "SINCE", units.when, weight=4),
    Column("expires", "UNTIL", units.when, weight=8),
    Column("count", "TIMES", units.exact, right=True, weight=3),
    Column("threat", "THREAT", weight=2),
)

THREATS = (
    Column("last_seen", "LAST SEEN", units.when, weight=7),
    Column("severity", "SEVERITY", weight=9, meaningful=True),
    Column("detector", "DETECTOR", weight=7),
    Column("src_ip", "FROM", weight=8),
    Column("dst_ip", "TO", weight=6),
    Column("count", "COUNT", units.number, right=True, weight=4),
    Column("state", "STATE", weight=3),
    Column("summary", "SUMMARY", weight=8, shrinks_to=16),
    Column("technique", "TECHNIQUE", weight=1),
    Column("id", "ID", weight=8),
)

AUDIT = (
    Column("at", "WHEN", units.when, weight=8),
    Column("user", "WHO", weight=9),
    Column("uid", "UID", right=True, weight=2),
    Column("pid", "PID", right=True, weight=1),
    Column("change", "CHANGE", weight=9),
    Column("subject", "WHAT", weight=9, shrinks_to=16),
    Column("before", "BEFORE", weight=4, shrinks_to=8),
    Column("after", "AFTER", weight=5, shrinks_to=8),
)

_FLOW_SHOWS = {
    "first_seen": Column("first_seen", "FIRST SEEN", units.when, weight=3),
    "last_seen": Column("last_seen", "LAST SEEN", units.when, weight=6),
    "src_ip": Column("src_ip", "FROM", weight=9, shrinks_to=15),
    "src_port": Column("src_port", "PORT", right=True, weight=5),
    "dst_ip": Column("dst_ip", "TO", weight=9, shrinks_to=15),
    "dst_port": Column("dst_port", "PORT", right=True, weight=8),
    "protocol": Column("protocol", "PROTO", weight=8),
    "packets": Column("packets", "PACKETS", units.number, right=True, weight=7),
    "bytes": Column("bytes", "BYTES", units.octets, right=True, weight=8),
    "reply_packets": Column("reply_packets", "REPLY PKTS", units.number, right=True, weight=4),
    "reply_bytes": Column("reply_bytes", "REPLY BYTES", units.octets, right=True, weight=7),
    "action": Column("action", "ACTION", weight=7, meaningful=True),
    "rule": Column("rule", "RULE", weight=3, shrinks_to=8),
    "interface": Column("interface", "INTERFACE", weight=4),
    "direction": Column("direction", "DIRECTION", weight=2),
    "flows": Column("flows", "FLOWS", units.number, right=True, weight=7),
}
# In a table of flows only what tells them apart; the rest is for -o json and csv.
_FLOW_ORDER = (
    *("last_seen", "src_ip", "src_port", "dst_ip", "dst_port", "protocol", "action"),
    *("packets", "bytes", "reply_packets", "reply_bytes", "rule", "interface"),
)


def flow_columns(fields: tuple[str, ...], grouped: bool) -> list[Column]:
    """The columns for rows with these fields: of flows the telling ones, of a grouping all, as they come."""
    if grouped:
        return [_FLOW_SHOWS.get(field) or Column(field, field.upper().replace("_", " ")) for field in fields]
    return [_FLOW_SHOWS[field] for field in _FLOW_ORDER if field in fields]
