from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trafficmond.config.settings import Response as Settings
from trafficmond.detect.engine import CLOSED, CONTINUED, OPENED, UPDATED, ThreatUpdate
from trafficmond.detect.response import Response
from trafficmond.learned import packed, unpacked
from trafficmond.model import Severity, Threat

NOW = 1_700_000_000.0


def update(src: str | None = "203.0.113.5", state: str = OPENED, **fields: Any) -> ThreatUpdate:
    values: dict[str, Any] = {
        "detector": "brute_force",
        "severity": Severity.HIGH,
        "technique": "T1110",
        "src_ip": src,
        "dst_ip": "192.0.2.1",
        "first_seen": NOW,
        "last_seen": NOW,
        "count": 200,
        "summary": "made 200 short connections",
        "evidence": {"proven": True},
        "id": "abc",
    }
    return ThreatUpdate(state, Threat(**{**values, **fields}))


def response(protected: tuple[str, ...] = (), **settings: Any) -> Response:
    return Response(Settings(**{"ban": "on", **settings}), lambda prefix: prefix in protected)


def test_a_proven_attacker_is_banned_once_while_the_ban_lasts() -> None:
    decider = response()
    (ban,) = decider.decide(update(), NOW)
    assert (ban.prefix, ban.ttl_s, ban.threat_id, ban.count, ban.shadow) == ("203.0.113.5/32", 600.0, "abc", 1, False)
    assert decider.decide(update(state=UPDATED), NOW + 10) == []


def test_a_ban_grows_with_each_return_up_to_its_bound_and_is_forgiven_in_time() -> None:
    decider, now, lengths = response(max_ban_time=5000.0), NOW, []
    for _ in range(6):
        (ban,) = decider.decide(update(), now)
        lengths.append(ban.ttl_s)
        now += ban.ttl_s + 1
    assert lengths == [600, 1200, 2400, 4800, 5000, 5000]
    (ban,) = decider.decide(update(), now + 5 * 5000)
    assert (ban.ttl_s, ban.count) == (600, 1)


def test_other_settings_forgive_nothing() -> None:
    decider = response()
    decider.decide(update(), NOW)
    decider.configure(Settings(ban="on", ban_time=60.0))
    assert decider.decide(update(), NOW + 10) == []
    (ban,) = decider.decide(update(), NOW + 601)
    assert (ban.ttl_s, ban.count) == (120, 2)


def test_what_a_shadow_would_have_banned_is_banned_once_it_may_be() -> None:
    decider = response(ban="shadow")
    decider.decide(update(), NOW)
    decider.configure(Settings(ban="on"))
    (ban,) = decider.decide(update(state=UPDATED), NOW + 10)
    assert (ban.shadow, ban.count) == (False, 1)


def test_shadow_decides_the_same_and_reports_it() -> None:
    (ban,) = response(ban="shadow").decide(update(), NOW)
    assert ban.shadow


@pytest.mark.parametrize(
    "given",
    [
        update(src=None),
        update(state=CLOSED),
        update(severity=Severity.MEDIUM),
        update(evidence={}),
        update(evidence={"proven": False}, detector="port_scan"),
        update(detector="syn_flood"),
        update(detector="amplification"),
        update(detector="volume"),
        update(detector="beacon"),
        update(src="198.51.100.1"),
    ],
    ids=["nobody", "closed", "mild", "unsaid", "forgeable", "flood", "reflectors", "volume", "own host", "protected"],
)
def test_nobody_is_banned_on_less(given: ThreatUpdate) -> None:
    assert response(protected=("198.51.100.1/32",)).decide(given, NOW) == []


def test_off_by_default() -> None:
    assert Response(Settings(), lambda _: False).decide(update(), NOW) == []


@pytest.mark.parametrize(
    ("source", "network"),
    [
        ("203.0.113.{}", "203.0.113.0/24"),
        ("2001:db8:1:2::{}", "2001:db8:1:2::/64"),
        ("64:ff9b::cb00:710{}", "64:ff9b::cb00:7100/120"),
    ],
)
def test_many_neighbours_become_one_ban_of_their_network(source: str, network: str) -> None:
    decider = response(neighbours=4)
    bans = [decider.decide(update(source.format(host)), NOW + host) for host in range(1, 7)]
    assert [ban[0].prefix == network for ban in bans[:4]] == [False, False, False, True]
    assert bans[4:] == [[], []]


