"""The policy in force as clients get it: what it is made of, whole, however large; and why a rule does not decide."""

from __future__ import annotations

import asyncio
from pathlib import Path

from asking import asking


def test_every_prefix_of_every_rule_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "cidr.d"
    folder.mkdir()
    many = [f"10.{at >> 8}.{at & 255}.0/24" for at in range(1234)]
    text = f'[[rule]]\ncidr = {many}\naction = "drop"\nports = ["tcp/443"]\nlabel = "many"\n'.replace("'", '"')
    (folder / "10.toml").write_text(text)

    async def run() -> None:
        async with asking(tmp_path, guard=(("192.0.2.1/32", "gateway"),)) as ask:
            await ask("AddCidr", cidr="198.51.100.0/24", action="limit", rate_per_s=5)
            replies = [reply["parameters"] for reply in await ask.replies("Policy")]
            assert [sum(len(row["prefixes"]) for row in reply["rules"]) for reply in replies] == [500, 500, 236]
            told = await ask("Policy")
            rows = [row for row in told["rules"] if row["name"] == "many"]
            assert [prefix for row in rows for prefix in row["prefixes"]] == many
            assert {(row["index"], row["path"], row["line"]) for row in rows} == {(0, str(folder / "10.toml"), 1)}
            others = {row["kind"]: row for row in told["rules"] if row["name"] != "many"}
            assert (others["rule"]["path"], others["rule"]["rate_per_s"]) == ("runtime", 5)
            assert others["guard"]["prefixes"] == ["192.0.2.1"]
            assert (told["default"], told["cidr_dir"]) == ("monitor", str(folder))

    asyncio.run(run())


def test_why_a_rule_for_another_service_does_not_decide(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("AddCidr", cidr="203.0.113.0/24", action="allow", ports=["tcp/22"])
            await ask("AddCidr", cidr="0.0.0.0/0", action="drop", ports=["tcp/22"])
            await ask("AddCidr", cidr="0.0.0.0/0", action="drop", ports=["udp/53"])
            told = await ask("Explain", address="203.0.113.9", service="tcp/22")
            assert [(row["ports"], row["why"]) for row in told["decisions"]] == [
                (["tcp/22"], None),
                (["udp/53"], "it is for udp/53"),
                (["tcp/22"], "rule 203.0.113.0/24 comes before"),
                (None, "rule 203.0.113.0/24 comes before"),
            ]

    asyncio.run(run())
