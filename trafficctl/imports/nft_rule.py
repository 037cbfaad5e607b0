"""Reads one rule of nft, word by word."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from trafficctl.imports import words
from trafficctl.imports.rule import ALL_INTERFACES, NO_PORTS, OWN_ADDRESS, SOURCE_PORT, Conditions, Place, states
from trafficctl.imports.ruleset import ACCEPT, DROP, RETURN, Line, Unsupported
from trafficmond.dataclass import dataclass, field
from trafficmond.services import Places

_VERDICTS = {"accept": ACCEPT, "drop": DROP, "reject": DROP, "return": RETURN}
_HIDDEN = re.compile(r"#.*\b(accept|drop|reject|return|jump|goto|queue|counter)\b")
_ELEMENT_OPTIONS = ("timeout", "expires", "comment", "counter", "packets", "bytes")


@dataclass(slots=True)
class Names:
    """The names that a rule may use: variables, and the sets of its table; None: a set that packets fill."""

    defined: dict[str, list[str]]
    sets: dict[str, list[str] | None]


@dataclass(frozen=True, slots=True)
class Context(Place):
    families: tuple[int, ...]
    names: Names


def expanded(texts: Sequence[str], names: Names) -> list[str]:
    """The words, with the values of variables in place of their names."""
    found: list[str] = []
    for text in texts:
        if text.startswith("$") and text[1:] in names.defined:
            found += names.defined[text[1:]]
        else:
            found.append(text)
    return found


def elements(texts: Sequence[str]) -> list[str]:
    """The members of a set in braces, without their options."""
    members: list[str] = []
    current: list[str] = []
    for text in [*texts, ","]:
        if text in ("{", "}"):
            continue
        if text == ",":
            if current:
                members.append(_member(current))
            current = []
        else:
            current.append(text)
    return members


def _member(texts: Sequence[str]) -> str:
    ends = next((at for at, text in enumerate(texts) if text in _ELEMENT_OPTIONS), len(texts))
    return "".join(texts[:ends]).strip('"') if "-" in texts[:ends] else " ".join(texts[:ends]).strip('"')


def read(context: Context, texts: Sequence[str], chains: str) -> list[Line]:
    """The lines for a rule, none if it has no effect. `chains`: the prefix of its chains' names. Raises Unsupported."""
    rule = _Rule(context=context)
    rest = iter(expanded(texts, context.names))
    for word in rest:
        rule.read(word, rest)
    return rule.lines(chains)


