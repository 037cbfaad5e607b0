"""Imported rules, and what they make of a packet, by way of a policy of ours."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path

from trafficctl.commands import import_rules
from trafficctl.imports import decide, firewalld, iptables, nft
from trafficctl.imports.ruleset import ACCEPT, Ruleset
from trafficmond import networks
from trafficmond.model import Action, Direction
from trafficmond.policy.explain import explain
from trafficmond.policy.load import Files, Policy, make_policy
from trafficmond.services import parse

IMPORTED = Path(__file__).parent / "imported"
READERS = {"nft": nft.read, "iptables-save": iptables.read, "firewalld": firewalld.read, "ufw": iptables.read_ufw}


def given(*names: str) -> list[tuple[str, str]]:
    """Files of the folder of samples, by the names that readers get."""
    return [(name, (IMPORTED / name).read_text()) for name in names]


UFW = tuple(f"ufw/{name}.rules" for name in ("before", "user", "before6", "user6"))
SAMPLES = {"ufw": UFW, "nft": ("server.nft",), "firewalld": ("public.xml",)}


def policy_of(ruleset: Ruleset) -> Policy:
    """The rules file that is printed, read again."""
    default, rules = decide.decide(ruleset)
    text = "\n".join(import_rules.lines(ruleset, default, rules, "a test"))
    tables = tomllib.loads(text).get("rule", [])
    return make_policy(Files(), default=Action.ALLOW if default == ACCEPT else Action.DROP, runtime=tables)


def passes(policy: Policy, address: str, service: str, direction: Direction = Direction.INGRESS) -> bool:
    """Whether a packet for one service passes."""
    decisions = explain(policy, address, direction, 0.0, parse([service]))
    return next(each for each in decisions if each.applies).action is not Action.DROP


def random_address(rng: random.Random, policy: Policy, family: int) -> str:
    """In a prefix of the rules, or beside one."""
    rows = [row for row in range(len(policy.prefixes)) if policy.prefixes.family[row] == family]
    network = networks.parse(policy.prefixes.text(rng.choice(rows)))
    value = int(network.network_address) | rng.getrandbits(network.max_prefixlen) & int(network.hostmask)
    if rng.random() < 0.2:
        value = (value + rng.choice((-1, 1))) % (1 << network.max_prefixlen)
    return str(type(network.network_address)(value))
