"""What a verdict ought to be, from the rules themselves: by `ipaddress`, and by sorted columns for a million."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trafficmond import abi
from trafficmond.model import Action, Direction, Reason
from trafficmond.npt import U32, U64
from trafficmond.policy.ids import RuleIds
from trafficmond.policy.load import Policy
from trafficmond.policy.prefixes import Prefixes, mask, parse
from trafficmond.policy.table import VerdictTable, compile_table
from trafficmond.policy.walk import lookup
from trafficmond.services import text

NOW = 1_000_000.0
CLASS = {Reason.LIST: 0, Reason.RULE: 0, Reason.ALLOWLIST: 1, Reason.GUARD: 2}
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def jiffies(moment: float) -> int:
    """A clock of 10 Hz."""
    return int(moment * 10)


def compiled(policy: Policy, now: float = NOW) -> tuple[VerdictTable, U32]:
    """The table, and the rules' numbers."""
    ids = RuleIds().number(policy.rules, now).numbers
    return compile_table(policy, ids, now, jiffies, 7), ids


def columns(addresses: Sequence[str], family: int) -> tuple[list[int], U64, U64]:
    """Positions and left-aligned words of those addresses that are of `family`."""
    found = parse(addresses)
    assert not found.bad
    at = np.flatnonzero(found.prefixes.family == family)
    return at.tolist(), found.prefixes.hi[at], found.prefixes.lo[at]


def names(service: str, place: int, passing: bool) -> bool:
    """Whether a service ("tcp/8000-8100", "icmp/8", "gre") is what lies at `place` of the classes (abi.WHAT_*)."""
    protocol, _, numbers = service.partition("/")
    if protocol[:1].isdigit():
        return any(names(f"{each}/{service}", place, passing) for each in ("tcp", "udp"))
    number, start, count = {
        "tcp": (6, abi.WHAT_TCP, 65536),
        "udp": (17, abi.WHAT_UDP, 65536),
        "icmp": (1, abi.WHAT_ICMP, 256),
        "icmpv6": (58, abi.WHAT_ICMPV6, 256),
        "gre": (47, abi.WHAT_OTHER + 47, 1),
        "esp": (50, abi.WHAT_OTHER + 50, 1),
    }[protocol]
    if place >= abi.WHAT_FRAGMENT:
        return place == abi.WHAT_FRAGMENT + number and (passing or not numbers)
    if not numbers:
        return start <= place < start + count
    first, _, last = numbers.partition("-")
    return int(first) <= place - start <= int(last or first)


class Reference:
    """Longest prefix within the strongest class that names the service, if it names any, by going through all of them;
    on one prefix those that name services come first, and of two such or two others the later one."""

    def __init__(self, policy: Policy, ids: U32, direction: Direction, now: float) -> None:
        passes = direction is Direction.EGRESS and policy.default is Action.DROP
        self.default = int(Action.ALLOW if passes else policy.default) << 28
        self.rules: dict[tuple[int, int, int, int], list[tuple[list[str], bool, int]]] = {}
        for index, rule in enumerate(policy.rules):
            if rule.direction not in (direction, Direction.BOTH) or (rule.expires is not None and rule.expires <= now):
                continue
            rows = policy.prefixes_of(index)
            said = text(rule.services), rule.action is not Action.DROP
            for row in range(len(rows)):
                network = ipaddress.ip_network(rows.text(row))
                key = (network.version, CLASS[rule.reason], network.prefixlen, int(network.network_address))
                word = int(ids[index]) | rule.reason << 24 | rule.action << 28
                self.rules.setdefault(key, []).insert(0, (*said, word))
        for key, found in self.rules.items():
            self.rules[key] = sorted(found, key=lambda each: not each[0])
        self.lengths = sorted({key[:3] for key in self.rules}, key=lambda key: (-key[1], -key[2]))

    def __call__(self, address: str, place: int = 0) -> int:
        parsed = ipaddress.ip_address(address)
        for version, rank, length in self.lengths:
            if version == parsed.version:
                host = parsed.max_prefixlen - length
                for services, passing, word in self.rules.get((version, rank, length, int(parsed) >> host << host), ()):
                    if not services or any(names(each, place, passing) for each in services):
                        return word
        return self.default