def test_a_network_that_holds_somebody_protected_is_not_banned() -> None:
    decider = response(protected=("203.0.113.0/24",), neighbours=2)
    bans = [decider.decide(update(f"203.0.113.{host}"), NOW) for host in range(1, 5)]
    assert [ban[0].prefix for ban in bans] == [f"203.0.113.{host}/32" for host in range(1, 5)]


def test_neighbours_of_zero_never_bans_a_network() -> None:
    decider = response(neighbours=0)
    assert all("/32" in decider.decide(update(f"203.0.113.{host}"), NOW)[0].prefix for host in range(1, 60))


def test_an_unban_is_forgiveness() -> None:
    decider = response()
    decider.decide(update(), NOW)
    decider.lifted("203.0.113.0/24")
    (ban,) = decider.decide(update(), NOW + 5)
    assert (ban.ttl_s, ban.count) == (600, 1)


def test_who_goes_on_when_a_ban_ends_is_banned_at_once() -> None:
    decider = response()
    decider.decide(update(), NOW)
    assert decider.decide(update(state=CONTINUED), NOW + 599) == []
    (ban,) = decider.decide(update(state=CONTINUED), NOW + 601)
    assert (ban.ttl_s, ban.count) == (1200, 2)


def test_a_ban_that_failed_is_decided_again_and_is_no_longer_for_that() -> None:
    decider = response(neighbours=2)
    decider.decide(update("203.0.113.6"), NOW)
    for _ in range(2):
        (ban,) = decider.decide(update(), NOW + 1)
        assert (ban.prefix, ban.ttl_s, ban.count) == ("203.0.113.0/24", 600, 1)
        decider.failed()
    for _ in range(2):
        (ban,) = decider.decide(update("203.0.113.6", CONTINUED), NOW + 601)
        assert (ban.ttl_s, ban.count) == (1200, 2)
        decider.failed()


@pytest.mark.parametrize("before", ["off", "shadow"])
def test_a_threat_that_is_open_when_response_is_turned_on_leads_to_a_ban_with_its_next_evidence(before: str) -> None:
    """Its count, which fades, may never double."""
    decider = response(ban=before)
    decider.decide(update(), NOW)
    assert decider.why_not(update().threat).startswith("response")
    decider.configure(Settings(ban="on"))
    assert decider.why_not(update().threat) == ""
    (ban,) = decider.decide(update(state=CONTINUED), NOW + 10)
    assert (ban.ttl_s, ban.count, ban.shadow) == (600, 1, False)


def restarted(decider: Response, now: float, **settings: Any) -> Response:
    again = response(**settings)
    assert again.recall(unpacked(packed(decider.learned())), now) == []
    return again


