"""Reads zones of firewalld: the XML files in /etc/firewalld/zones, each for some sources or for all."""

import re
from collections.abc import Sequence
from pathlib import Path
from xml.parsers import expat

from trafficctl.exits import UsageError
from trafficctl.imports import words
from trafficctl.imports.ruleset import ACCEPT, DROP, Base, Line, Ruleset, Unsupported
from trafficmond import services
from trafficmond.services import Places

_SERVICES = (Path("/etc/firewalld/services"), Path("/usr/lib/firewalld/services"))
_KNOWN = {  # for hosts without firewalld's own files
    "cockpit": "tcp/9090", "dhcp": "udp/67", "dhcpv6-client": "udp/546", "dns": "53", "http": "tcp/80",
    "http3": "udp/443", "https": "tcp/443", "imap": "tcp/143", "imaps": "tcp/993",
    "ipsec": "ah,esp,udp/500,udp/4500,tcp/4500", "kerberos": "88", "ldap": "tcp/389", "ldaps": "tcp/636",
    "mdns": "udp/5353", "mqtt": "tcp/1883", "mysql": "tcp/3306", "nfs": "tcp/2049", "node-exporter": "tcp/9100",
    "ntp": "udp/123", "openvpn": "udp/1194", "pop3": "tcp/110", "pop3s": "tcp/995", "postgresql": "tcp/5432",
    "prometheus": "tcp/9090", "redis": "tcp/6379", "rsyncd": "873", "samba": "tcp/139,tcp/445,udp/137,udp/138",
    "samba-client": "udp/137,udp/138", "smtp": "tcp/25", "smtp-submission": "tcp/587", "smtps": "tcp/465",
    "snmp": "udp/161", "ssh": "tcp/22", "syslog": "udp/514", "tftp": "udp/69", "wireguard": "udp/51820",
}  # fmt: skip
_TARGETS = {"ACCEPT": ACCEPT, "DROP": DROP, "%%REJECT%%": DROP, "REJECT": DROP, "default": DROP, "": DROP}
_LOST = {
    "masquerade": "NAT is not supported",
    "forward-port": "NAT is not supported",
    "source-port": "rules cannot match source ports",
    "interface": "rules apply to all interfaces",
}
_GIVE = "give a file of /etc/firewalld/zones"
_IGNORED = ("short", "description", "forward", "zone")


class _Element:
    def __init__(self, name: str, attributes: dict[str, str], line: int) -> None:
        self.name, self.attributes, self.line = name, attributes, line
        self.inner: list[_Element] = []

    def text(self) -> str:
        given = "".join(f' {key}="{value}"' for key, value in self.attributes.items())
        return f"<{self.name}{given}>" + "".join(each.text() for each in self.inner)


def read(files: Sequence[tuple[str, str]]) -> Ruleset:
    """Reads zones. A packet enters the first one with its source, in the order of their priorities and names, or the
    zone for interfaces, of which there may be one."""
    ruleset = Ruleset(established="firewalld")  # it always lets replies pass, and lo
    entry: list[tuple[tuple[int, bool, str], Line]] = []
    open_to_all = 0
    for name, text in files:
        zone = _zone(name, text)
        chain = f"zone {Path(name).stem}"
        ruleset.chains[chain] = _lines(ruleset, name, zone)
        target = zone.attributes.get("target", "default")
        if target not in _TARGETS:
            raise UsageError(f"{name}:{zone.line}: {target!r} is not a valid target", "use ACCEPT, DROP or %%REJECT%%")
        end = Line(f"{name}:{zone.line}", zone.text().partition(">")[0] + ">", _TARGETS[target])
        if target in ("default", ""):
            ping = services.parse(["icmp", "icmpv6"])
            if not any(each.name == "icmp-block-inversion" for each in zone.inner):
                text = f"{end.text}, which lets ICMP pass"
                ruleset.chains[chain].append(Line(end.where, text, ACCEPT, services=((ping, False),)))
        sources = [each for each in zone.inner if each.name == "source"]
        try:
            order = _priority(zone.attributes.get("ingress-priority", "0"))
        except Unsupported as error:
            raise UsageError(f"{name}:{zone.line}: {error}") from None
        if sources:
            entry += [((order, False, chain), each) for each in _sources(ruleset, name, sources, chain)]
        if not sources or any(each.name == "interface" for each in zone.inner):
            open_to_all, policy = open_to_all + 1, _TARGETS[target]
            entry.append(((order, True, chain), Line(end.where, end.text, chain)))
        ruleset.chains[chain].append(end)
    if open_to_all > 1:
        raise UsageError(
            "more than one zone is for interfaces, but rules apply to all interfaces",
            "give one zone with interfaces or without sources, and any number with sources alone",
        )
    ruleset.chains["zones"] = [line for _, line in sorted(entry, key=lambda each: each[0])]
    ruleset.bases = [Base("zones", False, policy if open_to_all else DROP)]
    return ruleset