def longest(rows: Prefixes, word: U32, family: int, hi: U64, lo: U64, default: int) -> U32:
    """The word of the longest prefix over each address, a length at a time; of equal prefixes the last one counts."""
    result = np.full(len(hi), default, np.uint32)
    for length in range(65):
        mine = np.flatnonzero((rows.family == family) & (rows.plen == length))
        if len(mine):
            mine = mine[np.argsort(rows.hi[mine], kind="stable")]
            top = hi if length == 64 else hi & ~np.uint64((1 << 64 - length) - 1)
            at = np.searchsorted(rows.hi[mine], top, "right") - 1
            hit = (at >= 0) & (rows.hi[mine][at] == top)
            result[hit] = word[mine[at[hit]]]
    beyond = np.flatnonzero((rows.family == family) & (rows.plen > 64))  # few in real lists
    for row in beyond[np.argsort(rows.plen[beyond], kind="stable")].tolist():
        host = np.uint64(128 - int(rows.plen[row]))
        result[(hi == rows.hi[row]) & (lo >> host == rows.lo[row] >> host)] = word[row]
    return result


SERVICES = [
    *("tcp/443", "tcp/80", "udp/53", "53", "tcp/22", "tcp/8000-8100", "tcp/8050-9000", "1000-2000", "udp/51820", "443"),
    *("icmp/8", "icmp/0-10", "icmpv6/128", "icmpv6", "gre", "esp", "tcp", "udp", "tcp/0", "tcp/65535", "udp/0-65534"),
]


def random_services(rng: random.Random) -> list[str]:
    """What rules name: few services that many do, and now and then one of their own."""
    chosen = rng.sample(SERVICES, rng.choice((1, 1, 1, 2, 3, 5)))
    return [*chosen, f"tcp/{rng.randrange(65536)}"] if rng.random() < 0.1 else chosen


def random_places(rng: random.Random, count: int) -> list[int]:
    """Places in the classes where services of `random_services` begin and end, their neighbours, and others."""
    ports = [0, 1, 22, 53, 80, 443, 999, 1000, 2000, 2001, 8000, 8050, 8100, 8101, 9000, 51820, 65534, 65535]
    found = []
    while len(found) < count:
        port = rng.choice(ports) if rng.random() < 0.8 else rng.randrange(65536)
        kind = rng.choice((abi.WHAT_TCP, abi.WHAT_TCP, abi.WHAT_UDP, abi.WHAT_ICMP, abi.WHAT_ICMPV6, abi.WHAT_OTHER))
        protocols = rng.choice((1, 6, 17, 47, 50, 58, 132))
        if rng.random() < 0.1:
            found.append(abi.WHAT_FRAGMENT + protocols)
        elif kind == abi.WHAT_OTHER:
            found.append(kind + rng.choice((47, 50, 132)))
        elif kind in (abi.WHAT_ICMP, abi.WHAT_ICMPV6):
            found.append(kind + rng.choice((0, 8, 10, 11, 128, 129)))
        else:
            found.append(kind + port)
    return found


def random_tables(rng: random.Random, count: int, with_ports: float = 0.0) -> list[dict[str, Any]]:
    """Rules that nest: most lie within an earlier one, some on the very same prefix; a part of them name services."""
    networks: list[Network] = []
    tables: list[dict[str, Any]] = []
    for number in range(count):
        if networks and rng.random() < 0.8:
            outer = rng.choice(networks)
            deeper = rng.randint(outer.prefixlen, outer.max_prefixlen)
            length = rng.choice((outer.prefixlen, deeper, min(outer.prefixlen + 3, deeper), outer.max_prefixlen))
            base = int(outer.network_address) | rng.getrandbits(outer.max_prefixlen) & int(outer.hostmask)
        else:
            outer = ipaddress.ip_network(rng.choice(("0.0.0.0/0", "::/0")))
            length = rng.randint(0, outer.max_prefixlen)
            base = rng.getrandbits(outer.max_prefixlen)
        network = ipaddress.ip_network((type(outer.network_address)(base), length), strict=False)
        networks.append(network)
        table: dict[str, Any] = {
            "cidr": str(network),
            "action": rng.choice(("allow", "monitor", "drop")),
            "label": f"r{number}",
            "direction": rng.choice(("ingress", "egress", "both", "both")),
        }
        if rng.random() < 0.1:
            table |= {"action": "limit", "limit": "5/s", "burst": number + 1}
        if rng.random() < with_ports:
            table["ports"] = random_services(rng)
        if rng.random() < 0.4:
            table["expires"] = NOW + rng.randint(-5, 50)
        tables.append(table)
    return tables


