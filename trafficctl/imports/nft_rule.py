"""Reads one rule of nft, word by word."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from trafficctl.imports import words
from trafficctl.imports.rule import ALL_INTERFACES, NO_PORTS, OWN_ADDRESS, SOURCE_PORT, Conditions, Place
from trafficctl.imports.ruleset import ACCEPT, DROP, RETURN, Line, Unsupported
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
    """The place of a rule."""

    families: tuple[int, ...]
    names: Names


@dataclass(slots=True)
class _Conditions(Conditions):
    protocols: list[str] = field(default_factory=list)
    limited: bool = False
    verdicts: list[tuple[str, bool]] = field(default_factory=list)  # target, and whether it goes
    by_state: list[tuple[str, str]] = field(default_factory=list)  # of a vmap


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
    conditions = _Conditions()
    rest = iter(expanded(texts, context.names))
    for word in rest:
        _one(context, conditions, word, rest)
    if not conditions.verdicts and not conditions.by_state:
        if _HIDDEN.search(context.text):
            raise Unsupported("nft shows a part of this rule only as a comment")
        return []
    target, goes = conditions.verdicts[0] if conditions.verdicts else (ACCEPT, False)
    if target not in (ACCEPT, DROP, RETURN):
        target = f"{chains} {target}"
    if conditions.loopback:
        return []  # the loopback interface is not filtered
    if not conditions.by_state and conditions.always_accepted(target):
        return []
    of_all = not (conditions.addresses or conditions.services or conditions.source_port or conditions.family)
    begins = bool(conditions.by_state) or context.begins(conditions.states, target, of_all=of_all)
    if conditions.source_port and begins:
        raise Unsupported(SOURCE_PORT)
    if conditions.limited:
        raise Unsupported("rules have no rate for all sources together")
    if conditions.by_state:
        return _states_of_map(context, conditions)
    return [conditions.line(context, target, goes=goes)] if begins else []


def _states_of_map(context: Context, conditions: _Conditions) -> list[Line]:
    found = []
    of_all = not (conditions.services or conditions.addresses)
    for state, verdict in conditions.by_state:
        if state == "new":
            found.append(conditions.line(context, verdict))
        elif (state, verdict) in (("established", ACCEPT), ("invalid", DROP)):
            context.begins({state}, verdict, of_all=of_all)
        elif state not in ("related", "untracked"):
            raise Unsupported(f"connection state {state}")
    return found


def _one(context: Context, conditions: _Conditions, word: str, rest: Iterator[str]) -> None:
    """Reads one condition or statement."""
    if word in _VERDICTS:
        conditions.verdicts.append((_VERDICTS[word], False))
        if word == "reject":
            list(rest)  # the kind of rejection has no effect here
        return
    if word in ("jump", "goto"):
        conditions.verdicts.append((next(rest), word == "goto"))
        return
    if word == "continue":
        return
    reader = _READERS.get(word)
    if reader is None:
        raise Unsupported(f"{word} is not supported in rules")
    reader(context, conditions, rest)


def _values(context: Context, rest: Iterator[str]) -> tuple[list[str], bool]:
    """The values of a condition, and whether it is negated."""
    word, but = next(rest), False
    if word in ("!=", "=="):
        but = word == "!="
        word = next(rest)
    if word.startswith("@"):
        members = context.names.sets.get(word[1:])
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
        return elements(expanded(inside, context.names)), but
    if word in ("<", ">", "<=", ">=", "&", "and", "vmap"):
        raise Unsupported(f"{word} is not supported in rules")
    return [word.strip('"')], but


def _address(family: int) -> Callable[[Context, _Conditions, Iterator[str]], None]:
    def read_it(context: Context, conditions: _Conditions, rest: Iterator[str]) -> None:
        what = next(rest)
        conditions.family = family
        if what in ("protocol", "nexthdr"):
            _protocols(context, conditions, rest)
            return
        if what not in ("saddr", "daddr"):
            raise Unsupported(f"{what} of IP is not supported in rules")
        values, but = _values(context, rest)
        if (what == "daddr") != context.egress:
            raise Unsupported(OWN_ADDRESS)
        conditions.addresses.append((words.addresses(values), but))

    return read_it


def _protocols(context: Context, conditions: _Conditions, rest: Iterator[str]) -> None:
    values, but = _values(context, rest)
    found: Places = ()
    for value in values:
        found = (*found, *words.protocol(value))
    if not but:
        conditions.protocols = values
    conditions.services.append((tuple(sorted(found)), but))


def _port(*protocols: str) -> Callable[[Context, _Conditions, Iterator[str]], None]:
    def read_it(context: Context, conditions: _Conditions, rest: Iterator[str]) -> None:
        what = next(rest)
        names = list(protocols) or conditions.protocols
        if what == "sport":
            _values(context, rest)
            conditions.source_port = True
            return
        if what != "dport":
            raise Unsupported(f"{what} is not supported in rules")
        if not names or not {"tcp", "udp"}.issuperset(names):
            raise Unsupported(NO_PORTS)
        values, but = _values(context, rest)
        if but:  # all other ports of that protocol
            conditions.services.append((words.ports(names, ["0-65535"]), False))
        conditions.services.append((words.ports(names, values), but))

    return read_it


def _type(family: int) -> Callable[[Context, _Conditions, Iterator[str]], None]:
    def read_it(context: Context, conditions: _Conditions, rest: Iterator[str]) -> None:
        what = next(rest)
        if what != "type":
            raise Unsupported(f"{what} of ICMP is not supported in rules")
        values, but = _values(context, rest)
        if but:
            raise Unsupported("rules cannot match all ICMP types except some")
        conditions.family = conditions.family or family
        conditions.services.append((words.types(family, values), False))

    return read_it


def _state(context: Context, conditions: _Conditions, rest: Iterator[str]) -> None:
    if next(rest) != "state":
        raise Unsupported("only the state of a connection is known")
    word = next(rest)
    if word == "vmap":
        conditions.by_state = _verdict_map(rest)
        return
    found = []
    if word == "{":
        while (word := next(rest)) != "}":
            found += [] if word == "," else [word]
    else:
        if word == "!=":
            raise Unsupported("rules cannot match a negated connection state")
        found.append(word)
        conditions.states = frozenset(found)
        for word in rest:
            if word == ",":
                found.append(next(rest))
                continue
            conditions.states = frozenset(found)
            _one(context, conditions, word, rest)
            break
    conditions.states = frozenset(each for text in found for each in text.split(","))


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


def _interface(context: Context, conditions: _Conditions, rest: Iterator[str]) -> None:
    values, but = _values(context, rest)
    if values != ["lo"]:
        raise Unsupported(ALL_INTERFACES)
    conditions.loopback = not but


def _meta(context: Context, conditions: _Conditions, rest: Iterator[str]) -> None:
    what = next(rest)
    if what == "l4proto":
        _protocols(context, conditions, rest)
    elif what == "nfproto":
        values, but = _values(context, rest)
        if but or values not in (["ipv4"], ["ipv6"]):
            raise Unsupported("rules cannot match all families except one")
        conditions.family = 4 if values == ["ipv4"] else 6
    elif what in ("iif", "iifname", "oif", "oifname"):
        _interface(context, conditions, rest)
    else:
        raise Unsupported(f"meta {what} is not supported in rules")


def _with_options(*options: str) -> Callable[[Context, _Conditions, Iterator[str]], None]:
    """The reader of a statement that decides nothing: it passes over these options, each with its value."""

    def read_it(context: Context, conditions: _Conditions, rest: Iterator[str]) -> None:
        for word in rest:
            if word not in options:
                _one(context, conditions, word, rest)
                return
            next(rest)

    return read_it


def _limit(context: Context, conditions: _Conditions, rest: Iterator[str]) -> None:
    conditions.limited = True
    for word in rest:
        if word == "name":
            next(rest)
        elif word not in ("rate", "over", "burst", "packets", "bytes") and not (word[0].isdigit() or "/" in word):
            _one(context, conditions, word, rest)
            return


def _comment(_: Context, conditions: _Conditions, rest: Iterator[str]) -> None:
    conditions.label = next(rest).strip('"')


_READERS: dict[str, Callable[[Context, _Conditions, Iterator[str]], None]] = {
    "ip": _address(4),
    "ip6": _address(6),
    "tcp": _port("tcp"),
    "udp": _port("udp"),
    "th": _port(),
    "icmp": _type(4),
    "icmpv6": _type(6),
    "ct": _state,
    "iif": _interface,
    "iifname": _interface,
    "oif": _interface,
    "oifname": _interface,
    "meta": _meta,
    "counter": _with_options("packets", "bytes"),
    "log": _with_options("prefix", "level", "group", "snaplen", "queue-threshold", "flags"),
    "limit": _limit,
    "comment": _comment,
}
