"""Queries of the rollups: how much went out and came in, by time, by interface, by place. Pure."""

from collections.abc import Sequence
from typing import Any

from trafficmond.dataclass import dataclass
from trafficmond.errors import ConfigError, Mistake
from trafficmond.flows.owners import is_pattern, unit_name
from trafficmond.store.query import unit_sql
from trafficmond.store.rollups import DOWN, UP
from trafficmond.store.sql import literal

PERIODS = {"hour": "%Y-%m-%d %H:%M", "day": "%Y-%m-%d", "month": "%Y-%m"}  # local time
KINDS = ("total", "interface", "unit", "country", "asn", "protocol", "port")
COLUMNS = ("period", "key", "flows", "packets", "up_bytes", "down_bytes", "unsided_bytes")
_DAY_S = 86400
# Hours are kept for two months only. Older traffic is taken from days, which are sums of the same; so is a day if some
# of its hours are gone. A young file has all its hours.
_BY_HOURS_OR_DAYS = f"(period = 'hour' AND start >= first OR period = 'day' AND start < first - first % {_DAY_S})"
# When a row's period began. The day of a date, which is that of UTC, counts as that date everywhere.
_BEGAN = "CASE period WHEN 'day' THEN CAST(strftime('%s', start, 'unixepoch', 'utc') AS INTEGER) ELSE start END"
_OLDEST = "(SELECT min(start) FROM rollups WHERE period = '{}' AND kind = 'total')"
_FIRST = (
    f"SELECT CASE WHEN day < hour - hour % {_DAY_S} THEN hour + {_DAY_S - 1} - (hour + {_DAY_S - 1}) % {_DAY_S} "
    f"ELSE hour END AS first FROM (SELECT {_OLDEST.format('hour')} AS hour, {_OLDEST.format('day')} AS day)"
)


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """A query: sums by period ("": of all time) for each key of a kind. Times are epoch seconds; hours that begin
    within them count, and days where hours are gone."""

    period: str = "day"
    kind: str = "total"
    key: str | None = None
    since: float = 0.0
    until: float | None = None
    limit: int = 1000

    @property
    def whole_key(self) -> str | None:
        """The key as it is stored: "nginx.service" for the unit "nginx"."""
        return unit_name(self.key) if self.kind == "unit" and self.key else self.key

    def mistakes(self) -> list[Mistake]:
        found = []
        if self.period and self.period not in PERIODS:
            found.append(Mistake("period", f"{self.period!r} is not a valid period; use {', '.join(PERIODS)}"))
        if self.kind not in KINDS:
            found.append(Mistake("kind", f"{self.kind!r} is not a valid kind of total; use {', '.join(KINDS)}"))
        if not 1 <= self.limit <= 100_000:
            found.append(Mistake("limit", f"{self.limit} is out of range; use 1 to 100000"))
        return found


def usage_sql(wanted: UsageQuery) -> str:
    """The SQL of a query, with COLUMNS: the latest period first, in it (or in all) the largest. Raises ConfigError."""
    if mistakes := wanted.mistakes():
        raise ConfigError(mistakes)
    # Where clocks go forward at midnight, a day begins an hour later, or SQLite says the hour before. Where midnight is
    # within an hour of UTC (India: at its half), the hour counts as the day of its middle.
    middle = 0 if wanted.period == "hour" else 1800
    within = f"{_BEGAN} + iif(period = 'day', 7200, {middle})"
    label = f"strftime('{PERIODS[wanted.period]}', {within}, 'unixepoch', 'localtime')" if wanted.period else "NULL"
    key = wanted.whole_key
    together = literal(key) if key and wanted.period and is_pattern(key) else ""  # all units of a pattern, by time
    conditions = [
        f"kind = {literal(wanted.kind)}",
        f"start > {literal(wanted.since - _DAY_S)} AND {_BEGAN} > {literal(wanted.since - 3600)}",
        *([] if wanted.until is None else [f"{_BEGAN} <= {literal(wanted.until)}"]),
        *([] if key is None else [unit_sql("key", key) if wanted.kind == "unit" and key else f"key = {literal(key)}"]),
        "period = 'hour'" if wanted.period == "hour" else _BY_HOURS_OR_DAYS,
    ]
    sums = (
        f"sum(flows), sum(packets + reply_packets), sum({UP}), sum({DOWN}), "
        "sum(CASE WHEN up_bytes IS NULL THEN bytes + reply_bytes ELSE 0 END)"
    )
    order = [*(["1 DESC"] if wanted.period else []), f"sum({UP} + {DOWN}) DESC", "2"]
    return "\n".join(
        [
            f"SELECT {label} AS label, {together or 'key'}, {sums}",
            f"FROM rollups, ({_FIRST})",
            "WHERE " + "\n  AND ".join(conditions),
            f"GROUP BY {'label' if together else 'label, key' if wanted.period else 'key'}",
            f"ORDER BY {', '.join(order)}",
            f"LIMIT {wanted.limit}",
        ]
    )


def rows_of(answer: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in answer]
