"""Builds the SQL for the busiest sensors, flows and hosts of a fleet. Pure.

A sensor reports a flow when it ends, and one that continues every flows.active_timeout (5 minutes by default). So rates
are averages over that time.
"""

from typing import Any

from trafficctl.fleet.ask import SENSOR
from trafficctl.fleet.where import of_flows, of_sensor, text_of, where
from trafficmond import choice
from trafficmond.dataclass import replace
from trafficmond.store.query import Question

WINDOW_S = 300
SORTS = {
    "bytes": "sent_bytes + received_bytes",
    "packets": "sent_packets + received_packets",
    "sent": "sent_bytes",
    "received": "received_bytes",
}
_MOST = 20  # flows and hosts
_COUNTERS = ("sent_packets", "sent_bytes", "received_packets", "received_bytes")
_FLOW = (SENSOR, "src", "src_port", "dst", "dst_port", "protocol", "interface", "action", "unit")


def top_questions(now: float, sort: str, match: str, sensor: str | None) -> dict[str, Question]:
    """The question for each list: totals over the window. `match` is that of `top` for one host."""
    wanted = replace(choice.of_text(match), since=now - WINDOW_S)
    conditions = where([*of_flows(wanted), *of_sensor(sensor)])
    sums = "sum(packets), sum(bytes), sum(reply_packets), sum(reply_bytes)"
    named = ", ".join(f"{each} AS {name}" for each, name in zip(sums.split(", "), _COUNTERS, strict=True))
    order = f"ORDER BY {SORTS[sort]} DESC"
    shown = ", ".join(f"{text_of(name)} AS {name}_ip" if name in ("src", "dst") else name for name in _FLOW)
    # A sensor has sent what went out of its interfaces.
    sides = ", ".join(
        f"sum(if(direction = 'egress', {mine}{unit}, {theirs}{unit})) AS {name}_{unit}"
        for name, mine, theirs in (("sent", "", "reply_"), ("received", "reply_", ""))
        for unit in ("packets", "bytes")
    )
    halves = "\nUNION ALL\n".join(
        f"SELECT {address} AS address, {SENSOR}, {mine}packets AS sp, {mine}bytes AS sb, {theirs}packets AS rp, "
        f"{theirs}bytes AS rb\nFROM flows FINAL{conditions}"
        for address, mine, theirs in (("src", "", "reply_"), ("dst", "reply_", ""))
    )
    of_hosts = ", ".join(
        f"sum({each}) AS {name}" for each, name in zip(("sp", "sb", "rp", "rb"), _COUNTERS, strict=True)
    )
    return {
        "sensors": Question(
            f"SELECT {SENSOR}, count() AS flows, {sides}\nFROM flows FINAL{conditions}\nGROUP BY {SENSOR}\n{order}",
            (SENSOR, "flows", *_COUNTERS),
        ),
        "flows": Question(
            f"SELECT {shown}, {named}\nFROM flows FINAL{conditions}\nGROUP BY {', '.join(_FLOW)}\n{order}\n"
            f"LIMIT {_MOST}",
            (*(f"{name}_ip" if name in ("src", "dst") else name for name in _FLOW), *_COUNTERS),
        ),
        "hosts": Question(
            f"SELECT {text_of('address')} AS host, uniqExact({SENSOR}) AS sensors, count() AS flows, {of_hosts}\n"
            f"FROM (\n{halves}\n)\nGROUP BY address\n{order}\nLIMIT {_MOST}",
            ("address", "sensors", "flows", *_COUNTERS),
        ),
    }


def rated(row: dict[str, Any]) -> dict[str, Any]:
    rates = {f"{name}_per_s": row[name] / WINDOW_S for name in _COUNTERS}
    return {name: value for name, value in row.items() if name not in _COUNTERS} | rates
