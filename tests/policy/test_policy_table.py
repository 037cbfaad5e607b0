"""The compiled table against a reference written with `ipaddress`, and the properties of its layout."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable

import numpy as np
import pytest

from trafficmond.model import Action, Direction, Reason
from trafficmond.policy.ids import RuleIds
from trafficmond.policy.load import Policy, load_policy
from trafficmond.policy.prefixes import parse_address
from trafficmond.policy.table import VerdictTable, compile_table
from trafficmond.policy.walk import lookup

NOW = 1_000_000.0
CLASS = {Reason.LIST: 0, Reason.RULE: 0, Reason.ALLOWLIST: 1, Reason.GUARD: 2}


def compiled(policy: Policy, now: float = NOW) -> tuple[VerdictTable, np.ndarray]:
    ids = RuleIds().assign(policy.rules, now)
    return compile_table(policy, ids, now, lambda moment: int(moment * 10)), ids


def looked_up(table: VerdictTable, addresses: Iterable[str], direction: Direction, now: float = NOW) -> list[int]:
    result = []
    for family in (4, 6):
        keys = [(i, *parse_address(a)) for i, a in enumerate(addresses)]
        mine = [key for key in keys if key[3] == family]
        hi = np.array([key[1] for key in mine], np.uint64)
        lo = np.array([key[2] for key in mine], np.uint64)
        words, _ = lookup(table.words, family, direction, hi, lo, int(now * 10))
        result += list(zip([key[0] for key in mine], words.tolist(), strict=True))
    return [word for _, word in sorted(result)]


class Reference:
    """Longest prefix by class, by dictionary of networks; rules later in the policy win."""

    def __init__(self, policy: Policy, ids: np.ndarray, direction: Direction, now: float) -> None:
        default = policy.default
        if direction is Direction.EGRESS and default is Action.DROP:
            default = Action.ALLOW
        self.default = int(default) << 28
        self.best: dict[tuple[int, int, int, int], int] = {}
        for index, rule in enumerate(policy.rules):
            if rule.direction not in (direction, Direction.BOTH):
                continue
            if rule.expires is not None and rule.expires <= now:
                continue
            rows = policy.prefixes_of(index)
            for row in range(len(rows)):
                network = ipaddress.ip_network(rows.text(row))
                key = (network.version, CLASS[rule.reason], network.prefixlen, int(network.network_address))
                self.best[key] = int(ids[index]) | rule.reason << 24 | rule.action << 28
        self.lengths = sorted({key[:3] for key in self.best}, key=lambda key: (-key[1], -key[2]))

    def __call__(self, address: str) -> int:
        parsed = ipaddress.ip_address(address)
        for version, rank, length in self.lengths:
            if version == parsed.version:
                top = int(parsed) >> (parsed.max_prefixlen - length) << (parsed.max_prefixlen - length)
                word = self.best.get((version, rank, length, top))
                if word is not None:
                    return word
        return self.default


def random_tables(rng: random.Random, count: int) -> list[dict[str, object]]:
    """Rules that nest: most lie within an earlier one."""
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    tables: list[dict[str, object]] = []
    for number in range(count):
        if networks and rng.random() < 0.8:
            outer = rng.choice(networks)
            length = rng.choice(
                (outer.prefixlen, rng.randint(outer.prefixlen, outer.max_prefixlen), outer.max_prefixlen)
            )
            base = int(outer.network_address) | rng.getrandbits(outer.max_prefixlen) & int(outer.hostmask)
        else:
            outer = ipaddress.ip_network("0.0.0.0/0" if rng.random() < 0.5 else "::/0")
            length = rng.randint(0, outer.max_prefixlen)
            base = rng.getrandbits(outer.max_prefixlen)
        kind = type(outer.network_address)
        network = ipaddress.ip_network((str(kind(base)), length), strict=False)
        networks.append(network)
        table: dict[str, object] = {
            "cidr": str(network),
            "action": rng.choice(("allow", "monitor", "drop")),
            "label": f"r{number}",
            "direction": rng.choice(("ingress", "egress", "both", "both")),
        }
        if rng.random() < 0.1:
            table |= {"action": "limit", "limit": "5/s"}
        if rng.random() < 0.4:
            table["expires"] = NOW + rng.randint(-5, 50)
        tables.append(table)
    return tables


def telling_addresses(rng: random.Random, policy: Policy, count: int) -> list[str]:
    """Edges of prefixes and their neighbours, addresses inside, and addresses anywhere."""
    rows = policy.prefixes
    result: list[str] = ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
    while len(result) < count:
        network = ipaddress.ip_network(rows.text(rng.randrange(len(rows))))
        kind, most = type(network.network_address), (1 << network.max_prefixlen) - 1
        first, last = int(network.network_address), int(network.broadcast_address)
        for value in (first, last, first - 1, last + 1, rng.randint(first, last), rng.randint(0, most)):
            if 0 <= value <= most and not (kind is ipaddress.IPv6Address and value >> 32 == 0xFFFF):
                result.append(str(kind(value)))
    return result


@pytest.mark.parametrize("seed", range(4))
def test_equals_reference(seed: int) -> None:
    rng = random.Random(seed)
    policy = load_policy(
        None,
        default=rng.choice((Action.ALLOW, Action.MONITOR, Action.DROP)),
        runtime=random_tables(rng, 1000),
        allowlist=[
            "10.0.0.0/9",
            "2001:db8::/48",
            *(t["cidr"] for t in random_tables(rng, 20) if "/0" not in t["cidr"]),
        ],
        guard=[("10.1.2.3", "gateway"), ("fe80::/10", "neighbours"), ("2001:db8::1", "resolver")],
    )
    table, ids = compiled(policy)
    addresses = telling_addresses(rng, policy, 25_000)
    for direction in (Direction.INGRESS, Direction.EGRESS):
        for now in (NOW, NOW + 20, NOW + 100):
            reference = Reference(policy, ids, direction, now)
            found = looked_up(table, addresses, direction, now)
            expected = [reference(address) for address in addresses]
            assert found == expected
