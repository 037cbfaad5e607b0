"""Whoever asks for sums by what this host does not know is told how it would."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from asking import asking

COUNTRIES = 'no database has countries: name one in trafficmond.toml, for example [geo] databases = ["/var/lib/GeoIP/'
NETWORKS = "no database has networks"


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        (["country"], [COUNTRIES]),
        (["src_country", "dport"], [COUNTRIES]),
        (["as_name", "asn"], [NETWORKS]),
        (["dst_asn", "country"], [COUNTRIES, NETWORKS]),
        (["unit"], []),
        (["process", "country"], [COUNTRIES, "new flows have no process: set flows.processes"]),
        (None, []),
    ],
)
def test_sums_of_flows(tmp_path: Path, groups: list[str] | None, told: list[str]) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            notes = (await ask("Flows", group_by=groups))["notes"]
            assert [any(note.startswith(each) for note in notes) for each in told] == [True] * len(told)
            assert len(notes) == len(told)

    asyncio.run(run())


@pytest.mark.parametrize(("kind", "told"), [("country", 1), ("asn", 1), ("unit", 0), ("total", 0)])
def test_usage(tmp_path: Path, kind: str, told: int) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            assert len((await ask("Usage", kind=kind))["notes"]) == told

    asyncio.run(run())
