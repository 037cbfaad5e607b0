"""Reads one rule of iptables, option by option."""

from collections.abc import Callable, Sequence
from functools import partial

from trafficctl.imports import words
from trafficctl.imports.rule import ALL_INTERFACES, NO_PORTS, OWN_ADDRESS, SOURCE_PORT, Conditions, Place, states
from trafficctl.imports.ruleset import ACCEPT, DROP, RETURN, Line, Unsupported
from trafficmond.dataclass import dataclass
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
class _Rule(Conditions):
    """A rule while it is read. The methods with `text` and `but` read one option each: its value; if it follows "!"."""

    egress: bool = False
    protocols: Places = ()
    protocol: str = ""
    but_protocol: bool = False
    never: bool = False  # matches no packet to or from this host
    many: bool = False  # ... except to a multicast or broadcast address
    unsupported: Unsupported | None = None  # the first of its conditions that rules do not have
    target: str = ""
    goes: bool = False

    def read(self, arguments: Sequence[str]) -> None:
        rest = iter(arguments)
        but = False
        for word in rest:
            if word == "!":
                but = True
                continue
            reader = _READERS.get(word)
            if reader is None:
                raise self.unsupported or Unsupported(f"{word} is not supported in rules")
            if (text := next(rest, None)) is None:
                raise Unsupported("it is incomplete")
            try:
                reader(self, text, but)
            except Unsupported as unsupported:
                self.unsupported = self.unsupported or unsupported
            but = False

    def line_in(self, context: Context) -> Line | None:
        if self.loopback or (self.never and not self.many):
            return None  # the loopback interface is not filtered
        target = _TARGETS.get(self.target) or context.chains.get(self.target)
        if target is None:
            raise Unsupported(f"{self.target} is not an action of rules")
        if self.many:
            if target == RETURN:
                return None
            raise Unsupported("rules cannot match multicast or broadcast")
        of_all = not (self.addresses or self.services or self.protocols)
        if self.protocols:
            self.services.append((self.protocols, self.but_protocol))
        begins = context.begins(self.states, target, of_all=of_all)
        if self.always_accepted(target):
            return None
        if self.unsupported:
            raise self.unsupported
        if self.source_port:
            raise Unsupported(SOURCE_PORT)
        return self.line(context, target, goes=self.goes) if begins else None

    def _end(self, text: str, but: bool, *, source: bool) -> None:
        found = words.addresses(text.split(","))
        if any(network.prefixlen == 0 for network in found) and not but:
            return
        if source == self.egress:
            raise Unsupported(OWN_ADDRESS)
        self.addresses.append((found, but))

    def _protocol(self, text: str, but: bool) -> None:
        self.protocol = text.lower()
        self.protocols, self.but_protocol = words.protocol(self.protocol), but
        if self.protocols == words.EVERYTHING:
            self.protocols = ()

    def _ports(self, text: str, but: bool) -> None:
        name = {"6": "tcp", "17": "udp"}.get(self.protocol, self.protocol)
        if name not in ("tcp", "udp") or self.but_protocol:
            raise Unsupported(NO_PORTS)
        self.services.append((words.ports([name], text.split(",")), but))

    def _from_port(self, *_: object) -> None:
        self.source_port = True

    def _type(self, text: str, but: bool) -> None:
        self.services.append((words.types(self.family, [text]), but))

    def _states(self, text: str, but: bool) -> None:
        self.states = states([text], but)

    def _interface(self, text: str, but: bool) -> None:
        if text != "lo":
            raise Unsupported(ALL_INTERFACES)
        self.loopback = not but  # "! lo": all interfaces except loopback, which is not filtered

    def _jump(self, text: str, _: bool, *, goes: bool) -> None:
        self.target, self.goes = text, goes

    def _module(self, text: str, _: bool) -> None:
        if text not in _MODULES:
            raise Unsupported(f"rules have no {text}")

    def _comment(self, text: str, _: bool) -> None:
        self.label = text

    def _kind(self, text: str, but: bool) -> None:
        """Reads --dst-type; incoming packets that are not multicast or broadcast are LOCAL."""
        self.many = self.never = (text != "LOCAL") != but
        if self.egress:
            raise Unsupported("rules cannot match address types")

    def _route(self, text: str, but: bool) -> None:
        """Reads --rt-type; Linux accepts no packet with a routing header of type 0 (RFC 5095)."""
        if text != "0" or but:
            raise Unsupported("rules cannot match routing headers")
        self.never = True

    def _hops(self, *_: object) -> None:
        """Reads --hl-eq. It has no effect for neighbour discovery, which is never dropped; else it is not supported."""
        if not any(words.never_dropped(places) for places, _but in self.services):
            raise Unsupported("rules cannot match hop limits")


def read(context: Context, arguments: Sequence[str]) -> Line | None:
    """The line for a rule; None if the rule has no effect. Raises Unsupported."""
    rule = _Rule(context.family, egress=context.egress)
    rule.read(arguments)
    return rule.line_in(context)


_OPTIONS: tuple[tuple[Callable[[_Rule, str, bool], None], tuple[str, ...]], ...] = (
    (partial(_Rule._end, source=True), ("-s", "--source", "--src-range")),
    (partial(_Rule._end, source=False), ("-d", "--destination", "--dst-range")),
    (_Rule._protocol, ("-p", "--protocol")),
    (_Rule._ports, ("--dport", "--dports")),
    (_Rule._from_port, ("--sport", "--sports")),
    (_Rule._type, ("--icmp-type", "--icmpv6-type")),
    (_Rule._states, ("--ctstate", "--state")),
    (_Rule._interface, ("-i", "--in-interface", "-o", "--out-interface")),
    (partial(_Rule._jump, goes=False), ("-j", "--jump")),
    (partial(_Rule._jump, goes=True), ("-g", "--goto")),
    (_Rule._module, ("-m", "--match")),
    (_Rule._comment, ("--comment",)),
    (_Rule._kind, ("--dst-type",)),
    (_Rule._hops, ("--hl-eq",)),
    (_Rule._route, ("--rt-type",)),
    (lambda *_: None, ("--reject-with",)),
)
_READERS = {name: reader for reader, names in _OPTIONS for name in names}
