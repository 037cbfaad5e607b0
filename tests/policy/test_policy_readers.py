"""Rules files, the original's JSON and runtime tables: what they mean, and every mistake in them with its place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from policy_loading import ROOT

from trafficmond import services
from trafficmond.model import Action, Direction, Reason
from trafficmond.policy.readers import always_allowed, read_json, read_list, read_toml
from trafficmond.policy.rules import ListSource, Rule, Rules, read_tables

ORIGINAL = ROOT.parent / "shared" / "data" / "original"

OFFICE = b"""\
[[rule]]
cidr = "203.0.113.9/24"
action = "Drop"
label = "bad neighbours"
direction = "both"
expires = 2027-01-01T00:00:00Z

[[rule]]
cidr = [" 198.51.100.0/24", "2001:db8::/32"]
action = "limit"
limit = "100/s"
burst = 250
"""


def test_a_rules_file_of_too_many_lines_is_refused() -> None:
    found = read_toml(b"\n" * 5_000_001, "a.toml")
    assert [str(each) for each in found.mistakes] == [
        "a.toml: has more than 5,000,000 lines; split it, or make it a list"
    ]
    assert not read_toml(OFFICE + b"\n" * 1000, "a.toml").mistakes


def cidrs(found: Rules) -> list[str]:
    return [found.prefixes.text(row) for row in range(len(found.prefixes))]


def wheres(found: Rules) -> list[str]:
    return [mistake.where for mistake in found.mistakes]


def test_rules_file() -> None:
    marked = read_toml(b"\xef\xbb\xbf" + OFFICE.replace(b"\n", b"\r\n"), "10-office.toml")  # by an editor of Windows
    found = read_toml(OFFICE, "10-office.toml")
    assert not found.mistakes
    assert (marked.rules, marked.mistakes, marked.notes) == (found.rules, found.mistakes, found.notes)
    first, second = found.rules
    assert (first.action, first.reason, first.direction) == (Action.DROP, Reason.RULE, Direction.BOTH)
    assert first.expires == datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    assert (first.name, first.source) == ("bad neighbours", "10-office.toml:1")
    assert (second.action, second.direction, second.expires) == (Action.LIMIT, Direction.INGRESS, None)
    assert (second.rate_per_s, second.burst) == (100, 250)
    assert (second.name, second.source) == ("198.51.100.0/24", "10-office.toml:8")
    assert found.counts.tolist() == [1, 2]
    assert cidrs(found) == ["203.0.113.0/24", "198.51.100.0/24", "2001:db8::/32"]
    note = found.notes[0]
    assert (note.where, note.what) == ("10-office.toml:2", "1 prefix with host bits set, read without them")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('action = "block"', "did you mean drop?"),
        ('action = "drop"\ndirection = "in"', "did you mean ingress?"),
        ('action = "drop"\nports = [22]', 'names no services in quotes; write ports = ["tcp/443", "udp/8000-8100"]'),
    ],
)
def test_a_mistake_that_other_firewalls_teach_is_answered(written: str, said: str) -> None:
    found = read_toml(f'[[rule]]\ncidr = "192.0.2.0/24"\n{written}\n'.encode(), "x.toml")
    assert said in found.mistakes[0].what


def test_every_mistake_at_once() -> None:
    data = b"""\
color = "red"

[[rule]]
cidr = "192.0.2.0/33"
action = "block"

[[rule]]
cidrs = ["192.0.2.0/24"]
action = 3
label = "two\\nlines"
direction = "inbound"
expires = 2027-01-01T00:00:00

[[rule]]
cidr = ["192.0.2.0/24", "2001:db8::/200"]
action = "limit"
limit = "100"
burst = 0

