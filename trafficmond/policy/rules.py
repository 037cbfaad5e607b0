"""Rules, and how they are read from tables: TOML files, the original's JSON, `trafficctl` and the daemon's own file.

A reader takes bytes and a name for them, and returns everything it found with every mistake it met; it opens nothing.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trafficmond.errors import Mistake
from trafficmond.model import Action, Direction, Reason
from trafficmond.policy import prefixes
from trafficmond.policy.prefixes import MAX_MISTAKES, Prefixes

_KEYS = ("cidr", "action", "label", "direction", "expires", "limit", "burst")
_LIMIT = re.compile(r"([1-9][0-9]{0,8})/s")
_MAX_BURST = 1_000_000_000
_MAX_LABEL = 200
_HEADER = re.compile(r"[ \t]*\[\[[ \t]*[\"']?rule[\"']?[ \t]*\]\]")


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done with the packets of some prefixes, and who said so.

    The prefixes themselves are columns beside it (`Rules`, `Policy`).
    """

    action: Action
    reason: Reason  # LIST, RULE, ALLOWLIST or GUARD: its class of precedence
    name: str  # label, else its first prefix as written, else its file's name
    direction: Direction = Direction.INGRESS
    expires: float | None = None  # epoch seconds
    rate_per_s: int = 0  # of each source, where action is LIMIT
    burst: int = 0  # packets
    path: str = ""  # file, or the key of the settings it stands in
    line: int = 0  # 0: unknown
    label: str = ""

    @property
    def source(self) -> str:
        """Where to find it: `path:line`, or the path alone."""
        return f"{self.path}:{self.line}" if self.line else self.path


@dataclass(frozen=True, slots=True)
class ListSource:
    """A plain list and what it means: a `[[list]]` of the settings."""

    path: Path
    action: Action
    label: str = ""
    direction: Direction = Direction.INGRESS


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """What one file held: rules, their prefixes in that order, how many each has, and what is wrong or odd."""

    rules: tuple[Rule, ...]
    prefixes: Prefixes
    counts: npt.NDArray[np.int64]
    mistakes: tuple[Mistake, ...] = ()
    notes: tuple[Mistake, ...] = ()


def read_toml(data: bytes, path: str) -> Rules:
    """Rules of a `cidr.d/*.toml`: any number of `[[rule]]` tables."""
    try:
        text = data.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _nothing(Mistake(f"{path}:{line}", "is not UTF-8 text"))
    except tomllib.TOMLDecodeError as error:
        return _nothing(_syntax_mistake(path, str(error)))
    except RecursionError:
        return _nothing(Mistake(path, "is nested too deep to be read"))
    tables = document.pop("rule", [])
    mistakes = [
        Mistake(f"{path}: {key}", "is no known key; a rules file holds [[rule]] tables only") for key in document
    ]
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return _nothing(*mistakes, Mistake(f"{path}: rule", "write each rule under a header of its own, [[rule]]"))
    return _read_tables(tables, path, _Lines(text, len(tables)), mistakes)


def read_tables(tables: Sequence[Mapping[str, Any]], path: str) -> Rules:
    """Rules given as values, with the keys of a `[[rule]]`; `expires` may be epoch seconds."""
    return _read_tables(tables, path, _Lines("", len(tables)), [])


def read_json(data: bytes, path: str) -> Rules:
    """The original's `{"permitted_cidrs": [...]}`: those sources are allowed, all others get the default."""
    try:
        document = json.loads(data)
    except json.JSONDecodeError as error:
        return _nothing(Mistake(f"{path}:{error.lineno}", f"is not JSON: {error.msg} (column {error.colno})"))
    except (UnicodeDecodeError, RecursionError) as error:
        return _nothing(Mistake(path, f"is not JSON: {error}"))
    expected = 'write {"permitted_cidrs": ["192.0.2.0/24", ...]}'
    if not isinstance(document, dict) or "permitted_cidrs" not in document:
        return _nothing(Mistake(path, f"has no permitted_cidrs; {expected}"))
    # "logging" is the original's other section; it belongs to the settings and says nothing about addresses.
    mistakes = [
        Mistake(f"{path}: {key}", f"is no known key; {expected}")
        for key in document
        if key not in ("permitted_cidrs", "logging")
    ]
    cidrs = document["permitted_cidrs"]
    if not isinstance(cidrs, list) or not all(isinstance(cidr, str) for cidr in cidrs):
        return _nothing(*mistakes, Mistake(f"{path}: permitted_cidrs", f"is no list of strings; {expected}"))
    rule = Rule(Action.ALLOW, Reason.RULE, Path(path).name, path=path)
    return _one_rule(rule, cidrs, f"{path}: permitted_cidrs", mistakes)


