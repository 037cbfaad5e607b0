"""Translates from first match to longest prefix: computes rules that decide like the chains.

Every prefix that a line names begins a region: its addresses without those of longer named prefixes. All addresses of a
region match the same lines, so each chain is walked once for each region, with all services at the same time. A region
needs rules only for the services for which it decides otherwise than the region around it.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from trafficctl.exits import UsageError
from trafficctl.imports import words
from trafficctl.imports.ruleset import ACCEPT, DROP, RETURN, Base, Line, Note, Ruleset
from trafficmond import abi, services
from trafficmond.dataclass import dataclass, replace
from trafficmond.networks import Network
from trafficmond.services import Places

_DEEPEST = 256  # nested calls of chains
_MOST_STEPS = 50_000_000  # about a minute
_OWN_PORTS = services.parse(["32768-60999"])  # the ephemeral ports of Linux
_SOME_ANSWERS = (
    "in that firewall some replies to this host's connections pass; here all pass, or none with established = false"
)
_ROOTS: dict[int, Network] = {4: ipaddress.ip_network("0.0.0.0/0"), 6: ipaddress.ip_network("::/0")}


@dataclass(frozen=True, slots=True)
class Decided:
    """A rule of ours; `places` () is all services."""

    cidrs: tuple[str, ...]
    egress: bool
    action: str
    places: Places
    line: Line | None  # the line that decides; None: the policy of a chain


@dataclass(frozen=True, slots=True)
class Verdict:
    """The action for some services, and the line that decides it."""

    mask: int
    action: str
    line: Line | None


class Atoms:
    """The services that lines name, cut so that each line names whole pieces. A set of pieces is a number of bits.

    The last piece stands for all services that no line names.
    """

    def __init__(self, named: Iterable[Places]) -> None:
        edges = {0, abi.WHAT_FRAGMENT}
        for places in named:
            for first, last in places:
                edges |= {first, last + 1}
        order = sorted(edges)
        self.pieces = [(first, past - 1) for first, past in pairwise(order)]
        self._start = {first: number for number, (first, _) in enumerate(self.pieces)}
        self._end = {last: number for number, (_, last) in enumerate(self.pieces)}
        self.named = 0
        for places in named:
            self.named |= self.mask(places)
        self.rest = 1 << len(self.pieces)
        self.all = self.named | self.rest

    def mask(self, places: Places) -> int:
        """The pieces of a set of services."""
        bits = 0
        for first, last in places:
            low, high = self._start[first], self._end[last]
            bits |= (1 << high + 1) - (1 << low)
        return bits

    def places(self, mask: int) -> Places:
        """The services of named pieces."""
        found = (piece for number, piece in enumerate(self.pieces) if mask >> number & 1)
        return services.merged(services.without_unread(tuple(found)))


def decide(ruleset: Ruleset) -> tuple[str, list[Decided]]:
    """The default for incoming packets, and the rules. Raises ControlError if chains call each other without end."""
    lines = [line for chain in ruleset.chains.values() for line in chain]
    _note_lines(ruleset, lines)
    named = [places for line in lines for places, _ in line.services]
    atoms = Atoms(list(dict.fromkeys(named)))
    found: list[tuple[Network, bool, str, int, Line | None]] = []
    default = ACCEPT
    for egress in (False, True):
        outside = ACCEPT
        for family in ruleset.families:
            mine = [base for base in ruleset.bases if base.egress == egress and family in base.families]
            if not mine:
                continue
            walker = _Walker(ruleset, atoms, family)
            regions = _regions(lines, family)
            verdicts = {region: walker.run(mine, around) for region, around in regions.items()}
            root = _ROOTS[family]
            if not egress and family == ruleset.families[0]:
                default = outside = _of(verdicts[root], atoms.rest).action
            for region, around in regions.items():
                outer = [Verdict(atoms.all, outside, None)] if region == root else verdicts[around[1]]
                found += [(region, egress, *each) for each in _needed(verdicts[region], outer, atoms)]
    if default == DROP and ruleset.some_answers and not ruleset.established:
        ruleset.established = ruleset.some_answers[0]
        ruleset.notes.append(Note(ruleset.established, _SOME_ANSWERS))
    rules = list(_together(found, atoms))
    _note_replies(ruleset, rules)
    return default, rules


def _note_lines(ruleset: Ruleset, lines: Sequence[Line]) -> None:
    """Notes the lines that have no effect, or another one, as rules of ours."""
    for line in lines:
        foreign = {each.version for networks, but in line.addresses if not but for each in networks}
        if line.target not in (ACCEPT, DROP, RETURN) and line.target not in ruleset.chains:
            ruleset.omit(line.where, line.text, f"chain {line.target.split()[-1]} does not exist")
        elif line.family and foreign and line.family not in foreign:
            ruleset.omit(line.where, line.text, f"a rule for IPv{line.family} has an address of the other family")
        elif line.target == DROP and any(words.never_dropped(places) for places, but in line.services if not but):
            ruleset.omit(
                line.where, line.text, "DHCP answers, neighbour discovery and multicast membership messages always pass"
            )


def _note_replies(ruleset: Ruleset, rules: Sequence[Decided]) -> None:
    """Notes the rules that drop replies: with established, replies pass a default of drop, but not a rule."""
    for rule in rules:
        among = any(low <= last and first <= high for first, last in rule.places for low, high in _OWN_PORTS)
        if ruleset.established and rule.action == DROP and not rule.egress and (among or not rule.places):
            where = rule.line.where if rule.line else ruleset.established
            what = "this also drops replies to connections that this host opens"
            ruleset.notes.append(Note(where, what))


def _needed(here: Sequence[Verdict], outer: Sequence[Verdict], atoms: Atoms) -> Iterator[tuple[str, int, Line | None]]:
    """(action, pieces, line) of a region's rules. All pieces: a rule for all services, after which the others come."""
    rest = _of(here, atoms.rest)
    whole = rest.action != _of(outer, atoms.rest).action
    base = [Verdict(atoms.all, rest.action, None)] if whole else outer
    if whole:
        yield rest.action, atoms.all, rest.line
    for each in here:
        mask = each.mask & atoms.named
        for other in base:
            if other.action == each.action:
                mask &= ~other.mask
        if mask:
            yield each.action, mask, each.line