def _parsed(text: bytes) -> _Element:
    """Parses XML. Entities that the text defines are refused; expat makes no others. Raises ExpatError, ValueError."""
    parser = expat.ParserCreate()
    path = [_Element("", {}, 0)]

    def begin(tag: str, attributes: dict[str, str]) -> None:
        path.append(_Element(tag, attributes, parser.CurrentLineNumber))
        path[-2].inner.append(path[-1])

    def refuse(*_: object) -> None:
        raise ValueError("it defines XML entities, which a file of firewalld never does")

    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda _: path.pop()
    parser.EntityDeclHandler = refuse
    parser.Parse(text, True)
    return path[0].inner[0]


def _zone(name: str, text: str) -> _Element:
    try:
        zone = _parsed(text.encode())
    except (expat.ExpatError, ValueError) as error:
        raise UsageError(f"{name}: {error}", _GIVE) from None
    if zone.name != "zone":
        raise UsageError(f"{name} is not a zone of firewalld", _GIVE)
    return zone


def _sources(ruleset: Ruleset, name: str, sources: Sequence[_Element], chain: str) -> list[Line]:
    found = []
    for each in sources:
        try:
            addresses = words.addresses([each.attributes["address"]])
        except (KeyError, Unsupported):
            ruleset.omit(f"{name}:{each.line}", each.text(), "rules cannot match a source that is not an address")
            continue
        found.append(Line(f"{name}:{each.line}", each.text(), chain, addresses=((addresses, False),)))
    return found


def _lines(ruleset: Ruleset, name: str, zone: _Element) -> list[Line]:
    """The lines of a zone in firewalld's order: rich rules by priority, drops first, then services and ports."""
    rich: list[tuple[int, Line]] = []
    plain: list[Line] = []
    blocks: list[Line] = []
    inverted = any(each.name == "icmp-block-inversion" for each in zone.inner)
    for each in zone.inner:
        where = f"{name}:{each.line}"
        if each.name in _IGNORED or each.name in ("source", "icmp-block-inversion"):
            continue
        try:
            if each.name == "rule":
                rich += _rich(ruleset, where, each)
            elif each.name == "icmp-block":
                target = ACCEPT if inverted else DROP
                found = [line for family in (4, 6) for line in _of_family(where, each, target, family)]
                if not found:
                    raise Unsupported(
                        f"rules cannot name the ICMP type {each.attributes.get('name')}: it has a code, or is unknown"
                    )
                blocks += found
            elif each.name in _LOST:
                if each.name == "interface":
                    ruleset.note(where, "in trafficmon, the rules of the zone apply to all interfaces")
                else:
                    ruleset.omit(where, each.text(), _LOST[each.name])
            else:
                plain.append(Line(where, each.text(), ACCEPT, services=((_places(ruleset, where, each), False),)))
        except Unsupported as unsupported:
            ruleset.omit(where, each.text(), str(unsupported))
    rich.sort(key=lambda each: (each[0], each[1].target == ACCEPT))
    before = [line for priority, line in rich if priority < 0]
    denied = [line for priority, line in rich if priority == 0 and line.target == DROP]
    allowed = [line for priority, line in rich if priority == 0 and line.target == ACCEPT]
    after = [line for priority, line in rich if priority > 0]
    kept = [line for line in plain if not words.never_dropped(line.services[0][0])]
    return [*before, *denied, *blocks, *allowed, *kept, *after]


