"""Rules by country and system: below rules and lists, whatever the lengths of prefixes; with places in files."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mmdb_writer import country, mmdb, system

sys.path.append(str(Path(__file__).parents[1] / "rulebook"))

from rulebook_book import Book

from trafficctl.whatif import rules as whatif
from trafficmond import abi
from trafficmond.config.settings import Geo
from trafficmond.errors import ConfigError
from trafficmond.geo.geoip import EMPTY, GeoIp
from trafficmond.geo.reading import open_geoip
from trafficmond.model import Action, Direction
from trafficmond.policy.explain import explain
from trafficmond.policy.ids import RuleIds
from trafficmond.policy.load import Policy, make_policy, read_files
from trafficmond.policy.prefixes import parse_address
from trafficmond.policy.readers import read_toml
from trafficmond.policy.shadows import shadows
from trafficmond.policy.table import compile_table
from trafficmond.policy.walk import lookup

NOW = 1_700_000_000.0
NETWORKS = [
    ("203.0.112.0/20", country("XX")),
    ("203.0.113.0/24", country("YY")),
    ("2001:db8::/33", country("XX")),
    ("2001:db8:1::1/128", country("YY")),
]
SYSTEMS = [("203.0.113.128/25", system(64500, "Example")), ("2001:db8::/48", system(64501, "Other"))]


@pytest.fixture
def geoip(tmp_path: Path) -> GeoIp:
    paths = [tmp_path / "country.mmdb", tmp_path / "asn.mmdb"]
    for path, networks in zip(paths, (NETWORKS, SYSTEMS), strict=True):
        path.write_bytes(mmdb(networks))
    return open_geoip(paths)


def policy_of(tmp_path: Path, geoip: GeoIp, *rules: str, default: Action = Action.MONITOR) -> Policy:
    folder = tmp_path / "cidr.d"
    folder.mkdir(exist_ok=True)
    (folder / "1.toml").write_text("".join(f"[[rule]]\n{rule}\n" for rule in rules))
    return make_policy(read_files(folder, geography=geoip), default=default)


def decided(policy: Policy, address: str) -> tuple[str, str]:
    """What the compiled table and the explanation both say of an address: the rule's name and the action."""
    ids = RuleIds().number(policy.rules, NOW).numbers
    table = compile_table(policy, ids, NOW, int)
    hi, lo, family = parse_address(address)
    words = np.array([hi], np.uint64), np.array([lo], np.uint64)
    word = int(lookup(table.words, family, Direction.INGRESS, *words, int(NOW))[0][0])
    first = explain(policy, address, Direction.INGRESS, NOW)[0]
    assert word >> abi.ACTION_SHIFT & 3 == first.action
    assert word & abi.RULE_MASK == (int(ids[first.index]) if first.rule else 0)
    return (first.rule.name if first.rule else "default"), str(first.action)


def test_a_short_prefix_of_a_person_comes_before_a_long_one_of_a_country(tmp_path: Path, geoip: GeoIp) -> None:
    policy = policy_of(
        tmp_path,
        geoip,
        'cidr = "203.0.0.0/16"\naction = "allow"\nlabel = "mine"',
        'country = ["YY", "xx"]\naction = "drop"\nlabel = "far"',
        'asn = 64501\naction = "monitor"\nlabel = "system"',
    )
    assert decided(policy, "203.0.113.5") == ("mine", "allow")
    assert decided(policy, "2001:db8:1::1") == ("far", "drop")
    assert decided(policy, "2001:db8:0:1::1") == ("system", "monitor")
    assert decided(policy, "2001:db8:1::2") == ("far", "drop")
    assert decided(policy, "192.0.2.1") == ("default", "monitor")


def test_a_list_and_a_rule_for_a_service_come_before_a_country_where_they_have_a_say(
    tmp_path: Path, geoip: GeoIp
) -> None:
    policy = policy_of(
        tmp_path,
        geoip,
        'country = "YY"\naction = "drop"',
        'cidr = "0.0.0.0/0"\nports = ["tcp/443"]\naction = "allow"\nlabel = "web"',
        'cidr = "203.0.113.7"\naction = "limit"\nlimit = "5/s"\nexpires = 2023-11-14T22:30:00Z',
    )
    (web, ends, far, rest) = explain(policy, "203.0.113.7", Direction.INGRESS, NOW, ((443 + abi.WHAT_TCP,) * 2,))
    assert [str(each.action) for each in (web, ends, far, rest)] == ["limit", "allow", "drop", "monitor"]
    assert far.rule is not None
    assert (far.rule.kind, far.rule.name) == ("country", "country YY")
    assert decided(policy, "203.0.113.7")[1] == "limit"
    later = explain(policy, "203.0.113.7", Direction.INGRESS, NOW + 3600)
    assert [str(each.action) for each in later if each.applies] == ["drop", "monitor"]


