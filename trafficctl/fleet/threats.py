"""Builds the SQL for threats of a fleet, in their latest state, with the filters of `trafficctl threats`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from trafficctl.fleet.ask import SENSOR
from trafficctl.fleet.where import of_prefixes, of_sensor, where
from trafficmond.detect.engine import CLOSED
from trafficmond.export.clickhouse_http import literal
from trafficmond.model import SEVERITIES, THREAT_FIELDS
from trafficmond.store.query import Question

COLUMNS = (SENSOR, *THREAT_FIELDS, "state", "evidence")


def threats_question(
    *,
    sensor: str | None = None,
    since: float | None = None,
    detector: str | None = None,
    min_severity: str | None = None,
    host: str | None = None,
    open_only: bool = False,
    limit: int = 100,
) -> Question:
    """The question for these filters."""
    conditions = [*of_sensor(sensor)]
    if since is not None:
        conditions.append(f"last_seen >= {since!r}")
    if detector is not None:
        conditions.append(f"detector = {literal(detector)}")
    if min_severity is not None:
        graver = SEVERITIES[SEVERITIES.index(min_severity) :]
        conditions.append(f"severity IN ({', '.join(map(literal, graver))})")
    if host is not None:
        conditions.append(of_prefixes(("src", "dst"), host))
    if open_only:
        conditions.append(f"state != {literal(CLOSED)}")
    latest = f"ORDER BY last_seen DESC\nLIMIT {limit}"
    return Question(f"SELECT {', '.join(COLUMNS)}\nFROM threats FINAL{where(conditions)}\n{latest}", COLUMNS)


def with_evidence(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows as in a daemon's reply: the evidence is parsed."""
    for row in rows:
        yield row | {"evidence": json.loads(row["evidence"])}
