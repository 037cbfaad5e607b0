"""The fleet's flows in ClickHouse, asked with the filters that flows.db is asked with (store/query.py).

The SQL is complete as it stands, so what `--sql` prints is what runs. What was sent twice is left out: of sums by
FINAL, of rows by LIMIT 1 BY. Since LIMIT 1 BY has the server read every column it is given of every row, it is first
given the keys alone, and then the rows that have them: of ten million rows in a seventh of the time.
"""

from __future__ import annotations

from dataclasses import replace

from trafficctl.fleet.ask import SENSOR
from trafficctl.fleet.where import of_flows, of_sensor, text_of, where
from trafficmond.errors import ConfigError, Mistake
from trafficmond.model import FlowQuery
from trafficmond.store.query import MADE, TOTALS, Question, grouped_by, ordered, question
from trafficmond.store.schema import STORED_COLUMNS

_KEY = "last_seen, batch, row"  # that names a row, in the table's order
_BYTES = {"src_ip": "src", "dst_ip": "dst"}  # grouped by 16 bytes, of which the text is made once a group


def fleet_question(wanted: FlowQuery, sensor: str | None = None) -> Question:
    """The question a filter asks of a fleet, or of one of its hosts: as of one host, and `sensor` besides, to be shown,
    grouped and sorted by.

    Raises ConfigError with every part of it that makes no sense.
    """
    question(replace(wanted, group_by=tuple(name for name in wanted.group_by if name != SENSOR), sort=None))
    groups = tuple(dict.fromkeys(map(_column, wanted.group_by)))
    columns = (*groups, *TOTALS) if groups else (SENSOR, *STORED_COLUMNS)
    mistakes = [
        Mistake("group_by", f"{name} is for the flows of one host; leave --from out") for name in groups if name in MADE
    ]
    order = ordered(wanted.sort, columns, TOTALS if groups else {}, mistakes)
    if mistakes:
        raise ConfigError(mistakes)

    conditions = where([*of_flows(wanted), *of_sensor(sensor)])
    if groups:
        keys = ", ".join(_BYTES.get(name, name) for name in groups)
        shown = [_shown(name, groups) for name in groups]
        totals = ", ".join([*shown, *TOTALS.values()])
        sums = f"SELECT {totals}\nFROM flows FINAL{conditions}\nGROUP BY {keys}\nORDER BY {order}\nLIMIT {wanted.limit}"
        return Question(sums, columns)
    latest = f"ORDER BY {order}\nLIMIT 1 BY batch, row\nLIMIT {wanted.limit}"
    found = f"SELECT {_KEY}\nFROM flows{conditions}\n{latest}"
    rows = f"SELECT {', '.join(columns)}\nFROM flows\nWHERE ({_KEY}) IN (\n{found}\n)\n{latest}"
    return Question(rows, columns)


def _shown(name: str, groups: tuple[str, ...]) -> str:
    what = text_of(_BYTES[name]) if name in _BYTES else grouped_by(name, groups)
    return name if what == name else f"{what} AS {name}"


def _column(name: str) -> str:
    """The column that a person means ("src": "src_ip"); the name itself where it means none."""
    if name == SENSOR or name in STORED_COLUMNS:
        return name
    try:
        return question(FlowQuery(group_by=(name,))).columns[0]
    except ConfigError:
        return name
