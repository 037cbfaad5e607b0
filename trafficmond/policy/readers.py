"""Parses bytes of a file, or values of the settings, into `Rules`. Opens nothing."""

import json
from collections.abc import Sequence
from pathlib import Path

from trafficmond import figures
from trafficmond.config.declare import guess
from trafficmond.config.load import are_rules, not_toml
from trafficmond.errors import Advice, Mistake
from trafficmond.model import Action, Direction, Reason
from trafficmond.policy.geography import Geography
from trafficmond.policy.listfile import PrefixList, parse_list
from trafficmond.policy.rulefile import read_rule_tables
from trafficmond.policy.rules import ListSource, Rule, Rules, read_tables

# bound: lines of a rules file, including blank ones | the file is refused; its last good content stays in force
_MOST_LINES = 5_000_000
_NAMED = 5  # wrong lines of a list that are reported one by one
_PERMITTED = 'write {"permitted_cidrs": ["192.0.2.0/24", ...]}'


def read_own(data: bytes, path: str) -> Rules:
    """Parses the daemon's own file, where a rule may have `force` too."""
    return read_toml(data, path, own=True)


def read_toml(data: bytes, path: str, *, own: bool = False, geography: Geography | None = None) -> Rules:
    """Parses a rules file of `cidr.d`: any number of `[[rule]]` tables and nothing else."""
    if data.count(b"\n") > _MOST_LINES:
        return Rules.nothing(path, [Mistake(path, f"has more than {_MOST_LINES:,} lines; split it, or make it a list")])
    try:
        found = read_rule_tables(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Rules.nothing(path, [Mistake(f"{path}:{line}", "is not UTF-8 text")])
    except ValueError as error:
        return Rules.nothing(path, [not_toml(path, data.decode("utf-8-sig"), error)])
    except RecursionError:
        return Rules.nothing(path, [Mistake(path, "is nested too deeply")])
    except TypeError as error:
        what = "write each rule under a header of its own, [[rule]]"
        return Rules.nothing(path, [Mistake(_place(path, int(str(error)), "rule"), what)])
    if found.others and not are_rules(dict.fromkeys(found.others)) and not found.tables:
        return Rules.nothing(path, [Mistake(path, "has settings, not rules; a folder of rules holds rules files only")])
    mistakes = [Mistake(_place(path, line, key), _other(key)) for key, line in found.others.items()]
    headers, line_of = found.headers, found.line_of
    return read_tables(found.tables, path, headers, line_of, mistakes, own=own, geography=geography)


def read_json(data: bytes, path: str) -> Rules:
    """Parses the original's `{"permitted_cidrs": [...]}`: those sources are allowed, all others get the default."""
    try:
        document = json.loads(data)
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}"
        return Rules.nothing(path, [Mistake(where, f"is not JSON: {error.msg} (column {error.colno})")])
    except ValueError as error:
        what = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "has a number of thousands of digits"
        return Rules.nothing(path, [Mistake(path, what)])
    except RecursionError:
        return Rules.nothing(path, [Mistake(path, "is nested too deeply")])
    cidrs = document.get("permitted_cidrs") if isinstance(document, dict) else None
    if not isinstance(cidrs, list) or not all(isinstance(cidr, str) for cidr in cidrs):
        return Rules.nothing(path, [Mistake(path, f"has no permitted_cidrs, a list of strings; {_PERMITTED}")])
    # "logging" is the original's other section; it says nothing about addresses.
    unknown = [key for key in document if key not in ("permitted_cidrs", "logging")]
    mistakes = [Mistake(f"{path}: {key}", f"is not a known key; {_PERMITTED}") for key in unknown]
    return permitted(cidrs, path, mistakes)


def permitted(cidrs: Sequence[str], path: str, mistakes: Sequence[Mistake] = ()) -> Rules:
    """One rule that allows the original's permitted_cidrs."""
    rule = Rule(Action.ALLOW, Reason.RULE, Path(path).name, path=path)
    return Rules.one(rule, cidrs, f"{path}: permitted_cidrs", mistakes)


def read_list(source: ListSource, data: bytes, path: str) -> Rules:
    """Parses a plain prefix list, as its `[[list]]` defines it."""
    found = parse_list(data, path)
    # A file that is no list, such as an error page of a download, has few valid lines.
    if found.wrong and (source.on_error == "refuse" or found.wrong > len(found.prefixes)):
        return Rules.nothing(path, found.mistakes, found.wrong)
    name = source.label or source.path.stem
    rule = Rule(
        source.action,
        Reason.LIST,
        name,
        source.direction,
        path=path,
        label=source.label,
        shadow=source.shadow,
        services=source.services,
    )
    return Rules.all_of(rule, found.prefixes, path, found.host_bits, _skipped(path, found))


def _skipped(path: str, found: PrefixList) -> tuple[Advice, ...]:
    named = tuple(Advice(each.where, f"{each.what}; the line is skipped") for each in found.mistakes[:_NAMED])
    rest = found.wrong - len(named)
    return (*named, Advice(path, f"{figures.many(rest, 'more wrong line')} skipped")) if rest else named


def always_allowed(reason: Reason, cidrs: Sequence[str], label: str, path: str) -> Rules:
    """A rule for the allowlist or an entry of the guard: allow in both directions, without an end."""
    return Rules.one(Rule(Action.ALLOW, reason, label, Direction.BOTH, path=path, label=label), cidrs, path)


def _place(path: str, line: int, key: str) -> str:
    return f"{path}:{line}: {key}" if line else f"{path}: {key}"


def _other(key: str) -> str:
    """What is wrong about a key of a rules file that is not a rule."""
    near = guess(key, ("rule",)).replace("rule", "[[rule]]")
    return "is not a known key" + (near or "; a rules file has [[rule]] only")
