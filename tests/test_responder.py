"""What is done about threats: whom the guard knows is spared, and whom only logind knows by now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trafficmond.banlist import BanList
from trafficmond.config.settings import Response, Settings
from trafficmond.datapath.bans import KernelBan
from trafficmond.detect.engine import ThreatUpdate
from trafficmond.errors import DatapathError
from trafficmond.model import Severity, Threat
from trafficmond.responder import OWNER, Responder
from trafficmond.rulebook import Rulebook
from trafficmond.store.records import Ban

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
    responder, bans = responding(tmp_path, guard, sessions)
    responder.respond(found())
    assert [ban.cidr for ban in bans.all()] == ([f"{ATTACKER}/32"] if banned else [])


def test_a_ban_of_before_the_start_is_not_replaced_by_a_shorter_one(tmp_path: Path) -> None:
    """Whether or not the response still knows it."""
    responder, bans = responding(tmp_path)
    now = time.time()
    bans.add(Ban(f"{ATTACKER}/32", "port_scan", "40 ports", now - 100, now + 4700, count=4, owner=OWNER))
    responder.respond(found("continued"))
    assert [ban.count for ban in bans.all()] == [4]
    bans.expire(now + 4800)
    responder.respond(found("continued"))
    assert [ban.count for ban in bans.all()] == [1]


def test_a_ban_for_which_the_kernel_has_no_room_is_tried_again_and_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    responder, bans = responding(tmp_path, refusals=(refusals := ["full"] * 3), said=said)
    for state in ("opened", "continued", "continued"):
        responder.respond(found(state))
    assert (bans.all(), refusals, said) == ([], [], ["full"])
    responder.respond(found("continued"))
    assert [ban.count for ban in bans.all()] == [1]
    assert "for 600 s" in said[-1]


def found(state: str = "opened") -> ThreatUpdate:
    now, evidence = time.time(), {"unit": "ports", "proven": True}
    what = ("port_scan", Severity.HIGH, "T1046", ATTACKER, None, now, now, 40, "40 ports")
    return ThreatUpdate(state, Threat(*what, evidence, "t1"))


def responding(
    tmp_path: Path,
    guard: Sequence[tuple[str, str]] = (),
    sessions: Collection[str] = (),
    refusals: list[str] | None = None,
    said: list[str] | None = None,
) -> tuple[Responder, BanList]:
    """`refusals`: the kernel's next answers; what is noted is added to `said`."""

    def put(_: KernelBan) -> None:
        if refusals:
            raise DatapathError(refusals.pop())

    (tmp_path / "cidr.d").mkdir()
    settings = Settings(cidr_dir=tmp_path / "cidr.d", state_dir=tmp_path, response=Response(ban="on"))
    clock = SimpleNamespace(to_jiffies=int, calibrate=lambda: None)
    tables = SimpleNamespace(put=lambda words: words)
    datapath: Any = SimpleNamespace(tables=tables, on_trial_until=None, clock=clock)
    rulebook = Rulebook(settings, datapath, lambda _: guard)
    asyncio.run(rulebook.load())
    kernel: Any = SimpleNamespace(put=put, remove=lambda _: None)
    bans = BanList(kernel, lambda _put, _gone: None)
    sinks: Any = SimpleNamespace(note=lambda _message, text, _fields: said is not None and said.append(text))
    store: Any = SimpleNamespace(audit=lambda _: None)
    responder = Responder(settings.response, rulebook, bans, sinks, store, lambda: sessions)
    return responder, bans