def telling_addresses(rng: random.Random, policy: Policy, count: int) -> list[str]:
    """First and last addresses of prefixes, their neighbours outside, some inside, and some anywhere."""
    rows = policy.prefixes
    result = ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
    while len(result) < count:
        network = ipaddress.ip_network(rows.text(rng.randrange(len(rows))))
        kind, most = type(network.network_address), (1 << network.max_prefixlen) - 1
        first, last = int(network.network_address), int(network.broadcast_address)
        for value in (first, last, first - 1, last + 1, rng.randint(first, last), rng.randint(0, most)):
            if 0 <= value <= most and not (kind is ipaddress.IPv6Address and value >> 32 == 0xFFFF):
                result.append(str(kind(value)))
    return result


def within_others(hi: U64, plen: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which prefixes lie within another one, or are its equal and come later; by their first 64 bits."""
    order = np.lexsort((plen, hi))
    last = (hi | ~mask(plen.astype(np.int64)))[order]
    found = np.zeros(len(hi), bool)
    found[order[1:]] = np.maximum.accumulate(last)[:-1] >= last[1:]
    return found


def telling_columns(rng: np.random.Generator, rows: Prefixes, family: int) -> tuple[U64, U64]:
    """Left-aligned words of addresses: of each prefix the first and the last, their neighbours outside and one inside,
    and as many anywhere."""
    count = len(rows)
    length = rows.plen.astype(np.int64)
    host_hi, host_lo = ~mask(length), ~mask(length - 64)
    one_hi, one_lo = (np.uint64(1 << 32), np.uint64(0)) if family == 4 else (np.uint64(0), np.uint64(1))
    last_hi, last_lo = rows.hi | host_hi, rows.lo | host_lo
    some_hi, some_lo, any_hi, any_lo = rng.integers(0, 2**64, (4, count), np.uint64)
    before, after = rows.lo - one_lo, last_lo + one_lo
    hi = [rows.hi, last_hi, rows.hi - one_hi - (before > rows.lo), last_hi + one_hi + (after < last_lo)]
    lo = [rows.lo, last_lo, before, after]
    hi += [rows.hi | some_hi & host_hi, any_hi]
    lo += [rows.lo | some_lo & host_lo, any_lo]
    if family == 4:
        return np.concatenate(hi) & ~np.uint64(2**32 - 1), np.zeros(6 * count, np.uint64)
    return np.concatenate(hi), np.concatenate(lo)


MOMENTS = {Direction.INGRESS: (NOW, NOW + 20, NOW + 100), Direction.EGRESS: (NOW + 5,)}


def agrees(
    made: tuple[VerdictTable, U32],
    policy: Policy,
    addresses: list[str],
    moments: Mapping[Direction, Sequence[float]],
    judge: Callable[..., tuple[U32, U32]],
    places: Sequence[int] | None = None,
) -> None:
    """The kernel's code and the walk in Python say of each address, each at its place, what the rules mean."""
    table, ids = made
    places = places or [0] * len(addresses)
    for direction, now in [(direction, now) for direction, times in moments.items() for now in times]:
        reference = Reference(policy, ids, direction, now)
        for family in (4, 6):
            positions, hi, lo = columns(addresses, family)
            what = np.array([places[position] for position in positions], np.uint32)
            expected = [reference(addresses[position], places[position]) for position in positions]
            found, _ = judge(table.words, family, direction, hi, lo, jiffies(now), what)
            assert found.tolist() == expected
            walked, _ = lookup(table.words, family, direction, hi, lo, jiffies(now), what)
            assert walked.tolist() == expected
