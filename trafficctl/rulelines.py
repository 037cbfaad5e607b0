"""Writes rules as lines of a rules file."""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

_WIDTH = 118
_KEYS = ("cidr", "country", "asn", "action", "direction", "ports", "label", "limit", "burst", "expires", "shadow")


def table(rule: Mapping[str, Any]) -> Iterator[str]:
    """A [[rule]] with these keys; `expires` in epoch seconds. Keys that a rules file does not have are left out."""
    yield "[[rule]]"
    for key in _KEYS:
        value = rule.get(key)
        if key == "cidr" and isinstance(value, list) and len(value) == 1:
            (value,) = value
        if key == "expires" and value is not None:
            yield f"expires = {datetime.fromtimestamp(value, UTC).isoformat()}"
        elif value is not None and value != []:
            yield f"{key} = {_written(value)}"


def _written(value: str | int | list[str | int]) -> str:
    """A value as TOML; a long list in several lines."""
    text = _quoted(value)
    if not isinstance(value, list) or len(text) < _WIDTH - 8:
        return text
    wrapped = textwrap.fill(text[1:-1], _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return f"[\n{wrapped}\n]"


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def of_entries(entries: Sequence[Mapping[str, Any]], when: str) -> Iterator[str]:
    """A complete rules file of the entries of `RulesAt`; entries of the settings are comments at its head."""
    yield f"# The rules {when}, as trafficctl rules -o toml prints them: a file for cidr.d that gives the same again."
    yield "# Use it with these settings in trafficmond.toml:"
    for entry in entries:
        if "default" in entry:
            action, _, shadow = str(entry["default"]).partition(" ")
            yield f"#   policy.default = {_quoted(action)}" + (" and default_shadow = true" if shadow else "")
        elif "allowlist" in entry:
            yield f"#   policy.allowlist = {_quoted(entry['allowlist'])}"
        elif "list" in entry:
            head, *keys = of_list(entry)
            yield f"#   {head} {', '.join(keys)}"
    for entry in entries:
        if not {"cidr", "country", "asn"} & entry.keys():
            continue
        yield ""
        yield f"# {entry['source']}" + (", with --force against guard and allowlist" if entry.get("force") else "")
        yield from table(entry)


def of_list(entry: Mapping[str, Any]) -> Iterator[str]:
    yield "[[list]]"
    yield f"path = {_quoted(entry['list'])}"
    yield from (f"{key} = {_quoted(entry[key])}" for key in _KEYS if key in entry)


def line(entry: Mapping[str, Any]) -> str:
    """One rule in a line, for people."""
    if "default" in entry:
        return f"default {entry['default']}"
    for key in ("allowlist", "list", "country", "asn", "cidr"):
        if key in entry:
            break
    where = entry[key] if isinstance(entry[key], list) else [entry[key]]
    more = f" +{len(where) - 1}" if len(where) > 1 else ""
    words = [entry.get("action", ""), ", ".join(entry.get("ports", ())), entry.get("limit", "")]
    words += [entry.get("direction", ""), f'"{entry["label"]}"' if entry.get("label") else ""]
    name = "" if key == "cidr" else f"{key} "
    return " ".join(filter(None, [f"{name}{where[0]}{more}", *words, f"({entry['source']})"]))
