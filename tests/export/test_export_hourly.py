"""docs/fleet.md's sums by the hour: those of the flows, and mended where they are not."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
from clickhouse_server import SCHEMA, ClickHouseServer, LosingProxy, statements
from export_reports import NAMES, NOW, every_kind
from test_export_clickhouse import exporting, idle, until

pytestmark = pytest.mark.timeout(240)

DOCUMENT = Path(__file__).parents[2] / "docs" / "fleet.md"
HOURLY = SCHEMA.with_name("flows-hourly.sql")
KEYS = "sensor, interface, direction, action, rule, protocol, protocol_num, dst_port"
COUNTERS = ("packets", "bytes", "reply_packets", "reply_bytes")
DAY = "2023-11-14"


def told(what: str, day: str = DAY) -> list[str]:
    """The statements of the document's block that has `what` in it, for a day."""
    (block,) = [block for block in re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text("utf-8"), re.S) if what in block]
    return [each.replace("2026-01-31", day) for each in statements(block)]


def sums(server: ClickHouseServer, of_flows: bool) -> list[list[object]]:
    hour = "toDateTime(intDiv(toUInt32(last_seen), 3600) * 3600, 'UTC')" if of_flows else "hour"
    flows, source = ("count()", "flows FINAL") if of_flows else ("sum(flows)", "flows_hourly")
    counters = ", ".join(f"sum({name})" for name in COUNTERS)
    order = f"GROUP BY h, {KEYS} ORDER BY h, {KEYS}"
    return server.ask(f"SELECT {hour} AS h, {KEYS}, {flows}, {counters} FROM trafficmon.{source} {order}")


def test_the_sums_are_those_of_the_flows(tmp_path: Path) -> None:
    with ClickHouseServer(tmp_path) as server:
        with exporting(server.url, tmp_path / "before") as exports:
            exports.put(every_kind(50), NAMES)
            until(idle(exports), exports.status)
        for _ in range(2):  # the second time it changes nothing
            for statement in statements(HOURLY.read_text()):
                server.ask(statement)
        with exporting(server.url, tmp_path / "after", sensor="mill") as exports:
            rows = np.concatenate([every_kind(30, at=NOW + 3600 * hour) for hour in range(4)])
            for at in range(0, len(rows), 400):
                exports.put(rows[at : at + 400], NAMES)
                time.sleep(0.15)
            until(idle(exports), exports.status)
        (differs,) = told("HAVING flows != summed")
        assert server.ask(differs) == [[DAY, 450 + 540, 540]], "what was there before the view is in no sum"
        mend_day(server, DAY)
        assert sums(server, of_flows=False) == sums(server, of_flows=True)
        assert server.ask(differs) == []
        server.ask("OPTIMIZE TABLE trafficmon.flows_hourly FINAL")
        assert sums(server, of_flows=False) == sums(server, of_flows=True)

        server.ask("INSERT INTO trafficmon.flows SELECT * FROM trafficmon.flows")
        assert DAY in [row[0] for row in server.ask(differs)], "what arrived twice counts twice"
        mend_day(server, DAY)
        assert DAY not in [row[0] for row in server.ask(differs)]


def test_a_crash_between_flows_and_totals_is_made_up_for(tmp_path: Path) -> None:
    """On a server that recognises what it has: the batch is sent again, and only the totals take it."""
    with ClickHouseServer(tmp_path) as server:
        if server.schema == SCHEMA:
            pytest.skip("needs a newer server than Debian's: make test-clickhouse")
        table, view = [each for each in statements(HOURLY.read_text()) if "flows" in each]
        for statement in (table, *told("flows_hourly MODIFY SETTING")):
            server.ask(statement)
        proxy = LosingProxy(server, losses=1)  # of an insert that the view did not see
        with exporting(proxy.url, tmp_path / "state") as exports:
            exports.put(every_kind(50), NAMES)
            until(lambda: server.counts()["rows"] == 450)
            server.kill()
            server.start()
            server.ask(view)
            until(idle(exports), exports.status)
            exports.put(every_kind(20, at=NOW + 3600), NAMES)
            until(idle(exports), exports.status)
        assert (server.counts()["rows"], proxy.losses) == (630, 0), "nothing twice, not even before merges"
        assert sums(server, of_flows=False) == sums(server, of_flows=True)


def mend_day(server: ClickHouseServer, day: str) -> None:
    delete, insert = told("DELETE WHERE", day)
    server.ask(delete)
    until(lambda: server.ask("SELECT count() FROM system.mutations WHERE NOT is_done") == [[0]])
    server.ask(insert)


def test_how_long_it_is_kept_can_be_said(tmp_path: Path) -> None:
    """On servers that know a TTL and rights."""
    with ClickHouseServer(tmp_path) as server:
        if server.schema == SCHEMA:
            pytest.skip("needs a newer server than Debian's: make test-clickhouse")
        for statement in statements(HOURLY.read_text()):
            server.ask(statement)
        for statement in [*told("MODIFY TTL"), *told("non_replicated_deduplication_window = 10000")]:
            server.ask(statement)
        with exporting(server.url, tmp_path / "state") as exports:
            exports.put(every_kind(3, at=time.time()), NAMES)
            until(idle(exports), exports.status)
        assert server.counts()["rows"] == 27


def test_who_may_do_what_is_said_in_words_of_the_server(tmp_path: Path) -> None:
    """As far as both know them: the engine alone has no users, and 18.16 no rights in SQL."""
    with ClickHouseServer(tmp_path) as server:
        for grant in told("GRANT INSERT"):
            if server.schema == SCHEMA:
                with pytest.raises(AssertionError, match="Syntax error"):
                    server.ask(grant)
                continue
            read = server.ask(f"SELECT formatQuery('{grant}')")
            assert read[0][0].split() == grant.split()
            with pytest.raises(AssertionError, match="There is no role"):
                server.ask(grant)
