"""Reads one rule of iptables, option by option."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from trafficctl.imports import words
from trafficctl.imports.rule import ALL_INTERFACES, NO_PORTS, OWN_ADDRESS, SOURCE_PORT, Conditions, Place
from trafficctl.imports.ruleset import ACCEPT, DROP, RETURN, Line, Unsupported
from trafficmond.services import Places

_TARGETS = {"ACCEPT": ACCEPT, "DROP": DROP, "REJECT": DROP, "RETURN": RETURN}
_MODULES = (
    *("tcp", "udp", "icmp", "icmp6", "icmpv6", "conntrack", "state", "comment", "multiport", "iprange", "addrtype"),
    *("hl", "rt"),
)


@dataclass(frozen=True, slots=True)
class Context(Place):
    """The place of a rule. `chains`: the names of chains in the ruleset, by their names in the rule."""

    family: int
    chains: dict[str, str]


@dataclass(slots=True)
class _Conditions(Conditions):
    egress: bool = False
    protocols: Places = ()
    protocol: str = ""
    but_protocol: bool = False
    never: bool = False  # matches no packet to or from this host
    many: bool = False  # ... except to a multicast or broadcast address
    unsupported: Unsupported | None = None  # the first of its conditions that rules do not have
    target: str = ""
    goes: bool = False


def read(context: Context, arguments: Sequence[str]) -> Line | None:
    """The line for a rule; None if the rule has no effect. Raises Unsupported."""
    conditions = _Conditions(context.family, egress=context.egress)
    _read_conditions(conditions, arguments)
    return _line(context, conditions)


def _line(context: Context, conditions: _Conditions) -> Line | None:
    if conditions.loopback or (conditions.never and not conditions.many):
        return None  # the loopback interface is not filtered
    target = _TARGETS.get(conditions.target) or context.chains.get(conditions.target)
    if target is None:
        raise Unsupported(f"{conditions.target} is not an action of rules")
    if conditions.many:
        if target == RETURN:
            return None
        raise Unsupported("rules cannot match multicast or broadcast")
    of_all = not (conditions.addresses or conditions.services or conditions.protocols)
    if conditions.protocols:
        conditions.services.append((conditions.protocols, conditions.but_protocol))
    begins = context.begins(conditions.states, target, of_all=of_all)
    if conditions.always_accepted(target):
        return None
    if conditions.unsupported:
        raise conditions.unsupported
    if conditions.source_port:
        raise Unsupported(SOURCE_PORT)
    return conditions.line(context, target, goes=conditions.goes) if begins else None


def _read_conditions(conditions: _Conditions, arguments: Sequence[str]) -> None:
    words_left = iter(arguments)
    but = False
    for word in words_left:
        if word == "!":
            but = True
            continue
        reader = _READERS.get(word)
        if reader is None:
            raise conditions.unsupported or Unsupported(f"{word} is not supported in rules")
        try:
            reader(conditions, words_left, but)
        except StopIteration:
            raise Unsupported("it ends too soon") from None
        except Unsupported as unsupported:
            conditions.unsupported = conditions.unsupported or unsupported
        but = False


def _addresses(destination: bool) -> Callable[[_Conditions, Iterator[str], bool], None]:
    def read_them(conditions: _Conditions, rest: Iterator[str], but: bool) -> None:
        found = words.addresses(next(rest).split(","))
        if any(network.prefixlen == 0 for network in found) and not but:
            return
        if conditions.egress != destination:
            raise Unsupported(OWN_ADDRESS)
        conditions.addresses.append((found, but))

    return read_them


def _protocol(conditions: _Conditions, rest: Iterator[str], but: bool) -> None:
    conditions.protocol = next(rest).lower()
    conditions.protocols, conditions.but_protocol = words.protocol(conditions.protocol), but
    if conditions.protocols == words.EVERYTHING:
        conditions.protocols = ()


def _ports(conditions: _Conditions, rest: Iterator[str], but: bool) -> None:
    text = next(rest)
    if conditions.protocol not in ("tcp", "udp", "6", "17") or conditions.but_protocol:
        raise Unsupported(NO_PORTS)
    name = {"6": "tcp", "17": "udp"}.get(conditions.protocol, conditions.protocol)
    conditions.services.append((words.ports([name], text.split(",")), but))


def _from_port(conditions: _Conditions, rest: Iterator[str], _: bool) -> None:
    next(rest)
    conditions.source_port = True


def _type(conditions: _Conditions, rest: Iterator[str], but: bool) -> None:
    conditions.services.append((words.types(conditions.family, [next(rest)]), but))


def _states(conditions: _Conditions, rest: Iterator[str], but: bool) -> None:
    if but:
        raise Unsupported("rules cannot match a negated connection state")
    conditions.states = frozenset(next(rest).split(","))


def _interface(conditions: _Conditions, rest: Iterator[str], but: bool) -> None:
    name = next(rest)
    if name != "lo" or but:
        if name == "lo":
            return  # all interfaces except loopback, which is not filtered
        raise Unsupported(ALL_INTERFACES)
    conditions.loopback = True


def _jump(conditions: _Conditions, rest: Iterator[str], _: bool) -> None:
    conditions.target = next(rest)


def _go(conditions: _Conditions, rest: Iterator[str], _: bool) -> None:
    conditions.target, conditions.goes = next(rest), True


def _module(_: _Conditions, rest: Iterator[str], __: bool) -> None:
    name = next(rest)
    if name not in _MODULES:
        raise Unsupported(f"rules have no {name}")


def _comment(conditions: _Conditions, rest: Iterator[str], _: bool) -> None:
    conditions.label = next(rest)


def _kind(conditions: _Conditions, rest: Iterator[str], but: bool) -> None:
    """Reads --dst-type; incoming packets that are not multicast or broadcast are LOCAL."""
    conditions.many = conditions.never = (next(rest) != "LOCAL") != but
    if conditions.egress:
        raise Unsupported("rules cannot match address types")


def _route(conditions: _Conditions, rest: Iterator[str], but: bool) -> None:
    """Reads --rt-type; Linux accepts no packet with a routing header of type 0 (RFC 5095)."""
    if next(rest) != "0" or but:
        raise Unsupported("rules cannot match routing headers")
    conditions.never = True


def _no_matter(_: _Conditions, rest: Iterator[str], __: bool) -> None:
    next(rest)


def _hops(conditions: _Conditions, rest: Iterator[str], _: bool) -> None:
    """Reads --hl-eq. It has no effect for neighbour discovery, which is never dropped; else it is not supported."""
    next(rest)
    if not any(words.never_dropped(places) for places, _but in conditions.services):
        raise Unsupported("rules cannot match hop limits")


_OPTIONS: tuple[tuple[Callable[[_Conditions, Iterator[str], bool], None], tuple[str, ...]], ...] = (
    (_addresses(False), ("-s", "--source", "--src-range")),
    (_addresses(True), ("-d", "--destination", "--dst-range")),
    (_protocol, ("-p", "--protocol")),
    (_ports, ("--dport", "--dports")),
    (_from_port, ("--sport", "--sports")),
    (_type, ("--icmp-type", "--icmpv6-type")),
    (_states, ("--ctstate", "--state")),
    (_interface, ("-i", "--in-interface", "-o", "--out-interface")),
    (_jump, ("-j", "--jump")),
    (_go, ("-g", "--goto")),
    (_module, ("-m", "--match")),
    (_comment, ("--comment",)),
    (_kind, ("--dst-type",)),
    (_hops, ("--hl-eq",)),
    (_route, ("--rt-type",)),
    (_no_matter, ("--reject-with",)),
)
_READERS = {name: reader for reader, names in _OPTIONS for name in names}
