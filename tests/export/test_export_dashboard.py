"""Grafana's dashboard of a fleet: every question of it is answered, by the tables that the package makes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clickhouse_server import SCHEMA, ClickHouseServer, statements
from export_reports import NAMES, every_kind, reports
from test_export_clickhouse import exporting, idle, until
from test_export_threats import sent, threat

from trafficmond.flows.names import Names
from trafficmond.flows.owners import Owner

pytestmark = pytest.mark.timeout(240)

BOARD = json.loads((SCHEMA.parents[1] / "grafana" / "trafficmon-fleet.json").read_text("utf-8"))
NOW = int(time.time())
OWNED = Names(NAMES.interfaces, NAMES.rules, NAMES.inners, {5: Owner("nginx.service")})
QUIET = 3 * 3600
PANELS: dict[str, dict[str, Any]] = {panel["title"]: panel for panel in BOARD["panels"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    home = tmp_path_factory.mktemp("board")
    with ClickHouseServer(home) as server:
        for statement in statements(SCHEMA.with_name("flows-hourly.sql").read_text()):
            server.ask(statement)
        of_sensors = {
            "gate": np.concatenate([every_kind(5, at=NOW - 100.0), reports(4, at=NOW - 90.0, owner=5)]),
            "mill": every_kind(3, at=NOW - QUIET - 3600.0),
        }
        for sensor, rows in of_sensors.items():
            with exporting(server.url, home, sensor=sensor) as exports:
                exports.put(rows, OWNED)
                exports.threat(threat(1, first_seen=NOW - 500.0, last_seen=NOW - 400.0), "opened")
                until(idle(exports), exports.status)
                until(lambda: sent(exports), exports.status)
        yield server


def asked(server: ClickHouseServer, sql: str, sensors: str = "'gate', 'mill'") -> list[list[Any]]:
    """The answer, with Grafana's macros and variables as its plug-in fills them in."""
    sql = sql.replace("${sensor:singlequote}", sensors)
    sql = sql.replace("$__fromTime", f"toDateTime({NOW - 86400})").replace("$__toTime", f"toDateTime({NOW})")
    assert "$" not in sql
    return server.ask(sql, database="trafficmon")


def test_every_panel_has_its_place_and_question() -> None:
    taken = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["description"]
        assert panel["datasource"] == {"type": "grafana-clickhouse-datasource", "uid": "${datasource}"}
        assert [target["datasource"] for target in panel["targets"]] == [panel["datasource"]]
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"]) == len(PANELS)


@pytest.mark.parametrize("title", PANELS)
def test_every_question_is_answered(server: ClickHouseServer, title: str) -> None:
    (target,) = PANELS[title]["targets"]
    rows = asked(server, target["rawSql"])
    assert rows
    assert all(value is not None for value in rows[0][:1])
    assert asked(server, target["rawSql"], "'nobody'") in ([], [[0]])


def test_the_sensors_to_choose_from(server: ClickHouseServer) -> None:
    (variable,) = [each for each in BOARD["templating"]["list"] if each["name"] == "sensor"]
    assert asked(server, variable["query"]) == [["gate"], ["mill"]]


def test_what_the_panels_say(server: ClickHouseServer) -> None:
    def told(title: str) -> list[list[Any]]:
        return asked(server, PANELS[title]["targets"][0]["rawSql"])

    assert told("Sensors seen") == told("Open threats") == [[2]]
    assert [row[0] for row in told("Sensors that stopped sending")] == ["mill"]
    assert [row[:2] for row in told("Units")] == [["nginx.service", 1]]
    assert [row[0] for row in told("Dropped, by rule")] == ["bad neighbours"]
    ((up,),) = told("Up")
    ((down,),) = told("Down")
    assert up + down == server.counts()["bytes"] + server.counts()["reply_bytes"]


def test_the_document_names_it() -> None:
    text = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text("utf-8")
    assert re.search(r"examples/trafficmon-fleet\.json", text)
