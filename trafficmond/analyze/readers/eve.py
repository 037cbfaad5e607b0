"""Suricata's EVE log: flow and netflow events, and the flow in events of other types.

Source: https://docs.suricata.io/en/latest/output/eve/eve-json-format.html. Many events, also in several files, report
the same connection; `repeats` combines them to one flow.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from trafficmond.analyze.duplicates import EVENT, FLOW, HALF
from trafficmond.analyze.jsonstream import objects
from trafficmond.analyze.rows import Records, recorded, sent
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import SHIPPED, Lacks, Sample, with_time
from trafficmond.analyze.source import Source
from trafficmond.analyze.values import address, count, hashed, icmp_ends, is_icmp, moment, port, protocol, whole
from trafficmond.flows.batch import Batch
from trafficmond.model import Action
from trafficmond.protocols import ACK, SYN

TITLE = "Suricata EVE"

_BACK = frozenset(("to_client", "toclient"))
_ENDS = ("src_ip", "src_port", "dest_ip", "dest_port")
_TURNED = ("dest_ip", "dest_port", "src_ip", "src_port")
_NOTHING: Mapping[str, Any] = {}
_FLATTENED = re.compile(r"(?:net)?flow_(?!id$)|tcp_|alert_")
_NUMBERS = (1 << 64) - 1


def lacks(sample: Sample) -> Lacks:
    return sample.object_lacks(("event_type", "timestamp"), lambda found: with_time(_nested(found)))


def read(source: Source, _stats: RunStats) -> Iterator[Batch]:
    """RECORD rows, one for each event with a flow."""
    return recorded(objects(source), lambda event, records: _take(event, records, source), source, "no flow")


def _take(event: Mapping[str, Any], records: Records, source: Source) -> None:
    kind = event.get("event_type")
    if kind == "netflow" and "netflow" in event:
        _add_half(event, records)
    elif type(flow := event.get("flow")) is dict and "src_ip" in event and "pkts_toserver" in flow:
        _add(event, records, FLOW if kind == "flow" else EVENT)
    elif (nested := _nested(event)) is not event:
        _take(nested, records, source)
    elif kind == "flow":
        raise KeyError("flow.pkts_toserver")
    elif kind == "netflow":
        raise KeyError("netflow")
    else:
        what = f"events of type {str(kind)[:40]} without a flow" if kind else "records that are no events"
        source.note(f"{what} were skipped")


def _nested(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The event with objects instead of names with points ("flow.start"), which some log shippers write; Filebeat may
    have the whole event below suricata.eve."""
    inner = event.get("suricata")
    eve = inner.get("eve") if isinstance(inner, Mapping) else None
    if isinstance(eve, Mapping) and "src_ip" in eve and "pkts_toserver" in (eve.get("flow") or ()):
        return {SHIPPED: event.get(SHIPPED), **eve}
    point = "_" if "flow_pkts_toserver" in event or "netflow_pkts" in event else "."  # as Graylog flattens
    pointed = [name for name in event if point in name and (point == "." or _FLATTENED.match(name))]
    if not pointed:
        return event
    plain = {name: value for name, value in event.items() if name not in pointed}
    whole = "suricata.eve." if "suricata.eve.src_ip" in event else ""
    for name in pointed:
        outer, _, inner = name.removeprefix(whole).partition(point)
        if not inner:
            plain[outer] = event[name]
            continue
        within = plain.get(outer)
        plain[outer] = {**(within if isinstance(within, Mapping) else {}), inner.replace(".", "_"): event[name]}
    return plain


def _add(event: Mapping[str, Any], records: Records, rank: int) -> None:
    flow, tcp = event["flow"], event.get("tcp") or _NOTHING
    start = moment(flow.get("start") or _time(event))
    end = flow.get("end")
    ends = _ends(event, flow) if rank == EVENT or "src_ip" in flow else event
    src, dst = address(str(ends["src_ip"])), address(str(ends["dest_ip"]))
    proto, span = protocol(str(event["proto"])), (start, moment(end) if end else start)
    ours, theirs = _hex(tcp.get("tcp_flags_ts")), _hex(tcp.get("tcp_flags_tc"))
    flags = (ours, ours & SYN, theirs, theirs & (SYN | ACK))
    out, back = (
        sent(proto, src.family, count(flow.get(f"pkts_to{end}")), count(flow.get(f"bytes_to{end}")), flags=seen or None)
        for end, seen in (("server", ours), ("client", theirs))
    )
    connection, action = (_number(event), rank), _action(event, flow)
    ports = _ports(ends, event, proto)
    records.add(src, dst, ports, proto, span, out, back, flags, connection=connection, action=action)


def _time(event: Mapping[str, Any]) -> Any:
    return event[SHIPPED] if "timestamp" not in event and SHIPPED in event else event["timestamp"]


def _ends(event: Mapping[str, Any], flow: Mapping[str, Any]) -> Mapping[str, Any]:
    """The ends of the connection; an event during the connection has those of its packet."""
    if "src_ip" not in flow and event.get("direction") in _BACK:
        return {one: event.get(other) for one, other in zip(_ENDS, _TURNED, strict=True)}
    return {name: event.get(name) if flow.get(name) is None else flow[name] for name in _ENDS}


def _add_half(event: Mapping[str, Any], records: Records) -> None:
    """Adds one direction. It has the flags of all packets, so a SYN may belong to a SYN-ACK."""
    flow = event["netflow"]
    begun, ended = flow.get("start") or _time(event), flow.get("end")
    start = moment(begun)
    end = moment(ended) if ended and ended != begun else start
    src, dst = address(str(event["src_ip"])), address(str(event["dest_ip"]))
    proto, every = protocol(str(event["proto"])), _hex((event.get("tcp") or {}).get("tcp_flags"))
    out, ports = sent(proto, src.family, count(flow["pkts"]), count(flow["bytes"])), _ports(event, event, proto)
    flags, connection = (every, SYN if every & SYN else every & ACK, 0, 0), (_number(event), HALF)
    records.add(src, dst, ports, proto, (start, end), out, flags=flags, connection=connection)


def _number(event: Mapping[str, Any]) -> int:
    """A number that identifies the connection together with its start and ends; 0 if the event has none."""
    flow_id = event.get("flow_id")
    try:
        return whole(flow_id) & _NUMBERS or 1  # shippers and tables also write a text, or a float
    except ValueError:
        return hashed(flow_id)


def _ports(ends: Mapping[str, Any], event: Mapping[str, Any], proto: int) -> tuple[int, int]:
    if not is_icmp(proto):
        return port(ends.get("src_port")), port(ends.get("dest_port"))
    kind = event.get("icmp_type")
    if kind is None or ends["src_ip"] != event["src_ip"]:  # the type is that of a packet in the other direction
        return icmp_ends(None)
    return icmp_ends(count(kind), count(event.get("icmp_code")))


def _action(event: Mapping[str, Any], flow: Mapping[str, Any]) -> Action:
    said = (event.get("alert"), event.get("verdict"), flow, {"action": event.get("event_type")})
    blocked = any(type(part) is dict and part.get("action") in ("blocked", "drop") for part in said)
    return Action.DROP if blocked else Action.MONITOR


@lru_cache(maxsize=1024)
def _hex(text: Any) -> int:
    return int(str(text), 16) & 0xFF if text else 0
