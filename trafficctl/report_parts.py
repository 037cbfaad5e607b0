"""The parts of `report` that the analysis of flows does not have: usage over time, countries, peers, names."""

from datetime import datetime
from typing import Any

from trafficctl.names import Labels
from trafficctl.render.columns import place
from trafficctl.session import note_unnamed
from trafficmond.control.client import Client

_HOUR_S, _DAY_S = 3600, 86_400
_HOURS_UP_TO_S = 4 * _DAY_S  # longer reports show days
_KINDS = ("interface", "unit")
_MOST_COUNTRIES = 12
_MOST_PAIRS = 2000
# The groups in which peers are shown: the first one for which there are values.
_FAR = {"as_name": "networks", "country": "countries", "peer": "hosts"}


class ReportParts:
    """Asks the daemon for the additional parts; a part without data is left out."""

    def __init__(self, client: Client, since: float, until: float, labels: Labels) -> None:
        self._client, self._since, self._until, self._labels = client, since, until, labels

    def complete(self, report: dict[str, Any]) -> None:
        report["usage"] = {kind: line for kind in _KINDS if (line := self._usage(kind))}
        note_unnamed(report["usage"].get("unit", {}).get("keys", ()))
        countries = self._flows(["country"], _MOST_COUNTRIES)
        if any(row["country"] for row in countries):
            report["countries"] = [{"country": row["country"], **_both(row)} for row in countries]
        if exchange := self._exchange():
            report["exchange"] = exchange
        self._name(report)

    def _usage(self, kind: str) -> dict[str, Any] | None:
        """For each interface or unit, [up, down] in bytes for each hour or day from `first` on."""
        hours = self._until - self._since <= _HOURS_UP_TO_S
        period, step = ("hour", _HOUR_S) if hours else ("day", _DAY_S)
        asked = {"period": period, "kind": kind, "since": self._since, "until": self._until, "limit": 100_000}
        rows = self._client.call("Usage", **asked)["rows"]
        if not rows:
            return None
        moments = [datetime.fromisoformat(row["period"]).timestamp() for row in rows]
        first = min(moments)
        count = round((max(moments) - first) / step) + 1
        keys: dict[str, list[list[int]]] = {}
        for row, moment in zip(rows, moments, strict=True):
            bins = keys.setdefault(row["key"], [[0, 0] for _ in range(count)])
            at = min(round((moment - first) / step), count - 1)
            bins[at][0] += row["up_bytes"]
            bins[at][1] += row["down_bytes"]
        largest = sorted(keys, key=lambda key: -sum(map(sum, keys[key])))
        return {"first": first, "step": step, "keys": {key: keys[key] for key in largest}}

    def _exchange(self) -> dict[str, Any] | None:
        for far, others in _FAR.items():
            rows = self._flows(["unit", "interface", far], _MOST_PAIRS)
            if any(row[far] for row in rows):
                near = "unit" if any(row["unit"] for row in rows) else "interface"
                pairs = [{"left": row[near] or "", "right": row[far] or "", **_both(row)} for row in rows]
                return {"left": f"{near}s", "right": others, "rows": pairs}
        return None

    def _flows(self, groups: list[str], most: int) -> list[dict[str, Any]]:
        asked = {"since": self._since, "until": self._until, "group_by": groups, "sort": "bytes", "limit": most}
        return [row for page in self._client.stream("Flows", **asked) for row in page["rows"]]

    def _name(self, report: dict[str, Any]) -> None:
        """Adds the place of each top host, and its name if names are wanted."""
        talkers = [*report["top_sources"], *report["top_destinations"]]
        rows = self._flows(["host", "country", "asn", "as_name"], _MOST_PAIRS) if talkers else []
        places = {row["host"]: row for row in rows}
        for talker in talkers:
            (named,) = self._labels.rows([{"address": talker["ip"]}])
            if about := ", ".join(filter(None, [named.get("name"), place(places.get(talker["ip"], {}))])):
                talker["about"] = about


def _both(row: dict[str, Any]) -> dict[str, int]:
    return {"up": row["up_bytes"], "down": row["down_bytes"]}
