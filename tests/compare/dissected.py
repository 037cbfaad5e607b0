"""The referee of captures: tshark dissects each packet, and a few plain lines add up what it says of the outermost IP.

Tunnels are not looked into, fragments are not put together, as in the report.
"""

from __future__ import annotations

import ipaddress
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from conversations import Conversations, Ends, add, apart, name_of

_FIELDS = (
    *("frame.number", "frame.time_epoch", "frame.len", "frame.protocols", "ip.src", "ip.dst", "ip.proto"),
    *("ip.frag_offset", "ipv6.src", "ipv6.dst", "ipv6.nxt", "ipv6.fraghdr.offset", "tcp.stream", "tcp.flags"),
    *("tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport", "sctp.srcport", "sctp.dstport"),
    *("dccp.srcport", "dccp.dstport", "icmp.type", "icmpv6.type", "_ws.malformed"),
)
_NEXT = {  # extension headers of IPv6, and the field of each that names what follows
    0: "ipv6.hopopts.nxt", 43: "ipv6.routing.nxt", 44: "ipv6.fraghdr.nxt", 51: "ah.next_header", 60: "ipv6.dstopts.nxt",
}  # fmt: skip
_PORTS = {6: "tcp", 17: "udp", 136: "udp", 132: "sctp", 33: "dccp"}
_ANSWERS = {"icmp": {0, 14, 16, 18}, "icmpv6": {129, 136}}  # RFC 792, RFC 4443, RFC 4861
_PREFERENCES = ("ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.desegment_tcp_streams:FALSE")
_BROKEN = re.compile(r"Malformed Packet: (?:IPv4|IPv6|TCP|UDP|ICMP|ICMPv6|SCTP|DCCP)]")
_SYN, _SYN_ACK = 0x02, 0x12

Packet = dict[str, list[str]]


def tshark(path: Path) -> Conversations:
    """The conversations of a capture, and what is in none of them. Who began: who sent the first packet by its time,
    or to whom that was an answer."""
    found: Conversations = {}
    streams: set[tuple[object, ...]] = set()
    for packet in sorted(_packets(path), key=lambda packet: float(packet["frame.time_epoch"][0])):
        at, size = float(packet["frame.time_epoch"][0]), int(packet["frame.len"][0])
        outer = next((name for name in ":".join(packet["frame.protocols"]).split(":") if name in ("ip", "ipv6")), None)
        if outer == "ip" and not packet["ip.dst"] and packet["ipv6.dst"]:
            outer = "ipv6"  # under IPv4's EtherType
        if outer is None or not packet[f"{outer}.dst"] or _BROKEN.search(",".join(packet["_ws.malformed"])):
            apart(found, "not IP" if outer is None else "malformed", 1, size)
            continue
        sides = [packet[f"{outer}.{end}"][0] for end in ("src", "dst")]
        protocol, later = _protocol(packet, outer)
        layer = _PORTS.get(protocol)
        ports = [0, 0]
        if layer and not later and packet[f"{layer}.srcport"]:
            ports = [int(packet[f"{layer}.{end}port"][0]) for end in ("src", "dst")]
        answer, doubt = False if later else _answers(packet, name_of(protocol)), ""
        if answer is None:
            answer = False
            doubt = (
                f"frame {packet['frame.number'][0]}, the first of its connection, is neither a SYN nor the answer to "
                "one: who began cannot be told (RFC 9293, 3.5), and the side with the port of a service is taken"
            )
        ends = Ends(sides[0], ports[0], sides[1], ports[1], name_of(protocol))
        stream = (
            *sorted(zip(sides, ports, strict=True)),
            protocol,
            *(packet["tcp.stream"][:1] if protocol == 6 else ()),
        )
        add(found, ends, at, at, 1, size, doubt if stream not in streams else "", began=_began(stream, streams, answer))
    return found


def _began(stream: tuple[object, ...], streams: set[tuple[object, ...]], answer: bool) -> int | None:
    """Which side began, 0 or 1, if this is the first packet of its stream."""
    if stream in streams:
        return None
    streams.add(stream)
    return int(answer)


def _answers(packet: Packet, protocol: str) -> bool | None:
    """Whether a packet answers another; None if it is in the middle of a connection.

    What goes to a group is nobody's answer (RFC 4861, 6.2.4 and 7.2.6).
    """
    if protocol == "tcp" and packet["tcp.flags"]:
        flags = int(packet["tcp.flags"][0], 16)
        return flags & _SYN_ACK == _SYN_ACK if flags & _SYN else None
    types = packet.get(f"{protocol}.type")
    asked = not ipaddress.ip_address(packet["ip.dst" if packet["ip.dst"] else "ipv6.dst"][0]).is_multicast
    return asked and bool(types) and int(types[0]) in _ANSWERS[protocol]


def _protocol(packet: Packet, outer: str) -> tuple[int, bool]:
    """(protocol behind the extension headers, whether this is a later fragment)."""
    if outer == "ip":
        return int(packet["ip.proto"][0]), int(packet["ip.frag_offset"][0]) > 0
    number, passed = int(packet["ipv6.nxt"][0]), dict.fromkeys(_NEXT, 0)
    while number in _NEXT and passed[number] < len(packet[_NEXT[number]]):
        following = int(packet[_NEXT[number]][passed[number]])
        passed[number] += 1
        number = following
        if passed[44] and int(packet["ipv6.fraghdr.offset"][0]) > 0:
            return number, True
    return number, False


def _packets(path: Path) -> Iterator[Packet]:
    names = [*_FIELDS, *_NEXT.values()]
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=/t", "-E", "aggregator=,"]
    command += [part for preference in _PREFERENCES for part in ("-o", preference)]
    command += [part for name in names for part in ("-e", name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        last = ["0"]
        for line in child.stdout:
            values = line.rstrip("\n").split("\t")
            packet = {name: value.split(",") if value else [] for name, value in zip(names, values, strict=True)}
            last = packet["frame.time_epoch"] = packet["frame.time_epoch"] or last  # a simple block carries none
            yield packet
