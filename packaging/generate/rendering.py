"""Renders declarations as the commented sample file and as the tables of the reference. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from trafficmond.config.declare import PATH, TEXTS, Spec, TableSpec, declared

_WIDTH = 100
_RESTART = " *Takes effect at the next start.*"


def sample(cls: type[Any], name: str = "") -> str:
    """A TOML file with all settings at their defaults, commented out, each under its help. With `name`, the settings of
    `cls` are a table of that name."""
    return "\n".join(_sample(cls, f"[{name}]" if name else "", name))


def reference(cls: type[Any], name: str = "") -> str:
    """A Markdown table of the settings, and a section for each table in them."""
    return "\n".join(_reference(cls, name))


def allowed(spec: Spec) -> str:
    """The allowed values as text: "one of a, b", "1 to 10", "at least 1m"; empty: all values of the kind."""
    if spec.choices:
        return ("some of " if spec.kind is TEXTS else "one of ") + ", ".join(spec.choices)
    low, high = (None if bound is None else spec.kind.show(bound).strip('"') for bound in (spec.min, spec.max))
    if low is not None and high is not None:
        return f"{low} to {high}"
    if low is not None:
        return f"at least {low}"
    return f"at most {high}" if high is not None else ""


def _split(cls: type[Any]) -> tuple[list[tuple[str, Spec]], list[TableSpec]]:
    own: list[tuple[str, Spec]] = []
    below: list[TableSpec] = []
    for key, (_, spec) in declared(cls).items():
        if isinstance(spec, TableSpec):
            below.append(spec)
        else:
            own.append((key, spec))
    return own, below


def _sample(cls: type[Any], header: str, prefix: str) -> Iterator[str]:
    own, below = _split(cls)
    # The header of a table is not commented, so that uncommenting one line is enough; an array element is an example.
    commented = "#" if header.startswith("[[") else ""
    if header:
        yield commented + header
    for key, spec in own:
        yield from _comment(spec.help + _bounds(spec))
        yield f"#{key} = {spec.example or spec.kind.show(spec.default)}"
        if not header:
            yield ""
    for table in below:
        path = f"{prefix}.{table.key}" if prefix else table.key
        yield ""
        yield from _comment(table.help)
        yield from _sample(table.cls, f"[[{path}]]" if table.many else f"[{path}]", path)


def _comment(text: str) -> Iterator[str]:
    yield from (f"# {line}" for line in textwrap.wrap(text, _WIDTH - 2))


def _bounds(spec: Spec) -> str:
    words = [] if spec.choices else [allowed(spec)]
    if spec.example and not spec.required:
        words.append(f"default: {_default(spec).strip('`')}")
    known = "; ".join(filter(None, words))
    return f" ({known})" if known else ""


def _reference(cls: type[Any], name: str) -> Iterator[str]:
    own, below = _split(cls)
    if own:
        yield "| setting | type | default | meaning |"
        yield "|---|---|---|---|"
        for key, spec in own:
            meaning = _cell(spec.help) + (_RESTART if spec.restart else "")
            yield f"| `{key}` | {_type(spec)} | {_default(spec)} | {meaning} |"
    for table in below:
        path = f"{name}.{table.key}" if name else table.key
        yield f"\n## `[[{path}]]`\n" if table.many else f"\n## `[{path}]`\n"
        yield f"{table.help}\n"
        yield from _reference(table.cls, path)


def _type(spec: Spec) -> str:
    words = allowed(spec)
    return _cell(f"{spec.kind.name}: {words}" if words else spec.kind.name)


def _default(spec: Spec) -> str:
    if spec.required:
        return "*required*"
    if spec.kind is PATH and spec.default is None:
        return "none"
    return f"`{_cell(spec.kind.show(spec.default))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
