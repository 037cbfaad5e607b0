"""Connections in the Elastic Common Schema: Packetbeat's flows, and Filebeat's modules for Suricata, Zeek, NetFlow and
firewalls, if they did not keep the original record.

Source: https://www.elastic.co/guide/en/ecs/current/ecs-field-reference.html. Names are nested or have points. Many
events report the same connection (Packetbeat every ten seconds, Suricata with each alert); `repeats` combines them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from trafficmond.analyze.duplicates import EVENT, FLOW, HALF
from trafficmond.analyze.jsonstream import inside, objects
from trafficmond.analyze.rows import Records, counted_packets, recorded, sent
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import SHIPPED, Lacks, Sample
from trafficmond.analyze.source import Source
from trafficmond.analyze.values import address, count, hashed, icmp_ends, is_icmp, moment, port, protocol
from trafficmond.flows.batch import Batch
from trafficmond.model import Action, Direction

TITLE = "Elastic Common Schema"

_NEEDED = (SHIPPED, "source.ip", "destination.ip", "network.transport", "network.bytes")
_COUNTED = ("source.bytes", "source.packets", "destination.bytes", "network.bytes")
_NUMBERS = ("suricata.eve.flow_id", "flow.id", "zeek.session_id")
_INPUT = ("input.type", "event.action", "event.dataset")
_INSTEAD = {"source.ip": "source.address", "destination.ip": "destination.address"}  # which may be a name, too
_OUTBOUND = ("outbound", "egress")
_RESULTS = ("event.type", "event.action", "event.outcome")
_DENIED = frozenset(
    ("denied", "deny", "drop", "dropped", "blocked", "reject", "rejected", "flow_denied", "flow_dropped")
)


def lacks(sample: Sample) -> Lacks:
    """Why a file that begins like this has no such events. If it has the original records, these are read instead."""
    if any(inside(found) for found in sample.objects):
        return None
    return sample.object_lacks(_NEEDED, lambda found: [name for name in _NEEDED if _has(found, name)])


def read(source: Source, _stats: RunStats) -> Iterator[Batch]:
    """RECORD rows, one for each event with counts."""
    return recorded(objects(source), lambda event, records: _take(event, records, source), source, "no flow")


def _take(event: Mapping[str, Any], records: Records, source: Source) -> None:
    if all(_of(event, name) is None for name in _COUNTED):
        source.note("events that count no packets or bytes were skipped")
    elif _of(event, "agent.type") == "packetbeat" and (kind := _of(event, "type")) not in (None, "flow"):
        source.note(f"events of type {str(kind)[:40]} were skipped, because Packetbeat's flows have their packets")
    else:
        _add(event, records, source)


def _has(event: Mapping[str, Any], name: str) -> bool:
    names = {"network.bytes": _COUNTED, "network.transport": ("network.transport", "network.iana_number")}
    return any(_of(event, one) is not None for one in names.get(name, (name,)))


def _of(event: Mapping[str, Any], name: str) -> Any:
    """The value of a name with points, at any nesting; the first element of a list."""
    value = _found(event, name)
    if value is None and name in _INSTEAD:
        value = _found(event, _INSTEAD[name])
    return value[0] if type(value) is list and value else value


def _values(event: Mapping[str, Any], name: str) -> list[Any]:
    value = _found(event, name)
    return value if type(value) is list else [value]


def _found(event: Mapping[str, Any], name: str) -> Any:
    if name in event:
        return event[name]
    outer, _, rest = name.partition(".")
    within = event.get(outer)
    return _found(within, rest) if rest and isinstance(within, Mapping) else None


def _add(event: Mapping[str, Any], records: Records, source: Source) -> None:
    if missing := [name for name in ("source.ip", "destination.ip") if _of(event, name) is None]:
        raise ValueError(f"{', '.join(missing)} missing")
    src, dst = address(str(_of(event, "source.ip"))), address(str(_of(event, "destination.ip")))
    number = _of(event, "network.iana_number")
    transport = str(_of(event, "network.transport") if number is None else number)
    proto = protocol("ipv6-icmp" if transport == "icmp" and src.family == 6 else transport)
    sport, dport = _of(event, "source.port"), _of(event, "destination.port")
    ports = icmp_ends(None) if is_icmp(proto) else (port(sport), port(dport))
    out, back = (_side(event, side, source) for side in ("source", "destination"))
    if not out[0] and not back[0]:
        out = _side(event, "network", source)
    flow_id = next((found for name in _NUMBERS if (found := _of(event, name)) is not None), None)
    rank = FLOW if _of(event, "flow.final") is True or _of(event, "suricata.eve.event_type") == "flow" else EVENT
    if any("netflow" in str(_of(event, name)) for name in _INPUT):  # both directions have one flow.id
        rank = HALF
    denied = any(str(word).lower() in _DENIED for name in _RESULTS for word in _values(event, name))
    action = Action.DROP if denied else Action.MONITOR
    direction = Direction.EGRESS if _of(event, "network.direction") in _OUTBOUND else Direction.INGRESS
    connection = hashed(flow_id), rank
    first, other = (sent(proto, src.family, *each) for each in (out, back))
    more: dict[str, Any] = {"connection": connection, "action": action, "direction": direction}
    records.add(src, dst, ports, proto, _span(event), first, other, **more)


def _side(event: Mapping[str, Any], side: str, source: Source) -> tuple[int, int]:
    """(packets, bytes) of a side."""
    octets = count(_of(event, f"{side}.bytes"))
    return counted_packets(_of(event, f"{side}.packets"), octets, source), octets


def _span(event: Mapping[str, Any]) -> tuple[float, float]:
    """(start, end): from the event, else from its duration (ns) and the other one, else the time of the event."""
    start, end = _of(event, "event.start"), _of(event, "event.end")
    length = float(_of(event, "event.duration") or 0) / 1e9
    if start is None and end is not None:
        return moment(end) - length, moment(end)
    at = moment(_of(event, SHIPPED) if start is None else start)
    return at, at + length if end is None else moment(end)
