"""Converts REPORT batches to IPFIX messages (RFC 7011). Pure."""

import struct
from collections.abc import Iterator

import numpy as np

from trafficmond.dataclass import dataclass, field
from trafficmond.export.templates import TEMPLATES, Template, template_sets
from trafficmond.flows.batch import Batch, Column, octets, take
from trafficmond.flows.canonical import reply_ports
from trafficmond.flows.report import End
from trafficmond.model import Direction
from trafficmond.protocols import ICMP, ICMPV6
from trafficmond.verdict import is_drop

VERSION = 10
HEADER_BYTES = 16
_SET_BYTES = 4
_SEQUENCE_MASK = 0xFFFFFFFF

# forwardingStatus (element 89): forwarded, reason unknown; dropped by an ACL (RFC 7270 section 4.12)
_FORWARDED, _DROPPED = 64, 130
# firewallEvent (element 233)
_DELETED, _DENIED, _UPDATE = 2, 3, 5


@dataclass(frozen=True, slots=True)
class Part:
    """Complete Data Sets that fit into one message, and the numbers of records and flows in them."""

    sets: bytes
    records: int
    flows: int  # REPORT rows; a row may need two records


@dataclass(slots=True)
class Stream:
    """The numbering of one Transport Session (RFC 7011 section 3.1)."""

    domain: int
    sequence: int = field(default=0)  # data records sent before

    def message(self, sets: bytes, records: int, now: float) -> bytes:
        """A message of these sets. The sequence number increases by its data records."""
        header = struct.pack(
            ">HHIII", VERSION, HEADER_BYTES + len(sets), int(now) & _SEQUENCE_MASK, self.sequence, self.domain
        )
        self.sequence = (self.sequence + records) & _SEQUENCE_MASK
        return header + sets

    def templates(self, max_bytes: int, now: float) -> list[bytes]:
        """Messages of at most `max_bytes` with all templates."""
        return [self.message(each, 0, now) for each in template_sets(max_bytes - HEADER_BYTES)]


def parts(rows: Batch, max_bytes: int, *, biflow: bool) -> Iterator[Part]:
    """Packs rows into the bodies of messages of at most `max_bytes` each.

    With `biflow` a row with both directions is one record of the initiator, with the responder's counters as reverse
    elements; without, it is two records. A row with packets of the responder only is one record of the responder.
    """
    records, flows_of = _directions(rows, biflow)
    both = records["reply_packets"] > 0
    icmp = (records["proto"] == ICMP) | (records["proto"] == ICMPV6)
    room, sets, count, flows = max_bytes - HEADER_BYTES, b"", 0, 0
    for template in TEMPLATES:
        chosen = np.flatnonzero(
            (records["family"] == template.family) & (icmp == template.icmp) & (both == template.biflow)
        )
        data = _encode(take(records, chosen), template).tobytes()
        complete = flows_of[chosen]
        size, at = template.layout.itemsize, 0
        while at < len(chosen):
            fit = (room - len(sets) - _SET_BYTES) // size
            if fit <= 0:
                yield Part(sets, count, flows)
                sets, count, flows = b"", 0, 0
                continue
            here = min(fit, len(chosen) - at)
            sets += struct.pack(">HH", template.id, _SET_BYTES + here * size) + data[at * size : (at + here) * size]
            flows += int(complete[at : at + here].sum())
            count += here
            at += here
    if count:
        yield Part(sets, count, flows)


def _directions(rows: Batch, biflow: bool) -> tuple[Batch, Column]:
    """(records, flows): a REPORT row for each record, and how many of the given rows are complete with it."""
    backward = rows["packets"] == 0
    forward = take(rows, np.flatnonzero(~backward))
    replies = _reversed(take(rows, np.flatnonzero(backward)))
    answered = np.flatnonzero(forward["reply_packets"] > 0)
    if biflow or not len(answered):
        records = np.concatenate([forward, replies])
        return records, np.ones(len(records), np.int64)
    second = _reversed(take(forward, answered))
    forward["reply_packets"] = forward["reply_bytes"] = 0
    records = np.concatenate([forward, replies, second])
    complete = np.ones(len(records), np.int64)
    complete[answered] = 0  # their second records follow later, in the same template
    return records, complete


def _reversed(rows: Batch) -> Batch:
    turned = rows.copy()
    for one, other in (("src_hi", "dst_hi"), ("src_lo", "dst_lo")):
        turned[one], turned[other] = rows[other], rows[one]
    turned["sport"], turned["dport"] = reply_ports(rows)
    turned["direction"] = np.where(rows["direction"] == Direction.INGRESS, Direction.EGRESS, Direction.INGRESS)
    turned["tcp_flags"] = rows["reply_tcp_flags"]
    turned["packets"], turned["bytes"] = rows["reply_packets"], rows["reply_bytes"]
    turned["reply_tcp_flags"] = turned["reply_packets"] = turned["reply_bytes"] = 0
    return turned


def _encode(rows: Batch, template: Template) -> Batch:
    records = np.zeros(len(rows), template.layout)
    records["flowStartMilliseconds"] = rows["first"] * 1000
    records["flowEndMilliseconds"] = rows["last"] * 1000
    if template.family == 4:
        records["sourceIPv4Address"] = rows["src_lo"] & 0xFFFFFFFF
        records["destinationIPv4Address"] = rows["dst_lo"] & 0xFFFFFFFF
    else:
        records["sourceIPv6Address"] = octets(rows["src_hi"], rows["src_lo"]).view("V16")[:, 0]
        records["destinationIPv6Address"] = octets(rows["dst_hi"], rows["dst_lo"]).view("V16")[:, 0]
    if template.icmp:
        records[f"icmpTypeCodeIPv{template.family}"] = (rows["sport"] & 0xFF) << 8 | (rows["dport"] & 0xFF)
    else:
        records["sourceTransportPort"] = rows["sport"]
        records["destinationTransportPort"] = rows["dport"]
        records["tcpControlBits"] = rows["tcp_flags"]
    records["protocolIdentifier"] = rows["proto"]
    records["packetDeltaCount"] = rows["packets"]
    records["octetDeltaCount"] = rows["bytes"]
    outward = rows["direction"] == Direction.EGRESS
    records["ingressInterface"] = np.where(outward, 0, rows["ifindex"])
    records["egressInterface"] = np.where(outward, rows["ifindex"], 0)
    records["vlanId"] = rows["vlan"]
    records["flowDirection"] = outward
    records["flowEndReason"] = rows["end"]
    dropped = is_drop(rows["verdict"])
    goes_on = (rows["end"] == End.ACTIVE) | (rows["end"] == End.FORCED)
    records["forwardingStatus"] = np.where(dropped, _DROPPED, _FORWARDED)
    records["firewallEvent"] = np.where(dropped, _DENIED, np.where(goes_on, _UPDATE, _DELETED))
    if template.biflow:
        records["reversePacketDeltaCount"] = rows["reply_packets"]
        records["reverseOctetDeltaCount"] = rows["reply_bytes"]
        if not template.icmp:
            records["reverseTcpControlBits"] = rows["reply_tcp_flags"]
    return records
