"""Network activity in OCSF (class 4001), which AWS Security Lake makes of VPC flow logs, as JSON.

Source: https://schema.ocsf.io/classes/network_activity. A record is one direction of a flow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trafficmond.analyze.intake import Intake
from trafficmond.analyze.jsonstream import looks_like, objects
from trafficmond.analyze.rows import ACK, SYN, Records, address, counted_records, iso_time, port, sent
from trafficmond.analyze.source import Source
from trafficmond.flows.batch import Batch
from trafficmond.model import Action, Direction

TITLE = "OCSF network activity"

_MILLISECONDS = 1e11  # a time beyond it is in milliseconds, as the schema asks; some writers give seconds
_DENIED, _BLOCKED = 2, "Blocked"
_OUTBOUND = 2


def matches(head: bytes) -> bool:
    """Whether a file that begins so holds OCSF network activity."""
    return looks_like(head, "class_uid", "src_endpoint", "dst_endpoint")


def read(source: Source, intake: Intake) -> Iterator[Batch]:
    """RECORD rows, one an event."""
    records = Records()
    for line, event in objects(source):
        try:
            _add(event, records, intake)
        except (ValueError, TypeError, AttributeError) as error:
            source.damage.line(source.name, line, "no event", str(error))
        except KeyError as error:
            source.damage.line(source.name, line, "no event", f"{error.args[0]} missing")
        if records.full:
            yield counted_records(records.take(), intake)
    yield counted_records(records.take(), intake)


def _add(event: Mapping[str, Any], records: Records, intake: Intake) -> None:
    src, dst = event["src_endpoint"], event["dst_endpoint"]
    traffic, connection = event["traffic"], event["connection_info"]
    start = _moment(event, "start_time", "time")
    flags = int(connection.get("tcp_flags") or 0) & 0xFF
    packets, octets, proto = int(traffic["packets"]), int(traffic["bytes"]), int(connection["protocol_num"])
    if packets < 0 or octets < 0 or not 0 <= proto <= 255:
        raise ValueError(f"{packets} packets of {octets} bytes of protocol {proto} cannot be")
    denied = event.get("action_id") == _DENIED or event.get("disposition") == _BLOCKED
    outbound = connection.get("direction_id") == _OUTBOUND
    source = address(str(src["ip"]))
    interface = (src if outbound else dst).get("interface_uid")
    records.add(
        source,
        address(str(dst["ip"])),
        (port(src.get("port")), port(dst.get("port"))),
        proto,
        (start, _moment(event, "end_time", "start_time", "time")),
        sent(proto, source.family, packets, octets, link=0),
        (0, 0, 0),
        (flags, flags & (SYN | ACK) if flags & SYN else 0, 0, 0),
        action=Action.DROP if denied else Action.MONITOR,
        direction=Direction.EGRESS if outbound else Direction.INGRESS,
        ifindex=intake.ifindex(str(interface or "")),
    )


def _moment(event: Mapping[str, Any], *names: str) -> float:
    """The first of the named times that is there, as a number or as text (NAME_dt). Epoch seconds."""
    for name in names:
        value = event.get(name)
        if value is not None:
            return float(value) / 1000 if float(value) > _MILLISECONDS else float(value)
        if event.get(name + "_dt"):
            return iso_time(str(event[name + "_dt"]))
    raise KeyError(names[-1])
