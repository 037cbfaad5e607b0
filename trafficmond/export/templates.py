"""IPFIX templates (RFC 7011 section 3.4.1) and the numpy layouts of their records.

One for each of IPv4 and IPv6, ports and ICMP, one direction and both (biflow, RFC 5103). Information elements are
those of IANA's registry (https://www.iana.org/assignments/ipfix).
"""

import struct
from typing import Any

import numpy as np

from trafficmond.dataclass import dataclass

TEMPLATE_SET = 2
REVERSE_PEN = 29305  # RFC 5103: the same element, of the other direction
FIRST_ID = 256

_ENTERPRISE = 0x8000

# name of the field, information element, layout; "reverse...": of the reverse direction
_Field = tuple[str, int, str]

_START: list[_Field] = [("flowStartMilliseconds", 152, ">u8"), ("flowEndMilliseconds", 153, ">u8")]
_ADDRESSES: dict[int, list[_Field]] = {
    4: [("sourceIPv4Address", 8, ">u4"), ("destinationIPv4Address", 12, ">u4")],
    6: [("sourceIPv6Address", 27, "V16"), ("destinationIPv6Address", 28, "V16")],
}
_PORTS: list[_Field] = [
    ("sourceTransportPort", 7, ">u2"),
    ("destinationTransportPort", 11, ">u2"),
    ("tcpControlBits", 6, ">u2"),
]
_ICMP: dict[int, list[_Field]] = {4: [("icmpTypeCodeIPv4", 32, ">u2")], 6: [("icmpTypeCodeIPv6", 139, ">u2")]}
_COMMON: list[_Field] = [
    ("protocolIdentifier", 4, "u1"),
    ("packetDeltaCount", 2, ">u8"),
    ("octetDeltaCount", 1, ">u8"),
    ("ingressInterface", 10, ">u4"),
    ("egressInterface", 14, ">u4"),
    ("vlanId", 58, ">u2"),
    ("flowDirection", 61, "u1"),
    ("flowEndReason", 136, "u1"),
    ("forwardingStatus", 89, "u1"),
    ("firewallEvent", 233, "u1"),
]
_REVERSE: list[_Field] = [("reversePacketDeltaCount", 2, ">u8"), ("reverseOctetDeltaCount", 1, ">u8")]
_REVERSE_PORTS: list[_Field] = [("reverseTcpControlBits", 6, ">u2")]


@dataclass(frozen=True, slots=True)
class Template:
    """One template: its id, its kind of rows, the layout of their records, and the encoded template record."""

    id: int
    family: int  # 4 or 6
    icmp: bool
    biflow: bool
    layout: np.dtype[Any]
    record: bytes


def _template(number: int, family: int, icmp: bool, biflow: bool) -> Template:
    fields = [*_START, *_ADDRESSES[family], *(_ICMP[family] if icmp else _PORTS), *_COMMON]
    if biflow:
        fields += _REVERSE if icmp else [*_REVERSE, *_REVERSE_PORTS]
    layout = np.dtype([(name, kind) for name, _, kind in fields])
    record = struct.pack(">HH", number, len(fields))
    for name, element, _ in fields:
        length = layout[name].itemsize
        if name.startswith("reverse"):
            record += struct.pack(">HHI", element | _ENTERPRISE, length, REVERSE_PEN)
        else:
            record += struct.pack(">HH", element, length)
    return Template(number, family, icmp, biflow, layout, record)


TEMPLATES = tuple(
    _template(FIRST_ID + number, family, icmp, biflow)
    for number, (family, icmp, biflow) in enumerate(
        (family, icmp, biflow) for family in (4, 6) for icmp in (False, True) for biflow in (False, True)
    )
)


def template_sets(max_bytes: int) -> list[bytes]:
    """All templates in Template Sets, each of at most `max_bytes`."""
    sets: list[bytes] = []
    records = b""
    for template in TEMPLATES:
        if records and 4 + len(records) + len(template.record) > max_bytes:
            sets.append(_set(records))
            records = b""
        records += template.record
    return [*sets, _set(records)]


def _set(records: bytes) -> bytes:
    return struct.pack(">HH", TEMPLATE_SET, 4 + len(records)) + records
