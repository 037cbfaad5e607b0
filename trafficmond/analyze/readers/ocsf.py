"""Network activity in OCSF (class 4001) as JSON, for example VPC flow logs from AWS Security Lake.

Source: https://schema.ocsf.io/classes/network_activity. A record is one direction of a flow.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trafficmond.analyze.jsonstream import objects
from trafficmond.analyze.rows import Records, counted_packets, one_way_flags, recorded, sent
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import Lacks, Sample
from trafficmond.analyze.source import Source
from trafficmond.analyze.values import address, count, icmp_ends, is_icmp, moment, port, protocol, unset
from trafficmond.flows.batch import Batch
from trafficmond.model import Action, Direction

TITLE = "OCSF network activity"

_CLASS = "4001"
_OBJECTS = ("src_endpoint", "dst_endpoint", "traffic", "connection_info")
_PART = re.compile(f"({'|'.join(_OBJECTS)})[._](\\w+)")
_NO_RECORD = frozenset(("NODATA", "SKIPDATA"))
_DENIED, _BLOCKED, _REJECT = "2", "Blocked", "REJECT"
_OUTBOUND = "2"


def lacks(sample: Sample) -> Lacks:
    return sample.object_lacks(("class_uid", "src_endpoint", "dst_endpoint"), lambda found: [*_nested(found)])


def read(source: Source, stats: RunStats) -> Iterator[Batch]:
    """RECORD rows, one for each event. Events of other classes are skipped, with a note."""

    def take(event: Mapping[str, Any], records: Records) -> None:
        if str(event.get("class_uid", _CLASS)) != _CLASS:
            source.note(f"events of class {str(event.get('class_name') or event['class_uid'])[:40]} were skipped")
        elif str(event.get("status_code")) in _NO_RECORD:
            source.note("records without data (NODATA, SKIPDATA) were skipped")
        else:
            _add(_nested(event), records, source, stats)

    return recorded(objects(source), take, source, "no event")


def _nested(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The event with objects instead of names with points or underscores (src_endpoint.ip), which tables have."""
    nested: dict[str, Any] = {}
    for name, value in event.items():
        if found := _PART.fullmatch(name):
            nested.setdefault(found[1], {})[found[2]] = value
    return {**event, **nested} if nested else event


def _add(event: Mapping[str, Any], records: Records, source: Source, stats: RunStats) -> None:
    src, dst, traffic, connection = (_object(event, name) for name in _OBJECTS)
    start = _moment(event, "start_time", "time")
    all_flags = None if unset(connection.get("tcp_flags")) else count(connection["tcp_flags"]) & 0xFF
    proto = protocol(str(_first(connection, "protocol_num", "protocol_name")))
    action = event.get("action")
    denied = (
        str(event.get("action_id")) == _DENIED or event.get("disposition") == _BLOCKED or action in (_REJECT, "Denied")
    )
    outbound = str(connection.get("direction_id")) == _OUTBOUND
    begun, target = address(str(src["ip"])), address(str(dst["ip"]))
    ports = icmp_ends(None) if is_icmp(proto) else (port(src.get("port")), port(dst.get("port")))
    out, back = (sent(proto, begun.family, *each, link=0) for each in _sides(traffic, source))
    span = start, _moment(event, "end_time", "start_time", "time")
    flags = (*one_way_flags(all_flags, ports, proto, begun.family, out), 0, 0)
    interface = (src if outbound else dst).get("interface_uid")
    more: dict[str, Any] = {"direction": Direction.EGRESS} if outbound else {}
    more |= {"action": Action.DROP if denied else Action.MONITOR, "ifindex": stats.ifindex(str(interface or ""))}
    records.add(begun, target, ports, proto, span, out, back, flags, **more)


def _object(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = event.get(name)
    if not isinstance(found, Mapping):
        raise KeyError(name)
    return found


def _sides(traffic: Mapping[str, Any], source: Source) -> tuple[tuple[int, int], tuple[int, int]]:
    """(packets, bytes) of the source and of the destination; a single sum belongs to the source."""
    out, back, whole = (
        (counted_packets(traffic.get(f"packets{way}"), octets, source), octets)
        for way in ("_out", "_in", "")
        for octets in (count(traffic.get(f"bytes{way}")),)
    )
    if out[0] or back[0]:
        return out, back
    if not whole[0]:
        raise KeyError("packets")
    return whole, (0, 0)


def _first(fields: Mapping[str, Any], *names: str) -> Any:
    """The first of the named fields that has a value."""
    for name in names:
        if not unset(fields.get(name)) and fields[name] != -1:
            return fields[name]
    raise KeyError(names[0])


def _moment(event: Mapping[str, Any], *names: str) -> float:
    """The first of the named times that is there, as a number or as text (NAME_dt). Epoch seconds."""
    for name in names:
        for value in (event.get(name), event.get(name + "_dt")):
            if not unset(value):
                return moment(value)
    raise KeyError(names[-1])