def read_list(source: ListSource, data: bytes, path: str) -> Rules:
    """A plain prefix list under the meaning its `[[list]]` gives it."""
    read = prefixes.parse_list(data, path)
    name = source.label or source.path.stem
    rule = Rule(source.action, Reason.LIST, name, source.direction, path=path, label=source.label)
    count = np.array([len(read.prefixes)], np.int64)
    return Rules((rule,), read.prefixes, count, tuple(read.mistakes), tuple(read.notes))


def fixed(reason: Reason, cidrs: Sequence[str], label: str, path: str) -> Rules:
    """The allowlist, or one entry of the guard: allowed in both directions, for ever."""
    rule = Rule(Action.ALLOW, reason, label, Direction.BOTH, path=path, label=label)
    return _one_rule(rule, cidrs, path, [])


def _one_rule(rule: Rule, cidrs: Sequence[str], where: str, mistakes: list[Mistake]) -> Rules:
    parsed = prefixes.parse([cidr.strip() for cidr in cidrs])
    for position, what in parsed.bad.items():
        mistakes.append(Mistake(f"{where}[{position}]", what))
    return Rules((rule,), parsed.prefixes, np.array([len(parsed.prefixes)], np.int64), _bounded(mistakes, where))


class _Lines:
    """Line numbers that tomllib does not give: of each `[[rule]]` header, and of a key below one."""

    def __init__(self, text: str, count: int) -> None:
        self._lines = text.split("\n")
        headers = [number for number, line in enumerate(self._lines) if _HEADER.match(line)]
        # A header inside a multi-line string would shift all that follow: then no numbers rather than wrong ones.
        self._headers = headers if len(headers) == count else []

    def header(self, index: int) -> int:
        """1-based line of rule `index`, 0 if unknown."""
        return self._headers[index] + 1 if self._headers else 0

    def key(self, index: int, key: str) -> int:
        """1-based line of `key` in rule `index`, else of its header, 0 if unknown."""
        if not self._headers:
            return 0
        end = self._headers[index + 1] if index + 1 < len(self._headers) else len(self._lines)
        for number in range(self._headers[index], end):
            if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", self._lines[number]):
                return number + 1
        return self.header(index)


def _read_tables(tables: Sequence[Mapping[str, Any]], path: str, lines: _Lines, mistakes: list[Mistake]) -> Rules:
    rules: list[Rule] = []
    texts: list[str] = []
    counts = np.zeros(len(tables), np.int64)

    def wrong(index: int, key: str, what: str) -> None:
        line = lines.key(index, key) if len(mistakes) < MAX_MISTAKES else 0
        where = f"{path}:{line}" if line else path
        mistakes.append(Mistake(f"{where}: rule[{index}].{key}" if key else f"{where}: rule[{index}]", what))

    for index, table in enumerate(tables):
        problems: list[tuple[str, str]] = []
        cidrs = _cidrs(table.get("cidr"), problems)
        rules.append(_rule(table, cidrs, path, lines.header(index), problems))
        counts[index] = len(cidrs)
        texts += cidrs
        for key, what in problems:
            wrong(index, key, what)
    parsed = prefixes.parse(texts)
    if parsed.bad:
        owner = np.repeat(np.arange(len(tables)), counts)
        for position, what in parsed.bad.items():
            wrong(int(owner[position]), "cidr", what)
    notes: tuple[Mistake, ...] = ()
    if parsed.host_bits:
        notes = (Mistake(path, f"{parsed.host_bits:,} prefixes had host bits set; they are read as their network"),)
    if mistakes:
        return _nothing(*_bounded(mistakes, path))
    return Rules(tuple(rules), parsed.prefixes, counts, (), notes)


