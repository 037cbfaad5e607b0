"""Services as rules name them ("tcp/443", "53", "icmp/8", "gre", "https"), and their places in the kernel's classes."""

import socket
from collections.abc import Iterable, Sequence
from functools import lru_cache

from trafficmond import abi
from trafficmond.networks import quoted
from trafficmond.protocols import ICMP, ICMPV6, TCP, UDP, protocol_name, protocol_number

Places = tuple[tuple[int, int], ...]  # (first, last) in the classes of abi.h, ascending, apart; (): every service

_PORTS, _TYPES = 65536, 256
_AREAS = {
    TCP: (abi.WHAT_TCP, _PORTS),
    UDP: (abi.WHAT_UDP, _PORTS),
    ICMP: (abi.WHAT_ICMP, _TYPES),
    ICMPV6: (abi.WHAT_ICMPV6, _TYPES),
}  # by protocol: where its ports or types are, and how many there are
_HEADERS = tuple(abi.WHAT_OTHER + header for header in (43, 44, 60))  # of IPv6, if the parser stops there
_NAMES = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "icmpv6"}
# The commonest of /etc/services, as netbase has them, for hosts without that file.
_COMMON = {
    TCP: {"ssh": 22, "smtp": 25, "domain": 53, "http": 80, "https": 443, "submission": 587, "imaps": 993},
    UDP: {"domain": 53, "ntp": 123, "https": 443},
}
_WRITE = "write tcp/443, udp/8000-8100, 53 (tcp and udp), icmp/8 (ping), gre, or a name of /etc/services"
_CACHED = 4096  # many rules name the same services
MOST_NAMED = 1000  # in one rule: no real rule has more


def parse(texts: Sequence[str]) -> Places:
    """The places that `texts` name together. Raises ValueError naming the invalid text."""
    return _parsed(tuple(texts))


@lru_cache(_CACHED)
def _parsed(texts: tuple[str, ...]) -> Places:
    if len(texts) > MOST_NAMED:
        raise ValueError(f"names {len(texts):,} services; at most {MOST_NAMED:,} are accepted, so write ranges")
    return merged(place for text in texts for place in _places(text.strip().lower()))


def _places(text: str) -> list[tuple[int, int]]:
    protocol, slash, which = text.partition("/")
    if not slash:
        if text[:1].isdigit():
            return [_within(text, each, text) for each in (TCP, UDP)]
        try:
            return [_all_of(protocol_number("icmpv6" if text == "ipv6-icmp" else text))]
        except ValueError:
            found = [_within(str(port), each, text) for each in (TCP, UDP) if (port := _port(text, each)) is not None]
            if found:
                return found
            raise _invalid(text) from None
    if which in _NAMES.values() and protocol not in _NAMES.values():  # the order of ufw and others
        raise ValueError(f"{quoted(text)} is the wrong way round; write {quoted(f'{which}/{protocol}')}")
    try:
        number = protocol_number("icmpv6" if protocol == "ipv6-icmp" else protocol)
    except ValueError:
        raise _invalid(text) from None
    if protocol.isdigit() and not which[:1].isdigit():  # "22/tpc": a port before a protocol that does not exist
        raise _invalid(text)
    if number not in _AREAS:
        what = f"{quoted(text)} names ports, which rules have for tcp and udp only"
        raise ValueError(f"{what}; write {protocol_name(number).lower()} for all of it")
    if number in (TCP, UDP) and not which[:1].isdigit():
        port = _port(which, number)
        if port is None:
            raise _invalid(text)
        which = str(port)
    return [_within(which, number, text)]


def _invalid(text: str) -> ValueError:
    return ValueError(f"{quoted(text)} is not a valid service; {_WRITE}")


def _port(name: str, protocol: int) -> int | None:
    """The port of a name in /etc/services, or of a common one."""
    try:
        return socket.getservbyname(name, _NAMES[protocol])
    except (OSError, ValueError):
        return _COMMON[protocol].get(name)


def _within(numbers: str, protocol: int, text: str) -> tuple[int, int]:
    """The places of a port or type, or of a range of them."""
    start, count = _AREAS[protocol]
    first, dash, last = numbers.partition("-")
    if not first.isascii() or not first.isdigit() or (dash and not (last.isascii() and last.isdigit())):
        raise _invalid(text)
    low, high = int(first), int(last if dash else first)
    if low > high or high >= count:
        kind, order = "ports" if count == _PORTS else "types", ", the lower one first" * bool(dash)
        raise ValueError(f"{quoted(text)} is out of range; {kind} go from 0 to {count - 1}{order}")
    return start + low, start + high


