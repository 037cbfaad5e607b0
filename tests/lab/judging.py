"""Rules that name services, packets that ask for them, and what becomes of each by the rules' own words: no classes, no
rows, no tables, for the data path to be compared with."""

from __future__ import annotations

import ipaddress
import random
import struct
from dataclasses import dataclass
from typing import Any

from tmlab.packets import ICMP, ICMPV6, MACS, TCP, UDP

GRE, ESP, SCTP = 47, 50, 132
_PROTOCOLS = {"tcp": TCP, "udp": UDP, "icmp": ICMP, "icmpv6": ICMPV6, "gre": GRE, "esp": ESP, "sctp": SCTP}
_NAMED = [
    *("tcp/443", "tcp/80", "udp/53", "53", "tcp/22", "tcp/8000-8100", "tcp/8050-9000", "1000-2000", "udp/51820", "443"),
    *("icmp/8", "icmp/0-10", "icmpv6/1", "icmpv6", "gre", "esp", "sctp", "tcp", "udp", "tcp/0", "tcp/65535", "icmp"),
]
_PORTS = [0, 1, 22, 53, 80, 443, 999, 1000, 2000, 2001, 8000, 8050, 8100, 8101, 9000, 51820, 65534, 65535]
_LIFELINE_PORTS = (68, 546)  # answers of DHCP are never dropped


@dataclass(frozen=True)
class Asked:
    """A packet: the other host's address, the protocol, and its port or type; None: a later fragment, or no ports."""

    address: int
    version: int
    proto: int
    number: int | None
    fragment: bool = False

    def frame(self, own: bytes, sport: int, outward: bool) -> bytes:
        """From the other host, or to it; `sport` tells packets apart where the protocol has ports."""
        other = self.address.to_bytes(4 if self.version == 4 else 16, "big")
        src, dst = (own, other) if outward else (other, own)
        if self.fragment or self.number is None:
            body = struct.pack("!HHII", sport, 9, 0, 0)
        elif self.proto == TCP:
            body = struct.pack("!HHIIBBHHH", sport, self.number, 1, 0, 5 << 4, 2, 65535, 0, 0)
        elif self.proto == UDP:
            body = struct.pack("!HHHH", sport, self.number, 8, 0)
        else:
            body = struct.pack("!BBHHH", self.number, 0, 0, 1, sport)
        if self.version == 4:
            offset = 185 if self.fragment else 0
            head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, offset, 64, self.proto, 0)
            return MACS + b"\x08\x00" + head + src + dst + body
        proto = self.proto
        if self.fragment:
            body, proto = struct.pack("!BBHI", self.proto, 0, 185 << 3, 7) + body, 44
        return MACS + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(body), proto, 64) + src + dst + body


def random_tables(rng: random.Random, count: int, ended: float, lasting: float) -> list[dict[str, Any]]:
    """Rules nested four deep and deeper, some on the very same prefix; most name services, a part ends."""
    networks: list[Any] = [ipaddress.ip_network(each) for each in ("0.0.0.0/0", "::/0", "10.0.0.0/8", "2001:db8::/32")]
    tables: list[dict[str, Any]] = []
    for number in range(count):
        outer = rng.choice(networks)
        deeper = min(outer.max_prefixlen, outer.prefixlen + rng.choice((0, 0, 4, 8, 8, 16, 32)))
        base = int(outer.network_address) | rng.getrandbits(outer.max_prefixlen) & int(outer.hostmask)
        network = ipaddress.ip_network((type(outer.network_address)(base), deeper), strict=False)
        if sum(network.subnet_of(each) for each in networks if each.version == network.version) <= 6:
            networks.append(network)
        action = rng.choice(("allow", "monitor", "drop", "drop", "limit"))
        table: dict[str, Any] = {"cidr": str(network), "action": action, "label": f"rule {number}"}
        table["direction"] = rng.choice(("ingress", "egress", "both", "both"))
        if action == "limit":
            table |= {"limit": "1/s", "burst": rng.randint(1, 3)}
        if rng.random() < 0.75:
            table["ports"] = rng.sample(_NAMED, rng.choice((1, 1, 1, 2, 3, 6)))
        if rng.random() < 0.3:
            table["expires"] = rng.choice((ended, lasting))
        tables.append(table)
    return tables


def random_packet(rng: random.Random, tables: list[dict[str, Any]]) -> Asked:
    """From within, or just beside, a rule's prefix; for a service that a rule names, its neighbour, or any."""
    network = ipaddress.ip_network(rng.choice(tables)["cidr"])
    address = int(network.network_address) | rng.getrandbits(network.max_prefixlen) & int(network.hostmask)
    if rng.random() < 0.1:
        address = (address + rng.choice((-1, 1))) % (1 << network.max_prefixlen)
    if network.version == 6 and address >> 32 == 0xFFFF:
        address |= 1 << 120
    if rng.random() < 0.1:
        return Asked(address, network.version, rng.choice(list(_PROTOCOLS.values())), None, fragment=True)
    proto = rng.choice((TCP, TCP, TCP, UDP, UDP, ICMP if network.version == 4 else ICMPV6, GRE, ESP, SCTP))
    if proto in (TCP, UDP):
        port = rng.choice(_PORTS) if rng.random() < 0.8 else rng.randrange(65536)
        return Asked(address, network.version, proto, port if port not in _LIFELINE_PORTS else 67)
    types = (0, 8, 10, 11, 3) if proto == ICMP else (1, 2, 128, 129, 200)  # none that is never dropped
    return Asked(address, network.version, proto, rng.choice(types) if proto in (ICMP, ICMPV6) else None)


def _names(service: str, packet: Asked, action: str) -> bool:
    name, _, numbers = service.partition("/")
    if name[0].isdigit():
        return any(_names(f"{proto}/{service}", packet, action) for proto in ("tcp", "udp"))
    if _PROTOCOLS[name] != packet.proto:
        return False
    if not numbers:
        return True
    if packet.fragment:
        return action != "drop"
    first, _, last = numbers.partition("-")
    return packet.number is not None and int(first) <= packet.number <= int(last or first)


class Reference:
    """The longest prefix that names the packet's service, or names none; on one prefix rules that name services first,
    and of two such, or of two others, the later."""

    def __init__(self, tables: list[dict[str, Any]], direction: str, ended: float) -> None:
        self._rules: dict[tuple[int, int, int], list[tuple[bool, int, dict[str, Any]]]] = {}
        for number, table in enumerate(tables):
            if table["direction"] in (direction, "both") and table.get("expires") != ended:
                network = ipaddress.ip_network(table["cidr"])
                key = network.version, network.prefixlen, int(network.network_address)
                self._rules.setdefault(key, []).append(("ports" in table, number, table))
        for rules in self._rules.values():
            rules.sort(key=lambda each: each[:2], reverse=True)
        self._lengths = {4: range(32, -1, -1), 6: range(128, -1, -1)}
        present = {key[:2] for key in self._rules}
        self._lengths = {
            version: [n for n in lengths if (version, n) in present] for version, lengths in self._lengths.items()
        }  # type: ignore[misc]

    def decides(self, packet: Asked) -> int | None:
        """The number of the rule that decides, None: the default."""
        bits = 32 if packet.version == 4 else 128
        for length in self._lengths[packet.version]:
            base = packet.address >> bits - length << bits - length
            for _, number, table in self._rules.get((packet.version, length, base), ()):
                services = table.get("ports")
                if services is None or any(_names(each, packet, table["action"]) for each in services):
                    return number
        return None
