"""The house's structural rules: imports point to rows above (the table of ARCHITECTURE.md), adapters never import each
other, and no module imports itself by way of others. What only type checkers read counts as well."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def table() -> dict[str, int]:
    """Room -> its row in ARCHITECTURE.md, from the top; adapters (*) are negative."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    found: dict[str, int] = {}
    rows = re.findall(r"^\| (`[^|]*) \|[^|\n]*\|$", text, re.MULTILINE)
    for number, row in enumerate(rows, 1):
        for room in re.findall(r"`(\w+)`", row):
            found[room] = -number if row.endswith("*") else number
    return found


ROWS = table()
ADAPTERS = {room for room, row in ROWS.items() if row < 0}
# What stays apart although it lies in rows above: what needs no daemon knows none, and a tick knows no kernel.
APART = {
    "analyze": ADAPTERS - {"store"},
    "metrics": ADAPTERS,
    "pipeline": {"datapath"},
    "trafficctl": {room for room, row in ROWS.items() if ROWS["protected"] <= row <= ROWS["daemon"]} | {"sinks"},
}


def modules() -> list[Path]:
    return sorted((*ROOT.glob("trafficmond/**/*.py"), *ROOT.glob("trafficctl/**/*.py")))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in modules()}


def imports(path: Path) -> Iterator[str]:
    """Our modules that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in NAMES)
        elif isinstance(node, ast.ImportFrom) and node.module in NAMES:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from inner & NAMES
            if inner - NAMES:
                yield node.module


def room_of(module: str) -> str:
    """The room of `trafficmond.room.module`, the client's of all of the client; empty: the package itself."""
    package, _, rest = module.partition(".")
    return package if package == "trafficctl" else rest.partition(".")[0]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_to_rows_above(path: Path) -> None:
    room = room_of(name_of(path))
    if not room:
        return
    assert room in ROWS, f"{room} has no row in ARCHITECTURE.md"
    for other in {room_of(module) for module in imports(path)} - {room, ""}:
        assert abs(ROWS[other]) < abs(ROWS[room]), f"{other} is in no row above that of {room}"
        assert not {room, other} <= ADAPTERS, f"{room} and {other} are adapters"
        assert other not in APART.get(room, ()), f"{room} is to know nothing of {other}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name_of(path): set(imports(path)) - {name_of(path)} for path in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(f"a circle: {' <- '.join(circle.args[1])}")