def _of(verdicts: Sequence[Verdict], piece: int) -> Verdict:
    return next(each for each in verdicts if each.mask & piece)


def _together(found: Sequence[tuple[Network, bool, str, int, Line | None]], atoms: Atoms) -> Iterator[Decided]:
    """Joins rules of one line that differ in their prefix only."""
    cidrs: dict[tuple[bool, str, int, Line | None], list[str]] = {}
    for network, egress, action, mask, line in found:
        cidrs.setdefault((egress, action, mask, line), []).append(str(network))
    for (egress, action, mask, line), prefixes in cidrs.items():
        places = () if mask & atoms.rest else atoms.places(mask)
        if places or mask & atoms.rest:
            yield Decided(tuple(prefixes), egress, action, places, line)


def _regions(lines: Sequence[Line], family: int) -> dict[Network, list[Network]]:
    """The named prefixes, wider ones first; with each the prefixes that contain it, the narrowest (itself) first."""
    named = {_ROOTS[family]}
    for line in lines:
        for networks, _ in line.addresses:
            named |= {network for network in networks if network.version == family}
    lengths = sorted({network.prefixlen for network in named}, reverse=True)
    found = {}
    for network in sorted(named, key=lambda each: (each.prefixlen, int(each.network_address))):
        wider = (network.supernet(new_prefix=length) for length in lengths if length < network.prefixlen)
        found[network] = [network, *(each for each in wider if each in named)]
    return found


