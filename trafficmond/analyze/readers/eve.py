"""Suricata's EVE log: flow and netflow events, and of other events the flow that they name.

Source: https://docs.suricata.io/en/latest/output/eve/eve-json-format.html. A connection is told by many events, in
several files too; `retold` makes one flow of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from trafficmond.analyze.intake import Intake
from trafficmond.analyze.jsonstream import objects
from trafficmond.analyze.retold import EVENT, FLOW, HALF
from trafficmond.analyze.rows import ACK, SYN, Records, address, count, icmp_ends, is_icmp, moment, port, protocol, sent
from trafficmond.analyze.sample import Lacks, Sample
from trafficmond.analyze.source import Source
from trafficmond.flows.batch import Batch
from trafficmond.model import Action

TITLE = "Suricata EVE"

_BACK = frozenset(("to_client", "toclient"))
_ENDS = ("src_ip", "src_port", "dest_ip", "dest_port")


def lacks(sample: Sample) -> Lacks:
    """What keeps a file that begins so from being an EVE log."""
    return sample.object_lacks(("event_type", "timestamp"))


def read(source: Source, _intake: Intake) -> Iterator[Batch]:
    """RECORD rows, one an event that tells of a flow; not yet counted."""
    records = Records()
    for line, event in objects(source):
        try:
            _take(event, records, source)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            source.damage.line(source.name, line, "no flow", _reason(error))
        if records.full:
            yield records.take()
    yield records.take()


def _take(event: Mapping[str, Any], records: Records, source: Source) -> None:
    kind = event.get("event_type")
    if kind == "netflow":
        _add_half(event, records)
    elif isinstance(event.get("flow"), Mapping) and "src_ip" in event and "pkts_toserver" in event["flow"]:
        _add(event, records, FLOW if kind == "flow" else EVENT)
    elif kind == "flow":
        raise KeyError("flow.pkts_toserver")
    else:
        source.note(f"events of type {str(kind)[:40]} without a flow were passed over")


def _add(event: Mapping[str, Any], records: Records, rank: int) -> None:
    flow, tcp = event["flow"], event.get("tcp") or {}
    start = moment(flow.get("start") or event["timestamp"])
    end = moment(flow["end"]) if flow.get("end") else start
    ends = {**event, **{name: flow[name] for name in _ENDS if flow.get(name) is not None}}
    if "src_ip" not in flow and rank == EVENT and event.get("direction") in _BACK:
        ends |= {one: event.get(other) for one, other in zip(_ENDS, (*_ENDS[2:], *_ENDS[:2]), strict=True)}
    src, dst = address(str(ends["src_ip"])), address(str(ends["dest_ip"]))
    proto = protocol(str(event["proto"]))
    client_flags, server_flags = _hex(tcp.get("tcp_flags_ts")), _hex(tcp.get("tcp_flags_tc"))
    records.add(
        src,
        dst,
        _ports(ends, proto, turned=ends["src_ip"] != event["src_ip"]),
        proto,
        (start, end),
        sent(proto, src.family, *_side(flow, "toserver")),
        sent(proto, src.family, *_side(flow, "toclient")),
        (client_flags, client_flags & SYN, server_flags, server_flags & (SYN | ACK)),
        told=(_number(event), rank),
        action=_action(event),
    )


def _add_half(event: Mapping[str, Any], records: Records) -> None:
    """One direction. Its flags are those of all packets, so that a SYN may be its own or that of a SYN-ACK."""
    flow = event["netflow"]
    start = moment(flow.get("start") or event["timestamp"])
    end = moment(flow["end"]) if flow.get("end") else start
    src, proto = address(str(event["src_ip"])), protocol(str(event["proto"]))
    every = _hex((event.get("tcp") or {}).get("tcp_flags"))
    records.add(
        src,
        address(str(event["dest_ip"])),
        _ports(event, proto),
        proto,
        (start, end),
        sent(proto, src.family, count(flow["pkts"]), count(flow["bytes"])),
        (0, 0, 0),
        (every, SYN if every & SYN else every & ACK, 0, 0),
        told=(_number(event), HALF),
    )


def _number(event: Mapping[str, Any]) -> int:
    """What stands for the connection, with its start and its ends; 0 if the event does not say."""
    told = event.get("flow_id")
    if told is None:
        return 0
    if isinstance(told, int):
        return told & 0xFFFFFFFFFFFFFFFF or 1
    return zlib.crc32(str(told).encode()) or 1


def _ports(event: Mapping[str, Any], proto: int, *, turned: bool = False) -> tuple[int, int]:
    if not is_icmp(proto):
        return port(event.get("src_port")), port(event.get("dest_port"))
    kind = event.get("icmp_type")
    if kind is None or turned:  # the type is that of a packet the other way
        return icmp_ends(None)
    return icmp_ends(count(kind), count(event.get("icmp_code")))


def _side(flow: Mapping[str, Any], side: str) -> tuple[int, int]:
    return count(flow.get(f"pkts_{side}", 0)), count(flow.get(f"bytes_{side}", 0))


def _action(event: Mapping[str, Any]) -> Action:
    blocked = (event.get("alert") or {}).get("action") == "blocked" or event["flow"].get("action") == "drop"
    return Action.DROP if blocked else Action.MONITOR


def _hex(text: Any) -> int:
    return int(str(text), 16) & 0xFF if text else 0


def _reason(error: Exception) -> str:
    return f"{error.args[0]} missing" if isinstance(error, KeyError) else str(error)
