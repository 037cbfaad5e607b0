"""Threats, stored and open."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from dataclasses import asdict

from trafficmond.answers.part import Part, prefix_of
from trafficmond.control.view import NotFound, Row, ThreatQuery
from trafficmond.datapath.bans import Network
from trafficmond.errors import ConfigError, Mistake
from trafficmond.model import Severity, Threat
from trafficmond.store.query import Filter, question
from trafficmond.store.sql import literal

_THREAT_COLUMNS = (
    *("id", "detector", "severity", "technique", "src_ip", "dst_ip", "first_seen", "last_seen", "count", "summary"),
    *("state", "evidence"),
)


class ThreatAnswers(Part):
    """`Threats` and `Threat`."""

    async def threats(self, query: ThreatQuery) -> Sequence[Row]:
        """`ThreatEntry` rows, latest first."""
        network = ipaddress.ip_network(prefix_of(query.host)) if query.host else None
        least = _severity(query.min_severity)
        rows = await self._stored_threats(query.since)
        chosen = []
        for row in rows:
            if query.detector and row["detector"] != query.detector:
                continue
            if Severity[row["severity"].upper()] < least or (query.open_only and row["state"] == "closed"):
                continue
            if network is not None and not _touches(row, network):
                continue
            chosen.append(row)
        return chosen[: query.limit]

    async def _stored_threats(self, since: float | None) -> list[Row]:
        await self._settled()
        where = f"WHERE last_seen >= {literal(since)}" if since is not None else ""
        rows = await self._rows(_THREAT_COLUMNS, f"FROM threats {where} ORDER BY last_seen DESC LIMIT 10000")
        live = {threat.id: threat for threat in self._daemon.pipeline.engine.threats()}
        return [threat_row(live[row["id"]], row["state"]) if row["id"] in live else _parsed(row) for row in rows]

    async def threat(self, ident: str) -> Row:
        """A threat, the flows behind it and what was done about it."""
        found = [row for row in await self._stored_threats(None) if row["id"].startswith(ident)]
        if not found:
            raise NotFound(f"there is no threat {ident}", hint="see trafficctl threats")
        if len({row["id"] for row in found}) > 1:
            ids = ", ".join(row["id"] for row in found[:5])
            raise NotFound(f"{ident} begins the ids of several threats: {ids}", hint="write more of the id")
        threat = found[0]
        await self._store_latest()
        wanted = Filter(
            since=threat["first_seen"] - 1,
            until=threat["last_seen"] + 1,
            src=threat["src_ip"],
            dst=threat["dst_ip"],
            limit=50,
        )
        asked = question(wanted)
        pages = await self._read(lambda reader: list(reader.pages(asked)))
        bans = [ban for ban in self._daemon.bans.all() if ban.threat == threat["id"]]
        return {
            "threat": threat,
            "flows": [row for page in pages for row in page],
            "response": [f"banned {ban.cidr} ({ban.reason})" for ban in bans],
        }


def _severity(text: str) -> Severity:
    try:
        return Severity[text.upper()]
    except KeyError:
        what = f"{text!r} is no severity; use {', '.join(str(each) for each in Severity)}"
        raise ConfigError([Mistake("min_severity", what)]) from None


def threat_row(threat: Threat, state: str) -> Row:
    """A `ThreatEntry`."""
    return {**asdict(threat), "severity": str(threat.severity), "state": state}


def _parsed(row: Row) -> Row:

    return {**row, "evidence": json.loads(row["evidence"])}


def _touches(row: Row, network: Network) -> bool:
    for side in (row["src_ip"], row["dst_ip"]):
        if side is not None:
            other = ipaddress.ip_network(side)
            if other.version == network.version and other.overlaps(network):
                return True
    return False
