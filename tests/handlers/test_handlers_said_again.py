"""Rules said again: what is so already is no change, and what is not is one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from asking import asking

SAME = [
    {"cidr": "192.0.2.0/24"},
    {"cidr": "192.0.2.99/24", "action": "limit", "rate_per_s": 100, "label": "slow"},
    {"cidr": "::/0", "ports": ["ssh"], "action": "allow"},
    {"cidr": "2001:db8::1", "direction": "both", "force": True},
    {"cidr": "192.0.2.7", "shadow": True, "save": True},
    {"cidr": "192.0.2.7", "ports": ["80", "tcp/443"], "save": True},
]


@pytest.mark.parametrize("rule", SAME, ids=str)
def test_what_is_so_already_is_no_change(tmp_path: Path, rule: dict[str, object]) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            first = await ask("AddCidr", **rule)
            await ask("AddCidr", cidr="192.0.2.0/24", ports=["8080"], direction="egress")  # another, beside it
            generation = ask.parts.rulebook.in_force.generation
            changes = await ask("History"), (await ask("Audit"))["entries"]
            again = await ask("AddCidr", **rule)
            assert again["rule"] == first["rule"]
            assert "in force already" in again["notes"][-1]
            assert ("next restart" in again["notes"][-1]) is not rule.get("save", False)
            if rule.get("save"):  # what is kept over restarts need not be said for until then
                unsaved = {key: value for key, value in rule.items() if key != "save"}
                assert (await ask("AddCidr", **unsaved))["rule"] == first["rule"]
            assert ask.parts.rulebook.in_force.generation == generation
            assert (await ask("History"), (await ask("Audit"))["entries"]) == changes

    asyncio.run(run())


def test_what_the_saved_file_holds_and_is_not_in_force_is_put_in_force(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            rule = {"cidr": "192.0.2.0/24", "save": True}
            await ask("AddCidr", **rule)
            saved = ask.parts.rulebook.saved_path
            written = saved.read_text()
            await ask("RemoveCidr", **rule)
            saved.write_text(written)  # by hand, and not read again yet
            assert (await ask("Rules"))["rules"] == []
            await ask("AddCidr", **rule)
            assert [rule["action"] for rule in (await ask("Rules"))["rules"]] == ["drop"]

    asyncio.run(run())


@pytest.mark.parametrize(
    "other",
    [{"label": "b"}, {"action": "monitor"}, {"ttl_s": 60}, {"save": True}, {"shadow": True}, {"force": True}],
    ids=str,
)
def test_what_says_anything_else_is_a_change(tmp_path: Path, other: dict[str, object]) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("AddCidr", cidr="192.0.2.0/24")
            for turn in range(1 + ("ttl_s" in other)):  # a time begins again; words have its end to the second
                other.update({"ttl_s": 60 + turn} if "ttl_s" in other else {})
                generation = ask.parts.rulebook.in_force.generation
                notes = (await ask("AddCidr", cidr="192.0.2.0/24", **other))["notes"]
                told = any("replaces the one that was there: drop ingress" in note for note in notes)
                assert told is not bool({"save", "force"} & set(other))
                assert ask.parts.rulebook.in_force.generation == generation + 1
            assert len((await ask("Audit"))["entries"]) == 2 + ("ttl_s" in other)

    asyncio.run(run())


def test_a_rule_said_again_comes_after_those_that_were_said_meanwhile(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("AddCidr", cidr="192.0.2.0/24", ports=["tcp/22"])
            await ask("AddCidr", cidr="192.0.2.0/24", ports=["22"], action="allow")
            assert (await ask("Explain", address="192.0.2.9", service="tcp/22"))["action"] == "allow"
            await ask("AddCidr", cidr="192.0.2.0/24", ports=["tcp/22"])
            assert (await ask("Explain", address="192.0.2.9", service="tcp/22"))["action"] == "drop"
            assert len((await ask("Audit"))["entries"]) == 3

    asyncio.run(run())


def test_removing_within_a_wider_rule_names_that_rule_and_the_way(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            path = tmp_path / "cidr.d" / "one.toml"
            path.write_text('[[rule]]\ncidr = ["203.0.113.0/25", "198.51.100.0/24"]\naction = "drop"\n')
            await ask("Reload")
            await ask("AddCidr", cidr="203.0.113.0/24", action="monitor")
            await ask("AddCidr", cidr="2001:db8::/32", save=True)
            await ask("Ban", cidr="192.0.2.0/28")
            for cidr, *words in (
                ("203.0.113.7", "the drop rule on 203.0.113.0/25 covers it", f"is in {path}:1", "edit that file"),
                ("198.51.100.0/24", "the drop rule on 198.51.100.0/24", f"is in {path}:1", "edit that file"),
                (
                    "203.0.113.200",
                    "the monitor rule on 203.0.113.0/24",
                    "trafficctl remove-cidr 203.0.113.0/24 removes",
                ),
                ("2001:db8::7", "2001:db8::/32", "rules.toml", "trafficctl remove-cidr 2001:db8::/32 --save removes"),
                ("192.0.2.3", "it is banned", "trafficctl unban 192.0.2.0/28"),
                ("192.0.2.77", "see trafficctl rules"),
            ):
                name, said = await ask.refused("RemoveCidr", cidr=cidr)
                assert name == "NotFound"
                assert "add-cidr made no rule on " + cidr in said
                assert [word for word in words if word not in said] == [], said

    asyncio.run(run())


def test_removing_for_a_service_names_only_rules_for_that_service(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            path = tmp_path / "cidr.d" / "one.toml"
            path.write_text('[[rule]]\ncidr = "203.0.113.0/24"\naction = "drop"\nports = ["tcp/25"]\n')
            await ask("Reload")
            await ask("AddCidr", cidr="0.0.0.0/0", ports=["tcp/22"], action="allow")
            await ask("AddCidr", cidr="198.51.100.0/24", ports=["tcp/1-100"], save=True)
            for cidr, port, said in (
                ("0.0.0.0/0", "tcp/53", "add-cidr made no rule on 0.0.0.0/0 for tcp/53"),
                ("203.0.113.0/24", "tcp/80", "add-cidr made no rule on 203.0.113.0/24 for tcp/80"),
                ("198.51.100.0/24", "udp/53", "add-cidr made no rule on 198.51.100.0/24 for udp/53"),
                (
                    "203.0.113.9",
                    "tcp/22",
                    "add-cidr made no rule on 203.0.113.9 for tcp/22; the allow rule on 0.0.0.0/0 for tcp/22 "
                    "covers it, which add-cidr made",
                ),
                (
                    "198.51.100.0/24",
                    "tcp/80",
                    "add-cidr made no rule on 198.51.100.0/24 for tcp/80; the drop rule on 198.51.100.0/24 "
                    f"for tcp/1-100 covers it; that rule is in {tmp_path}/rules.toml:4",
                ),
            ):
                name, told = await ask.refused("RemoveCidr", cidr=cidr, ports=[port])
                assert (name, f"'reason': '{said}'," in told) == ("NotFound", True), told
            _, told = await ask.refused("RemoveCidr", cidr="198.51.100.7", ports=["tcp/80"])
            assert "trafficctl remove-cidr 198.51.100.0/24 --port tcp/1-100 --save removes that one" in told
            assert (await ask.refused("RemoveCidr", cidr="203.0.113.0/24", ports=["tcp/25"]))[0] == "Refused"
            assert "saved" in (await ask.refused("RemoveCidr", cidr="198.51.100.0/24"))[1]

    asyncio.run(run())


def test_what_would_change_a_decision_does(tmp_path: Path) -> None:
    """The command is for the direction and the service that were asked about; bans have no say about what goes out."""

    async def run() -> None:
        async with asking(tmp_path) as ask:
            host = "203.0.113.7"
            await ask("AddCidr", cidr=host, ports=["tcp/80"])
            lets = f"trafficctl add-cidr {host} --port tcp/80 --action allow lets it pass"
            assert (await ask("Explain", address=host, service="tcp/80"))["advice"] == [lets]
            await ask("AddCidr", cidr=host, ports=["tcp/80"], action="allow")
            assert (await ask("Explain", address=host, service="tcp/80"))["action"] == "allow"
            out = (await ask("Explain", address=host, direction="egress"))["advice"]
            assert out == [f"trafficctl add-cidr {host} --direction egress --action drop drops it"]
            bans = f"trafficctl ban {host} --port udp/53 --ttl 1h drops it for an hour"
            assert (await ask("Explain", address=host, service="udp/53"))["advice"][1] == bans

    asyncio.run(run())
