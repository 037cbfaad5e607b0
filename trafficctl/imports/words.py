"""Reads ports, ICMP types, protocols and addresses in the syntax of other firewalls."""

from collections.abc import Iterable
from ipaddress import ip_address, summarize_address_range

from trafficctl.imports.ruleset import Unsupported
from trafficmond import abi, networks, services
from trafficmond.networks import Network
from trafficmond.services import Places

_NAMES = {  # the numbers of ICMP types with their names, by family
    4: (
        "0 echo-reply pong, 3 destination-unreachable, 4 source-quench, 5 redirect, 8 echo-request ping, "
        "9 router-advertisement, 10 router-solicitation, 11 time-exceeded ttl-exceeded, 12 parameter-problem, "
        "13 timestamp-request, 14 timestamp-reply"
    ),
    6: (
        "1 destination-unreachable, 2 packet-too-big, 3 time-exceeded ttl-exceeded, 4 parameter-problem, "
        "128 echo-request ping, 129 echo-reply pong, 130 mld-listener-query, 131 mld-listener-report, "
        "132 mld-listener-done mld-listener-reduction, 133 router-solicitation nd-router-solicit, "
        "134 router-advertisement nd-router-advert, "
        "135 neighbour-solicitation neighbor-solicitation nd-neighbor-solicit, "
        "136 neighbour-advertisement neighbor-advertisement nd-neighbor-advert, 137 redirect nd-redirect, "
        "141 ind-neighbor-solicit, 142 ind-neighbor-advert, 143 mld2-listener-report"
    ),
}
_TYPES = {
    family: {name: number for number, *names in map(str.split, known.split(",")) for name in names}
    for family, known in _NAMES.items()
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
