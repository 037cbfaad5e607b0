"""IP protocols: numbers, names as records show them (IANA, "Assigned Internet Protocol Numbers"), TCP flags; ends."""

from collections.abc import Mapping

ICMP, IGMP, TCP, UDP, DCCP, ICMPV6, SCTP, UDPLITE = 1, 2, 6, 17, 33, 58, 132, 136
WITH_PORTS = (TCP, UDP, DCCP, SCTP, UDPLITE)
SERVED = (TCP, UDP, SCTP)  # protocols with services by port

FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20  # TCP flags (RFC 9293)

_LIST = (
    "0 HOPOPT, 1 ICMP, 2 IGMP, 4 IPIP, 6 TCP, 8 EGP, 17 UDP, 27 RDP, 33 DCCP, 41 IPv6, 43 IPv6-Route, 44 IPv6-Frag, "
    "46 RSVP, 47 GRE, 50 ESP, 51 AH, 58 ICMPv6, 59 IPv6-NoNxt, 60 IPv6-Opts, 88 EIGRP, 89 OSPF, 94 IPIP-94, "
    "97 EtherIP, 103 PIM, 108 IPComp, 112 VRRP, 115 L2TP, 124 ISIS, 132 SCTP, 133 FC, 135 Mobility, 136 UDPLite, "
    "137 MPLS-in-IP, 139 HIP, 140 Shim6, 142 ROHC, 143 Ethernet"
)
_NAMES: Mapping[int, str] = {int(number): name for number, name in map(str.split, _LIST.split(","))}
_NAMED_WITH_PORTS = frozenset(_NAMES[number] for number in WITH_PORTS)
_NUMBERS: Mapping[str, int] = {name.lower(): number for number, name in _NAMES.items()}


def protocol_name(number: int) -> str:
    """The protocol's name ("TCP"), "IP-200" if it has none here."""
    return _NAMES.get(number) or f"IP-{number}"


def has_ports(protocol: str) -> bool:
    """Whether the protocol of that name has ports; ICMP has type and code instead."""
    return protocol in _NAMED_WITH_PORTS


def endpoint(address: str, port: int | str | None, protocol: str) -> str:
    """ "192.0.2.1:443", "[2001:db8::1]:https"; no port where the protocol has none (ICMP's type, code)."""
    if port is None or not has_ports(protocol):
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def protocol_number(name: str) -> int:
    """The number of a name in any case, of "IP-200" or of "200". Raises ValueError naming valid forms."""
    known = _NUMBERS.get(name.lower())
    if known is not None:
        return known
    digits = name.lower().removeprefix("ip-")
    if digits.isascii() and digits.isdigit() and int(digits) < 256:
        return int(digits)
    raise ValueError(f'"{name}" is not an IP protocol; write a name such as TCP, UDP or ICMPv6, or a number up to 255')
