"""iptables-save, ip6tables-save, and the files of ufw, which are of the same format."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trafficctl.imports import words
from trafficctl.imports.ruleset import ACCEPT, DROP, RETURN, Base, Line, Ruleset, Unsaid
from trafficmond.errors import ControlError
from trafficmond.networks import Network
from trafficmond.services import Places

File = tuple[str, str]  # its name, what it holds
_TARGETS = {"ACCEPT": ACCEPT, "DROP": DROP, "REJECT": DROP, "RETURN": RETURN}
_ON = ("LOG", "NFLOG", "ULOG")  # do nothing to the packet
_MODULES = (
    *("tcp", "udp", "icmp", "icmp6", "icmpv6", "conntrack", "state", "comment", "multiport", "iprange", "addrtype"),
    *("hl", "rt"),
)
_UFW = ("before", "user", "after")
_COUNTS = re.compile(r"^\[\d+:\d+\] *")
_NO_RULE = ("#", ":", "COMMIT", "-F", "-N", "-X", "-Z")  # of other tables, or of chains alone
_GIVE = "give what iptables-save prints; for ufw, nft and firewalld use --from"
_NO_PORTS = "rules know the ports of tcp and udp alone"


@dataclass(slots=True)
class _Said:
    """A line's conditions as they are read."""

    egress: bool
    family: int
    protocols: Places = ()
    protocol: str = ""
    but_protocol: bool = False
    addresses: list[tuple[frozenset[Network], bool]] = field(default_factory=list)
    services: list[tuple[Places, bool]] = field(default_factory=list)
    states: frozenset[str] = frozenset()
    loopback: bool = False
    never: bool = False  # no packet to or from this host itself fits
    source_port: bool = False
    unsaid: Unsaid | None = None  # the first of its conditions that rules do not have
    target: str = ""
    goes: bool = False
    label: str = ""


def read(files: Sequence[File]) -> Ruleset:
    """What iptables-save or ip6tables-save printed; each file is of one family."""
    ruleset = Ruleset(families=())
    for name, text in files:
        family = _family(name, text)
        _read(ruleset, name, text, family)
        ruleset.families = tuple(sorted({*ruleset.families, family}))
    if ruleset.families == (4,):
        ruleset.note(files[0][0], "it says nothing of IPv6, for which the default decides; give ip6tables-save as well")
    return ruleset


def read_ufw(files: Sequence[File], settings: str = "") -> Ruleset:
    """ufw's *.rules, in whatever order; `settings` is /etc/default/ufw."""
    ruleset = Ruleset(families=())
    for name, text in files:
        family = 6 if Path(name).name.partition(".")[0].endswith("6") or "ufw6-" in text else 4
        _read(ruleset, name, text, family)
        ruleset.families = tuple(sorted({*ruleset.families, family}))
    policy = {"ACCEPT": ACCEPT}.get(_setting(settings, "DEFAULT_INPUT_POLICY"), DROP)
    for family in ruleset.families:
        prefix = "ufw" if family == 4 else "ufw6"
        for way, egress in (("input", False), ("output", True)):
            parts = [f"{family} {prefix}-{part}-{way}" for part in _UFW]
            chain = f"{family} {way}"
            ruleset.chains[chain] = [Line("ufw", part, part) for part in parts if part in ruleset.chains]
            if ruleset.chains[chain]:
                ruleset.bases.append(Base(chain, egress, ACCEPT if egress else policy, (family,)))
    if not ruleset.bases:
        raise ControlError("these are no rules of ufw", name="usage", hint="give /etc/ufw, or user.rules of it")
    if not any("before" in Path(name).name for name, _ in files):
        ruleset.established = ruleset.established or "ufw"  # before.rules lets replies pass, and lo
    if _setting(settings, "DEFAULT_OUTPUT_POLICY") in ("DROP", "REJECT"):
        ruleset.lose("/etc/default/ufw", "DEFAULT_OUTPUT_POLICY", "a default never silences the host itself")
    return ruleset


def _setting(text: str, key: str) -> str:
    found = re.search(rf'^{key}="?([A-Z]+)', text, re.MULTILINE)
    return found[1] if found else ""


def _family(name: str, text: str) -> int:
    first = text[:200]
    if "ip6tables" in first or Path(name).name.endswith("6") or "v6" in Path(name).name:
        return 6
    return 6 if "ipv6-icmp" in text or re.search(r" -[sd] [0-9a-f]*:[0-9a-f:]", text) else 4


