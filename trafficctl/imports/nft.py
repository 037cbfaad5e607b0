"""Reads the output of `nft list ruleset`, and files for nft -f."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise

from trafficctl.exits import UsageError
from trafficctl.imports import nft_rule
from trafficctl.imports.nft_rule import Names
from trafficctl.imports.ruleset import ACCEPT, DROP, FORWARDED, Base, Ruleset, Unsupported, reached
from trafficmond import figures
from trafficmond.dataclass import dataclass, field

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[{};,=]|!=|==|<=|>=|[^\s{};,="!<>]+|[<>!])')
_COMMENT = re.compile(r'((?:[^"#]|"[^"]*"?)*).*')  # what is before a # that is not in quotes, and what follows
_DEEPEST = 8  # nested blocks
_BASE = re.compile(r"type (\w+) hook (\w+) (?:device \S+ )?priority (.+)")
_OBJECTS = (["helper"], ["timeout"], ["expectation"])
_GIVE = "give the output of: nft list ruleset"
_FAMILIES = {"inet": (4, 6), "ip": (4,), "ip6": (6,)}


@dataclass(slots=True)
class Statement:
    """A statement: its words, and the statements of its block, if it has one."""

    words: list[str]
    line: int
    block: list[Statement] | None = None
    text: str = ""


@dataclass(slots=True)
class _Table:
    name: str
    families: tuple[int, ...]
    names: Names
    chains: dict[str, list[Statement]] = field(default_factory=dict)

    def passed(self, first: str) -> list[str]:
        def targets(chain: str) -> Iterator[str]:
            pairs = (pair for statement in self.chains[chain] for pair in pairwise(statement.words))
            return (name for word, name in pairs if word in ("jump", "goto") and name in self.chains)

        return reached([first], targets)


def read(files: Sequence[tuple[str, str]]) -> Ruleset:
    """Reads the chains of the input and output hooks, and the chains that they call."""
    ruleset = Ruleset()
    bases: list[tuple[int, Base]] = []
    for name, text in files:
        for table in _tables(ruleset, name, _statements(name, text)):
            bases += filter(None, (_base(ruleset, name, table, chain) for chain in table.chains))
    if not bases:
        raise UsageError(f"{files[0][0]} has no chain with hook input or output", _GIVE)
    ruleset.bases = [base for _, base in sorted(bases, key=lambda each: each[0])]
    spoken = {family for base in ruleset.bases for family in base.families}
    ruleset.families = tuple(sorted(spoken))
    if len(spoken) == 1:
        ruleset.note(files[0][0], f"it has no rules for IPv{10 - min(spoken)}, so the default decides there")
    return ruleset


def _tables(ruleset: Ruleset, name: str, statements: Sequence[Statement]) -> Iterator[_Table]:
    defined: dict[str, list[str]] = {}
    tables: dict[tuple[str, str], _Table] = {}
    for statement in statements:
        words, where = statement.words, f"{name}:{statement.line}"
        if words[:1] == ["define"] and len(words) > 3:
            defined[words[1]] = nft_rule.expanded(words[3:], Names(defined, {}))
        elif words[:1] == ["table"] and len(words) > 1 and statement.block is not None:
            kind, title = (words[1], words[2]) if len(words) > 2 else ("ip", words[1])
            if kind not in _FAMILIES:
                ruleset.omit(where, statement.text, f"a table of the family {kind} is not supported")
                continue
            if any(each.words[:1] == ["flags"] and "dormant" in each.words for each in statement.block):
                ruleset.omit(where, statement.text, "a dormant table has no effect in nft")
                continue
            table = tables.setdefault((kind, title), _Table(title, _FAMILIES[kind], Names(defined, {})))
            for inner in statement.block:
                _member(ruleset, name, table, inner)
        elif words[:2] in (["flush", "ruleset"], ["delete", "table"], ["flush", "table"], ["add", "table"]):
            continue
        elif words and words[0] not in ("table", "destroy"):
            ruleset.omit(where, statement.text, "only blocks of tables are read: table NAME { ... }")
    yield from tables.values()


def _member(ruleset: Ruleset, name: str, table: _Table, statement: Statement) -> None:
    words = statement.words
    if words[:1] == ["chain"] and len(words) > 1 and statement.block is not None:
        table.chains.setdefault(words[1], []).extend(statement.block)
    elif words[:1] == ["set"] and len(words) > 1 and statement.block is not None:
        elements = next((each for each in statement.block if each.words[:1] == ["elements"]), None)
        table.names.sets[words[1]] = None
        dynamic = any("dynamic" in each.words for each in statement.block)
        if not dynamic:
            table.names.sets[words[1]] = nft_rule.elements(elements.words[2:] if elements else [])
        if not dynamic and elements and any(word in ("timeout", "expires") for word in elements.words):
            ruleset.omit(f"{name}:{statement.line}", statement.text, "in rules, members of this set do not expire")
    elif words[:1] == ["define"] and len(words) > 3:
        table.names.defined[words[1]] = nft_rule.expanded(words[3:], table.names)
    elif words[:1] in (["map"], ["flowtable"], ["ct"], ["counter"], ["quota"], ["limit"], ["synproxy"]):
        return  # a rule that uses it is reported
    elif words:
        ruleset.omit(f"{name}:{statement.line}", statement.text, "this part of a table is not supported")


def _base(ruleset: Ruleset, name: str, table: _Table, chain: str) -> tuple[int, Base] | None:
    """The chain as a base chain, with its priority; None if it is not one, or is of another hook."""
    hook, priority, policy = "", 0, "accept"
    for statement in table.chains[chain]:
        words = nft_rule.expanded(statement.words, table.names)
        if words[:1] == ["type"]:
            match = _BASE.match(" ".join(words))
            if match is None:
                raise UsageError(f"{name}:{statement.line}: the line of the chain needs type, hook and priority", _GIVE)
            kind, hook, priority = match[1], match[2], _priority(match[3].split())
            if kind != "filter" or hook not in ("input", "output"):
                _other_hook(ruleset, f"{name}:{statement.line}", table, chain, f"type {kind} and hook {hook}")
                return None
        elif words[:1] == ["policy"]:
            policy = words[-1]
            if policy not in ("accept", "drop"):
                raise UsageError(f"{name}:{statement.line}: {policy} is not a policy of nft: accept or drop", _GIVE)
    if not hook:
        return None
    egress = hook == "output"
    called = _translate(ruleset, name, table, chain, egress)
    if egress and policy == "drop":
        ruleset.omit(f"{name}: {chain}", "policy drop", "a default never drops the host's own packets")
        policy = "accept"
    return priority, Base(called, egress, DROP if policy == "drop" else ACCEPT, table.families)


def _other_hook(ruleset: Ruleset, where: str, table: _Table, chain: str, what: str) -> None:
    met = table.passed(chain)
    lost = [each for one in met for each in table.chains[one] if each.words[:1] not in (["type"], ["policy"])]
    dropping = any(each.words == ["policy", "drop"] for each in table.chains[chain])
    if lost:
        called = f" (it calls {', '.join(met[1:])})" if len(met) > 1 else ""
        ruleset.omit(
            where, f"all its {figures.many(len(lost), 'rule')}{called}", f"a chain with {what} is not supported"
        )
    elif dropping:
        ruleset.note(where, FORWARDED)


def _translate(ruleset: Ruleset, name: str, table: _Table, first: str, egress: bool) -> str:
    """Adds the chains that packets of a hook pass to the ruleset; returns the new name of the first."""
    prefix = f"{table.families} {table.name} {'output' if egress else 'input'}"
    for chain in table.passed(first):
        lines = ruleset.chains[f"{prefix} {chain}"] = []
        for statement in table.chains[chain]:
            if not statement.words or statement.words[0] in ("type", "policy", "comment"):
                continue
            where = f"{name}:{statement.line}"
            context = nft_rule.Context(ruleset, where, statement.text, egress, table.families, table.names)
            try:
                lines += nft_rule.read(context, statement.words, prefix)
            except (Unsupported, StopIteration) as unsupported:
                ruleset.omit(where, statement.text, str(unsupported) or "it is incomplete")
    return f"{prefix} {first}"


def _priority(words: Sequence[str]) -> int:
    named = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
    text = "".join(words[:3]) if words[1:2] in (["+"], ["-"]) else words[0]
    match = re.fullmatch(r"([a-z]*)([+-]?\d+)?", text)
    return named.get(match[1], 0) + int(match[2] or 0) if match else 0


# ---- statements ----


def _statements(name: str, text: str) -> list[Statement]:
    found, rest = _block(name, _tokens(text), text.splitlines())
    if rest:
        raise UsageError(f"{name}: a }} has no {{ before it", _GIVE)
    return found


def _tokens(text: str) -> deque[tuple[str, int]]:
    tokens: deque[tuple[str, int]] = deque()
    pending = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line, pending = pending + _COMMENT.sub(r"\1", raw), ""
        if line.endswith("\\"):
            pending = line[:-1] + " "
            continue
        tokens += [(match[1], number) for match in _TOKEN.finditer(line)]
        tokens.append(("\n", number))
    return tokens


def _block(
    name: str, tokens: deque[tuple[str, int]], lines: Sequence[str], depth: int = 0
) -> tuple[list[Statement], bool]:
    """The statements up to the closing brace, and whether there was one. The last token is the end of a line."""
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
            if (words[0] == "ct" and words[1:2] not in _OBJECTS) or (words[0] == "counter" and len(words) != 2):
                words += _braces(name, tokens, start)
                continue
            if depth > _DEEPEST:
                raise UsageError(f"{name}:{start}: braces within braces", _GIVE)
            inner, closed = _block(name, tokens, lines, depth + 1)
            if not closed:
                raise UsageError(f"{name}:{start}: this {{ is never closed", _GIVE)
            found.append(Statement(words, start, inner, lines[start - 1].strip()))
            words = []
        elif token == "{":
            words += _braces(name, tokens, start)
        else:
            words.append(token)
    return found, False


def _braces(name: str, tokens: deque[tuple[str, int]], start: int) -> list[str]:
    """The words up to the brace that closes a set, over any number of lines."""
    inside, depth = ["{"], 1
    while depth:
        if not tokens:
            raise UsageError(f"{name}:{start}: this {{ is never closed", _GIVE)
        token, _ = tokens.popleft()
        if token != "\n":
            inside.append(token)
        depth += {"{": 1, "}": -1}.get(token, 0)
    return inside
