"""One rule of another firewall: what the readers for iptables and nft have in common."""

from collections.abc import Iterable, Set

from trafficctl.imports import words
from trafficctl.imports.ruleset import ACCEPT, DROP, RETURN, Line, Ruleset, Unsupported
from trafficmond.dataclass import dataclass, field
from trafficmond.networks import Network
from trafficmond.services import Places

NO_PORTS = "rules match ports of tcp and udp only"
OWN_ADDRESS = "rules cannot match this host's own address"
SOURCE_PORT = "rules cannot match source ports"
ALL_INTERFACES = "rules apply to all interfaces"
STATES = "rules cannot match its connection states"
_STATES = frozenset(("new", "established", "related", "invalid", "untracked"))


def states(named: Iterable[str], but: bool) -> frozenset[str]:
    """The connection states that a rule matches: the named ones, or all others. Raises Unsupported."""
    found = frozenset(state.lower() for text in named for state in text.split(","))
    if but and not found < _STATES:  # none at all would be a rule without this condition
        raise Unsupported(STATES)
    return _STATES - found if but else found


@dataclass(frozen=True, slots=True)
class Place:
    ruleset: Ruleset
    where: str
    text: str
    egress: bool

    def begins(self, states: Set[str], target: str, *, of_all: bool) -> bool:
        """Whether a rule with these connection states matches packets that begin a conversation, as rules of ours do.

        `of_all`: the rule has no other conditions. Raises Unsupported.
        """
        known = states - {"untracked", "snat", "dnat"}
        if not states or "new" in known:
            return True
        if known & {"established", "related"}:
            if target == ACCEPT:
                self.ruleset.answers(self.where, of_all=of_all)
            if target in (ACCEPT, RETURN):
                return False
            raise Unsupported("packets of a known connection cannot be dropped separately")
        if known == {"invalid"}:
            if target == DROP:
                self.ruleset.note(self.where, "packets that belong to no connection are treated like all others")
            return False
        raise Unsupported(STATES)


@dataclass(slots=True)
class Conditions:
    family: int = 0
    addresses: list[tuple[frozenset[Network], bool]] = field(default_factory=list)
    services: list[tuple[Places, bool]] = field(default_factory=list)
    states: frozenset[str] = frozenset()
    loopback: bool = False
    source_port: bool = False
    label: str = ""

    def line(self, place: Place, target: str, *, goes: bool = False) -> Line:
        shape = self.family, tuple(self.addresses), tuple(self.services), self.label
        return Line(place.where, place.text, target, goes, *shape)

    def always_accepted(self, target: str) -> bool:
        """Whether the rule accepts services that rules of ours never drop."""
        return target == ACCEPT and any(words.never_dropped(places) for places, but in self.services if not but)
