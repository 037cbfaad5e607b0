"""The table of bounds in docs/security.md, from the constants and settings themselves.

A line `# bound: WHAT | WHEN FULL` (in C within `/* */`) stands above each of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from trafficmond.config.declare import Spec, TableSpec, declared
from trafficmond.config.settings import Settings
from trafficmond.datapath.loader import Sizes
from trafficmond.datapath.loading import RING_RECORDS

_MARK = re.compile(r"(?:#|/\*) bound: (?P<what>[^|]+) \| (?P<full>.+?)(?: \*/)?$")
_NAME = re.compile(r"\s*(?:#define )?(\w+)")
_CLASS = re.compile(r"class (\w+)")
_CAPACITIES = (1024, 4096, 16384, 65536, 262144)
_SOURCES = ("bpf/*.[ch]", "trafficmond/**/*.py")


def table(root: Path) -> str:
    """The rows, in order of the sources."""
    head = "| what strangers can fill | capacity | when full |\n|---|---|---|\n"
    files = [path for pattern in _SOURCES for path in sorted(root.glob(pattern))]
    return head + "\n".join(row for path in files for row in _rows(path, root))


def ledger() -> str:
    """What the ledger's maps take on each CPU, by `flows.capacity`."""
    rows = ((capacity, Sizes(1, capacity, RING_RECORDS).memory_bytes() / 2**20) for capacity in _CAPACITIES)
    head = "| `flows.capacity` | MiB a CPU |\n|---|---|\n"
    return head + "\n".join(f"| {capacity:,} | {mebibytes:.1f} |" for capacity, mebibytes in rows)


def _rows(path: Path, root: Path) -> Iterator[str]:
    mark, owner = None, ""
    for line in path.read_text().splitlines():
        if found := _CLASS.match(line):
            owner = found[1]
        if mark and (named := _NAME.match(line)):
            yield f"| {mark['what']} | {_value(path, root, owner, named[1], line)} | {mark['full']} |"
        mark = _MARK.search(line)


def _value(path: Path, root: Path, owner: str, name: str, line: str) -> str:
    if path.suffix in (".c", ".h"):
        return _number(name, int(line.split()[2].rstrip("u"), 0))
    module = import_module(".".join(path.relative_to(root).with_suffix("").parts))
    if not line.startswith(" "):
        return _number(name, getattr(module, name))
    holder = getattr(module, owner)
    if name not in declared(holder):
        return _number(name, holder.__dataclass_fields__[name].default)
    return f"`{_key(holder)}.{name}` ({_shown(declared(holder)[name][1])})"


def _key(holder: type[Any]) -> str:
    for key, (_, spec) in declared(Settings).items():
        if isinstance(spec, TableSpec) and spec.cls is holder:
            return key
    raise KeyError(holder)


def _shown(spec: Spec | TableSpec) -> str:
    assert isinstance(spec, Spec)
    return f"{spec.default:,}" if spec.kind.name == "integer" else spec.kind.show(spec.default).strip('"')


def _number(name: str, value: int) -> str:
    return f"{value >> 20} MiB" if name.endswith("BYTES") and value >= 1 << 20 else f"{value:,}"