def test_any_rules_are_decided_by_level_first(tmp_path: Path, geoip: GeoIp) -> None:
    """Random rules: the table, the explanation and the definition agree."""
    rng = random.Random(7)
    cidrs = ["203.0.0.0/16", "203.0.113.0/25", "203.0.113.200", "2001:db8::/32", "2001:db8:1::1", "0.0.0.0/0"]
    keys = [f'cidr = "{each}"' for each in cidrs] + ['country = "XX"', 'country = ["YY"]', "asn = [64500, 64501]"]
    asked = ["203.0.112.1", "203.0.113.1", "203.0.113.200", "203.0.113.201", "2001:db8::1", "2001:db8:1::1", "::5"]
    for _ in range(40):
        chosen = [(rng.choice(keys), rng.choice(("allow", "drop", "monitor"))) for _ in range(rng.randint(1, 8))]
        policy = policy_of(tmp_path, geoip, *(f'{key}\naction = "{action}"' for key, action in chosen))
        for address in asked:
            ip, record = ipaddress.ip_address(address), geoip.of([address])[address]
            best = (-1, -1, -1), "monitor"
            for at, (key, action) in enumerate(chosen):
                if key.startswith("cidr"):
                    network = ipaddress.ip_network(key.split('"')[1])
                    strength = (2, network.prefixlen, at) if ip in network else None
                elif key.startswith("asn"):
                    strength = (1, 0, at) if record.asn else None
                else:
                    strength = (0, 0, at) if record.country and record.country in key else None
                if strength:
                    best = max(best, (strength, action))
            assert decided(policy, address)[1] == best[1], (chosen, address)


def test_what_a_rule_by_country_may_say(tmp_path: Path, geoip: GeoIp) -> None:
    wrong = {
        'country = ["XX"]\ncidr = "192.0.2.0/24"': "only one of cidr, country and asn; write a rule for each",
        'country = "ZZ"': "country.mmdb of 2026-06-17 has no network of ZZ; it has others",
        'country = "XZ"': "it has XX",
        'country = "Germany"': 'write ISO codes such as country = ["CH", "DE"]',
        "country = []": "write ISO codes",
        'asn = ["AS64500"]': "write numbers such as asn = [64500, 64501]",
        "asn = [0]": "write numbers",
        "asn = 64999": "asn.mmdb of 2026-06-17 has no network of 64999",
    }
    for text, told in wrong.items():
        [mistake, *_] = read_toml(f'[[rule]]\naction = "drop"\n{text}\n'.encode(), "x.toml", geography=geoip).mistakes
        assert told in mistake.what
        assert mistake.where.startswith("x.toml:3: rule[0].")
    [mistake] = read_toml(b'[[rule]]\naction = "drop"\ncountry = "XX"\n', "x.toml", geography=EMPTY).mistakes
    assert "needs a database; name one in the settings under [geo]" in mistake.what
    assert not read_toml(b'[[rule]]\naction = "drop"\ncountry = "XX"\n', "x.toml").mistakes  # looked at alone
    with pytest.raises(ConfigError):
        policy_of(tmp_path, EMPTY, 'country = "XX"\naction = "drop"')


def test_prefixes_stay_with_their_rules_in_any_order(tmp_path: Path, geoip: GeoIp) -> None:
    policy = policy_of(
        tmp_path,
        geoip,
        'cidr = ["192.0.2.0/24", "198.51.100.0/24"]\naction = "drop"',
        'country = "YY"\naction = "drop"',
        'asn = 64500\naction = "drop"',
        'cidr = "192.0.2.7"\naction = "allow"',
    )
    texts = [[rows.text(at) for at in range(len(rows))] for rows in map(policy.prefixes_of, range(4))]
    assert texts[0] == ["192.0.2.0/24", "198.51.100.0/24"]
    assert set(texts[1]) == {"203.0.113.0/24", "2001:db8:1::1"}
    assert texts[2:] == [["203.0.113.128/25"], ["192.0.2.7"]]
    assert not list(shadows(policy, NOW))