def _rule(table: Mapping[str, Any], cidrs: list[str], path: str, line: int, problems: list[tuple[str, str]]) -> Rule:
    """One rule; what is wrong goes to `problems` as (key, what), and a harmless value in its place."""
    for key in table:
        if key not in _KEYS:
            problems.append((key, f"is no known key; a rule has {', '.join(_KEYS)}"))
    label = table.get("label", "")
    if not isinstance(label, str) or len(label) > _MAX_LABEL or not label.isprintable():
        problems.append(("label", f"is no printable text of at most {_MAX_LABEL} characters"))
        label = ""
    action, direction = Action.MONITOR, Direction.INGRESS
    try:
        action = Action.parse(_text(table, "action", ""))
    except ValueError as error:
        problems.append(("action", str(error)))
    try:
        direction = Direction.parse(_text(table, "direction", "ingress"))
    except ValueError as error:
        problems.append(("direction", str(error)))
    rate, burst = _limit(table, action, problems)
    expires = _expires(table.get("expires"), problems)
    name = label or (cidrs[0] if cidrs else "")
    return Rule(action, Reason.RULE, name, direction, expires, rate, burst, path, line, label)


def _cidrs(value: Any, problems: list[tuple[str, str]]) -> list[str]:
    if isinstance(value, str):
        return [value.strip()]
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return [item.strip() for item in value]
    what = "is missing" if value is None else "is neither a prefix nor a list of prefixes"
    problems.append(("cidr", f'{what}; write cidr = "192.0.2.0/24" or cidr = ["192.0.2.0/24", ...]'))
    return []


def _text(table: Mapping[str, Any], key: str, default: str) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"is no text; write it in quotes, not {value!r}")
    if not value:
        raise ValueError('is missing; write action = "allow", "monitor", "drop" or "limit"')
    return value


def _limit(table: Mapping[str, Any], action: Action, problems: list[tuple[str, str]]) -> tuple[int, int]:
    limit, burst = table.get("limit"), table.get("burst")
    if action is not Action.LIMIT:
        for key in ("limit", "burst"):
            if key in table:
                problems.append((key, f'belongs to action = "limit", not to {action}'))
        return 0, 0
    match = _LIMIT.fullmatch(limit) if isinstance(limit, str) else None
    if match is None:
        what = "is missing" if limit is None else f"{limit!r} is no rate"
        problems.append(("limit", f'{what}; write packets a second for each source, such as limit = "100/s"'))
        return 0, 0
    rate = int(match[1])
    if burst is None:
        return rate, rate
    if not isinstance(burst, int) or isinstance(burst, bool) or not 1 <= burst <= _MAX_BURST:
        problems.append(("burst", f"is no number of packets from 1 to {_MAX_BURST:,}"))
        return 0, 0
    return rate, burst


def _expires(value: Any, problems: list[tuple[str, str]]) -> float | None:
    if value is None:
        return None
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e11:
        return float(value)
    problems.append(("expires", "is no moment with its zone; write expires = 2027-01-01T00:00:00Z"))
    return None


def table_of(rule: Rule, cidrs: Sequence[str]) -> dict[str, Any]:
    """The `[[rule]]` that reads back as `rule`; ready for `read_tables` and for the daemon's own file."""
    table: dict[str, Any] = {"cidr": cidrs[0] if len(cidrs) == 1 else list(cidrs), "action": str(rule.action)}
    if rule.label:
        table["label"] = rule.label
    if rule.direction is not Direction.INGRESS:
        table["direction"] = str(rule.direction)
    if rule.expires is not None:
        table["expires"] = datetime.fromtimestamp(rule.expires, UTC)
    if rule.action is Action.LIMIT:
        table |= {"limit": f"{rule.rate_per_s}/s", "burst": rule.burst}
    return table


def _syntax_mistake(path: str, message: str) -> Mistake:
    """tomllib's "... (at line 3, column 5)" as file:line; at the end of the document it names no line."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if found is None:
        return Mistake(path, f"is not TOML: {message}")
    return Mistake(f"{path}:{found[2]}", f"is not TOML: {found[1]} (column {found[3]})")


def _bounded(mistakes: list[Mistake], where: str) -> tuple[Mistake, ...]:
    rest = len(mistakes) - MAX_MISTAKES
    return (*mistakes[:MAX_MISTAKES], Mistake(where, f"{rest:,} more mistakes")) if rest > 0 else tuple(mistakes)


def _nothing(*mistakes: Mistake) -> Rules:
    return Rules((), prefixes.concat([]), np.zeros(0, np.int64), mistakes)
