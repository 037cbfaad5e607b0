"""AWS VPC flow logs as text: the default format (version 2) without a header, or any fields that a header names.

Source: https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html. A record is one direction of a flow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from trafficmond.analyze.intake import Intake
from trafficmond.analyze.rows import ACK, SYN, Records, address, count, counted_records, port, protocol, sent
from trafficmond.analyze.source import Source
from trafficmond.flows.batch import Batch
from trafficmond.model import Action, Direction

TITLE = "AWS VPC flow log"

_DEFAULT = [
    *("version", "account-id", "interface-id", "srcaddr", "dstaddr", "srcport", "dstport", "protocol"),
    *("packets", "bytes", "start", "end", "action", "log-status"),
]
_NEEDED = frozenset(("srcaddr", "dstaddr", "protocol", "packets", "bytes", "start"))
_HEADERLESS = re.compile(rb"2 (\d{12}|unknown) \S+ (\S+ \S+ \S+ \S+ \d+ \d+ \d+|- - - - - - -) \d+ \d+ \S+ \S+\s*$")


def matches(head: bytes) -> bool:
    """Whether a file that begins so is a VPC flow log."""
    first = head.split(b"\n")[0]
    return set(_names(first)) >= _NEEDED or _HEADERLESS.match(first) is not None


def read(source: Source, intake: Intake) -> Iterator[Batch]:
    """RECORD rows, one a record; those that say NODATA or SKIPDATA carry none."""
    records = Records()
    names = _DEFAULT
    for number, line in source.lines():
        if set(_names(line)) >= _NEEDED:
            names = _names(line)
            continue
        values = _split(line)
        if not line.strip():
            continue
        if len(values) != len(names):
            source.damage.line(source.name, number, f"{len(values)} fields instead of {len(names)}", line)
            continue
        fields = dict(zip(names, values, strict=True))
        if fields.get("log-status") in ("NODATA", "SKIPDATA") or fields["srcaddr"] == "-":
            continue
        try:
            _add(fields, records, intake)
        except ValueError as error:
            source.damage.line(source.name, number, "no record", str(error))
        if records.full:
            yield counted_records(records.take(), intake)
    yield counted_records(records.take(), intake)


def _add(fields: Mapping[str, str], records: Records, intake: Intake) -> None:
    start = float(fields["start"])
    flags = count(fields.get("tcp-flags", "-")) & 0xFF
    direction = Direction.EGRESS if fields.get("flow-direction") == "egress" else Direction.INGRESS
    src, proto = address(fields["srcaddr"]), protocol(fields["protocol"])
    records.add(
        src,
        address(fields["dstaddr"]),
        (port(fields.get("srcport")), port(fields.get("dstport"))),
        proto,
        (start, float(fields["end"]) if fields.get("end", "-") != "-" else start),
        sent(proto, src.family, count(fields["packets"]), count(fields["bytes"]), link=0),
        (0, 0, 0),
        (flags, flags & (SYN | ACK) if flags & SYN else 0, 0, 0),
        action=Action.DROP if fields.get("action") == "REJECT" else Action.MONITOR,
        direction=direction,
        ifindex=intake.ifindex(fields.get("interface-id", "")),
    )


def _split(line: bytes) -> list[str]:
    text = line.decode("utf-8", "replace").strip()
    return text.split(",") if "," in text else text.split()


def _names(line: bytes) -> list[str]:
    """Field names of a header; Parquet and Athena write them with underscores."""
    return [name.strip('"').lower().replace("_", "-") for name in _split(line)]
