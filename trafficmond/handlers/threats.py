"""The methods for threats."""

from trafficmond import networks
from trafficmond.config.declare import guess
from trafficmond.control.bounds import number
from trafficmond.control.call import Call, Reply, Row, method
from trafficmond.detect.registry import settings_classes
from trafficmond.errors import NotFound
from trafficmond.handlers.handler import Handler, parse_network, parsed
from trafficmond.handlers.places import placed
from trafficmond.model import FlowQuery, Severity, Threat
from trafficmond.store.query import question
from trafficmond.store.sql import literal

MOST_ROWS = 100_000
_AFTER_S = 600.0  # a ban may come this long after the threat, when its source is proven late


class Threats(Handler):
    @method("Threats")
    async def threats(
        self,
        _: Call,
        since: float | None = None,
        detector: str | None = None,
        min_severity: str = "low",
        host: str | None = None,
        open_only: bool = False,
        limit: int = 100,
    ) -> Reply:
        most = number("limit", limit, 1, MOST_ROWS)
        network = parse_network(host, "host") if host else None
        least = parsed("min_severity", Severity.parse, min_severity)

        def wanted(row: Row) -> bool:
            if Severity.parse(row["severity"]) < least or (open_only and row["state"] == "closed"):
                return False
            ends = filter(None, (row["src_ip"], row["dst_ip"]))
            return network is None or any(networks.known(end).overlaps(network) for end in ends)

        conditions = [] if since is None else [f"last_seen >= {literal(since)}"]
        if detector:
            conditions.append(f"detector = {literal(detector)}")
        found = await self._stored.threats(conditions, most, wanted)
        if detector and not found and detector not in (known := list(settings_classes())):
            raise NotFound(f"there is no detector {detector}{guess(detector, known)}", hint="see docs/detectors.md")
        return {"threats": placed(self._parts.rulebook.geoip, found)}

    @method("Threat")
    async def threat(self, _: Call, id: str) -> Reply:
        found = await self._stored.threats([f"substr(id, 1, {len(id)}) = {literal(id)}"], 6)
        if not found:
            raise NotFound(f"there is no threat {id}", hint="see trafficctl threats")
        if len(found) > 1:
            ids = ", ".join(row["id"] for row in found[:5])
            raise NotFound(f"{id} begins the ids of several threats: {ids}", hint="write more of the id")
        threat = found[0]
        since, until = threat["first_seen"] - 1, threat["last_seen"] + 1
        wanted = FlowQuery(since=since, until=until, src=threat["src_ip"], dst=threat["dst_ip"], limit=50)
        asked, geoip = question(wanted), self._parts.rulebook.geoip
        pages = await self._stored.read_all(wanted, lambda reader: list(reader.pages(asked)))
        return {
            "threat": placed(geoip, [threat])[0],
            "flows": placed(geoip, [row for page in pages for row in page]),
            "response": await self._response(threat),
        }

    async def _response(self, threat: Row) -> list[str]:
        """The response to a threat: bans in force, bans that have ended, or why there is none."""
        bans = [ban for ban in self._parts.bans.all() if ban.threat == threat["id"]]
        if bans:
            return [f"banned {ban.cidr} ({ban.reason})" for ban in bans]
        if threat["src_ip"]:
            network = networks.parse(threat["src_ip"])
            by = f"subject = {literal(str(network))} AND user = {literal(threat['detector'])}"
            when = f'"at" BETWEEN {literal(threat["first_seen"])} AND {literal(threat["last_seen"] + _AFTER_S)}'
            rest = f"FROM audit WHERE change = 'ban' AND {by} AND {when} ORDER BY \"at\""
            done = await self._stored.rows(("after",), rest)
            if done:
                return [f"banned {row['after']}; that ban has ended" for row in done]
        why = threat.get("not_banned") or self._parts.responder.why_not(Threat.of(threat))
        return [f"not banned: {why}"] if why else []
