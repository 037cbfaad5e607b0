"""Writes sentences about services that nobody can reach, and about those that only some prefixes can reach. Pure."""

from collections.abc import Collection, Iterable, Sequence

from trafficmond.datapath.lifelines import OWN
from trafficmond.datapath.listeners import Listener
from trafficmond.networks import Network, shown
from trafficmond.policy.admission import Admission, Admissions
from trafficmond.protocols import protocol_name

_NAMED = 6  # services in one sentence
_SOURCES = 4  # prefixes in one sentence
ALL_OPEN = "every service that listens on this host can still be reached"
LET_IN = "let somebody in: trafficctl allow {} from PREFIX --save"


def closed(admitted: Admissions, listeners: Iterable[Listener]) -> list[Listener]:
    """The listeners to which no rule allows new connections."""
    return [
        each
        for each in listeners
        if not any(admitted.to(each.proto, each.port).let_in.get(family, True) for family in each.families)
    ]


def nobody(admitted: Admissions, listeners: Iterable[Listener], over: str = "", spared: str = "") -> str:
    """The sentence on services that no new connection can reach; empty if there are none. `over`: the watched
    interfaces; `spared`: the addresses that can connect nevertheless; both as text."""
    waiting = list(listeners)
    shut = sorted(closed(admitted, waiting), key=_order)
    if not shut:
        return ""
    reached = {(each.proto, each.port) for each in waiting if each not in shut}  # by a socket for the other family
    where = f" over {over}" if over else ""
    but = f" (only {spared} can still connect)" if spared else ""
    # If rules allow some connections, the reason may be a family that they do not cover.
    families = {family for each in shut for family in each.families} if admitted.anybody else set()
    by = f" over IPv{families.pop()}" if len(families) == 1 else ""
    names = services(shut, () if by else reached)
    there = f"{protocol_name(shut[0].proto).lower()}/{shut[0].port}"
    return f"not reachable{where}{by}: {names}; no rule lets a new connection in there{but}; {LET_IN.format(there)}"


def only_from(admitted: Admissions, listeners: Iterable[Listener]) -> list[str]:
    """The sentences on services that only some prefixes can reach."""
    by_source: dict[tuple[tuple[str, ...], int], list[Listener]] = {}
    for each in listeners:
        there = admitted.to(each.proto, each.port)
        sources = tuple(source for family in each.families for source in _sources(there, family))
        if sources and any(family in there.let_in for family in each.families):
            by_source.setdefault((sources, there.more), []).append(each)
    return [
        f"{services(some)}: new connections are allowed only from {listed(sources, _SOURCES, more)}"
        for (sources, more), some in by_source.items()
    ]


def spared_by(guard: Iterable[tuple[str, str]]) -> str:
    """The prefixes of a guard, which can always connect, as text; `guard` has pairs of prefix and kind."""
    return listed([f"{shown(cidr)} ({what})" for cidr, what in guard if what != OWN], _SOURCES)


def services(listeners: Iterable[Listener], partly: Collection[tuple[int, int]] = ()) -> str:
    """ "sshd on tcp/22, nginx on tcp/80 and tcp/443, tcp/9999". Of `partly`, protocols and ports, with the family."""
    by_name: dict[str, list[str]] = {}
    for each in sorted(listeners, key=_order):
        port = f"{protocol_name(each.proto).lower()}/{each.port}"
        if (each.proto, each.port) in partly:
            port += f" over IPv{each.families[0]}"
        ports = by_name.setdefault(each.name or port, [])
        if port not in ports:
            ports.append(port)
    return listed([_on(name, ports) for name, ports in by_name.items()], _NAMED)


def _order(listener: Listener) -> tuple[bool, int, int]:
    """Those with a name come first, then by port: SSH before the web."""
    return not listener.name, listener.port, listener.proto


def listed(texts: Sequence[str], most: int, more: int = 0) -> str:
    """The first `most` texts, and how many more there are."""
    more += max(0, len(texts) - most)
    return ", ".join(texts[:most]) + (f" and {more:,} more" if more else "")


def _on(name: str, ports: Sequence[str]) -> str:
    return name if ports == [name] else f"{name} on {' and '.join(ports)}"


def _sources(admitted: Admission, family: int) -> list[str]:
    let_in: list[Network] | None = admitted.let_in.get(family)
    return [f"anywhere over IPv{family}"] if let_in is None else [shown(each) for each in let_in]