class Kernel:
    """A rulebook with a file of rules and databases."""

    def __init__(self, folder: Path, databases: tuple[Path, ...]) -> None:
        made = Book(folder)
        made.settings = replace(made.settings, geo=Geo(databases))
        self.rules, self.book = made.cidr_dir / "1.toml", made.restarted()

    def load(self) -> str:
        """What is in force for an address of the country."""
        in_force = asyncio.run(self.book.load()).in_force
        return str(explain(in_force.policy, "203.0.113.5", Direction.INGRESS, time.time())[0].action)


def test_a_database_that_changes_changes_the_rules_and_one_that_breaks_does_not(tmp_path: Path) -> None:
    path = tmp_path / "country.mmdb"
    path.write_bytes(mmdb(NETWORKS))
    kernel = Kernel(tmp_path, (path,))
    kernel.rules.write_text('[[rule]]\ncountry = "YY"\naction = "drop"\n')
    assert kernel.load() == "drop"
    first = kernel.book.in_force
    assert kernel.load() == "drop"
    assert kernel.book.in_force is first
    path.write_bytes(b"broken")
    assert kernel.load() == "drop"
    assert kernel.book.in_force is not None
    assert "its last good content stays in use" in str(kernel.book.in_force.policy.notes[-1])
    path.write_bytes(mmdb([*NETWORKS, ("203.0.113.0/24", country("XX"))]))
    assert kernel.load() == "monitor"
    assert not kernel.book.in_force.policy.notes
    path.write_bytes(mmdb([*NETWORKS, ("203.0.113.0/24", country("XX")), ("2001:db8:1::1", country("ZZ"))]))
    with pytest.raises(ConfigError, match="has no network of YY"):
        kernel.load()
    assert kernel.book.in_force.policy.rules  # stays


def test_what_if_knows_the_level_of_a_rule(tmp_path: Path, geoip: GeoIp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is in force, as the daemon tells it, and of a rules file that is tried."""
    monkeypatch.setattr(whatif, "_geoip", lambda: geoip)
    told = {"action": "allow", "direction": "ingress", "path": "/x/1.toml", "line": 1, "kind": "rule"}
    rows = [
        told | {"index": 0, "name": "mine", "prefixes": ["203.0.0.0/16"]},
        told | {"index": 1, "name": "far", "prefixes": ["203.0.113.0/24"], "by": "country", "action": "drop"},
    ]
    now = whatif.RuleSnapshot(
        tuple(whatif._joined([(row, row["prefixes"]) for row in rows])), Action.MONITOR, True, (), tmp_path
    )
    assert decided(now.policy(), "203.0.113.5") == ("mine", "allow")
    (tmp_path / "2.toml").write_text('[[rule]]\ncountry = "YY"\naction = "drop"\nlabel = "tried"\n')
    tried = whatif.with_path(whatif.RuleSnapshot((), Action.MONITOR, True, (), tmp_path), tmp_path / "2.toml")
    assert decided(tried.policy(), "203.0.113.5") == ("tried", "drop")


def test_a_rule_for_every_address_keeps_rules_by_country_from_deciding(tmp_path: Path, geoip: GeoIp) -> None:
    web = 'cidr = ["0.0.0.0/0", "::/0"]\nports = ["tcp/80", "tcp/443"]\naction = "allow"\nlabel = "web"'
    ssh = 'cidr = "0.0.0.0/0"\nports = ["ssh"]\naction = "allow"'
    for ports, named in (
        ("", "tcp/22, tcp/80, tcp/443"),
        ('ports = ["tcp/80-90"]\n', "tcp/80"),
        ('ports = ["53"]\n', ""),
    ):
        policy = policy_of(tmp_path, geoip, web, ssh, f'country = ["XX"]\n{ports}action = "drop"')
        notes = [each.what for each in shadows(policy, NOW)]
        assert len(notes) == bool(named)
        assert all(
            note.startswith(f"does not drop {named}: ") and "(web) is for every address" in note for note in notes
        )
    both = policy_of(tmp_path, geoip, 'cidr = "0.0.0.0/0"\naction = "monitor"', 'asn = [64500]\naction = "drop"')
    assert "does not drop anything" in next(shadows(both, NOW)).what
    for harmless in (
        'cidr = "0.0.0.0/1"\naction = "allow"',
        'cidr = "0.0.0.0/0"\naction = "drop"',
        'cidr = "0.0.0.0/0"\naction = "allow"\ndirection = "egress"',
        'cidr = "0.0.0.0/0"\naction = "allow"\nexpires = 2099-01-01T00:00:00Z',
    ):
        assert not list(shadows(policy_of(tmp_path, geoip, harmless, 'country = ["XX"]\naction = "drop"'), NOW)), (
            harmless
        )