class _Walker:
    def __init__(self, ruleset: Ruleset, atoms: Atoms, family: int) -> None:
        self._atoms = atoms
        self._around: frozenset[Network] = frozenset()
        self._known: dict[str, tuple[list[Verdict], int]] = {}  # of each chain, for the addresses in all of these
        self._steps = 0
        self._chains = {
            name: [(line, self._mask(line)) for line in chain if line.family in (0, family)]
            for name, chain in ruleset.chains.items()
        }
        self._index = {name: _index(lines) for name, lines in self._chains.items()}

    def _mask(self, line: Line) -> int:
        mask = self._atoms.all
        for places, but in line.services:
            named = self._atoms.mask(places)
            mask &= ~named if but else named
        return mask

    def run(self, bases: Sequence[Base], around: Sequence[Network]) -> list[Verdict]:
        """The verdicts for all services, for addresses that are in all of these prefixes."""
        self._around, self._known = frozenset(around), {}
        alive = [Verdict(self._atoms.all, ACCEPT, None)]
        dropped: list[Verdict] = []
        for base in bases:
            undecided = 0
            for each in alive:
                undecided |= each.mask
            decided, left = self._walk(base.chain)
            verdicts = [*_within(undecided, decided), Verdict(left & undecided, base.policy, None)]
            dropped += [each for each in verdicts if each.action == DROP and each.mask]
            accepted = []
            for each in verdicts:
                if each.action == ACCEPT and each.mask and each.line is None:
                    # Only an earlier base has decided by a line.
                    accepted += [Verdict(before.mask & each.mask, ACCEPT, before.line) for before in alive]
                elif each.action == ACCEPT:
                    accepted.append(each)
            alive = [each for each in accepted if each.mask]
        return [*alive, *dropped]

    def _fitting(self, chain: str) -> list[int]:
        """The lines of a chain that these addresses may match; thousands of lines may be for one address each."""
        general, by_prefix = self._index.get(chain, ([], {}))
        special = [number for network in self._around for number in by_prefix.get(network, ())]
        return sorted({*general, *special}) if special else general

    def _walk(self, chain: str, *above: str) -> tuple[list[Verdict], int]:
        """The verdicts of a chain, which those `above` call, and the services that it does not decide."""
        if chain in self._known:
            return self._known[chain]
        if chain in above or len(above) > _DEEPEST:
            what = "jumps back to itself" if chain in above else f"is more than {_DEEPEST} calls deep"
            raise UsageError(f"chain {chain.split()[-1]} {what}", "correct the file; no rules were printed")
        lines = self._chains.get(chain, [])
        fitting = self._fitting(chain)
        self._steps += len(fitting)
        if self._steps > _MOST_STEPS:
            raise UsageError("there are too many rules with too many prefixes", "give fewer rules")
        done: list[Verdict] = []
        mask, returned = self._atoms.all, 0
        for line, fits in (lines[number] for number in fitting):
            hit = mask & fits
            if not hit or any(self._around.isdisjoint(networks) != but for networks, but in line.addresses):
                continue
            mask &= ~hit
            if line.target in (ACCEPT, DROP):
                done.append(Verdict(hit, line.target, line))
            elif line.target == RETURN:
                returned |= hit
            else:
                decided, left = self._walk(line.target, *above, chain)
                done += _within(hit, decided)
                returned |= left & hit if line.goes else 0
                mask |= 0 if line.goes else left & hit
            if not mask:
                break
        self._known[chain] = done, mask | returned
        return self._known[chain]


def _within(mask: int, verdicts: Iterable[Verdict]) -> list[Verdict]:
    return [replace(each, mask=each.mask & mask) for each in verdicts if each.mask & mask]


def _index(lines: Sequence[tuple[Line, int]]) -> tuple[list[int], dict[Network, list[int]]]:
    """The numbers of the lines without addresses, and by prefix those of the lines that name it first."""
    general: list[int] = []
    by_prefix: dict[Network, list[int]] = {}
    for number, (line, _) in enumerate(lines):
        named = next((networks for networks, but in line.addresses if not but), None)
        if named is None:
            general.append(number)
        for network in named or ():
            by_prefix.setdefault(network, []).append(number)
    return general, by_prefix
