"""What is done about threats: whom the guard knows is spared, and whom only logind knows by now."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trafficmond.banlist import BanList
from trafficmond.config.settings import Response, Settings
from trafficmond.detect.engine import ThreatUpdate
from trafficmond.model import Severity, Threat
from trafficmond.responder import Responder
from trafficmond.rulebook import Rulebook

ATTACKER = "203.0.113.9"


@pytest.mark.parametrize(
    ("guard", "sessions", "banned"),
    [
        ([], {"198.51.100.7", "2001:db8::7"}, True),
        ([(f"{ATTACKER}/32", "open session (sshd)")], set(), False),
        ([], {ATTACKER}, False),  # logged in since the rules last changed
    ],
)
def test_who_is_logged_in_is_not_banned(
    tmp_path: Path, guard: list[tuple[str, str]], sessions: set[str], banned: bool
) -> None:
    (tmp_path / "cidr.d").mkdir()
    settings = Settings(cidr_dir=tmp_path / "cidr.d", state_dir=tmp_path, response=Response(ban="on"))
    clock = SimpleNamespace(to_jiffies=int, calibrate=lambda: None)
    tables = SimpleNamespace(put=lambda words: words)
    datapath: Any = SimpleNamespace(tables=tables, on_trial_until=None, clock=clock)
    rulebook = Rulebook(settings, datapath, lambda _: guard)
    asyncio.run(rulebook.load())
    kernel: Any = SimpleNamespace(put=lambda _: None)
    bans = BanList(kernel, lambda _put, _gone: None)
    sinks: Any = SimpleNamespace(note=lambda *_: None)
    store: Any = SimpleNamespace(audit=lambda _: None)
    responder = Responder(settings.response, rulebook, bans, sinks, store, lambda: sessions)
    now = time.time()
    evidence = {"unit": "ports", "proven": True}
    threat = Threat("port_scan", Severity.HIGH, "T1046", ATTACKER, None, now, now, 40, "40 ports", evidence, "t1")
    responder.respond(ThreatUpdate("opened", threat))
    assert [ban.cidr for ban in bans.all()] == ([f"{ATTACKER}/32"] if banned else [])