def _all_of(protocol: int) -> tuple[int, int]:
    start, count = _AREAS.get(protocol, (abi.WHAT_OTHER + protocol, 1))
    return start, start + count - 1


def place(protocol: int, number: int) -> int:
    """The place of a port or type; other protocols ignore the number."""
    return _AREAS[protocol][0] + number if protocol in _AREAS else abi.WHAT_OTHER + protocol


def merged(places: Iterable[tuple[int, int]]) -> Places:
    """The same places in order, those that touch within one protocol as one."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(places):
        if result and first <= result[-1][1] + 1 and _area(first) == _area(result[-1][0]):
            result[-1] = result[-1][0], max(last, result[-1][1])
        else:
            result.append((first, last))
    return tuple(result)


def _area(place: int) -> int:
    """The protocol that a place is a port or type of, or the place itself."""
    return next((each for each, (start, count) in _AREAS.items() if start <= place < start + count), -place)


def text(places: Places) -> list[str]:
    """The names of `places`, which parse to the same: ports of both TCP and UDP without a protocol."""
    return list(_text(places))


@lru_cache(_CACHED)
def _text(places: Places) -> tuple[str, ...]:
    ports = {each: _numbers(places, each) for each in _AREAS}
    both = [each for each in ports[TCP] if each in ports[UDP]]
    found = [f"tcp/{each}" for each in ports[TCP] if each not in both] + both
    found += [f"udp/{each}" for each in ports[UDP] if each not in both]
    found += [f"{_NAMES[protocol]}/{each}" for protocol in (ICMP, ICMPV6) for each in ports[protocol]]
    others = (place for first, _ in places if (place := first - abi.WHAT_OTHER) >= 0)
    whole = {f"{_NAMES[each]}/0-{count - 1}": _NAMES[each] for each, (_, count) in _AREAS.items()}
    return (*(whole.get(each, each) for each in found), *(protocol_name(each).lower() for each in others))


def _numbers(places: Places, protocol: int) -> list[str]:
    start, count = _AREAS[protocol]
    inside = [(first - start, last - start) for first, last in places if start <= first < start + count]
    return [str(first) if first == last else f"{first}-{last}" for first, last in inside]


@lru_cache(_CACHED)
def with_unread(places: Places, passing: bool, stopping: bool) -> Places:
    """`places`, and the packets that may belong to them although their service cannot be read.

    Later fragments have no ports. A rule that passes some ports of a protocol must pass its fragments too, or no large
    datagram arrives. A rule that drops some need not, since a datagram without its first fragment is lost.

    Linux follows more IPv6 extension headers than the parser does. Nobody needs so many, so a rule that stops some
    services stops these packets too, or they would hide a service from it.
    """
    named = [_area(first) if _area(first) > 0 else first - abi.WHAT_OTHER for first, _ in places]
    whole = {protocol for protocol in _AREAS if _all_of(protocol) in places}
    going = {each for each in named if passing or each in whole or each not in _AREAS}
    unread = [abi.WHAT_FRAGMENT + each for each in sorted(going)]
    if stopping:
        unread = [each for each in _HEADERS if (each, each) not in places] + unread
    return (*places, *((each, each) for each in unread))


def without_unread(places: Places) -> Places:
    """`places` as rules name them: without the additions of `with_unread`, and split where a protocol ends."""
    others = [(place, place) for place in range(abi.WHAT_OTHER, abi.WHAT_FRAGMENT) if place not in _HEADERS]
    areas = [(start, start + count - 1) for start, count in _AREAS.values()] + others
    cut = [(max(first, low), min(last, high)) for first, last in places for low, high in areas]
    return tuple(sorted((first, last) for first, last in cut if first <= last))


def overlap(places: Places, other: Places) -> bool:
    """Whether both have a service in common; () has every service."""
    some = not places or not other
    return some or any(first <= high and low <= last for first, last in places for low, high in other)


def common(places: Places, other: Places) -> Places:
    """The services that both have; () has every service."""
    both = tuple((max(low, first), min(high, last)) for first, last in places for low, high in other)
    return tuple(each for each in both if each[0] <= each[1]) if places and other else places or other


def contains(places: Places, other: Places) -> bool:
    """Whether all of `other` is among `places`; () has every service."""
    return not places or all(any(first <= low and high <= last for first, last in places) for low, high in other)
