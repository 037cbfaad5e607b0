"""Builds the SQL for threats of a fleet, in their latest state, with the filters of `trafficctl threats`."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from trafficctl.fleet.ask import SENSOR
from trafficctl.fleet.where import equals, of_prefixes, of_sensor, where
from trafficmond.detect.engine import CLOSED
from trafficmond.export.clickhouse_http import literal
from trafficmond.model import SEVERITIES, THREAT_FIELDS
from trafficmond.store.query import Question

COLUMNS = (SENSOR, *THREAT_FIELDS, "state", "evidence")


_CONDITIONS: dict[str, Callable[[Any], str]] = {
    "since": lambda moment: f"last_seen >= {moment!r}",
    "detector": lambda name: equals("detector", name),
    "min_severity": lambda least: f"severity IN ({', '.join(map(literal, SEVERITIES[SEVERITIES.index(least) :]))})",
    "host": lambda text: of_prefixes(("src", "dst"), text),
    "open_only": lambda _: f"state != {literal(CLOSED)}",
}


def threats_question(*, sensor: str | None = None, limit: int = 100, **filters: Any) -> Question:
    """The question for threats; the other filters are those of the method Threats, None: any."""
    wanted = [condition(value) for name, condition in _CONDITIONS.items() if (value := filters.get(name)) is not None]
    conditions = where([*of_sensor(sensor), *wanted])
    latest = f"ORDER BY last_seen DESC\nLIMIT {limit}"
    return Question(f"SELECT {', '.join(COLUMNS)}\nFROM threats FINAL{conditions}\n{latest}", COLUMNS)


def with_evidence(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows as in a daemon's reply: the evidence is parsed."""
    for row in rows:
        yield row | {"evidence": json.loads(row["evidence"])}