def _of_family(where: str, each: _Element, target: str, family: int) -> list[Line]:
    try:
        places = words.types(family, [each.attributes.get("name", "")])
    except Unsupported:
        return []
    return [Line(where, each.text(), target, family=family, services=((places, False),))]


def _rich(ruleset: Ruleset, where: str, rule: _Element) -> list[tuple[int, Line]]:
    """The lines of a rich rule, with their priority: one for each family if it names ICMP types."""
    family = {"ipv4": 4, "ipv6": 6}.get(rule.attributes.get("family", ""), 0)
    priority = _priority(rule.attributes.get("priority", "0"))
    addresses = []
    named: list[Places] = []
    kinds: list[str] = []
    target = ""
    for each in rule.inner:
        if each.name == "source":
            if "address" not in each.attributes:
                raise Unsupported("rules cannot match a source that is not an address")
            but = each.attributes.get("invert", "").lower() in ("yes", "true", "1")
            addresses.append((words.addresses([each.attributes["address"]]), but))
        elif each.name in ("accept", "drop", "reject"):
            target = ACCEPT if each.name == "accept" else DROP
            if any(inner.name == "limit" for inner in each.inner):
                raise Unsupported("rules have no rate for all sources together")
        elif each.name in ("log", "nflog", "audit"):
            continue
        elif each.name == "icmp-type":
            kinds.append(each.attributes.get("name", ""))
        elif each.name in ("service", "port", "protocol"):
            named.append(_places(ruleset, where, each))
        elif each.name in _LOST:
            raise Unsupported(_LOST[each.name])
        else:
            raise Unsupported(f"{each.name} is not supported in rules")
    if not target:
        return []
    found = []
    for one in ((family,) if family else (4, 6)) if kinds else (family,):
        types = [words.types(one, kinds)] if kinds else []
        places = tuple((each, False) for each in (*named, *types))
        found.append((priority, Line(where, rule.text(), target, False, one, tuple(addresses), places)))
    return found


def _priority(written: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,5}", written):
        raise Unsupported("its priority is not a number")
    return int(written)


def _places(ruleset: Ruleset, where: str, element: _Element) -> Places:
    given = element.attributes
    if element.name == "port":
        return words.ports([given.get("protocol", "tcp")], [given.get("port", "")])
    if element.name == "protocol":
        return words.protocol(given.get("value", ""))
    if element.name == "service":
        return _service(ruleset, where, given.get("name", ""))
    raise Unsupported(f"{element.name} is not supported in rules")


def _service(ruleset: Ruleset, where: str, name: str, *, included: bool = False) -> Places:
    for folder in _SERVICES if re.fullmatch(r"[A-Za-z0-9_-]+", name) else ():
        path = folder / f"{name}.xml"
        if path.exists():
            return _service_of(ruleset, where, path, included)
    if name in _KNOWN:
        return services.parse(_KNOWN[name].split(","))
    for named in f"tcp/{name}", f"udp/{name}":
        try:
            found = services.parse([named])
        except ValueError:
            continue
        taken = ", ".join(services.text(found))
        ruleset.note(where, f'the service "{name}" is read as {taken}: no file of firewalld defines it')
        return found
    raise Unsupported(f'the service "{name}" is not known on this host; write its ports instead')


def _service_of(ruleset: Ruleset, where: str, path: Path, included: bool) -> Places:
    """The services in a file of firewalld, and in the files that it includes."""
    found: list[tuple[int, int]] = []
    try:
        elements = _parsed(path.read_bytes()).inner
    except (OSError, expat.ExpatError, ValueError) as error:
        raise Unsupported(f"{path}: {error}") from None
    for each in elements:
        if each.name in ("port", "protocol") and each.attributes.get("port", "x"):
            found += _places(ruleset, where, each)
        elif each.name == "include":
            if included:
                raise Unsupported(f"service {path.stem} is included and includes another one: only one level is read")
            found += _service(ruleset, where, each.attributes.get("service", ""), included=True)
    for each in elements:
        if each.name in ("destination", "helper", "source-port") and not words.never_dropped(services.merged(found)):
            raise Unsupported(f"{path.stem} has a {each.name}, which rules do not have")
    return services.merged(found)