def _read(ruleset: Ruleset, name: str, text: str, family: int) -> None:
    table, forwarded = "filter", 0
    policies: dict[str, str] = {}
    used = False
    for number, raw in enumerate(text.splitlines(), 1):
        line, where = _COUNTS.sub("", raw.strip()), f"{name}:{number}"
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":") and table == "filter":
            chain, _, policy = line[1:].partition(" ")
            policies[chain] = policy.partition(" ")[0]
            ruleset.chains.setdefault(f"{family} {chain}", [])
        elif line.startswith("-A ") or line.startswith("-I "):
            if table != "filter":
                ruleset.lose(where, line, f"{'NAT' if table == 'nat' else f'table {table}'} is not made here")
                continue
            used = True
            chain = line[3:].split()[0] if line[3:].split() else ""
            if "logging" in chain:
                continue
            if chain == "FORWARD" or chain.endswith(("-forward", "-track-forward")):
                forwarded += 1
                if chain == "FORWARD" or "user" in chain:
                    ruleset.lose(where, line, "rules make no difference between what is forwarded and what is not")
                continue
            _add(ruleset, f"{family} {chain}", line, where, family)
        elif line and not line.startswith(_NO_RULE):
            what = f"{where} is not a line of iptables-save: {line[:60]!r}"
            raise ControlError(what, name="usage", hint=_GIVE)
    if not used and not policies:
        what = f"{name} has no rules of iptables"
        raise ControlError(what, name="usage", hint=_GIVE)
    for chain, egress in (("INPUT", False), ("OUTPUT", True)):
        if f"{family} {chain}" in ruleset.chains and chain in policies:
            policy = ACCEPT if policies[chain] == "ACCEPT" else DROP
            if egress and policy == DROP:
                ruleset.lose(name, f":{chain} {policies[chain]}", "a default never silences the host itself")
                policy = ACCEPT
            ruleset.bases.append(Base(f"{family} {chain}", egress, policy, (family,)))


def _add(ruleset: Ruleset, chain: str, text: str, where: str, family: int) -> None:
    egress = "output" in chain.lower()
    try:
        arguments = shlex.split(text)[2:]
    except ValueError as error:
        raise ControlError(f"{where}: {error}", name="usage") from None
    said = _Said(egress, family)
    ends = [arguments[at + 1] for at, word in enumerate(arguments[:-1]) if word in ("-j", "--jump", "-g", "--goto")]
    if not ends or ends[0] in _ON or "logging" in ends[0]:
        return
    try:
        _conditions(said, arguments)
        kept = _line(ruleset, said, text, where)
    except Unsaid as unsaid:
        if not _is_limit_of_ufw(text):
            ruleset.lose(where, text, str(unsaid))
        elif "ufw-user-limit" in text:
            ruleset.lose(where, text, "new connections in a time are not counted; see the detector brute_force")
        return
    if kept is not None:
        ruleset.chains.setdefault(chain, []).append(kept)


def _is_limit_of_ufw(text: str) -> bool:
    return "-m recent" in text and "ufw" in text


def _line(ruleset: Ruleset, said: _Said, text: str, where: str) -> Line | None:
    """The line, or None where it changes nothing."""
    if said.loopback or said.never:
        return None  # what it says of its own interface holds here anyhow: that is not watched
    target = _TARGETS.get(said.target) or f"{said.family} {said.target}"
    if said.target not in _TARGETS and target not in ruleset.chains:
        raise Unsaid(f"{said.target} is nothing that rules do")
    places = said.services[:]
    if said.protocols:
        places.append((said.protocols, said.but_protocol))
    fits_state = _state(ruleset, said, target, where)
    named = [each for each, but in places if not but]
    if target == ACCEPT and any(words.never_dropped(each) for each in named):
        return None
    if said.unsaid:
        raise said.unsaid
    if said.source_port:
        raise Unsaid("rules do not look at the port that a packet comes from")
    if not fits_state:
        return None
    return Line(where, text, target, said.goes, said.family, tuple(said.addresses), tuple(places), said.label)


def _state(ruleset: Ruleset, said: _Said, target: str, where: str) -> bool:
    """Whether packets that begin a conversation fit, which rules of ours are for."""
    states = said.states - {"UNTRACKED", "SNAT", "DNAT"}
    if not said.states or "NEW" in states:
        return True
    if states & {"ESTABLISHED", "RELATED"}:
        if target == ACCEPT and not said.addresses and not said.services:
            ruleset.established = ruleset.established or where
            return False
        if target in (ACCEPT, RETURN):
            return False  # replies of some services: they pass here with all others
        raise Unsaid("what belongs to a conversation is not dropped by itself")
    if states == {"INVALID"}:
        if target == DROP:
            ruleset.note(where, "packets that fit no conversation are judged as all others")
        return False
    raise Unsaid("its connection states are not known here")


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
            raise Unsaid("rules do not look at this host's own address")
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
        raise Unsaid(_NO_PORTS)
    name = {"6": "tcp", "17": "udp"}.get(said.protocol, said.protocol)
    said.services.append((words.ports([name], text.split(",")), but))


def _from_port(said: _Said, rest: Iterator[str], _: bool) -> None:
    next(rest)
    said.source_port = True


def _type(said: _Said, rest: Iterator[str], but: bool) -> None:
    said.services.append((words.types(said.family, [next(rest)]), but))


def _states(said: _Said, rest: Iterator[str], but: bool) -> None:
    if but:
        raise Unsaid("it is for all connection states but some")
    said.states = frozenset(next(rest).split(","))


def _interface(said: _Said, rest: Iterator[str], but: bool) -> None:
    name = next(rest)
    if name != "lo" or but:
        if name == "lo":
            return  # all but what is not watched
        raise Unsaid("rules are for all interfaces")
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
    said.never = (next(rest) != "LOCAL") != but
    if said.egress:
        raise Unsaid("rules do not look at kinds of addresses")


def _route(said: _Said, rest: Iterator[str], but: bool) -> None:
    """Linux takes no packet with a routing header of type 0 (RFC 5095)."""
    if next(rest) != "0" or but:
        raise Unsaid("rules do not look at routing headers")
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
        raise Unsaid("rules do not look at hop limits")


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
