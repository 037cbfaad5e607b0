"""Builds the SQL for flows of a fleet, with the same filters as for flows.db (store/query.py).

The SQL has no parameters, so `--sql` prints exactly what runs. Rows that were sent twice count once: FINAL does that
for sums, LIMIT 1 BY for rows. LIMIT 1 BY makes the server read all selected columns of all rows, so an inner query
selects the keys only and an outer query their rows: with ten million rows this takes a seventh of the time.
"""

from trafficctl.fleet.ask import SENSOR
from trafficctl.fleet.where import of_flows, of_sensor, text_of, where
from trafficmond.dataclass import replace
from trafficmond.errors import ConfigError, Mistake
from trafficmond.model import FlowQuery
from trafficmond.store.query import MADE, TOTALS, Question, grouped_by, ordered, question
from trafficmond.store.schema import STORED_COLUMNS

_KEY = "last_seen, batch, row"  # identifies a row, in the order of the table
_BYTES = {"src_ip": "src", "dst_ip": "dst"}  # grouped by 16 bytes; the text is made once for each group


def fleet_question(wanted: FlowQuery, sensor: str | None = None) -> Question:
    """The question for a filter, to a fleet or to one of its hosts. It has the columns of one host and `sensor`.

    Raises ConfigError with all parts of the filter that are not valid.
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
    """The column for a name ("src" is "src_ip"); the name itself if there is none."""
    if name == SENSOR or name in STORED_COLUMNS:
        return name
    try:
        return question(FlowQuery(group_by=(name,))).columns[0]
    except ConfigError:
        return name
