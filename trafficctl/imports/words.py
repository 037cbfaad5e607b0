"""Reads ports, ICMP types, protocols and addresses in the syntax of other firewalls."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, summarize_address_range

from trafficctl.imports.ruleset import Unsupported
from trafficmond import abi, networks, services
from trafficmond.networks import Network
from trafficmond.services import Places

_TYPES = {
    4: {
        "echo-reply": "0",
        "pong": "0",
        "destination-unreachable": "3",
        "source-quench": "4",
        "redirect": "5",
        "echo-request": "8",
        "ping": "8",
        "router-advertisement": "9",
        "router-solicitation": "10",
        "time-exceeded": "11",
        "ttl-exceeded": "11",
        "parameter-problem": "12",
        "timestamp-request": "13",
        "timestamp-reply": "14",
    },
    6: {
        "destination-unreachable": "1",
        "packet-too-big": "2",
        "time-exceeded": "3",
        "ttl-exceeded": "3",
        "parameter-problem": "4",
        "echo-request": "128",
        "ping": "128",
        "echo-reply": "129",
        "pong": "129",
        "mld-listener-query": "130",
        "mld-listener-report": "131",
        "mld-listener-done": "132",
        "mld-listener-reduction": "132",
        "router-solicitation": "133",
        "nd-router-solicit": "133",
        "router-advertisement": "134",
        "nd-router-advert": "134",
        "neighbour-solicitation": "135",
        "neighbor-solicitation": "135",
        "nd-neighbor-solicit": "135",
        "neighbour-advertisement": "136",
        "neighbor-advertisement": "136",
        "nd-neighbor-advert": "136",
        "redirect": "137",
        "nd-redirect": "137",
        "ind-neighbor-solicit": "141",
        "ind-neighbor-advert": "142",
        "mld2-listener-report": "143",
    },
}
_NEVER_DROPPED = services.parse(["icmpv6/130-137", "icmpv6/141-143", "icmpv6/148-149", "icmpv6/151-153", "igmp"])
EVERYTHING: Places = ((0, abi.WHAT_FRAGMENT - 1),)


def protocol(name: str) -> Places:
    """All services of a protocol. Raises Unsupported."""
    name = {"icmp6": "icmpv6", "ipv6-icmp": "icmpv6"}.get(name.lower(), name.lower())
    if name in ("all", "any", "0", "ip"):
        return EVERYTHING
    name = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6"}.get(name, name)
    try:
        if name in ("tcp", "udp", "icmp", "icmpv6"):
            return services.parse([name])
        return services.parse([f"ip-{name}" if name.isdigit() else name])
    except ValueError:
        raise Unsupported(f"protocol {name} is not known") from None


def ports(protocols: Iterable[str], texts: Iterable[str]) -> Places:
    """Ports of these protocols: numbers, ranges with - or :, and names. Raises Unsupported."""
    names = []
    for text in texts:
        first, dash, last = text.strip().replace(":", "-").partition("-")
        if (dash and first.replace(" ", "").isdigit()) or (dash and not first):
            text = f"{first.strip() or 0}-{last.strip() or 65535}"
        elif dash and last.isdigit():
            text = f"{first.strip()}-{last.strip()}"
        names += [f"{each}/{text.strip()}" for each in protocols]
    try:
        return services.parse(names)
    except ValueError as error:
        raise Unsupported(str(error)) from None


def types(family: int, texts: Iterable[str]) -> Places:
    """Types of ICMP or ICMPv6, by number or name. Raises Unsupported, also for a type with a code."""
    names = []
    for text in texts:
        number = _TYPES[family].get(text.strip().lower(), text.strip())
        if number == "any":
            return services.parse(["icmp" if family == 4 else "icmpv6"])
        if not number.replace("-", "").isdigit():
            raise Unsupported(f"type {text} of ICMP is not known, or has a code")
        names.append(f"{'icmp' if family == 4 else 'icmpv6'}/{number}")
    try:
        return services.parse(names)
    except ValueError as error:
        raise Unsupported(str(error)) from None


def addresses(texts: Iterable[str]) -> frozenset[Network]:
    """Prefixes, addresses and ranges. Raises Unsupported."""
    found: list[Network] = []
    for text in texts:
        first, dash, last = text.strip().partition("-")
        try:
            if dash:
                found += summarize_address_range(ip_address(first.strip()), ip_address(last.strip()))
            elif "/" in text and "." in text.partition("/")[2]:  # a mask as iptables may write it
                found.append(networks.parse(f"{first.partition('/')[0]}/{_length(text.partition('/')[2])}"))
            else:
                found.append(networks.parse(first))
        except (ValueError, TypeError):
            raise Unsupported(f"{networks.quoted(text.strip())} is not a valid address") from None
    return frozenset(found)


def _length(mask: str) -> int:
    bits = f"{int(ip_address(mask)):032b}"
    if "01" in bits:
        raise ValueError(mask)
    return bits.count("1")


def never_dropped(places: Places) -> bool:
    """Whether rules of ours never drop any of these: DHCP replies, neighbour discovery, multicast membership."""
    never = services.merged((*_NEVER_DROPPED, *services.parse(["udp/68", "udp/546"])))
    return bool(places) and services.contains(never, places)
