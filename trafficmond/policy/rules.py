"""Rules as values, and parsing them from tables with the keys of a `[[rule]]`."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from trafficmond import figures, networks, npt, services
from trafficmond.config.declare import guess
from trafficmond.dataclass import dataclass, field, replace
from trafficmond.errors import Advice, Mistake
from trafficmond.model import Action, Direction, Reason
from trafficmond.policy import prefixes
from trafficmond.policy.geography import By, Geography, located, named
from trafficmond.policy.prefixes import Prefixes
from trafficmond.services import Places

MAX_MISTAKES = 100  # named for each file; the rest are counted

_KEYS = ("cidr", "country", "asn", "action", "ports", "label", "direction", "expires", "limit", "burst", "shadow")
_MEANT = {"prefix": "cidr", "address": "cidr", "source": "cidr", "service": "ports", "name": "label"}
_MEANT |= {"comment": "label", "ttl": "expires", "until": "expires", "rate": "limit", "verdict": "action"}
_KNOWN = frozenset(_KEYS)
_KNOWN_OWN = frozenset((*_KEYS, "force", "since")) - {"country", "asn"}
_ACTIONS = {str(action): action for action in Action}
_DIRECTIONS = {str(direction): direction for direction in Direction}
_LIMIT = re.compile(r"([1-9][0-9]{0,8})/s")
_MAX_BURST = 1_000_000_000
_MAX_LABEL = 200
_NAMED = 3  # services in the name of a rule without a label

T = TypeVar("T")
Wrong = Callable[[str, str], None]  # (key, error)


@dataclass(frozen=True, slots=True)
class Rule:
    """The action for packets of some prefixes, and its origin.

    The prefixes themselves are columns beside it (`Rules`, `Policy`).
    """

    action: Action
    reason: Reason  # LIST, RULE, ALLOWLIST or GUARD: its class of precedence
    name: str  # label, else its first prefix as written and its services, else its file's name
    direction: Direction = Direction.INGRESS
    expires: float | None = None  # epoch seconds
    rate_per_s: int = 0  # packets of each source, if the action is LIMIT
    burst: int = 0  # packets
    path: str = ""  # file, "runtime", or a key of the settings
    line: int = 0  # 0: unknown
    label: str = ""
    forced: bool = False  # guard and allowlist do not protect its prefixes
    shadow: bool = False  # reports its action and does not take it
    services: Places = ()  # that it applies to: this host's for incoming packets, the peer's for outgoing ones; (): all
    by: By = By.CIDR
    places: tuple[str | int, ...] = ()  # countries or numbers of systems, if it names those

    @property
    def kind(self) -> str:
        """ "country" or "asn" if it names those, else its class of precedence."""
        return str(self.reason if self.by is By.CIDR else self.by)

    @property
    def source(self) -> str:
        """The place of the rule: `path:line`, or only the path."""
        return f"{self.path}:{self.line}" if self.line else self.path

    @property
    def judged(self) -> Places:
        """Its services, and the packets that may belong to them although their service cannot be read."""
        passing, stopping = self.action is not Action.DROP, self.action in (Action.DROP, Action.LIMIT)
        return services.with_unread(self.services, passing, stopping) if self.services else ()


@dataclass(frozen=True, slots=True)
class ListSource:
    """A plain list and its definition: a `[[list]]` of the settings."""

    path: Path
    action: Action
    label: str = ""
    direction: Direction = Direction.INGRESS
    on_error: str = "skip"  # a wrong line; or "refuse": the list keeps its last good content
    services: Places = ()  # that it applies to; (): all
    fetched: bool = False  # by trafficmon-fetch, which has not done so yet if there is no file
    shadow: bool = False  # reports its action and does not take it
    may_be_empty: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """The content of one file: rules, their prefixes in that order, how many each has, mistakes and notes.

    With any mistake there are no rules.
    """

    rules: tuple[Rule, ...]
    prefixes: Prefixes
    counts: npt.NDArray[np.int64]
    mistakes: tuple[Mistake, ...] = ()
    notes: tuple[Advice, ...] = ()
    naming: tuple[Rule, ...] = field(init=False)  # of the rules, those that name services

    def __post_init__(self) -> None:
        object.__setattr__(self, "naming", tuple(rule for rule in self.rules if rule.services))

    @classmethod
    def nothing(cls, where: str, mistakes: Sequence[Mistake], total: int = 0) -> Self:
        """Only mistakes, up to a bound; the rest is counted, up to `total` if that is larger."""
        shown = tuple(mistakes[:MAX_MISTAKES])
        if rest := max(total, len(mistakes)) - len(shown):
            shown += (Mistake(where, figures.many(rest, "more mistake")),)
        return cls((), prefixes.concat([]), np.zeros(0, np.int64), shown)

    def first(self, count: int) -> Self:
        """Only the first rules, without notes."""
        rows = int(self.counts[:count].sum())
        return type(self)(self.rules[:count], self.prefixes.take(slice(rows)), self.counts[:count])

    def moved(self, by: float) -> Self:
        """The same, ending so many seconds later."""
        rules = (each if each.expires is None else replace(each, expires=each.expires + by) for each in self.rules)
        return replace(self, rules=tuple(rules))

    def same(self, other: Self) -> bool:
        """Whether both have the same rules, at the same places."""
        if self is other:
            return True
        mine, others = (self.rules, self.mistakes, self.notes), (other.rules, other.mistakes, other.notes)
        return mine == others and np.array_equal(self.counts, other.counts) and self.prefixes.same(other.prefixes)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        if not parts:
            return cls((), prefixes.concat([]), np.zeros(0, np.int64))
        return cls(
            tuple(chain.from_iterable(part.rules for part in parts)),
            prefixes.concat([part.prefixes for part in parts]),
            np.concatenate([part.counts for part in parts]),
            tuple(chain.from_iterable(part.mistakes for part in parts)),
            tuple(chain.from_iterable(part.notes for part in parts)),
        )

    @classmethod
    def all_of(cls, rule: Rule, rows: Prefixes, where: str, host_bits: int, notes: tuple[Advice, ...] = ()) -> Self:
        """A single rule for all `rows`, of which `host_bits` were written with host bits; with other `notes`."""
        return cls((rule,), rows, np.array([len(rows)], np.int64), (), (*notes, *_notes(where, host_bits)))

    @classmethod
    def one(cls, rule: Rule, cidrs: Sequence[str], where: str, mistakes: Sequence[Mistake] = ()) -> Self:
        """A single rule for `cidrs`, placed at `where`[0], [1] and so on; with earlier `mistakes`."""
        parsed = prefixes.parse([cidr.strip() for cidr in cidrs])
        wrong = [*mistakes, *(Mistake(f"{where}[{at}]", what) for at, what in parsed.bad.items())]
        if wrong:
            return cls.nothing(where, wrong)
        return cls.all_of(rule, parsed.prefixes, where, parsed.host_bits)


def read_tables(
    tables: Sequence[Mapping[str, Any]],
    path: str,
    headers: Sequence[int] | None = None,
    line_of: Callable[[int, str], int] = lambda _index, _key: 0,
    mistakes: Sequence[Mistake] = (),
    *,
    own: bool = False,
    geography: Geography | None = None,
) -> Rules:
    """The rules of `tables`, which may also give `expires` in epoch seconds; with earlier `mistakes`. Those of the
    daemon's `own` may have `force`. Rules by country or system get their prefixes from `geography`.

    `headers` has each table's line in the file, and `line_of` returns that of a key (table, key); 0: unknown.
    """
    rules: list[Rule] = []
    texts: list[str] = []
    counts = np.zeros(len(tables), np.int64)
    elsewhere: dict[int, Prefixes] = {}  # those from databases
    found = list(mistakes)

    def wrong(key: str, what: str) -> None:
        line = line_of(index, key) if len(found) < MAX_MISTAKES else 0
        found.append(Mistake(f"{path}:{line}: rule[{index}].{key}" if line else f"{path}: rule[{index}].{key}", what))

    for index, table in enumerate(tables):
        by, places = named(table, wrong) if "country" in table or "asn" in table else (By.CIDR, ())
        cidrs = _cidrs(table.get("cidr"), wrong) if by is By.CIDR else []
        rule = _rule(table, cidrs, path, headers[index] if headers else 0, own, wrong)
        if by is not By.CIDR:
            rule = replace(rule, by=by, places=places, name=rule.label or f"{by} {', '.join(map(str, places))}")
            elsewhere[index] = located(by, places, geography, wrong)
        rules.append(rule)
        counts[index] = len(cidrs)
        texts += cidrs
    parsed = prefixes.parse(texts)
    if parsed.bad:
        owner = np.repeat(np.arange(len(tables)), counts)
        for position, what in parsed.bad.items():
            index = int(owner[position])
            wrong("cidr", what)
    if found:
        return Rules.nothing(path, found)
    where = path
    if parsed.host_bits:
        first = next(at for at, text in enumerate(texts) if networks.has_host_bits(text))
        index = int(np.searchsorted(np.cumsum(counts), first, "right"))
        where = f"{path}:{line}" if (line := line_of(index, "cidr")) else path
    rows = _inserted(parsed.prefixes, counts, elsewhere)
    return Rules(tuple(rules), rows, counts, (), _notes(where, parsed.host_bits))


def _inserted(rows: Prefixes, counts: npt.NDArray[np.int64], elsewhere: Mapping[int, Prefixes]) -> Prefixes:
    """`rows` with the prefixes of `elsewhere`, by rule, in their places; updates `counts`."""
    parts, ends, at = [], np.cumsum(counts), 0
    for index, others in elsewhere.items():
        parts += [rows.take(slice(at, int(ends[index]))), others]
        at = int(ends[index])
        counts[index] = len(others)
    return prefixes.concat([*parts, rows.take(slice(at, len(rows)))]) if parts else rows


def _notes(where: str, host_bits: int) -> tuple[Advice, ...]:
    if not host_bits:
        return ()
    return (Advice(where, f"{figures.many(host_bits, 'prefix')} with host bits set, read without them"),)


def _rule(table: Mapping[str, Any], cidrs: Sequence[str], path: str, line: int, own: bool, wrong: Wrong) -> Rule:
    """The rule of one table; invalid values are replaced by harmless ones."""
    known = _KNOWN_OWN if own else _KNOWN
    if not known.issuperset(table):
        for key in table.keys() - known:
            near = f"; did you mean {_MEANT[key]}?" if key in _MEANT else guess(key, _KEYS)
            wrong(key, "is not a known key" + (near or f"; a rule has {', '.join(_KEYS)}"))
    label = table.get("label", "")
    if not isinstance(label, str) or len(label) > _MAX_LABEL or not label.isprintable():
        wrong("label", f"is not a printable text of at most {_MAX_LABEL} characters")
        label = ""
    action = _one_of(_ACTIONS, table.get("action"), Action.MONITOR, "action", wrong)
    direction = Direction.INGRESS
    if "direction" in table:
        direction = _one_of(_DIRECTIONS, table["direction"], direction, "direction", wrong)
    rate, burst = _limit(table, wrong) if action is Action.LIMIT else _no_limit(table, action, wrong)
    expires = _expires(table["expires"], wrong) if "expires" in table else None
    forced = own and table.get("force") is True
    ports = _ports(table["ports"], wrong) if "ports" in table else ()
    name = label or " ".join([*cidrs[:1], *services.text(ports)[:_NAMED]])
    shadow = table.get("shadow", False)
    if not isinstance(shadow, bool):
        wrong("shadow", f"{shadow!r} is not valid; write shadow = true, without quotes")
    return Rule(
        action, Reason.RULE, name, direction, expires, rate, burst, path, line, label, forced, shadow is True, ports
    )


def _cidrs(value: Any, wrong: Wrong) -> list[str]:
    if isinstance(value, str):
        return [value.strip()]
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return [item.strip() for item in value]
    what = "is missing" if value is None else "is neither a prefix nor a list of prefixes"
    wrong("cidr", f'{what}; write cidr = "192.0.2.0/24" or cidr = ["192.0.2.0/24", ...]')
    return []


def _ports(value: Any, wrong: Wrong) -> Places:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(each, str) for each in texts):
        wrong("ports", 'names no services in quotes; write ports = ["tcp/443", "udp/8000-8100"]')
        return ()
    try:
        return services.parse(texts)
    except ValueError as error:
        wrong("ports", str(error))
        return ()


def _one_of(choices: Mapping[str, T], value: Any, otherwise: T, key: str, wrong: Wrong) -> T:
    found = choices.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        what = "is missing" if value is None else f"{value!r} is not valid"
        wrong(key, f"{what}; write " + " or ".join(f'"{choice}"' for choice in choices) + guess(str(value), [*choices]))
        return otherwise
    return found


def _no_limit(table: Mapping[str, Any], action: Action, wrong: Wrong) -> tuple[int, int]:
    for key in ("limit", "burst"):
        if key in table:
            wrong(key, f'belongs to action = "limit", not to {action}')
    return 0, 0


def _limit(table: Mapping[str, Any], wrong: Wrong) -> tuple[int, int]:
    """(packets a second, burst); a burst of one second's worth unless given."""
    limit, burst = table.get("limit"), table.get("burst")
    match = _LIMIT.fullmatch(limit) if isinstance(limit, str) else None
    if match is None:
        what = "is missing" if limit is None else f"{limit!r} is not a valid rate"
        wrong("limit", f'{what}; give the packets a second that each source may send, such as limit = "100/s"')
        return 0, 0
    rate = int(match[1])
    if burst is None:
        return rate, rate
    if not isinstance(burst, int) or isinstance(burst, bool) or not 1 <= burst <= _MAX_BURST:
        wrong("burst", f"{burst!r} is not a number of packets from 1 to {_MAX_BURST:,}")
        return 0, 0
    return rate, burst


def _expires(value: Any, wrong: Wrong) -> float | None:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e11:
        return float(value)
    wrong("expires", f"{str(value)!r} is not a date and time with a zone; write expires = 2027-01-01T00:00:00Z")
    return None
