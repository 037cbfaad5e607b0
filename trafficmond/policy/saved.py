"""The rules that `trafficctl add-cidr --save` keeps: a rules file of the daemon's own, written atomically."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trafficmond import files
from trafficmond.errors import ConfigError
from trafficmond.policy.readers import read_own
from trafficmond.policy.rulefile import read_rule_tables
from trafficmond.policy.rules import Rules

_HEADING = """\
# Written by trafficmond: the rules of "trafficctl add-cidr --save". Use trafficctl to change them;
# comments and order are not kept. Rules of your own belong in another file of cidr.d.
"""


def read_saved(path: Path) -> list[dict[str, Any]]:
    """The tables in `path`, for `save` to write back changed; none if there is no file.

    Raises OSError, or ConfigError if the file has mistakes, so that saving does not lose its content.
    """
    try:
        data = files.read(path)
    except FileNotFoundError:
        return []
    mistakes = read_own(data, str(path)).mistakes
    if mistakes:
        raise ConfigError(list(mistakes), hint=f"correct {path}, or move it away")
    return read_rule_tables(data.decode()).tables


def save(path: Path, tables: Sequence[Mapping[str, Any]]) -> None:
    """Replaces the content of `path` by the rules `tables`, atomically.

    Raises OSError; the file is then unchanged.
    """
    files.replace(path, _content(tables), durable=True)


def as_saved(path: Path, tables: Sequence[Mapping[str, Any]]) -> Rules:
    """The rules that `path` will hold once `tables` are saved in it."""
    return read_own(_content(tables), str(path))


def _content(tables: Sequence[Mapping[str, Any]]) -> bytes:
    import toml

    encoder = toml.TomlEncoder()
    encoder.dump_funcs[str] = _quoted
    text: str = _HEADING + "\n" + toml.dumps({"rule": [dict(table) for table in tables]}, encoder)
    return text.encode()


def _quoted(text: str) -> str:
    """A basic string: JSON's is nearly one, for text without lone surrogates. The package's breaks backslashes."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
