"""The method that explains the verdict for an address."""

import time
from collections.abc import Sequence

from trafficmond import abi, networks, services
from trafficmond.banlist import places_of
from trafficmond.control.call import Call, Reply, Row, method
from trafficmond.dataclass import replace
from trafficmond.errors import ConfigError, Mistake
from trafficmond.geo.geoip import GeoIp
from trafficmond.handlers.handler import Handler, parse_direction, parsed
from trafficmond.handlers.places import place_of, placed
from trafficmond.model import Direction, FlowQuery, Reason
from trafficmond.networks import shown
from trafficmond.policy.explain import Decision, explain
from trafficmond.protocols import TCP, UDP
from trafficmond.services import Places
from trafficmond.store.query import MAX_LIMIT, question
from trafficmond.store.reader import Reader
from trafficmond.store.records import Ban
from trafficmond.store.sql import literal

_FLOWS = 20  # shown
_FIELDS = ("kind", "prefix", "action", "label", "source", "expires", "why", "shadow", "database", "ports")
_EMPTY: Row = {**dict.fromkeys(_FIELDS), "wins": False}


class Explain(Handler):
    @method("Explain")
    async def explain(self, _: Call, address: str, direction: str = "ingress", service: str | None = None) -> Reply:
        parts = self._parts
        await parts.follow_clock()
        way = parse_direction(direction)
        host = str(parsed("address", networks.parse_address, address))
        asked = _service(service) if service else ()
        geoip, units = parts.rulebook.geoip, parts.pipeline.units
        port = _port(asked) if units.on and way is Direction.INGRESS else None
        decisions = explain(self._in_force().policy, host, way, time.time(), asked)
        rows = [_decision(each, geoip) for each in decisions]
        if way is Direction.INGRESS:
            strong = sum(each.reason in (Reason.GUARD, Reason.ALLOWLIST) for each in decisions)
            rows[strong:strong] = [_ban_decision(ban, asked) for ban in parts.bans.covering(host)]
        winner, processes = _winner(rows, asked), None
        if port and units.processes.on:
            processes = [{"process": each.name, "pid": each.pid} for each in units.listening_processes(*port)]
        about = FlowQuery(host=host, limit=_FLOWS)
        flows, sums = await self._stored.read_all(replace(about, limit=MAX_LIMIT), lambda reader: _about(reader, about))
        return {
            "address": host,
            "direction": str(way),
            "action": winner["action"],
            "reason": winner["kind"],
            "decisions": rows,
            **sums,
            "flows": placed(geoip, flows),
            "threats": placed(geoip, await self._stored.threats([f"{literal(host)} IN (src_ip, dst_ip)"], 20)),
            "advice": _advice(winner, host, way, services.text(asked)),
            "service": services.text(asked)[0] if asked else None,
            "listeners": units.listeners(*port) if port else None,
            "processes": processes,
            **place_of(geoip, host),
        }


def _port(asked: Places) -> tuple[int, int] | None:
    place = asked[0][0] if asked else abi.WHAT_ICMP
    if place >= abi.WHAT_ICMP:
        return None
    return (TCP, place) if place < abi.WHAT_UDP else (UDP, place - abi.WHAT_UDP)


def _service(text: str) -> Places:
    places = parsed("service", services.parse, [text])
    if len(places) != 1 or places[0][0] != places[0][1]:
        one = f"tcp/{text}" if text.isdecimal() else "tcp/443"
        raise ConfigError([Mistake("service", f'"{text}" is more than one service; ask about one, such as {one}')])
    return places


def _winner(rows: list[Row], asked: Places) -> Row:
    """The row that decides, marked as such; the rows after it say so."""
    winner = next(row for row in rows if row["why"] is None)
    winner["wins"] = True
    for row in rows[rows.index(winner) + 1 :]:
        if row["why"] and asked:  # it does not apply to that service at all
            continue
        row["why"] = f"{winner['kind']} {winner['prefix'] or ''} comes before".replace("  ", " ")
    return winner


def _decision(decision: Decision, geoip: GeoIp) -> Row:
    rule = decision.rule
    row = _EMPTY | {"prefix": decision.prefix or None, "action": str(decision.action), "why": _why_not(decision)}
    row |= {"kind": str(decision.reason), "shadow": decision.shadow or None}
    if rule:
        row |= {"kind": rule.kind, "label": rule.name, "source": rule.source, "expires": rule.expires}
        row |= {"database": geoip.sources(str(rule.by)) or None, "ports": services.text(rule.services) or None}
    return row


def _why_not(decision: Decision) -> str | None:
    if decision.shadow and decision.applies is not False:
        return "it is in shadow: it only reports what it would have done"
    if decision.applies or decision.rule is None:
        return None
    return _for_these(services.text(decision.rule.services), decision.applies)


def _for_these(named: Sequence[str], asked_for: bool | None) -> str:
    """Why a rule for some services does not decide; `asked_for` is None if the question has no service."""
    begin, end = ("it is for", "") if asked_for is False else ("it decides for", "" if asked_for else " alone")
    return f"{begin} {', '.join(named)}{end}"


def _ban_decision(ban: Ban, asked: Places) -> Row:
    places = places_of(ban)
    why = None
    if places and not (asked and services.contains(places, asked)):
        why = _for_these(services.text(places), False if asked else None)
    source = ban.owner if ban.owner == ban.by else f"{ban.owner}, by {ban.by}"
    row = _EMPTY | {"kind": "ban", "prefix": ban.cidr, "action": "drop", "label": ban.reason or None, "source": source}
    return row | {"expires": ban.expires, "why": why, "ports": services.text(places) or None}


def _about(reader: Reader, about: FlowQuery) -> tuple[list[Row], Row]:
    flows = [row for page in reader.pages(question(about)) for row in page]
    who = literal(about.host or "")
    dropped = "CASE WHEN action = 'drop' THEN packets ELSE 0 END"
    sql = (  # what it sent to begin conversations, and as an answer
        "SELECT sum(sent), sum(bytes), sum(dropped), min(first_seen), max(last_seen) FROM ("
        f"SELECT packets AS sent, bytes, {dropped} AS dropped, first_seen, last_seen FROM flows WHERE src_ip = {who} "
        "UNION ALL SELECT reply_packets, reply_bytes, 0, first_seen, last_seen FROM flows "
        f"WHERE dst_ip = {who} AND reply_packets > 0)"
    )
    packets, octets, dropped, first, last = reader.rows(sql)[0]
    sums = {"packets": packets or 0, "bytes": octets or 0, "dropped_packets": dropped or 0}
    return flows, {**sums, "first_seen": first, "last_seen": last}


def _advice(winner: Row, host: str, way: Direction, asked: Sequence[str]) -> list[str]:
    """What would change the decision about packets of this direction, for the service that was asked about."""
    if winner["kind"] in ("guard", "allowlist"):
        return [f"the {winner['kind']} protects it: only a rule or ban with --force applies to it"]
    if winner["kind"] == "ban":
        return [f"trafficctl unban {shown(winner['prefix'])} --all lifts the ban"]
    port = f" --port {asked[0]}" if asked else ""
    rule = f"trafficctl add-cidr {host}{port}{' --direction egress' if way is Direction.EGRESS else ''} --action"
    if winner["action"] == "drop":
        return [f"{rule} allow lets it pass"]
    bans = [f"trafficctl ban {host}{port} --ttl 1h drops it for an hour"]
    return [f"{rule} drop drops it", *(bans if way is Direction.INGRESS else [])]