def test_bans_are_known_after_a_restart() -> None:
    decider = response()
    decider.decide(update(), NOW)
    decider.decide(update("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"), NOW)
    decider = restarted(decider, NOW + 10)
    for source in ("203.0.113.5", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"):
        assert decider.decide(update(source, CONTINUED), NOW + 10) == []
        (ban,) = decider.decide(update(source, CONTINUED), NOW + 601)
        assert (ban.ttl_s, ban.count) == (1200, 2)
    (ban,) = decider.decide(update("203.0.113.6", CONTINUED), NOW + 10)  # open before, and not banned yet
    assert ban.count == 1


def test_an_unban_outlasts_restarts_and_shadows() -> None:
    decider = response()
    decider.decide(update(), NOW)
    decider.lifted("203.0.113.5/32")
    for step, ban in enumerate(["on", "shadow", "off", "on"]):
        decider.configure(Settings(ban=ban))
        decider = restarted(decider, NOW + step, ban=ban)
        assert decider.decide(update(state=CONTINUED), NOW + step) == []
    assert decider.why_not(update().threat).startswith("its ban was lifted")
    assert decider.decide(update(state=UPDATED), NOW + 10)


@pytest.mark.parametrize("modes", [("shadow", "on"), ("on", "shadow")])
def test_what_was_or_is_a_shadow_after_a_restart_has_banned_nobody(modes: tuple[str, str]) -> None:
    decider = response(ban=modes[0])
    decider.decide(update(), NOW)
    (ban,) = restarted(decider, NOW + 1, ban=modes[1]).decide(update(state=CONTINUED), NOW + 1)
    assert ban.count == 1


def test_after_a_restart_a_ban_lasts_no_longer_than_its_duration_and_what_happened_since_is_newer() -> None:
    decider = response()
    decider.decide(update(), NOW)
    decider.decide(update("203.0.113.6"), NOW)
    after, early = response(), NOW - 86400  # the clock was set back meanwhile
    after.lifted("203.0.113.6/32")
    assert after.recall(decider.learned(), early) == []
    assert after.decide(update(state=CONTINUED), early + 599) == []
    assert after.decide(update(state=CONTINUED), early + 601)
    assert after.decide(update("203.0.113.6", CONTINUED), early + 601) == []
    assert after.recall({"response.bans": np.zeros(1)}, early) == ["response.bans"]
    assert after.recall({}, early) == []


def test_an_unban_lasts_until_the_threat_gets_worse() -> None:
    decider, threat = response(), update().threat
    for lifted in ("203.0.113.5/32", "203.0.113.0/24"):
        decider.decide(update(), NOW)
        assert decider.why_not(threat) == ""
        decider.lifted(lifted)
        assert decider.why_not(threat).startswith("its ban was lifted")
        assert decider.decide(update(state=CONTINUED), NOW + 5) == []
        (ban,) = decider.decide(update(state=UPDATED), NOW + 6)
        assert (ban.ttl_s, ban.count) == (600, 1)
        decider.lifted("203.0.113.5/32")


def test_who_is_banned_after_an_unban_of_the_network_is_banned_again() -> None:
    """The network's record stayed without a count, and spared each source in it when its next ban ended."""
    decider = response()
    decider.lifted("203.0.113.0/24")
    assert decider.decide(update(), NOW)
    assert decider.why_not(update().threat) == ""
    (ban,) = decider.decide(update(state=CONTINUED), NOW + 601)
    assert (ban.ttl_s, ban.count) == (1200, 2)
    assert decider.decide(update("203.0.113.6", CONTINUED), NOW + 601) == []


def test_only_changes_count_as_spared() -> None:
    decider = response(("198.51.100.1/32",))
    for given in ({"src": "198.51.100.1"}, {"evidence": {}}):
        for state in (OPENED, CONTINUED, CONTINUED):
            assert decider.decide(update(state=state, **given), NOW) == []
    assert (decider.protected_spared, decider.forgeable_spared) == (1, 1)


def test_memory_is_bounded() -> None:
    decider = response(neighbours=0)
    for n in range(10_000):
        decider.decide(update(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}"), NOW)
    assert len(decider._records) == 4096


@pytest.mark.parametrize(
    ("settings", "fields", "why"),
    [
        ({"ban": "off"}, {}, "response off"),
        ({}, {"severity": Severity.MEDIUM}, "below min_severity high"),
        ({"min_severity": "critical"}, {}, "below min_severity critical"),
        ({}, {"evidence": {}}, "source not proven yet"),
        ({}, {"src": "198.51.100.9"}, "guarded"),
        ({}, {"detector": "syn_flood"}, "no ban follows from syn_flood"),
        ({}, {"src": None}, "no ban follows from brute_force"),
        ({"ban": "shadow"}, {}, "response in shadow"),
        ({}, {}, ""),
    ],
)
def test_it_says_why_a_threat_is_not_banned(settings: dict[str, Any], fields: dict[str, Any], why: str) -> None:
    decider, threat = response(("198.51.100.9/32",), **settings), update(**fields)
    said = decider.why_not(threat.threat)
    assert said.startswith(why)
    assert bool(said) == bool(why)
    bans = decider.decide(threat, NOW)
    assert bool(bans) == (why in ("", "response in shadow"))
