"""What the guard is made of on a host, and what it says of what it cannot see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trafficmond import protected
from trafficmond.config.filtering import Policy
from trafficmond.config.settings import Settings
from trafficmond.datapath.sessions import Session
from trafficmond.datapath.sockets import Peer
from trafficmond.errors import DatapathError
from trafficmond.protected import Protected

SETTINGS = Settings()
OWN = [("192.0.2.1/32", "own address"), ("2001:db8::1/128", "default gateway")]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the host has, for a test to change."""
    has: dict[str, Any] = {"lifelines": OWN, "sessions": [], "ssh": [Peer("198.51.100.22", 50000, 1.0)]}

    def lifelines() -> Any:
        if isinstance(has["lifelines"], Exception):
            raise has["lifelines"]
        return has["lifelines"]

    monkeypatch.setattr(protected, "lifelines", lifelines)
    monkeypatch.setattr(protected.sessions, "established", lambda _: has["ssh"])
    monkeypatch.setattr(protected.sessions, "open_sessions", lambda: has["sessions"])
    return has


def made() -> tuple[Protected, dict[str, str]]:
    warnings: dict[str, str] = {}
    return Protected(warnings), warnings


def test_who_is_logged_in_is_guarded_by_a_name_that_says_why(host: dict[str, Any]) -> None:
    host["sessions"] = [
        Session("203.0.113.9", "sshd", "active", "user"),
        Session("2001:db8::9", "cockpit", "active", "user"),
        Session("192.0.2.1", "sshd", "active", "user"),  # from this host itself
    ]
    found, warnings = made()
    assert found.guard(SETTINGS) == sorted(
        [*OWN, ("203.0.113.9/32", "open session (sshd)"), ("2001:db8::9/128", "open session (cockpit)")]
    )
    host["sessions"] = []
    assert found.guard(SETTINGS) == OWN
    assert not warnings


def test_own_addresses_of_ipv6_are_guarded_on_lo_alone(host: dict[str, Any]) -> None:
    """What claims to come from them is forged otherwise, and Linux would take it."""
    host["lifelines"] = [*OWN, ("2001:db8::7/128", "own address"), ("::1/128", "own address")]
    found, _ = made()
    assert found.guard(SETTINGS) == OWN
    assert found.guard(replace(SETTINGS, interfaces=("eth0", "lo"))) == sorted(host["lifelines"])


def test_a_session_that_has_ended_is_noticed_once(host: dict[str, Any]) -> None:
    found, _ = made()
    host["sessions"] = [Session(f"203.0.113.{number}", "sshd", "active", "user") for number in (7, 8)]
    assert not found.sessions_ended()
    found.guard(SETTINGS)
    assert not found.sessions_ended()
    host["sessions"] += [Session("203.0.113.9", "sshd", "active", "user")]  # guarded when the rules next change
    assert not found.sessions_ended()
    host["sessions"] = host["sessions"][1:]
    assert found.sessions_ended()
    found.guard(SETTINGS)
    assert not found.sessions_ended()
    host["sessions"] = []
    found.guard(replace(SETTINGS, policy=Policy(guard=False)))
    assert not found.sessions_ended()


def test_an_open_connection_alone_guards_nobody(host: dict[str, Any]) -> None:
    """Whoever guesses passwords holds one."""
    found, _ = made()
    assert "198.51.100.22/32" not in dict(found.guard(SETTINGS))
    host["sessions"] = [Session("203.0.113.9", "sshd", "active", "user")]
    assert found.logins() == {"203.0.113.9"}


def test_without_logind_an_old_connection_in_use_to_ssh_is_a_login(host: dict[str, Any]) -> None:
    found, _ = made()
    host["sessions"] = None
    assert found.logins() == {"198.51.100.22"}, "it was there when the daemon began"
    host["ssh"].append(Peer("203.0.113.66", 50001, 1.0))
    assert found.logins() == {"198.51.100.22"}, "it has just come: a guess, perhaps"


def test_where_logind_knows_of_nobody_connections_tell(host: dict[str, Any]) -> None:
    found, _ = made()
    host["sessions"] = []
    assert found.logins() == {"198.51.100.22"}


def test_a_host_without_logind_says_so_until_it_has_one(host: dict[str, Any]) -> None:
    found, warnings = made()
    host["sessions"] = None
    assert found.guard(SETTINGS) == OWN
    assert "logind" in warnings["sessions"]
    assert "policy.allowlist" in warnings["sessions"]
    host["sessions"] = []
    found.guard(SETTINGS)
    assert not warnings


def test_lifelines_that_cannot_be_looked_up_are_those_known_last(host: dict[str, Any]) -> None:
    found, warnings = made()
    found.guard(SETTINGS)
    host["lifelines"] = DatapathError("netlink refuses")
    assert found.guard(SETTINGS) == OWN
    assert "netlink refuses" in warnings["guard"]


def test_a_guard_that_is_switched_off_guards_nobody(host: dict[str, Any]) -> None:
    found, warnings = made()
    host["sessions"] = None
    assert found.guard(replace(SETTINGS, policy=Policy(guard=False))) == []
    assert not warnings
