"""The house's one structural rule: imports point downward (ARCHITECTURE.md), and adapters never import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

_VALUES = {"model", "errors", "abi", "protocols", "networks", "choice", "__version__"}
_PURE = _VALUES | {"config", "flows"}
_DAEMON = _PURE | {"policy", "detect", "store", "sinks", "export", "control", "datapath"}
_PARTS = _DAEMON | {
    "rulebook",
    "banlist",
    "responder",
    "pipeline",
    "metrics",
    "notify",
    "adoption",
    "lockout",
    "reach",
    "network",
}
# What each room may import. Adapters (store, sinks, export, control, datapath) are in none of each other's lists.
ALLOWED: dict[str, set[str]] = {
    "model": set(),
    "errors": set(),
    "abi": set(),
    "protocols": set(),
    "networks": set(),
    "choice": {"networks"},
    "config": _VALUES,
    "flows": _VALUES,
    "policy": _PURE,
    "detect": _PURE,
    "store": _PURE,
    "sinks": _PURE,
    "export": _PURE,
    "control": _VALUES,
    "datapath": _PURE,
    "analyze": _PURE | {"detect", "store"},  # it reads flows.db too
    "reach": _VALUES | {"policy", "datapath"},
    "notify": set(),
    "metrics": _PURE,
    "rulebook": _PURE | {"policy"},
    "banlist": _PURE | {"datapath", "store"},
    "responder": _DAEMON | {"rulebook", "banlist"},
    "network": _PURE | {"policy", "datapath", "sinks", "rulebook", "reach"},
    "adoption": _PURE | {"datapath", "store"},
    "pipeline": _DAEMON - {"datapath"},
    "answers": _PARTS,
    "reloader": _PARTS,
    "daemon": _PARTS | {"answers", "reloader"},
    "__main__": _PARTS | {"daemon"},
    "trafficctl": _PURE
    | {
        "control",
        "policy",
        "detect",
        "store",
        "datapath",
        "analyze",
        "rulebook",
        "export",
        "metrics",
        "adoption",
        "reach",
    },
}


def _imports(path: Path) -> Iterator[str]:
    """Rooms that a module imports when it runs; what only type checkers read does not count."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and isinstance(branch.test, ast.Name) and branch.test.id == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (room for alias in node.names if (room := _room(alias.name)))
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"trafficmond.{a.name}" for a in node.names] if node.module == "trafficmond" else [node.module]
            yield from (room for name in names if (room := _room(name)))


def _room(module: str) -> str:
    package, _, rest = module.partition(".")
    if package == "trafficctl":
        return package
    return rest.partition(".")[0] if package == "trafficmond" else ""


def _modules() -> list[Path]:
    return sorted((*ROOT.glob("trafficmond/**/*.py"), *ROOT.glob("trafficctl/**/*.py")))


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downward(path: Path) -> None:
    room = _room(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if not room or room == "__init__":
        return
    assert room in ALLOWED, f"{room} has no row in ARCHITECTURE.md and in this test"
    assert set(_imports(path)) - {room} <= ALLOWED[room]


def test_every_room_is_in_the_table_of_modules() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    missing = [room for room in ALLOWED if f"`{room}`" not in text]
    assert not missing
