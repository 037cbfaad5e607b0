"""Status, flows, the moment, threats and explanations, as clients see them."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from asking import asking

from trafficmond.flows.batch import DELTA, split_address
from trafficmond.metrics.families import COUNTED
from trafficmond.model import Action, Reason, Severity, Threat
from trafficmond.verdict import verdict_word


def delta(src: str, dst: str, **columns: Any) -> Any:
    now = time.time()
    batch = np.zeros(1, DELTA)
    for side, text in (("src", src), ("dst", dst)):
        address = ipaddress.ip_address(text)
        batch[f"{side}_hi"], batch[f"{side}_lo"] = split_address(address.packed)
        batch["family"] = address.version
    rest = {"proto": 17, "ifindex": 2, "packets": 1, "bytes": 100, "first": now, "last": now, "new": True}
    for name, value in {"verdict": verdict_word(Action.MONITOR, Reason.DEFAULT), **rest, **columns}.items():
        batch[name] = value
    return batch


def test_status_is_as_described(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            ask.parts.warnings["x"] = "something"
            ask.parts.watcher.note = "looks at files each second"
            ask.parts.pipeline.suppressed_events = 3
            ask.parts.pipeline.forgotten_inners = 1234
            ask.parts.pipeline.units.cgroups = SimpleNamespace(unwatched=1, forgotten=0, close=lambda: None)
            status = await ask("Status")
            assert status["accounting"]["seen"] == {"packets": 40, "bytes": 4000}
            assert status["accounting"]["pending"] == {"packets": 0, "bytes": 40}
            rows = [(each["name"], each["mode"], each["packets"]) for each in status["interfaces"]]
            assert rows[0] == ("eth0", "native", 40)
            assert [name for name, _, _ in rows] == ["eth0", "eth1", "tun9"]
            assert status["ledger"]["pressure"] == 5 / 128
            unwatched = [
                "eth1 is not watched: cannot attach to eth1",
                "tun9 does not exist; it is watched when it appears",
            ]
            assert status["unwatched"] == unwatched == status["warnings"][:2]
            assert {"something", "a note", "looks at files each second"} <= set(status["warnings"])
            assert "3 log events suppressed: there were more than 20,000 in a second" in status["warnings"]
            assert any(text.startswith("1 cgroup not watched") for text in status["warnings"])
            assert any(text.startswith("1,234 rows of flows.db without what") for text in status["warnings"])
            assert status["memory_bytes"] > 1 << 20

    asyncio.run(run())


def test_a_question_sees_the_latest_packets(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            ask.datapath.deltas.append(delta("203.0.113.5", "192.0.2.1", sport=53, dport=4000, packets=7, bytes=700))
            reply = await ask("Flows", host="203.0.113.0/24")
            (row,) = reply["rows"]
            assert (row["src_ip"], row["packets"], row["bytes"]) == ("203.0.113.5", 7, 700)
            explained = await ask("Explain", address="203.0.113.5")
            assert (explained["packets"], explained["bytes"]) == (7, 700)
            assert (await ask.refused("Flows", host="nonsense"))[0] == "Invalid"

    asyncio.run(run())


def test_the_moment_is_the_latest_tick(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            ask.datapath.deltas += [
                delta("203.0.113.5", "192.0.2.1", sport=5000, dport=53, packets=2, bytes=200),
                delta("2001:db8::5", "2001:db8::1", sport=5000, dport=443, packets=9, bytes=100),
            ]
            await ask.parts.pipeline.read_ledger()
            top = await ask("Top")
            assert [flow["src_ip"] for flow in top["flows"]] == ["203.0.113.5", "2001:db8::5"]
            alone = await ask("Top", limit=0)
            assert (alone["flows"], alone["hosts"], alone["moving"]) == ([], [], None)
            assert (alone["rates"], alone["interfaces"]) == (top["rates"], top["interfaces"])
            assert (await ask("Top", limit=0, match="2001:db8::5"))["moving"] == 1
            assert (await ask("Top", sort="packets"))["flows"][0]["src_ip"] == "2001:db8::5"
            assert top["flow_count"] == 2
            assert {host["address"] for host in top["hosts"]} == {
                "203.0.113.5",
                "192.0.2.1",
                "2001:db8::5",
                "2001:db8::1",
            }
            for match, found in (
                ("53", ["203.0.113.5"]),
                ("udp", ["203.0.113.5", "2001:db8::5"]),
                ("2001:db8::/64", ["2001:db8::5"]),
                ("192.0.2.1", ["203.0.113.5"]),
                ("0.0.0.0/0", ["203.0.113.5"]),
                ("::/0", ["2001:db8::5"]),
                ("nonsense", []),
            ):
                assert [flow["src_ip"] for flow in (await ask("Top", match=match))["flows"]] == found, match

    asyncio.run(run())


def test_threats_are_found_by_host_severity_and_the_start_of_their_id(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            now = time.time()
            for ident, severity, src in (
                ("t-10", Severity.HIGH, "203.0.113.5"),
                ("t-11", Severity.LOW, "198.51.100.5"),
            ):
                found = Threat(
                    "port_scan", severity, "T1046", src, "192.0.2.1", now, now, 3, "scans", {"ports": 9}, ident
                )
                ask.parts.store.put_threat(found, "opened")
            assert {row["id"] for row in (await ask("Threats"))["threats"]} == {"t-10", "t-11"}
            assert [row["id"] for row in (await ask("Threats", host="203.0.113.0/24"))["threats"]] == ["t-10"]
            assert [row["id"] for row in (await ask("Threats", min_severity="high"))["threats"]] == ["t-10"]
            assert [row["id"] for row in (await ask("Threats", detector="beacon"))["threats"]] == []
            name, told = await ask.refused("Threats", detector="port-scan")
            assert (name, "did you mean port_scan?" in told) == ("NotFound", True)
            assert (await ask.refused("Threats", min_severity="dire"))[0] == "Invalid"
            assert (await ask("Threat", id="t-11"))["threat"]["evidence"] == {"ports": 9}
            name, said = await ask.refused("Threat", id="t-1")
            assert (name, "t-10" in said) == ("NotFound", True)
            assert (await ask.refused("Threat", id="x"))[0] == "NotFound"

    asyncio.run(run())


@pytest.mark.parametrize("address", ["192.0.2.0/24", "example.net", "", "192.0.2.1 or 1"])
def test_what_is_no_address_is_not_explained(tmp_path: Path, address: str) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            assert (await ask.refused("Explain", address=address))[0] == "Invalid"

    asyncio.run(run())


def test_what_decides_comes_first_and_the_rest_says_why_not(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("AddCidr", cidr="203.0.113.0/24", action="drop")
            await ask("Ban", cidr="203.0.113.5")
            explained = await ask("Explain", address="203.0.113.5")
            assert [row["kind"] for row in explained["decisions"]] == ["ban", "rule", "default"]
            assert [row["wins"] for row in explained["decisions"]] == [True, False, False]
            assert explained["decisions"][1]["why"] == "ban 203.0.113.5/32 comes before"
            out = await ask("Explain", address="203.0.113.5", direction="egress")
            assert [row["kind"] for row in out["decisions"]] == ["default"]

    asyncio.run(run())


def test_a_rule_in_shadow_is_explained_as_one(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("AddCidr", cidr="203.0.113.0/24", action="drop", shadow=True)
            rows = (await ask("Explain", address="203.0.113.5"))["decisions"]
            assert [(row["kind"], row["shadow"], row["wins"]) for row in rows] == [
                ("rule", True, False),
                ("default", None, True),
            ]

    asyncio.run(run())


def test_a_ban_is_explained_by_whose_it_is(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("Ban", cidr="203.0.113.5", owner="fail2ban-sshd")
            await ask("Ban", cidr="203.0.113.5", ttl_s=90000.0)
            rows = (await ask("Explain", address="203.0.113.5"))["decisions"]
            assert [row["source"] for row in rows] == ["someone", "fail2ban-sshd, by someone", None]

    asyncio.run(run())


def test_metrics_are_text(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            assert (await ask("Metrics"))["text"].endswith("# EOF\n")

    asyncio.run(run())


def counters_of(thing: object) -> set[str]:
    """The numbers that an object or a dict of numbers counts since the start."""
    told = thing if isinstance(thing, dict) else {name: getattr(thing, name) for name in public(thing)}
    return {name for name, value in told.items() if type(value) is int}


def public(thing: object) -> list[str]:
    names = getattr(type(thing), "__slots__", None) or vars(thing)
    return [name for name in names if not name.startswith("_")]


def test_what_is_counted_is_shown_in_status_and_metrics(tmp_path: Path) -> None:
    """Every public counter of these parts, set to a number of its own, is found in both."""

    async def run() -> None:
        async with asking(tmp_path) as ask:
            parts = ask.parts
            counting: list[tuple[Any, set[str]]] = [
                (parts.pipeline, set()),
                (parts.pipeline.table, {"capacity"}),
                (parts.responder.response, set()),
                (parts.broadcast, set()),
                (parts.metrics, set()),
                (parts.clients.counts, {"accepted"}),
                (parts.questions, set()),
            ]
            number = 1_000_001
            given = {}
            for part, others in counting:
                names = counters_of(part) - others
                assert names, part
                for name in sorted(names):
                    setattr(part, name, number)
                    given[f"{type(part).__name__}.{name}"] = number
                    number += 1
            for name, table in parts.pipeline.engine.status()["detectors"].items():
                assert {"name": name, **table} in (await ask("Status"))["detectors"]
            status, text = str(await ask("Status")), (await ask("Metrics"))["text"]
            for name, count in given.items():
                assert str(count) in status or f"{count:,}" in status, name
                assert f" {count}\n" in text, name
            found = parts.pipeline.engine.status()
            shown = (await ask("Status"))["counters"]
            assert {name for name in found if type(found[name]) is int} == {
                *("open", "merged", "redundant", "overflowed", "waiting_dials", "dials_judged_early")
            }
            assert {"merged_threats", "redundant_threats", "overflowed_threats", "early_dials"} <= set(shown)
            assert list(shown) == list(COUNTED)

    asyncio.run(run())
