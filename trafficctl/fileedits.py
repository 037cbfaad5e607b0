"""Edits of rules files: describes them, and with --write makes them."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trafficctl import rulelines
from trafficmond import files
from trafficmond.errors import ControlError
from trafficmond.policy.entries import of_rules
from trafficmond.policy.rulefile import read_rule_tables
from trafficmond.policy.rules import read_tables


def described(edit: Mapping[str, Any]) -> Iterator[str]:
    """Lines for the administrator: what to edit, with file, line and text."""
    rule, path = edit["rule"], edit["path"]
    if not _is_rule(rule):
        yield from _described_setting(path, rule, edit["take_out"])
        return
    where = f"{path}:{edit['line']}" if edit.get("line") else path
    yield f"{where}: {'remove' if edit['take_out'] else 'add at its end'}"
    yield from (f"  {line}" for line in rulelines.table(rule))


def _described_setting(path: str, rule: Mapping[str, Any], take_out: bool) -> Iterator[str]:
    """The same for an edit of the settings: the default, a list, or members of the allowlist."""
    if "default" in rule:
        action, _, shadow = str(rule["default"]).partition(" ")
        keys = [f"default = {json.dumps(action)}"] * (not take_out) + ["default_shadow = true"] * bool(shadow)
        if keys:
            yield f"{path}: under [policy], {'remove' if take_out else 'write'}"
            yield from (f"  {key}" for key in keys)
    elif "allowlist" in rule:
        yield f"{path}: under [policy], {'remove from' if take_out else 'add to'} allowlist"
        yield f"  {', '.join(map(json.dumps, rule['allowlist']))}"
    else:
        yield f"{path}: {'remove the list with these lines (or url)' if take_out else 'add at its end (or url)'}"
        yield from (f"  {line}" for line in rulelines.of_list(rule))


def write(edit: Mapping[str, Any]) -> str:
    """Makes an edit and returns a description of it. Raises ControlError if the file has changed, OSError."""
    rule, path = edit["rule"], Path(edit["path"])
    if not _is_rule(rule) or path.suffix != ".toml":
        raise ControlError(f"this command cannot edit {path}", hint="edit it as shown")
    text = files.read(path).decode("utf-8-sig")
    if edit["take_out"]:
        take_out(path, text, *_place(path, text, edit))
        return f"{path}: taken out"
    before = text.splitlines()
    while before and not before[-1].strip():
        before.pop()
    added = [*([""] if before else []), *rulelines.table(rule)]
    _save(path, "".join(f"{line}\n" for line in [*before, *added]))
    return f"{path}: added"


def take_out(path: Path, text: str, start: int, end: int) -> None:
    """Rewrites the file, whose content is `text`, without lines `start` to before `end` (from 0). Raises OSError."""
    lines = text.splitlines(keepends=True)
    _save(path, "".join(lines[:start] + lines[end:]))


def _save(path: Path, text: str) -> None:
    files.replace(path, text.encode(), mode=path.stat().st_mode & 0o7777, durable=True)


def _is_rule(rule: Mapping[str, Any]) -> bool:
    return "cidr" in rule or "country" in rule or "asn" in rule


def _place(path: Path, text: str, edit: Mapping[str, Any]) -> tuple[int, int]:
    """The first line of the rule and the line after its last, from 0. Raises ControlError if it is not there."""
    gone = ControlError(f"the rule is no longer at {path}:{edit.get('line') or '?'}", hint="edit it as shown")
    try:
        found = read_rule_tables(text)
        index = found.headers.index(edit.get("line") or -1)
    except (tomllib.TOMLDecodeError, RecursionError, TypeError, ValueError):
        raise gone from None
    rules = read_tables([found.tables[index]], str(path))
    there = [{key: value for key, value in each.items() if key != "source"} for each in of_rules(rules)]
    if [json.dumps(each, sort_keys=True) for each in there] != [json.dumps(edit["rule"], sort_keys=True)]:
        raise gone
    start = found.headers[index] - 1
    end = found.headers[index + 1] - 1 if index + 1 < len(found.headers) else len(found.lines)
    while start + 1 < end < len(found.lines) and found.lines[end - 1].lstrip()[:1] in ("", "#"):
        end -= 1  # comments above the next rule belong to that rule
    return start, end
