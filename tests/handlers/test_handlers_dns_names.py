"""Names that this host asked for, as clients get them."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import numpy as np
from asking import asking

from trafficmond.datapath.names_seen import NAMED, NameCounts
from trafficmond.flows.batch import Batch


class Source:
    def take(self) -> Batch:
        return np.array([(socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.1"), 0, b"a.example")], NAMED)

    def counts(self) -> NameCounts:
        return NameCounts(answers=3)


def test_of_the_addresses_that_are_named(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            assert (await ask("DnsNames", addresses=["192.0.2.1"]))["names"] == []
            ask.parts.dns.source = Source()
            ask.parts.dns._monotonic_ns = lambda: 0
            (row,) = (await ask("DnsNames", addresses=["192.0.2.1", "192.0.2.2"]))["names"]
            assert (row["address"], row["name"]) == ("192.0.2.1", "a.example")
            assert (await ask("DnsNames", addresses=[]))["names"] == []
            assert (await ask("Status"))["counters"]["dns_answers"] == 3
            name, said = await ask.refused("DnsNames", addresses=["192.0.2.0/24"])
            assert name == "InvalidParameter"
            assert "addresses" in said
            assert (await ask.refused("DnsNames", addresses=["192.0.2.1"] * 50_001))[0] == "InvalidParameter"

    asyncio.run(run())