@dataclass(slots=True)
class _Rule(Conditions):
    """A rule while it is read. The methods with `rest`, the words after the first, read one condition or statement."""

    context: Context = field(kw_only=True)
    protocols: list[str] = field(default_factory=list)
    limited: bool = False
    verdicts: list[tuple[str, bool]] = field(default_factory=list)  # target, and whether it is a goto
    by_state: list[tuple[str, str]] = field(default_factory=list)  # of a vmap

    def lines(self, chains: str) -> list[Line]:
        if not self.verdicts and not self.by_state:
            if _HIDDEN.search(self.context.text):
                raise Unsupported("nft shows a part of this rule only as a comment")
            return []
        target, goes = self.verdicts[0] if self.verdicts else (ACCEPT, False)
        if target not in (ACCEPT, DROP, RETURN):
            target = f"{chains} {target}"
        if self.loopback:
            return []  # the loopback interface is not filtered
        if not self.by_state and self.always_accepted(target):
            return []
        of_all = not (self.addresses or self.services or self.source_port or self.family)
        begins = bool(self.by_state) or self.context.begins(self.states, target, of_all=of_all)
        if self.source_port and begins:
            raise Unsupported(SOURCE_PORT)
        if self.limited:
            raise Unsupported("rules have no rate for all sources together")
        if self.by_state:
            return self._lines_by_state()
        return [self.line(self.context, target, goes=goes)] if begins else []

    def _lines_by_state(self) -> list[Line]:
        found = []
        of_all = not (self.services or self.addresses)
        for state, verdict in self.by_state:
            if state == "new":
                found.append(self.line(self.context, verdict))
            elif (state, verdict) in (("established", ACCEPT), ("invalid", DROP)):
                self.context.begins({state}, verdict, of_all=of_all)
            elif state not in ("related", "untracked"):
                raise Unsupported(f"connection state {state}")
        return found

    def read(self, word: str, rest: Iterator[str]) -> None:
        """Reads one condition or statement, which begins with `word`."""
        if word in _VERDICTS:
            self.verdicts.append((_VERDICTS[word], False))
            if word == "reject":
                list(rest)  # the kind of rejection has no effect here
        elif word in ("jump", "goto"):
            self.verdicts.append((next(rest), word == "goto"))
        elif word in _READERS:
            _READERS[word](self, rest)
        elif word != "continue":
            raise Unsupported(f"{word} is not supported in rules")

    def _values(self, rest: Iterator[str]) -> tuple[list[str], bool]:
        """The values of a condition, and whether it is negated."""
        word, but = next(rest), False
        if word in ("!=", "=="):
            but = word == "!="
            word = next(rest)
        if word.startswith("@"):
            members = self.context.names.sets.get(word[1:])
            if members is None:
                raise Unsupported(f"the set {word} is filled by packets, or is not of this table")
            return members, but
        if word == "{":
            inside, depth = ["{"], 1
            while depth:
                text = next(rest)
                depth += {"{": 1, "}": -1}.get(text, 0)
                inside.append(text)
            if ":" in inside:
                raise Unsupported("a map of verdicts")
            return elements(expanded(inside, self.context.names)), but
        if word in ("<", ">", "<=", ">=", "&", "and", "vmap"):
            raise Unsupported(f"{word} is not supported in rules")
        return [word.strip('"')], but

    def _address(self, rest: Iterator[str], *, family: int) -> None:
        what = next(rest)
        self.family = family
        if what in ("protocol", "nexthdr"):
            self._protocols(rest)
            return
        if what not in ("saddr", "daddr"):
            raise Unsupported(f"{what} of IP is not supported in rules")
        values, but = self._values(rest)
        if (what == "daddr") != self.context.egress:
            raise Unsupported(OWN_ADDRESS)
        self.addresses.append((words.addresses(values), but))

    def _protocols(self, rest: Iterator[str]) -> None:
        values, but = self._values(rest)
        if not but:
            self.protocols = values
        found: Places = tuple(sorted(place for value in values for place in words.protocol(value)))
        self.services.append((found, but))

    def _port(self, rest: Iterator[str], *, of: Sequence[str] = ()) -> None:
        what = next(rest)
        names = of or self.protocols
        if what == "sport":
            self._values(rest)
            self.source_port = True
            return
        if what != "dport":
            raise Unsupported(f"{what} is not supported in rules")
        if not names or not {"tcp", "udp"}.issuperset(names):
            raise Unsupported(NO_PORTS)
        values, but = self._values(rest)
        if but:  # all other ports of that protocol
            self.services.append((words.ports(names, ["0-65535"]), False))
        self.services.append((words.ports(names, values), but))

    def _type(self, rest: Iterator[str], *, family: int) -> None:
        what = next(rest)
        if what != "type":
            raise Unsupported(f"{what} of ICMP is not supported in rules")
        values, but = self._values(rest)
        if but:
            raise Unsupported("a rule can name the ICMP types that it matches, but not those that it does not match")
        self.family = self.family or family
        self.services.append((words.types(family, values), False))

    def _state(self, rest: Iterator[str]) -> None:
        if next(rest) != "state":
            raise Unsupported("of all ct conditions, rules can match ct state only")
        word = next(rest)
        if word == "vmap":
            self.by_state = _verdict_map(rest)
            return
        but = word == "!="
        word = next(rest) if word in ("!=", "==") else word
        if word == "{":
            self.states = states((each for each in iter(rest.__next__, "}") if each != ","), but)
            return
        found, after = [word], ""
        for after in rest:
            if after != ",":
                break
            found.append(next(rest))
        self.states = states(found, but)
        if after not in ("", ","):
            self.read(after, rest)

    def _interface(self, rest: Iterator[str]) -> None:
        values, but = self._values(rest)
        if values != ["lo"]:
            raise Unsupported(ALL_INTERFACES)
        self.loopback = not but

    def _meta(self, rest: Iterator[str]) -> None:
        what = next(rest)
        if what == "l4proto":
            self._protocols(rest)
        elif what == "nfproto":
            values, but = self._values(rest)
            if but or values not in (["ipv4"], ["ipv6"]):
                raise Unsupported("rules cannot match all families except one")
            self.family = 4 if values == ["ipv4"] else 6
        elif what in _INTERFACES:
            self._interface(rest)
        else:
            raise Unsupported(f"meta {what} is not supported in rules")

    def _with_options(self, rest: Iterator[str], *, options: Sequence[str]) -> None:
        """Reads a statement that decides nothing: passes over these options, each with its value."""
        for word in rest:
            if word not in options:
                self.read(word, rest)
                return
            next(rest)

    def _limit(self, rest: Iterator[str]) -> None:
        self.limited = True
        for word in rest:
            if word == "name":
                next(rest)
            elif word not in ("rate", "over", "burst", "packets", "bytes") and not (word[0].isdigit() or "/" in word):
                self.read(word, rest)
                return

    def _comment(self, rest: Iterator[str]) -> None:
        self.label = next(rest).strip('"')


def _verdict_map(rest: Iterator[str]) -> list[tuple[str, str]]:
    if next(rest) != "{":
        raise Unsupported("named maps are not supported")
    inside = []
    while (word := next(rest)) != "}":
        inside.append(word)
    found = []
    for pair in " ".join(inside).split(","):
        state, _, verdict = (part.strip() for part in pair.partition(":"))
        if verdict not in _VERDICTS:
            raise Unsupported(f"{verdict} in a map")
        found.append((state, _VERDICTS[verdict]))
    return found


_INTERFACES = ("iif", "iifname", "oif", "oifname")
_LOG_OPTIONS = ("prefix", "level", "group", "snaplen", "queue-threshold", "flags")
_READERS: dict[str, Callable[[_Rule, Iterator[str]], None]] = {
    "ip": partial(_Rule._address, family=4),
    "ip6": partial(_Rule._address, family=6),
    "tcp": partial(_Rule._port, of=["tcp"]),
    "udp": partial(_Rule._port, of=["udp"]),
    "th": _Rule._port,
    "icmp": partial(_Rule._type, family=4),
    "icmpv6": partial(_Rule._type, family=6),
    "ct": _Rule._state,
    **dict.fromkeys(_INTERFACES, _Rule._interface),
    "meta": _Rule._meta,
    "counter": partial(_Rule._with_options, options=("packets", "bytes")),
    "log": partial(_Rule._with_options, options=_LOG_OPTIONS),
    "limit": _Rule._limit,
    "comment": _Rule._comment,
}
