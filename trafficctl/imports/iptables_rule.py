"""One rule of iptables, option by option."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from trafficctl.imports import words
from trafficctl.imports.rule import ALL_INTERFACES, NO_PORTS, OWN_ADDRESS, SOURCE_PORT, Place, Said
from trafficctl.imports.ruleset import ACCEPT, DROP, RETURN, Line, Unsaid
from trafficmond.services import Places

_TARGETS = {"ACCEPT": ACCEPT, "DROP": DROP, "REJECT": DROP, "RETURN": RETURN}
_MODULES = (
    *("tcp", "udp", "icmp", "icmp6", "icmpv6", "conntrack", "state", "comment", "multiport", "iprange", "addrtype"),
    *("hl", "rt"),
)


@dataclass(frozen=True, slots=True)
class Context(Place):
    """Where a rule stands. `chains`: how the chains that it may jump to are called, by the name that it says."""

    family: int
    chains: dict[str, str]


@dataclass(slots=True)
class _Said(Said):
    egress: bool = False
    protocols: Places = ()
    protocol: str = ""
    but_protocol: bool = False
    never: bool = False  # no packet to or from this host itself fits
    many: bool = False  # ... but one to a group or to all may
    unsaid: Unsaid | None = None  # the first of its conditions that rules do not have
    target: str = ""
    goes: bool = False


def read(context: Context, arguments: Sequence[str]) -> Line | None:
    """The line of a rule; None where it changes nothing. Raises Unsaid."""
    said = _Said(context.family, egress=context.egress)
    _conditions(said, arguments)
    return _line(context, said)


def _line(context: Context, said: _Said) -> Line | None:
    if said.loopback or (said.never and not said.many):
        return None  # what it says of its own interface holds here anyhow: that is not watched
    target = _TARGETS.get(said.target) or context.chains.get(said.target)
    if target is None:
        raise Unsaid(f"{said.target} is not an action of rules")
    if said.many:
        if target == RETURN:
            return None
        raise Unsaid("rules cannot match multicast or broadcast")
    of_all = not (said.addresses or said.services or said.protocols)
    if said.protocols:
        said.services.append((said.protocols, said.but_protocol))
    begins = context.begins(said.states, target, of_all=of_all)
    if said.always_accepted(target):
        return None
    if said.unsaid:
        raise said.unsaid
    if said.source_port:
        raise Unsaid(SOURCE_PORT)
    return said.line(context, target, goes=said.goes) if begins else None


def _conditions(said: _Said, arguments: Sequence[str]) -> None:
    words_left = iter(arguments)
    but = False
    for word in words_left:
        if word == "!":
            but = True
            continue
        reader = _READERS.get(word)
        if reader is None:
            raise said.unsaid or Unsaid(f"{word} is not known to rules")
        try:
            reader(said, words_left, but)
        except StopIteration:
            raise Unsaid("it ends too soon") from None
        except Unsaid as unsaid:
            said.unsaid = said.unsaid or unsaid
        but = False


def _addresses(destination: bool) -> Callable[[_Said, Iterator[str], bool], None]:
    def read_them(said: _Said, rest: Iterator[str], but: bool) -> None:
        found = words.addresses(next(rest).split(","))
        if any(network.prefixlen == 0 for network in found) and not but:
            return
        if said.egress != destination:
            raise Unsaid(OWN_ADDRESS)
        said.addresses.append((found, but))

    return read_them


def _protocol(said: _Said, rest: Iterator[str], but: bool) -> None:
    said.protocol = next(rest).lower()
    said.protocols, said.but_protocol = words.protocol(said.protocol), but
    if said.protocols == words.EVERYTHING:
        said.protocols = ()


def _ports(said: _Said, rest: Iterator[str], but: bool) -> None:
    text = next(rest)
    if said.protocol not in ("tcp", "udp", "6", "17") or said.but_protocol:
        raise Unsaid(NO_PORTS)
    name = {"6": "tcp", "17": "udp"}.get(said.protocol, said.protocol)
    said.services.append((words.ports([name], text.split(",")), but))


def _from_port(said: _Said, rest: Iterator[str], _: bool) -> None:
    next(rest)
    said.source_port = True


def _type(said: _Said, rest: Iterator[str], but: bool) -> None:
    said.services.append((words.types(said.family, [next(rest)]), but))


def _states(said: _Said, rest: Iterator[str], but: bool) -> None:
    if but:
        raise Unsaid("rules cannot match a negated connection state")
    said.states = frozenset(next(rest).split(","))


def _interface(said: _Said, rest: Iterator[str], but: bool) -> None:
    name = next(rest)
    if name != "lo" or but:
        if name == "lo":
            return  # all but what is not watched
        raise Unsaid(ALL_INTERFACES)
    said.loopback = True


def _jump(said: _Said, rest: Iterator[str], _: bool) -> None:
    said.target = next(rest)


def _go(said: _Said, rest: Iterator[str], _: bool) -> None:
    said.target, said.goes = next(rest), True


def _module(_said: _Said, rest: Iterator[str], _: bool) -> None:
    name = next(rest)
    if name not in _MODULES:
        raise Unsaid(f"rules have no {name}")


def _comment(said: _Said, rest: Iterator[str], _: bool) -> None:
    said.label = next(rest)


def _kind(said: _Said, rest: Iterator[str], but: bool) -> None:
    """Packets to this host itself are neither to a group nor to all."""
    said.many = said.never = (next(rest) != "LOCAL") != but
    if said.egress:
        raise Unsaid("rules cannot match address types")


def _route(said: _Said, rest: Iterator[str], but: bool) -> None:
    """Linux takes no packet with a routing header of type 0 (RFC 5095)."""
    if next(rest) != "0" or but:
        raise Unsaid("rules cannot match routing headers")
    said.never = True


def _skip(count: int) -> Callable[[_Said, Iterator[str], bool], None]:
    def read_them(_: _Said, rest: Iterator[str], __: bool) -> None:
        for _number in range(count):
            next(rest)

    return read_them


def _hops(said: _Said, rest: Iterator[str], _: bool) -> None:
    """Of neighbours' packets, which are never dropped; for others it would matter."""
    next(rest)
    if not any(words.never_dropped(places) for places, _but in said.services):
        raise Unsaid("rules cannot match hop limits")


_READERS: dict[str, Callable[[_Said, Iterator[str], bool], None]] = {
    "-s": _addresses(False),
    "--source": _addresses(False),
    "-d": _addresses(True),
    "--destination": _addresses(True),
    "--src-range": _addresses(False),
    "--dst-range": _addresses(True),
    "-p": _protocol,
    "--protocol": _protocol,
    "--dport": _ports,
    "--dports": _ports,
    "--sport": _from_port,
    "--sports": _from_port,
    "--icmp-type": _type,
    "--icmpv6-type": _type,
    "--ctstate": _states,
    "--state": _states,
    "-i": _interface,
    "--in-interface": _interface,
    "-o": _interface,
    "--out-interface": _interface,
    "-j": _jump,
    "--jump": _jump,
    "-g": _go,
    "--goto": _go,
    "-m": _module,
    "--match": _module,
    "--comment": _comment,
    "--dst-type": _kind,
    "--hl-eq": _hops,
    "--rt-type": _route,
    "--reject-with": _skip(1),
}
