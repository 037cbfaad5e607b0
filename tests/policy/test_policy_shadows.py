"""What `check` tells of rules that others keep from deciding."""

from __future__ import annotations

from typing import Any

import pytest

from trafficmond import services
from trafficmond.policy.load import Files, make_policy
from trafficmond.policy.shadows import shadows, still_allowed

NOW = 1_000_000.0
ALL = "0.0.0.0/0"


def told(*tables: dict[str, Any]) -> list[str]:
    named = [{"action": "drop", "label": f"r{number}", **table} for number, table in enumerate(tables)]
    return [each.what for each in shadows(make_policy(Files(), runtime=named), NOW)]


@pytest.mark.parametrize(
    "tables",
    [
        ({"cidr": "192.0.2.0/24"}, {"cidr": "192.0.2.0/24", "action": "allow"}),
        ({"cidr": ["192.0.2.1", "192.0.2.2"]}, {"cidr": ["192.0.2.2", "192.0.2.1", "192.0.2.3"]}),
        ({"cidr": ALL, "ports": ["tcp/22"]}, {"cidr": ALL, "ports": ["tcp/20-30"]}),
        (
            {"cidr": ALL, "ports": ["tcp/22"], "direction": "egress"},
            {"cidr": ALL, "ports": ["tcp"], "direction": "both"},
        ),
        ({"cidr": "2001:db8::/32", "ports": ["gre"]}, {"cidr": "2001:db8::/32", "ports": ["gre", "53"]}),
    ],
)
def test_a_rule_that_never_decides(tables: tuple[dict[str, Any], ...]) -> None:
    (what,) = told(*tables)
    assert what.startswith("this rule never decides: runtime (r1) comes before it")


def test_what_remains_for_a_rule_whose_ports_another_drops() -> None:
    (what,) = told({"cidr": ALL, "ports": ["tcp/22"], "action": "allow"}, {"cidr": ALL, "ports": ["tcp/1-1000"]})
    assert what.startswith("this rule never decides except about later fragments: runtime (r1) comes before it")


@pytest.mark.parametrize(
    "tables",
    [
        ({"cidr": ["192.0.2.1", "192.0.2.2"]}, {"cidr": "192.0.2.2"}),
        ({"cidr": "192.0.2.0/24"}, {"cidr": "192.0.2.0/25"}),
        ({"cidr": ALL, "ports": ["tcp/22"]}, {"cidr": ALL}),
        ({"cidr": ALL}, {"cidr": ALL, "ports": ["tcp/22"]}),
        ({"cidr": ALL, "ports": ["22"]}, {"cidr": ALL, "ports": ["tcp/22"]}),
        ({"cidr": ALL}, {"cidr": ALL, "direction": "egress"}),
        ({"cidr": ALL}, {"cidr": ALL, "expires": NOW + 5}),
        ({"cidr": ALL}, {"cidr": ALL, "expires": NOW - 5}),
        ({"cidr": ALL, "ports": ["tcp/22"]}, {"cidr": ALL, "ports": ["udp/53"]}, {"cidr": ALL, "ports": ["gre"]}),
    ],
)
def test_rules_that_do(tables: tuple[dict[str, Any], ...]) -> None:
    assert told(*tables) == []


def test_what_is_only_watched_is_not_dropped() -> None:
    drop, watch = (
        {"cidr": ALL, "ports": ["tcp/22", "gre"]},
        {"cidr": ["192.0.2.0/24", "198.51.100.7"], "action": "monitor"},
    )
    (what,) = told(drop, watch)
    assert what.startswith("does not drop tcp/22, gre from 192.0.2.0/24 and 1 more: runtime names them")
    assert told(drop, {**watch, "ports": ["udp/53"]}) == []
    assert told(drop, {**watch, "direction": "egress"}) == []
    assert told(drop, {**watch, "action": "allow"}) == [], "an exception is meant"
    assert told({**drop, "action": "allow"}, watch) == []


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"cidr": "192.0.2.0/24", "ports": ["tcp/22"]}, "192.0.2.0/24 can still connect to tcp/22: runtime (office)"),
        ({"cidr": ["192.0.2.7", "198.51.100.0/24"]}, "192.0.2.7 and 1 more can still connect to tcp/22: runtime"),
        ({"cidr": ALL, "ports": ["tcp/22"]}, None),
        ({"cidr": "192.0.2.0/24", "ports": ["tcp/443"]}, None),
        ({"cidr": "2001:db8::/32", "ports": ["tcp/22"]}, None),
        ({"cidr": "192.0.2.0/24", "direction": "egress"}, None),
        ({"cidr": "192.0.2.0/24", "shadow": True}, None),
        ({"cidr": "192.0.2.0/24", "expires": NOW - 1}, None),
    ],
)
def test_a_longer_prefix_that_still_lets_in(table: dict[str, Any], expected: str | None) -> None:
    rules = [{"action": "allow", "label": "office", **table}, {"cidr": ALL, "action": "drop", "ports": ["tcp/22"]}]
    notes = still_allowed(make_policy(Files(), runtime=rules), ALL, services.parse(["tcp/22"]), NOW)
    assert [note[: len(expected or "")] for note in notes] == ([expected] if expected else [])
