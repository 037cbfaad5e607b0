"""Argus flows as `ra` writes them with commas: binetflow files, as of the CTU and Stratosphere data sets.

One line is one bidirectional flow with the packets of both sides together; a side's share is known only where
SrcPkts or SrcBytes are among the columns, else an answered flow is taken for half and half.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trafficmond.analyze.intake import Intake
from trafficmond.analyze.rows import (
    Records,
    address,
    count,
    counted_records,
    flags,
    iso_time,
    port,
    protocol,
    sent,
)  # fmt: skip
from trafficmond.analyze.source import Source
from trafficmond.flows.batch import Batch

TITLE = "Argus binetflow"

_NEEDED = frozenset(("StartTime", "Dur", "Proto", "SrcAddr", "DstAddr", "TotPkts", "TotBytes"))
_NOT_IP = frozenset(("arp", "rarp", "llc", "man", "ipx", "loop", "lldp", "stp", "eth", "isis", "mpls"))
_UNANSWERED = frozenset(("INT", "REQ", "URP", "URH", "URN", "TXD", "ECO"))


def matches(head: bytes) -> bool:
    """Whether a file that begins so is a binetflow."""
    return set(_values(head.split(b"\n")[0])) >= _NEEDED


def read(source: Source, intake: Intake) -> Iterator[Batch]:
    """RECORD rows, one a flow. Flows that are not IP are counted as such."""
    records = Records()
    names: list[str] = []
    for number, line in source.lines():
        values = _values(line)
        if set(values) >= _NEEDED:
            names = values
            continue
        if len(values) < len(names):
            if line.strip():
                source.damage.line(source.name, number, f"{len(values)} fields instead of {len(names)}", line)
            continue
        fields = dict(zip(names, values, strict=False))
        try:
            if fields["Proto"] in _NOT_IP:
                intake.other(count(fields["TotPkts"]), count(fields["TotBytes"]))
                intake.records += 1
            else:
                _add(fields, records)
        except ValueError as error:
            source.damage.line(source.name, number, "no flow", str(error))
        if records.full:
            yield counted_records(records.take(), intake)
    yield counted_records(records.take(), intake)


def _values(line: bytes) -> list[str]:
    return line.decode("utf-8", "replace").strip().split(",")


def _add(fields: Mapping[str, str], records: Records) -> None:
    start = iso_time(fields["StartTime"].replace("/", "-"))
    proto = protocol(_PROTOCOLS.get(fields["Proto"], fields["Proto"]))
    state = fields.get("State", "")
    packets, octets = count(fields["TotPkts"]), count(fields["TotBytes"])
    ours, theirs = state.split("_", 1) if "_" in state else ("", "")
    arrow = fields.get("Dir", "")
    answered = bool(theirs) if "_" in state else state not in _UNANSWERED and ("<" in arrow or state == "CON")
    packets_out, octets_out = _shares(fields, packets, octets, answered=answered and packets > 1)
    src, dst = address(fields["SrcAddr"]), address(fields["DstAddr"])
    ports = port(fields.get("Sport")), port(fields.get("Dport"))
    one = sent(proto, src.family, packets_out, octets_out)
    other = sent(proto, src.family, packets - packets_out, octets - octets_out)
    first = _first_flags(ours, opened=True), _first_flags(theirs, opened=False)
    span = (start, start + float(fields["Dur"] or 0))
    if "<" in arrow and ">" not in arrow:  # the destination began
        records.add(dst, src, (ports[1], ports[0]), proto, span, other, one)
        return
    records.add(src, dst, ports, proto, span, one, other, (flags(ours), first[0], flags(theirs), first[1]))


_PROTOCOLS = {"rtp": "udp", "rtcp": "udp", "udt": "udp"}  # what Argus recognised inside


def _shares(fields: Mapping[str, str], packets: int, octets: int, *, answered: bool) -> tuple[int, int]:
    """(packets, bytes) of the source."""
    sent_bytes = count(fields["SrcBytes"]) if fields.get("SrcBytes") else octets if not answered else octets // 2
    sent = count(fields["SrcPkts"]) if fields.get("SrcPkts") else packets if not answered else -(-packets // 2)
    return min(sent, packets), min(sent_bytes, octets)


def _first_flags(letters: str, *, opened: bool) -> int:
    """The first packet's flags: a side that showed a SYN began with it; anything else was under way."""
    if "S" in letters:
        return flags("S" if opened else "SA")
    return flags(letters) & flags("A")