[[rule]]
cidr = []
action = "drop"
limit = "5/s"
expires = true
"""
    found = read_toml(data, "x.toml")
    assert not found.rules
    assert sorted(wheres(found)) == sorted(
        [
            "x.toml:1: color",
            "x.toml:4: rule[0].cidr",
            "x.toml:5: rule[0].action",
            "x.toml:7: rule[1].cidr",
            "x.toml:8: rule[1].cidrs",
            "x.toml:9: rule[1].action",
            "x.toml:10: rule[1].label",
            "x.toml:11: rule[1].direction",
            "x.toml:12: rule[1].expires",
            "x.toml:15: rule[2].cidr",
            "x.toml:17: rule[2].limit",
            "x.toml:21: rule[3].cidr",
            "x.toml:23: rule[3].limit",
            "x.toml:24: rule[3].expires",
        ]
    )
    said = {mistake.where: mistake.what for mistake in found.mistakes}
    assert 'write "allow" or "monitor" or "drop" or "limit"' in said["x.toml:5: rule[0].action"]
    assert "did you mean cidr?" in said["x.toml:8: rule[1].cidrs"]
    assert "2027-01-01T00:00:00Z" in said["x.toml:12: rule[1].expires"]


@pytest.mark.parametrize(
    ("data", "where", "what"),
    [
        (b'[[rule]]\ncidr = "::/0\n', "x.toml:2", "is not TOML"),
        (b'[[rule]]\ncidr = "::/0"\naction = "drop"\n[[rule', "x.toml:4", "at end of document"),
        (b'[[rule]]\ncidr = [\n"::/0",\n', "x.toml:3", "is not TOML"),
        (b'[[rule]]\ncidr = "::/0"\ncidr = "::1"\n', "x.toml:3", "cidr is set already, in line 2"),
        (b"[[rule]]\n# \xff\n", "x.toml:2", "is not UTF-8"),
        (b"rule = 3\n", "x.toml:1: rule", "[[rule]]"),
        (b"# one rule\n[rule]\ncidr = '::/0'\n", "x.toml:2: rule", "[[rule]]"),
        (b"# one rule\n[[rules]]\ncidr = '::/0'\n", "x.toml:2: rules", "did you mean [[rule]]?"),
        (b"[[Rule]]\ncidr = '::/0'\n", "x.toml:1: Rule", "did you mean [[rule]]?"),
        (b"interfaces = []\n[policy]\ndefault = 'drop'\n", "x.toml", "has settings, not rules"),
        (b'[[rule]]\ncidr = "::/0"\n', "x.toml:1: rule[0].action", "is missing"),
        (b"[[rule]]\nx = " + b"[" * 5000, "x.toml", ""),
        (b"[[rule]]\nburst = " + b"9" * 5000, "x.toml", "has a number of thousands of digits"),
    ],
)
def test_files_that_do_not_parse(data: bytes, where: str, what: str) -> None:
    [mistake, *_] = read_toml(data, "x.toml").mistakes
    assert mistake.where == where
    assert what in mistake.what


def test_mistakes_are_bounded() -> None:
    found = read_toml(b'[[rule]]\ncidr = "wrong"\naction = "drop"\n' * 500, "x.toml")
    assert len(found.mistakes) == 101
    assert found.mistakes[99].where == "x.toml:299: rule[99].cidr"
    assert found.mistakes[100].what == "400 more mistakes"


def test_empty_files_are_ordinary() -> None:
    for data in (b"", b"# nothing yet\n", b"\r\n"):
        found = read_toml(data, "x.toml")
        assert (found.rules, found.mistakes) == ((), ())


def test_the_originals_json() -> None:
    found = read_json(b'{"permitted_cidrs": ["127.0.0.0/8", "192.168.1.0/24"], "logging": {}}', "/etc/strict.json")
    [rule] = found.rules
    assert (rule.action, rule.reason, rule.direction) == (Action.ALLOW, Reason.RULE, Direction.INGRESS)
    assert (rule.name, rule.source) == ("strict.json", "/etc/strict.json")
    assert cidrs(found) == ["127.0.0.0/8", "192.168.1.0/24"]


@pytest.mark.parametrize(
    ("data", "where", "what"),
    [
        (b'{"permitted_cidrs": ["::/0",]}', "x.json:1", "is not JSON"),
        (b'{"permitted_cidrs": ' + b"9" * 5000 + b"}", "x.json", "has a number of thousands of digits"),
        (b'{"permitted_cidrs": ["\xff"]}', "x.json", "is not UTF-8"),
        (b"[]", "x.json", "permitted_cidrs"),
        (b"{}", "x.json", "permitted_cidrs"),
        (b'{"permitted_cidrs": [1]}', "x.json", "permitted_cidrs"),
        (b'{"permitted_cidrs": [], "color": 1}', "x.json: color", "is not a known key"),
        (b'{"permitted_cidrs": ["::/0", "192.0.2.0/40"]}', "x.json: permitted_cidrs[1]", "0 to 32"),
        (b"[" * 100_000, "x.json", ""),
    ],
)
def test_json_that_will_not_do(data: bytes, where: str, what: str) -> None:
    [mistake] = read_json(data, "x.json").mistakes
    assert mistake.where == where
    assert what in mistake.what


def test_the_originals_own_files() -> None:
    if not ORIGINAL.is_dir():
        pytest.skip(f"needs the original's example files in {ORIGINAL}")
    for path in sorted(ORIGINAL.glob("*.json")):
        found = read_json(path.read_bytes(), str(path))
        assert not found.mistakes
        assert cidrs(found) == json.loads(path.read_text())["permitted_cidrs"]


def test_list() -> None:
    source = ListSource(Path("/x/firehol_level1.netset"), Action.DROP, direction=Direction.BOTH)
    found = read_list(source, b"192.0.2.0/24\n198.51.100.7\n", "/x/firehol_level1.netset")
    [rule] = found.rules
    assert (rule.action, rule.reason, rule.direction) == (Action.DROP, Reason.LIST, Direction.BOTH)
    assert (rule.name, found.counts.tolist()) == ("firehol_level1", [2])
    bad = read_list(source, b"wrong\n" * 300, "x")
    assert (bad.rules, len(bad.mistakes), bad.mistakes[-1].what) == ((), 101, "200 more mistakes")


def test_lasting() -> None:
    found = always_allowed(Reason.GUARD, ["192.0.2.1"], "gateway", "guard")
    [rule] = found.rules
    assert (rule.action, rule.reason, rule.direction, rule.name) == (
        Action.ALLOW,
        Reason.GUARD,
        Direction.BOTH,
        "gateway",
    )
    [mistake] = always_allowed(Reason.ALLOWLIST, ["::/0", "x"], "allowlist", "policy.allowlist").mistakes
    assert mistake.where == "policy.allowlist[1]"


def table_of(rule: Rule, cidrs: Sequence[str]) -> dict[str, Any]:
    """The `[[rule]]` that reads back as `rule`; ready for `read_tables` and for the daemon's own file."""
    table: dict[str, Any] = {"cidr": cidrs[0] if len(cidrs) == 1 else list(cidrs), "action": str(rule.action)}
    if rule.label:
        table["label"] = rule.label
    if rule.direction is not Direction.INGRESS:
        table["direction"] = str(rule.direction)
    if rule.services:
        table["ports"] = services.text(rule.services)
    if rule.expires is not None:
        table["expires"] = datetime.fromtimestamp(rule.expires, UTC)
    if rule.forced:
        table["force"] = True
    if rule.action is Action.LIMIT:
        table |= {"limit": f"{rule.rate_per_s}/s", "burst": rule.burst}
    return table


