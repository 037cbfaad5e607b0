"""Threats, stored and open."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields

from trafficmond import networks
from trafficmond.answers.part import Part, network_of
from trafficmond.control.view import NotFound, Row, ThreatQuery
from trafficmond.errors import ConfigError, Mistake
from trafficmond.model import FlowQuery, Severity, Threat
from trafficmond.networks import Network
from trafficmond.store.query import question
from trafficmond.store.reader import Reader
from trafficmond.store.sql import literal

_THREAT_COLUMNS = (
    *("id", "detector", "severity", "technique", "src_ip", "dst_ip", "first_seen", "last_seen", "count", "summary"),
    *("state", "evidence"),
)
_AFTER_S = 600.0  # a source that is proven late is banned late
_COLUMNS_SQL = ", ".join(f'"{name}"' for name in _THREAT_COLUMNS)


class ThreatAnswers(Part):
    """`Threats` and `Threat`."""

    async def threats(self, query: ThreatQuery) -> Sequence[Row]:
        """`ThreatEntry` rows, latest first."""
        network = network_of(query.host, "host") if query.host else None
        least = _severity(query.min_severity)

        def wanted(row: Row) -> bool:
            if Severity[row["severity"].upper()] < least or (query.open_only and row["state"] == "closed"):
                return False
            return network is None or _touches(row, network)

        conditions = [] if query.since is None else [f"last_seen >= {literal(query.since)}"]
        if query.detector:
            conditions.append(f"detector = {literal(query.detector)}")
        return await self._stored_threats(conditions, query.limit, wanted)

    async def _stored_threats(
        self, conditions: Sequence[str], limit: int, wanted: Callable[[Row], bool] = lambda _: True
    ) -> list[Row]:
        """The latest threats that meet the conditions (SQL) and are wanted; open ones as they are now."""
        await self._settled()
        why_not = self._parts.responder.why_not
        live = {
            threat.id: {**threat_row(threat, ""), "not_banned": why_not(threat) or None}
            for threat in self._parts.pipeline.engine.threats()
        }
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        sql = f"SELECT {_COLUMNS_SQL} FROM threats {where} ORDER BY last_seen DESC"

        def read(reader: Reader) -> list[Row]:
            rows = (dict(zip(_THREAT_COLUMNS, values, strict=True)) for values in reader.each(sql))
            rows = ({**row, **live[row["id"]], "state": row["state"]} if row["id"] in live else row for row in rows)
            return [_parsed(row) for row in itertools.islice(filter(wanted, rows), limit)]

        return await self._read(read)

    async def threat(self, ident: str) -> Row:
        """A threat, the flows behind it and what was done about it."""
        found = await self._stored_threats([f"substr(id, 1, {len(ident)}) = {literal(ident)}"], 6)
        if not found:
            raise NotFound(f"there is no threat {ident}", hint="see trafficctl threats")
        if len(found) > 1:
            ids = ", ".join(row["id"] for row in found[:5])
            raise NotFound(f"{ident} begins the ids of several threats: {ids}", hint="write more of the id")
        threat = found[0]
        wanted = FlowQuery(
            since=threat["first_seen"] - 1,
            until=threat["last_seen"] + 1,
            src=threat["src_ip"],
            dst=threat["dst_ip"],
            limit=50,
        )
        asked = question(wanted)
        pages = await self._read_all(wanted, lambda reader: list(reader.pages(asked)))
        return {
            "threat": threat,
            "flows": [row for page in pages for row in page],
            "response": await self._response(threat),
        }

    async def _response(self, threat: Row) -> list[str]:
        """What was done about it: bans in force, those that have ended, or why there is none."""
        bans = [ban for ban in self._parts.bans.all() if ban.threat == threat["id"]]
        if bans:
            return [f"banned {ban.cidr} ({ban.reason})" for ban in bans]
        if threat["src_ip"]:
            network = networks.parse(threat["src_ip"])
            by = f"subject = {literal(str(network))} AND user = {literal(threat['detector'])}"
            when = f'"at" BETWEEN {literal(threat["first_seen"])} AND {literal(threat["last_seen"] + _AFTER_S)}'
            done = await self._rows(("after",), f"FROM audit WHERE change = 'ban' AND {by} AND {when} ORDER BY \"at\"")
            if done:
                return [f"banned {row['after']}; that ban has ended" for row in done]
        why = threat.get("not_banned") or self._parts.responder.why_not(threat_of(threat))
        return [f"not banned: {why}"] if why else []


def _severity(text: str) -> Severity:
    try:
        return Severity[text.upper()]
    except KeyError:
        what = f"{text!r} is no severity; use {', '.join(str(each) for each in Severity)}"
        raise ConfigError([Mistake("min_severity", what)]) from None


def threat_of(row: Row) -> Threat:
    """The threat of a `ThreatEntry`."""
    values = {field.name: row[field.name] for field in fields(Threat)}
    return Threat(**{**values, "severity": Severity[row["severity"].upper()]})


def threat_row(threat: Threat, state: str) -> Row:
    """A `ThreatEntry`."""
    return {**asdict(threat), "severity": str(threat.severity), "state": state}


def _parsed(row: Row) -> Row:
    evidence = row["evidence"]
    return {**row, "evidence": json.loads(evidence) if isinstance(evidence, str) else evidence}


def _touches(row: Row, network: Network) -> bool:
    for side in (row["src_ip"], row["dst_ip"]):
        if side is not None:
            other = networks.known(side)
            if other.version == network.version and other.overlaps(network):
                return True
    return False
