"""From where connections can still begin when all that no rule lets in is dropped. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

import numpy as np

from trafficmond import abi, networks
from trafficmond.model import Action, Direction, Reason
from trafficmond.networks import Network
from trafficmond.policy.flatten import U32, U64
from trafficmond.policy.load import Policy
from trafficmond.policy.walk import lookup

MOST = 1000  # prefixes that let in, looked at one by one; of more, their number is enough
_FAMILIES = (4, 6)


@dataclass(frozen=True, slots=True)
class Admission:
    """Who gets in beside those whom the guard spares, by family: none for nobody. A family that everybody gets in over,
    but for who is dropped, is not here."""

    let_in: dict[int, list[Network]]
    more: int = 0  # prefixes that may let in as well, beyond the bound


def admission(policy: Policy, table: U32, now: float) -> Admission | None:
    """What `policy`, compiled into the words of `table`, lets in at `now` (epoch s); None: everybody, but for who is
    dropped. Bans, which end by themselves, are not looked at."""
    shut = [family for family in _FAMILIES if _rest(policy, family, now) is Action.DROP]
    if not shut:
        return None
    admits = np.array([_admits(rule.action, rule.direction, rule.reason) for rule in policy.rules], bool)
    found = np.flatnonzero(admits[policy.owner]) if len(policy.owner) else np.zeros(0, np.int64)
    chosen = policy.prefixes.take(found[:MOST])
    there = [networks.parse(chosen.text(row)) for row in range(len(chosen))]
    let_in = {family: _passing([each for each in there if each.version == family], table, family) for family in shut}
    return Admission(let_in, len(found) - len(there))


def _admits(action: Action, direction: Direction, reason: Reason) -> bool:
    return action is not Action.DROP and direction is not Direction.EGRESS and reason is not Reason.GUARD


def _rest(policy: Policy, family: int, now: float) -> Action:
    """What meets a source that no rule names but those for a whole family; the last of these wins."""
    action = policy.default
    for row in np.flatnonzero((policy.prefixes.plen == 0) & (policy.prefixes.family == family)).tolist():
        rule = policy.rules[int(policy.owner[row])]
        if rule.direction is not Direction.EGRESS and (rule.expires is None or rule.expires > now):
            action = rule.action
    return action


def _passing(found: Iterable[Network], table: U32, family: int) -> list[Network]:
    """Those whose first or last address passes: a stronger rule may drop them all the same. Neighbours are joined."""
    left = [each for each in found if any(_passes(end, table, family) for end in (each[0], each[-1]))]
    if family == 4:
        return list(collapse_addresses(each for each in left if isinstance(each, IPv4Network)))
    return list(collapse_addresses(each for each in left if isinstance(each, IPv6Network)))


def _passes(address: networks.Address, table: U32, family: int) -> bool:
    word, _ = lookup(table, family, Direction.INGRESS, *_key(address))
    return int(word[0]) >> abi.ACTION_SHIFT & 3 != Action.DROP


def _key(address: networks.Address) -> tuple[U64, U64]:
    """Left-aligned, as the table is walked."""
    octets = address.packed.ljust(16, b"\0")
    return tuple(np.array([int.from_bytes(octets[at : at + 8], "big")], np.uint64) for at in (0, 8))  # type: ignore[return-value]