@pytest.mark.parametrize(
    "table",
    [
        {"cidr": "192.0.2.0/24", "action": "drop"},
        {"cidr": ["192.0.2.0/24", "::/0"], "action": "allow", "label": "x", "direction": "egress"},
        {"cidr": "192.0.2.1", "action": "limit", "limit": "5/s", "burst": 10, "expires": 1_800_000_000.5},
    ],
)
def test_tables_round_trip(table: dict[str, Any]) -> None:
    found = read_tables([table], "runtime")
    [rule] = found.rules
    again = read_tables([table_of(rule, cidrs(found))], "runtime")
    assert again.rules == found.rules
    assert cidrs(again) == cidrs(found)


def test_values_of_wrong_types_are_mistakes() -> None:
    for key, value in (
        ("cidr", 5),
        ("cidr", [5]),
        ("cidr", None),
        ("action", []),
        ("label", 7),
        ("expires", "soon"),
        ("expires", -1),
        ("expires", float("nan")),
        ("direction", 1),
    ):
        table = {"cidr": "::/0", "action": "drop", key: value}
        [mistake] = read_tables([table], "runtime").mistakes
        assert mistake.where == f"runtime: rule[0].{key}"


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("direction", list(Direction))
def test_every_action_and_direction_is_what_it_says(action: Action, direction: Direction) -> None:
    table = {"cidr": "192.0.2.0/24", "action": str(action), "direction": str(direction)}
    if action is Action.LIMIT:
        table["limit"] = "100/s"
    [rule] = read_tables([table], "runtime").rules
    assert (rule.action, rule.direction) == (action, direction)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("acton", "action"),
        ("cidrs", "cidr"),
        ("prefix", "cidr"),
        ("port", "ports"),
        ("ttl", "expires"),
        ("name", "label"),
    ],
)
def test_a_key_that_is_misspelt_is_guessed(key: str, meant: str) -> None:
    mistakes = read_toml(f'[[rule]]\n{key} = "x"\n'.encode(), "x.toml").mistakes
    assert f"is not a known key; did you mean {meant}?" in {each.what for each in mistakes}


def test_a_key_that_nothing_comes_near_is_answered_with_all_of_them() -> None:
    (mistake, *_) = read_toml(b'[[rule]]\ncidr = "::/0"\naction = "drop"\nxyz = 1\n', "x.toml").mistakes
    assert mistake.what.startswith("is not a known key; a rule has cidr, country, asn, action, ports, label")
