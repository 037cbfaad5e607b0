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


def born(path: Path) -> Iterator[tuple[str, set[str], dict[str, int], set[str]]]:
    """(class, what it has from the start, what functions give it with their lines, classes it is made of)."""
    for each in ast.walk(ast.parse(path.read_text())):
        if not isinstance(each, ast.ClassDef):
            continue
        first, later = set[str](), dict[str, int]()
        for inner in each.body:
            if isinstance(inner, ast.AnnAssign | ast.Assign):
                targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                first |= {target.id for target in targets if isinstance(target, ast.Name)}
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                given = {
                    node.attr: node.lineno
                    for node in ast.walk(inner)
                    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
                    if isinstance(node.value, ast.Name) and node.value.id == "self"
                }
                first |= given.keys() if inner.name == "__init__" else set()
                later |= given
        yield each.name, first, later, {base.id for base in each.bases if isinstance(base, ast.Name)}


def test_no_attribute_is_born_later() -> None:
    """What an object has it has from the start on, so that nobody need ask whether it is there."""
    paths = [path for path in modules() if room_of(name_of(path)) != "trafficctl"]
    found = [(path, *each) for path in paths for each in born(path)]
    by_name: dict[str, list[tuple[set[str], set[str]]]] = {}
    for _, name, first, _, bases in found:
        by_name.setdefault(name, []).append((first, bases))

    def has(attribute: str, first: set[str], bases: set[str]) -> bool:
        above = [each for base in bases for each in by_name.get(base, [])]
        return attribute in first or any(has(attribute, *each) for each in above)

    late = [
        f"{path.relative_to(ROOT)}:{line}: {name}.{attribute}"
        for path, name, first, later, bases in found
        for attribute, line in later.items()
        if not has(attribute, first, bases)
    ]
    assert not late
    assert not [str(path) for path in paths if "hasattr(" in path.read_text()]


def test_the_c_sources_have_a_row_and_every_file_that_is_named_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = {Path(name) for name in re.findall(r"`([\w/]+(?:\.bpf)?\.(?:h|c|py))`", text)}
    sources = [
        path.relative_to(ROOT)
        for folder in ("bpf", "trafficmond", "trafficctl", "tests")
        for path in (ROOT / folder).rglob("*.*")
    ]
    lost = [str(name) for name in named if not any(path.parts[-len(name.parts) :] == name.parts for path in sources)]
    assert lost == []
    rows = {name.name for name in named}
    assert [path.name for path in (ROOT / "bpf").glob("*.[ch]") if path.name not in rows] == []
