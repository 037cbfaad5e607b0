"""Suricata's EVE log: flow and netflow events; of other events their flow, where that has no event of its own.

Source: https://docs.suricata.io/en/latest/output/eve/eve-json-format.html
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from trafficmond.analyze.intake import Intake
from trafficmond.analyze.jsonstream import looks_like, objects
from trafficmond.analyze.rows import ACK, SYN, Records, address, counted_records, iso_time, port, protocol, sent
from trafficmond.analyze.source import Source
from trafficmond.flows.batch import Batch
from trafficmond.model import Action

TITLE = "Suricata EVE"

PENDING_MAX = 65536
"""Flows known only from an alert so far; beyond it the oldest are taken as they are."""


def matches(head: bytes) -> bool:
    """Whether a file that begins so is an EVE log."""
    return looks_like(head, "event_type", "timestamp")


def read(source: Source, intake: Intake) -> Iterator[Batch]:
    """RECORD rows, one a flow."""
    records = Records()
    pending: OrderedDict[Any, Mapping[str, Any]] = OrderedDict()
    for line, event in objects(source):
        try:
            _take(event, records, pending)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            source.damage.line(source.name, line, "no flow", _reason(error))
        if records.full:
            yield counted_records(records.take(), intake)
    for last in pending.values():
        _add(last, records)
    yield counted_records(records.take(), intake)


def _take(event: Mapping[str, Any], records: Records, pending: OrderedDict[Any, Mapping[str, Any]]) -> None:
    kind = event.get("event_type")
    if kind == "flow":
        _add(event, records)
        pending.pop(event.get("flow_id"), None)
    elif kind == "netflow":
        _add_one_way(event, records)
    elif isinstance(event.get("flow"), Mapping) and "src_ip" in event:
        _add(event, Records())  # raises now, with the line at hand, if it cannot be read
        pending[event.get("flow_id", id(event))] = event
        if len(pending) > PENDING_MAX:
            _add(pending.popitem(last=False)[1], records)


def _add(event: Mapping[str, Any], records: Records) -> None:
    flow, tcp = event["flow"], event.get("tcp") or {}
    start = iso_time(str(flow.get("start") or event["timestamp"]))
    end = iso_time(str(flow["end"])) if flow.get("end") else start
    src, dst = address(str(event["src_ip"])), address(str(event["dest_ip"]))
    ports = _ports(event)
    proto = protocol(str(event["proto"]))
    client_flags, server_flags = _hex(tcp.get("tcp_flags_ts")), _hex(tcp.get("tcp_flags_tc"))
    records.add(
        src,
        dst,
        ports,
        proto,
        (start, end),
        sent(proto, src.family, *_side(flow, "toserver")),
        sent(proto, src.family, *_side(flow, "toclient")),
        (client_flags, client_flags & SYN, server_flags, server_flags & (SYN | ACK)),
        action=_action(event),
    )


def _add_one_way(event: Mapping[str, Any], records: Records) -> None:
    flow = event["netflow"]
    start = iso_time(str(flow.get("start") or event["timestamp"]))
    end = iso_time(str(flow["end"])) if flow.get("end") else start
    src, proto = address(str(event["src_ip"])), protocol(str(event["proto"]))
    every = _hex((event.get("tcp") or {}).get("tcp_flags"))
    records.add(
        src,
        address(str(event["dest_ip"])),
        _ports(event),
        proto,
        (start, end),
        sent(proto, src.family, int(flow["pkts"]), int(flow["bytes"])),
        (0, 0, 0),
        (every, every & (SYN | ACK), 0, 0),
    )


def _ports(event: Mapping[str, Any]) -> tuple[int, int]:
    if "icmp_type" in event:
        return port(event["icmp_type"]), port(event.get("icmp_code"))
    return port(event.get("src_port")), port(event.get("dest_port"))


def _side(flow: Mapping[str, Any], side: str) -> tuple[int, int]:
    packets, octets = int(flow.get(f"pkts_{side}", 0)), int(flow.get(f"bytes_{side}", 0))
    if packets < 0 or octets < 0:
        raise ValueError(f"{packets} packets of {octets} bytes cannot be")
    return packets, octets


def _action(event: Mapping[str, Any]) -> Action:
    blocked = (event.get("alert") or {}).get("action") == "blocked" or event["flow"].get("action") == "drop"
    return Action.DROP if blocked else Action.MONITOR


def _hex(text: Any) -> int:
    return int(str(text), 16) & 0xFF if text else 0


def _reason(error: Exception) -> str:
    return f"{error.args[0]} missing" if isinstance(error, KeyError) else str(error)
