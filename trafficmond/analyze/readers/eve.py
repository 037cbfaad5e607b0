"""Suricata's EVE log: flow and netflow events, and the flow in events of other types.

Source: https://docs.suricata.io/en/latest/output/eve/eve-json-format.html. Many events, also in several files, report
the same connection; `repeats` combines them to one flow.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from trafficmond.analyze.duplicates import EVENT, FLOW, HALF
from trafficmond.analyze.jsonstream import objects
from trafficmond.analyze.rows import Records, address, count, icmp_ends, moment, port, protocol, sent
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import SHIPPED, Lacks, Sample, with_time
from trafficmond.analyze.source import Source
from trafficmond.flows.batch import Batch
from trafficmond.model import Action
from trafficmond.protocols import ACK, ICMP, ICMPV6, SYN

TITLE = "Suricata EVE"

_BACK = frozenset(("to_client", "toclient"))
_ENDS = ("src_ip", "src_port", "dest_ip", "dest_port")
_TURNED = ("dest_ip", "dest_port", "src_ip", "src_port")
_NOTHING: Mapping[str, Any] = {}
_ICMPS = frozenset((ICMP, ICMPV6))
_NUMBERS = (1 << 64) - 1


def lacks(sample: Sample) -> Lacks:
    """The reasons why a file that begins like this is not an EVE log."""
    return sample.object_lacks(("event_type", "timestamp"), lambda found: with_time(_nested(found)))


def read(source: Source, _stats: RunStats) -> Iterator[Batch]:
    """RECORD rows, one for each event with a flow; not counted yet."""
    records = Records()
    for line, event in objects(source):
        try:
            _take(event, records, source)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            source.parse_errors.line(source.name, line, "no flow", _reason(error))
        if records.full:
            yield records.take()
    yield records.take()


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
    pointed = [name for name in event if "." in name]
    if not pointed:
        return event
    plain = {name: value for name, value in event.items() if "." not in name}
    for name in pointed:
        outer, _, inner = name.partition(".")
        within = plain.get(outer)
        plain[outer] = {**(within if isinstance(within, Mapping) else {}), inner.replace(".", "_"): event[name]}
    return plain


def _add(event: Mapping[str, Any], records: Records, rank: int) -> None:
    flow, tcp = event["flow"], event.get("tcp") or _NOTHING
    start = moment(flow.get("start") or _time(event))
    end = flow.get("end")
    ends = _ends(event, flow) if rank == EVENT or "src_ip" in flow else event
    src, dst = address(str(ends["src_ip"])), address(str(ends["dest_ip"]))
    proto = protocol(str(event["proto"]))
    client_flags, server_flags = _hex(tcp.get("tcp_flags_ts")), _hex(tcp.get("tcp_flags_tc"))
    records.add(
        src,
        dst,
        _ports(ends, event, proto),
        proto,
        (start, moment(end) if end else start),
        sent(proto, src.family, count(flow.get("pkts_toserver")), count(flow.get("bytes_toserver"))),
        sent(proto, src.family, count(flow.get("pkts_toclient")), count(flow.get("bytes_toclient"))),
        (client_flags, client_flags & SYN, server_flags, server_flags & (SYN | ACK)),
        connection=(_number(event), rank),
        action=_action(event, flow),
    )


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
    src, proto = address(str(event["src_ip"])), protocol(str(event["proto"]))
    every = _hex((event.get("tcp") or {}).get("tcp_flags"))
    records.add(
        src,
        address(str(event["dest_ip"])),
        _ports(event, event, proto),
        proto,
        (start, end),
        sent(proto, src.family, count(flow["pkts"]), count(flow["bytes"])),
        (0, 0, 0),
        (every, SYN if every & SYN else every & ACK, 0, 0),
        connection=(_number(event), HALF),
    )


def _number(event: Mapping[str, Any]) -> int:
    """A number that identifies the connection together with its start and ends; 0 if the event has none."""
    flow_id = event.get("flow_id")
    if type(flow_id) is int:
        return flow_id & _NUMBERS or 1
    if flow_id is None:
        return 0
    if isinstance(flow_id, str) and flow_id.isdecimal():  # as some log shippers write it
        return int(flow_id) & _NUMBERS or 1
    return zlib.crc32(str(flow_id).encode(errors="surrogatepass")) or 1


def _ports(ends: Mapping[str, Any], event: Mapping[str, Any], proto: int) -> tuple[int, int]:
    if proto not in _ICMPS:
        return port(ends.get("src_port")), port(ends.get("dest_port"))
    kind = event.get("icmp_type")
    if kind is None or ends["src_ip"] != event["src_ip"]:  # the type is that of a packet in the other direction
        return icmp_ends(None)
    return icmp_ends(count(kind), count(event.get("icmp_code")))


def _action(event: Mapping[str, Any], flow: Mapping[str, Any]) -> Action:
    alert = event.get("alert")
    blocked = (alert and alert.get("action") == "blocked") or flow.get("action") == "drop"
    return Action.DROP if blocked else Action.MONITOR


@lru_cache(maxsize=1024)
def _hex(text: Any) -> int:
    return int(str(text), 16) & 0xFF if text else 0


def _reason(error: Exception) -> str:
    return f"{error.args[0]} missing" if isinstance(error, KeyError) else str(error)
