"""What clients are told of where addresses are."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmdb_writer import country, mmdb, system

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("handlers", "control")]

from asking import Asked, asking
from opened_store import flushed

from trafficmond.flows.batch import DELTA, V4_MAPPED, Batch

HERE, NEAR, FAR, NOWHERE = (0xC0000200 | 10, 0xCB007100 | 5, 0xCB007100 | 200, 0x0A000001)  # 203.0.113.5 and .200


def packets(src: int, dst: int, octets: int, out: bool) -> Batch:
    batch = np.zeros(1, DELTA)
    batch["src_lo"], batch["dst_lo"] = int(V4_MAPPED) | src, int(V4_MAPPED) | dst
    batch["family"], batch["proto"], batch["ifindex"], batch["packets"] = 4, 17, 2, 1
    batch["sport"], batch["dport"], batch["bytes"], batch["new"], batch["direction"] = 5000, 53, octets, True, out
    batch["first"] = batch["last"] = time.time()
    return batch


def asked(folder: Path, work: Callable[[Asked], Coroutine[Any, Any, None]]) -> None:
    path = folder / "all.mmdb"
    said = country("XX") | system(64500, "Example")
    path.write_bytes(mmdb([("203.0.113.0/25", said), ("203.0.113.128/25", country("YY"))]))

    async def run() -> None:
        async with asking(folder) as ask:
            (folder / "trafficmond.toml").write_text(
                (folder / "trafficmond.toml").read_text() + f'\n[geo]\ndatabases = ["{path}"]\n'
            )
            (folder / "cidr.d" / "geo.toml").write_text('[[rule]]\ncountry = ["XX"]\naction = "drop"\n')
            await ask("Reload")
            deltas = [packets(HERE, NEAR, 700, True), packets(FAR, HERE, 90, False), packets(HERE, NOWHERE, 5, True)]
            ask.datapath.deltas.extend(deltas)
            await work(ask)

    asyncio.run(run())


def test_flows_have_the_places_of_both_ends(tmp_path: Path) -> None:
    async def work(ask: Asked) -> None:
        reply = await ask("Flows", sort="bytes")
        assert reply["columns"][-6:] == [
            f"{side}_{name}" for side in ("src", "dst") for name in ("country", "asn", "as_name")
        ]
        rows = [(row["src_country"], row["dst_country"], row["dst_asn"], row["dst_as_name"]) for row in reply["rows"]]
        assert rows == [(None, "XX", 64500, "Example"), ("YY", None, None, None), (None, None, None, None)]

    asked(tmp_path, work)


@pytest.mark.parametrize(
    ("groups", "rows"),
    [
        (["country"], [("XX", 700, 0), ("YY", 0, 90), (None, 5, 0)]),
        (["asn", "as_name"], [(64500, 700, 0), (None, 5, 90)]),
        (["src_country"], [(None, 705, 0), ("YY", 0, 90)]),
        (["dst_country", "country"], [("XX", 700, 0), (None, 0, 90), (None, 5, 0)]),
        (["peer"], [("203.0.113.5", 700, 0), ("203.0.113.200", 0, 90), ("10.0.0.1", 5, 0)]),
        (["host", "country"], [("192.0.2.10", 705, 90), ("203.0.113.5", 0, 700), ("203.0.113.200", 90, 0)]),
    ],
)
def test_sums_go_by_place(tmp_path: Path, groups: list[str], rows: list[tuple[Any, int, int]]) -> None:
    async def work(ask: Asked) -> None:
        reply = await ask("Flows", group_by=groups, sort="bytes", limit=3)
        assert [(row[groups[0]], row["up_bytes"], row["down_bytes"]) for row in reply["rows"]] == rows

    asked(tmp_path, work)


def test_totals_by_system_have_its_name(tmp_path: Path) -> None:
    async def work(ask: Asked) -> None:
        for _ in range(3):
            await ask.parts.pipeline.read_ledger()
        await ask.parts.pipeline.store_rest(time.time(), 5)
        assert flushed(ask.parts.store, 5)
        rows = (await ask("Usage", kind="asn"))["rows"]
        assert {row["key"]: row["as_name"] for row in rows} == {"64500": "Example", "": None}

    asked(tmp_path, work)


def test_what_does_not_go_together_is_said(tmp_path: Path) -> None:
    async def work(ask: Asked) -> None:
        name, said = await ask.refused("Flows", group_by=["host", "src_country"])
        assert name == "InvalidParameter" or "does not combine with host" in said

    asked(tmp_path, work)


def test_an_explanation_names_the_database_and_its_date(tmp_path: Path) -> None:
    async def work(ask: Asked) -> None:
        reply = await ask("Explain", address="203.0.113.5")
        assert (reply["reason"], reply["action"]) == ("country", "drop")
        assert (reply["country"], reply["asn"], reply["as_name"]) == ("XX", 64500, "Example")
        [first, *_] = reply["decisions"]
        assert (first["label"], first["prefix"]) == ("country XX", "203.0.113.0/25")
        assert first["database"] == "all.mmdb of 2026-06-17"
        [rule, *_] = (await ask("Rules"))["rules"]
        assert (rule["kind"], rule["cidr"], rule["prefixes"]) == ("country", "country XX", 1)
        top = await ask("Top")
        assert {row["dst_country"] for row in top["flows"]} == {"XX", None}
        assert {row["country"] for row in top["hosts"]} == {"XX", "YY", None}

    asked(tmp_path, work)
