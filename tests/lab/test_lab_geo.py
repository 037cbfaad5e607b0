"""Rules by country and usage on a live wire: what a database says is dropped, and a broken one changes nothing."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from tmlab import Daemon, Lab, Listener, Sender
from tmlab.packets import udp

sys.path.append(str(Path(__file__).parents[1] / "geo"))

from mmdb_writer import country, mmdb, system

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

FAR, FAR6, MINE = "203.0.113.7", "2001:db8:bad::7", "203.0.113.200"
SETTINGS = """
[flows]
interval = "200ms"
idle_timeout = "1s"
[geo]
databases = ["{home}/all.mmdb"]
"""
RULES = """
[[rule]]
country = "XX"
action = "drop"
label = "far"

[[rule]]
cidr = "203.0.113.128/25"
action = "monitor"
label = "mine"
"""
SAID = country("XX") | system(64500, "Example Networks")


def test_a_country_is_dropped_told_and_summed_up() -> None:
    with Lab() as lab:
        link = lab.links[0]
        listeners = [Listener(lab.host, link.host_ip), Listener(lab.host, link.host_ip6)]
        sender = Sender(lab.outside, link.outside)

        def heard() -> dict[str, int]:
            for source in (FAR, FAR6, MINE):
                sender.send([udp(source, link.host_ip6 if ":" in source else link.host_ip, payload=b"hello")] * 3)
            found = sum((each.heard() for each in listeners), start=Counter[str]())
            return {source: found[source] for source in (FAR, FAR6, MINE)}

        daemon = Daemon(lab, SETTINGS)
        database = daemon.home / "all.mmdb"
        database.write_bytes(mmdb([("203.0.112.0/20", SAID), ("2001:db8:bad::/48", country("XX"))]))
        with daemon:
            assert heard() == {FAR: 3, FAR6: 3, MINE: 3}
            daemon.write_rules("geo.toml", RULES)
            daemon.wait(lambda: heard() == {FAR: 0, FAR6: 0, MINE: 3}, "the country is dropped", timeout=5)
            for wide in (["0.0.0.0/0", "--shadow"], ["::/0", "--port", "tcp/443"]):  # they leave this to the country
                daemon.control("add-cidr", *wide, "--action", "drop")
            assert heard() == {FAR: 0, FAR6: 0, MINE: 3}
            explained = json.loads(daemon.control("-o", "json", "explain", FAR).stdout)
            assert (explained["reason"], explained["as_name"]) == ("country", "Example Networks")
            assert explained["decisions"][1]["database"] == "all.mmdb of 2026-06-17"
            database.write_bytes(database.read_bytes()[:-50])
            daemon.wait_status(lambda s: any("stays in use" in each for each in s["warnings"]), "the warning")
            assert heard() == {FAR: 0, FAR6: 0, MINE: 3}
            rows = json.loads(
                daemon.control("-o", "json", "flows", "--group-by", "country,rule", "--sort", "down").stdout
            )
            assert {(row["country"], row["rule"]) for row in rows} >= {("XX", "far"), ("XX", "mine")}

            def used() -> bool:
                found = json.loads(daemon.control("-o", "json", "usage", "--by", "country").stdout)
                return any(row["key"] == "XX" and row["down_bytes"] > 0 == row["up_bytes"] for row in found)

            daemon.wait(used, "sums of the country", timeout=15)
