"""nft: what `nft list ruleset` prints, and files for nft -f, as far as they say what packets are let in."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from trafficctl.imports import nft_rule
from trafficctl.imports.nft_rule import Names
from trafficctl.imports.ruleset import ACCEPT, DROP, Base, Ruleset, Unsaid
from trafficmond.errors import ControlError

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[{};,=]|!=|==|<=|>=|[^\s{};,="!<>]+|[<>!])')
_DEEPEST = 8  # blocks in blocks
_BASE = re.compile(r"type (\w+) hook (\w+) (?:device \S+ )?priority (.+)")
_OBJECTS = ("helper", "timeout", "expectation")
_FAMILIES = {"inet": (4, 6), "ip": (4,), "ip6": (6,)}


@dataclass(slots=True)
class Statement:
    """A statement: its words, and what stands in its braces, if it is a block."""

    words: list[str]
    line: int
    block: list[Statement] | None = None
    text: str = ""


@dataclass(slots=True)
class _Chain:
    name: str
    families: tuple[int, ...]
    lines: list[Statement]
    names: Names


@dataclass(slots=True)
class _Table:
    name: str
    families: tuple[int, ...]
    names: Names
    chains: list[_Chain] = field(default_factory=list)


def read(files: Sequence[tuple[str, str]]) -> Ruleset:
    """The chains of the input and output hooks, and what they call."""
    ruleset = Ruleset()
    bases: list[tuple[int, Base]] = []
    for name, text in files:
        defined: dict[str, list[str]] = {}
        for table in _tables(ruleset, name, _statements(name, text), defined):
            for chain in table.chains:
                found = _chain(ruleset, name, table, chain)
                if found is not None:
                    bases.append(found)
    if not bases:
        what = f"{files[0][0]} has no chain of the hook input or output"
        raise ControlError(what, name="usage", hint="give what nft list ruleset prints")
    ruleset.bases = [base for _, base in sorted(bases, key=lambda each: each[0])]
    spoken = {family for base in ruleset.bases for family in base.families}
    ruleset.families = tuple(sorted(spoken))
    if spoken == {4}:
        ruleset.note(files[0][0], "it says nothing of IPv6, for which the default decides")
    return ruleset


def _tables(
    ruleset: Ruleset, name: str, statements: Sequence[Statement], defined: dict[str, list[str]]
) -> Iterator[_Table]:
    tables: dict[tuple[str, str], _Table] = {}
    for statement in statements:
        words, where = statement.words, f"{name}:{statement.line}"
        if words[:1] == ["define"] and len(words) > 3:
            defined[words[1]] = nft_rule.expanded(words[3:], Names(defined, {}))
        elif words[:1] == ["table"] and len(words) > 1 and statement.block is not None:
            kind, title = (words[1], words[2]) if len(words) > 2 else ("ip", words[1])
            if kind not in _FAMILIES:
                ruleset.lose(where, statement.text, f"a table of the family {kind} is not made here")
                continue
            made = _Table(title, _FAMILIES[kind], Names(defined, {}))
            table = tables.setdefault((kind, title), made)
            for inner in statement.block:
                _member(ruleset, name, table, inner)
        elif words[:2] in (["flush", "ruleset"], ["delete", "table"], ["flush", "table"], ["add", "table"]):
            continue
        elif words and words[0] not in ("table", "destroy"):
            ruleset.lose(where, statement.text, "only tables with their blocks are read")
    yield from tables.values()


def _member(ruleset: Ruleset, name: str, table: _Table, statement: Statement) -> None:
    words = statement.words
    if words[:1] == ["chain"] and len(words) > 1 and statement.block is not None:
        chain = f"{table.families} {table.name} {words[1]}"
        table.chains.append(_Chain(chain, table.families, statement.block, table.names))
        ruleset.chains.setdefault(chain, [])
    elif words[:1] == ["set"] and len(words) > 1 and statement.block is not None:
        elements = next((each for each in statement.block if each.words[:1] == ["elements"]), None)
        table.names.sets[words[1]] = None
        dynamic = any("dynamic" in each.words for each in statement.block)
        if not dynamic:
            table.names.sets[words[1]] = nft_rule.elements(elements.words[2:] if elements else [])
    elif words[:1] == ["define"] and len(words) > 3:
        table.names.defined[words[1]] = nft_rule.expanded(words[3:], table.names)
    elif words[:1] in (["map"], ["flowtable"], ["ct"], ["counter"], ["quota"], ["limit"], ["synproxy"]):
        return  # whoever uses it is told
    elif words:
        ruleset.lose(f"{name}:{statement.line}", statement.text, "it is nothing that a table holds here")


def _chain(ruleset: Ruleset, name: str, table: _Table, chain: _Chain) -> tuple[int, Base] | None:
    hook, priority, policy = "", 0, ACCEPT
    for statement in chain.lines:
        words = statement.words
        if words[:1] == ["type"]:
            match = _BASE.match(" ".join(words))
            if match is None:
                what = f"{name}:{statement.line}: it does not say its type, hook and priority"
                raise ControlError(what, name="usage", hint="give what nft list ruleset prints")
            kind, hook, priority = match[1], match[2], _priority(match[3].split())
            if kind != "filter" or hook not in ("input", "output"):
                lost = [each for each in chain.lines if each.words[:1] not in (["type"], ["policy"])]
                if lost:
                    what = f"a chain of type {kind}, hook {hook}, is not made here"
                    ruleset.lose(f"{name}:{statement.line}", f"its {len(lost)} rules", what)
                hook = "other"
                break
            if "policy" in words:
                policy = words[-1]
        elif words[:1] == ["policy"]:
            policy = words[-1]
    if hook == "other":
        return None
    egress = hook == "output" or (not hook and chain.name.split()[-1].lower() == "output")
    for statement in chain.lines:
        if not statement.words or statement.words[0] in ("type", "policy", "comment"):
            continue
        where = f"{name}:{statement.line}"
        context = nft_rule.Context(ruleset, where, statement.text, egress, table.families, chain.names)
        try:
            line = nft_rule.read(context, statement.words, f"{table.families} {table.name}")
        except (Unsaid, StopIteration) as unsaid:
            ruleset.lose(where, statement.text, str(unsaid) or "it ends too soon")
            continue
        ruleset.chains[chain.name] += line
    if not hook:
        return None
    if egress and policy == "drop":
        ruleset.lose(f"{name}: {chain.name.split()[-1]}", "policy drop", "a default never silences the host itself")
        policy = ACCEPT
    return priority, Base(chain.name, egress, DROP if policy == "drop" else ACCEPT, table.families)


def _priority(words: Sequence[str]) -> int:
    named = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
    text = "".join(words[:3]) if words[1:2] in (["+"], ["-"]) else words[0]
    match = re.fullmatch(r"([a-z]*)([+-]?\d+)?", text)
    return named.get(match[1], 0) + int(match[2] or 0) if match else 0


# ---- statements ----


def _statements(name: str, text: str) -> list[Statement]:
    found, rest = _block(name, _tokens(text), text.splitlines())
    if rest:
        raise ControlError(f"{name}: a brace too many", name="usage")
    return found


def _tokens(text: str) -> deque[tuple[str, int]]:
    tokens: deque[tuple[str, int]] = deque()
    pending = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = pending + _without_comment(raw)
        pending = ""
        if line.endswith("\\"):
            pending = line[:-1] + " "
            continue
        tokens += [(match[1], number) for match in _TOKEN.finditer(line)]
        tokens.append(("\n", number))
    return tokens


def _without_comment(line: str) -> str:
    quoted = False
    for at, letter in enumerate(line):
        if letter == '"':
            quoted = not quoted
        elif letter == "#" and not quoted:
            return line[:at]
    return line


def _block(
    name: str, tokens: deque[tuple[str, int]], lines: Sequence[str], depth: int = 0
) -> tuple[list[Statement], bool]:
    """Statements up to a brace that closes the block; and whether there was one."""
    found: list[Statement] = []
    words: list[str] = []
    start = 0
    while tokens:
        token, number = tokens.popleft()
        if token in ("\n", ";", "}"):
            if words:
                found.append(Statement(words, start, text=lines[start - 1].strip()))
            words = []
            if token == "}":
                return found, True
            continue
        start = start if words else number
        if token == "{" and words[:1] and words[0] in ("table", "chain", "set", "map", "flowtable", "ct", "counter"):
            if (words[0] == "ct" and words[1] not in _OBJECTS) or (words[0] == "counter" and len(words) != 2):
                words += _braces(name, tokens, start)
                continue
            if depth > _DEEPEST:
                raise ControlError(f"{name}:{start}: braces within braces", name="usage")
            inner, closed = _block(name, tokens, lines, depth + 1)
            if not closed:
                raise ControlError(f"{name}:{start}: the brace is never closed", name="usage")
            found.append(Statement(words, start, inner, lines[start - 1].strip()))
            words = []
        elif token == "{":
            words += _braces(name, tokens, start)
        else:
            words.append(token)
    if words:
        found.append(Statement(words, start, text=lines[start - 1].strip()))
    return found, False


def _braces(name: str, tokens: deque[tuple[str, int]], start: int) -> list[str]:
    """All up to the brace that closes a set, over as many lines as it takes."""
    inside, depth = ["{"], 1
    while depth:
        if not tokens:
            raise ControlError(f"{name}:{start}: the brace is never closed", name="usage")
        token, _ = tokens.popleft()
        if token != "\n":
            inside.append(token)
        depth += {"{": 1, "}": -1}.get(token, 0)
    return inside
