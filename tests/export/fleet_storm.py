"""A hundred sensors send a week of flows and their threats at once, and the server is killed in between: nothing is
lost or doubled. Run by `make fleet`; too long for every day.
"""

from __future__ import annotations

import os
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from clickhouse_server import SCHEMA, ClickHouseServer, statements
from export_reports import COUNTERS, NAMES, NOW, every_kind
from test_export_hourly import mend_day, told
from test_export_threats import threat

from trafficmond.config.streams import Export
from trafficmond.export.exports import ExportSet

SENSORS = int(os.environ.get("TRAFFICMON_SENSORS", "100"))
DAYS, ROWS = 7, 150  # of each sensor; rows of each kind and day, of nine kinds
THREATS, KILLS = 5, 4
PATIENCE_S = int(os.environ.get("TRAFFICMON_PATIENCE", "900"))


@dataclass
class Sensor:
    """One host: what it sent, and its exports."""

    name: str
    exports: ExportSet
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("rows", *COUNTERS), 0))

    def live(self, dice: random.Random) -> None:
        """A week, in a minute or so."""
        for day in range(DAYS):
            rows = every_kind(ROWS, at=NOW + day * 86400)
            rows["packets"] += np.uint64(dice.randrange(9)) * (rows["packets"] > 0)
            for at in range(0, len(rows), 300):
                self.exports.put(rows[at : at + 300], NAMES)
                time.sleep(dice.uniform(0.5, 1.5))
            self.sums["rows"] += len(rows)
            for name in COUNTERS:
                self.sums[name] += int(rows[name].sum())
            for number in range(THREATS):
                state = "opened" if not day else "closed" if day == DAYS - 1 else "updated"
                self.exports.threat(threat(number, count=day * 10 + number), state)


@pytest.mark.timeout(PATIENCE_S)
def test_a_week_of_a_hundred_sensors(tmp_path: Path) -> None:
    began = time.monotonic()
    with ClickHouseServer(tmp_path) as server:
        for statement in statements(SCHEMA.with_name("flows-hourly.sql").read_text()):
            server.ask(statement)
        newest = server.schema != SCHEMA
        for statement in told("flows_hourly MODIFY SETTING") if newest else ():
            server.ask(statement)
        sensors = [
            Sensor(name, ExportSet([Export(to=server.url, sensor=name, batch_interval=1.0)], tmp_path / name))
            for name in (f"host-{number:03d}" for number in range(SENSORS))
        ]
        lives = [threading.Thread(target=each.live, args=(random.Random(each.name),)) for each in sensors]
        for life in lives:
            life.start()
        dice = random.Random(11)
        for _ in range(KILLS):
            time.sleep(dice.uniform(5, 9))
            server.kill()
            time.sleep(dice.uniform(0.5, 3))
            server.start()
        for life in lives:
            life.join()
        waiting = [1]
        while any(waiting):
            time.sleep(1)
            statuses = [each.exports.status()[0] for each in sensors]
            waiting = [told["queue"] + told["threats"]["queue"] for told in statuses]
        for each in sensors:
            each.exports.finish(time.monotonic() + 5)
        for each in sensors:
            each.exports.join(time.monotonic() + 5)
        took = time.monotonic() - began

        assert [(told["lost"], told["threats"]["lost"]) for told in statuses] == [(0, 0)] * SENSORS
        expected = [[each.name, each.sums["rows"], *(each.sums[name] for name in COUNTERS)] for each in sensors]
        sums = ", ".join(f"sum({name})" for name in COUNTERS)
        asked = f"SELECT sensor, count(), {sums} FROM trafficmon.flows {{}} GROUP BY sensor ORDER BY sensor"
        assert server.ask(asked.format("")) == expected, "not even before merges"
        assert server.ask(asked.format("FINAL")) == expected
        days = "SELECT uniqExact(day) FROM trafficmon.flows"
        assert server.ask(days) == [[DAYS]]
        of_threats = "SELECT sensor, id, count, state FROM trafficmon.threats FINAL ORDER BY sensor, id"
        assert server.ask(of_threats) == [
            [each.name, f"{number:012x}", (DAYS - 1) * 10 + number, "closed"]
            for each in sensors
            for number in range(THREATS)
        ]
        (differs,) = told("HAVING flows != summed")
        short = server.ask(differs)
        assert not (newest and short), "the totals too are exact"
        for day, _, _ in short:
            mend_day(server, day)
        assert server.ask(differs) == []
        rows = sum(each.sums["rows"] for each in sensors)
        print(
            f"{SENSORS} sensors, {rows:,} flows of {DAYS} days, {SENSORS * THREATS} threats, {KILLS} kills, "
            f"{took:.0f} s: 0 lost, 0 doubled; hourly sums mended for {len(short)} days {short}"
        )
