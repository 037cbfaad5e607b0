"""Builds the SQL for the traffic of a fleet by time or by key: from hourly totals if the server has them
(flows-hourly.sql), else from the flows. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from trafficctl.fleet.ask import SENSOR
from trafficctl.fleet.where import equals, of_sensor, of_unit, where
from trafficmond.protocols import SERVED
from trafficmond.store.query import Question
from trafficmond.store.usage import COLUMNS, PERIODS, UsageQuery

HOURLY = "flows_hourly"
KEPT = Question(f"SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = '{HOURLY}'", ("n",))

_HOUR_S = 3600
# The expression for the key of each kind.
_KEYS = {
    "total": "'all'",
    SENSOR: SENSOR,
    "interface": "interface",
    "unit": "ifNull(unit, '')",
    "protocol": "protocol",
    "port": "concat(toString(dst_port), '/', lower(protocol))",
}
_SUMS = (
    "sum(packets + reply_packets)",
    "sum(if(direction = 'egress', bytes, reply_bytes))",
    "sum(if(direction = 'egress', reply_bytes, bytes))",
)


def usage_question(wanted: UsageQuery, *, hourly: bool, sensor: str | None = None) -> Question:
    """The question for the totals of each hour, if there is a period, or of each key. `hourly`: the server has hourly
    totals. Hours that begin between the times count, as in the totals of one host."""
    kind, period = wanted.kind, wanted.period
    hour = "toUnixTimestamp(hour)" if hourly else f"intDiv(toUInt32(last_seen), {_HOUR_S}) * {_HOUR_S}"
    moment = "hour" if hourly else "last_seen"
    first = int(wanted.since - _HOUR_S) // _HOUR_S * _HOUR_S + _HOUR_S
    conditions = [f"{moment} >= {max(0, first)}", *of_sensor(sensor)]
    if wanted.until is not None:
        conditions.append(f"{moment} < {int(wanted.until) // _HOUR_S * _HOUR_S + _HOUR_S}")
    if kind == "port":
        conditions.append(f"protocol_num IN ({', '.join(map(str, SERVED))})")
    if wanted.whole_key is not None:
        conditions.append((of_unit if kind == "unit" else equals)(_KEYS[kind], wanted.whole_key))
    flows = "sum(flows)" if hourly else "count()"
    source = HOURLY if hourly else "flows FINAL"
    name, by, order = "start", hour, "start DESC"
    if not period:
        name, by, order = "key", _KEYS[kind], f"up_bytes + down_bytes DESC\nLIMIT {wanted.limit}"
    packets, up, down = _SUMS
    asked = f"SELECT {by} AS {name}, {flows}, {packets}, {up} AS up_bytes, {down} AS down_bytes"
    sql = f"{asked}\nFROM {source}{where(conditions)}\nGROUP BY {name}\nORDER BY {order}"
    return Question(sql, (name, *COLUMNS[2:6]))


def by_period(rows: Iterable[dict[str, Any]], period: str, key: str | None, limit: int) -> list[dict[str, Any]]:
    """The totals of hours as rows of Usage: for each hour, day or month of local time, the latest first."""
    found: dict[str, dict[str, Any]] = {}
    middle = 0 if period == "hour" else _HOUR_S / 2  # an hour counts as the day of its middle, as in usage_sql
    for row in rows:
        label = datetime.fromtimestamp(row["start"] + middle).strftime(PERIODS[period])
        sums = found.setdefault(label, _empty(label, key or "all"))
        for name in COLUMNS[2:6]:
            sums[name] += row[name]
    return [found[label] for label in sorted(found, reverse=True)[:limit]]


def by_key(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_empty(None, row["key"]) | row for row in rows]


def _empty(label: str | None, key: str) -> dict[str, Any]:
    return {"period": label, "key": key, **dict.fromkeys(COLUMNS[2:], 0)}
