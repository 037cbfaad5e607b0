"""TOML: the line that a mistake is told with is the key's, and what is saved is what tomllib reads."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from trafficmond.config.lines import key_lines, line_of
from trafficmond.sources import save

KEYS = st.from_regex(r"[a-z][a-z_0-9-]{0,6}", fullmatch=True)
TEXTS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12)
SCALARS = st.one_of(
    st.integers(-99, 99).map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.sampled_from(
        ['"plain"', "'it = is'", '"# no"', '"[no]"', "1.5", "2027-01-01", "[1, 2]", '["a", "[[b]]"]', "{}"]
    ),
)
QUOTES = st.sampled_from(["{}", "{}", '"{}"', "'{}'"])
SPACES = st.sampled_from(["", "", " ", "\t", "  "])
REMARKS = st.sampled_from(["", "", "  # remark", " # [x] = 1"])
MANY = st.sampled_from(['"""\n{}\n"""', "'''\n{}\n'''", "[\n  {},\n]"])


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A file as people write them: keys, tables, arrays of tables, remarks, values over several lines."""
    lines: list[str] = []
    for _ in range(draw(st.integers(0, 4))):
        if lines or draw(st.booleans()):
            name = ".".join(draw(st.lists(KEYS, min_size=1, max_size=2)))
            head = draw(st.sampled_from(["[{}]", "[[{}]]", "[ {} ]", "[[ {} ]]"])).format(name)
            lines.append(draw(SPACES) + head + draw(REMARKS))
        for key in draw(st.lists(KEYS, max_size=3, unique=True)):
            value = draw(SCALARS)
            if draw(st.integers(0, 5)) == 0:
                value = draw(MANY).format("1")
            lines += [f"{draw(SPACES)}{draw(QUOTES).format(key)}{draw(SPACES)}={draw(SPACES)}{value}{draw(REMARKS)}"]
        lines += draw(st.lists(st.sampled_from(["", "# a = 1", "  # [a]"]), max_size=1))
    return "\n".join(lines) + "\n"


def leaves(table: dict[str, Any], where: str = "") -> Iterator[str]:
    """Each key as mistakes name it."""
    for key, value in table.items():
        path = f"{where}.{key}" if where else key
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            for index, each in enumerate(value):
                yield from leaves(each, f"{path}[{index}]")
        elif isinstance(value, dict) and value:
            yield from leaves(value, path)
        else:
            yield path


def without(text: str, line: int, key: str) -> bool:
    """Whether the document lacks the key once what begins on its line is another key."""
    lines = text.split("\n")
    last = key.rpartition(".")[2]
    before = lines[line - 1]
    head, _, rest = before.partition("=")
    lines[line - 1] = head.replace(last, f"zz{last}", 1) + "=" + rest
    return key not in set(leaves(tomllib.loads("\n".join(lines))))


@settings(max_examples=400, deadline=None)
@given(documents())
@example("[[a]]\nx = 1\n[[a]]\nx = 2\n")
@example('a = """\nb = 1\n"""\nb = 2\n')
@example("[[a]] # [x] = 1\nb = 1\n[a.c]\n")
def test_the_line_of_every_key(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assume(False)
    lines = key_lines(text)
    for key in leaves(document):
        line = line_of(key, lines)
        assert line is not None, key
        if not text.split("\n")[line - 1].lstrip().startswith("["):  # else the line of the table around it
            assert without(text, line, key), (key, line)


RULES = st.fixed_dictionaries(
    {
        "cidr": st.sampled_from(["192.0.2.0/24", "2001:db8::/32"]) | st.just(["10.0.0.0/8", "::/0"]),
        "action": st.sampled_from(["allow", "monitor", "drop"]),
    },
    optional={
        "label": st.text(st.characters(blacklist_categories=["Cs"]), max_size=40),
        "expires": st.datetimes(datetime(2026, 1, 1), datetime(2099, 1, 1)).map(lambda at: at.replace(tzinfo=UTC)),
        "ports": st.lists(st.sampled_from(["tcp/22", "53", "gre"]), max_size=3),
        "burst": st.integers(1, 2**31),
        "force": st.booleans(),
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(RULES, max_size=4))
@example([{"cidr": "192.0.2.0/24", "action": "drop", "label": '\\x41 "q" \\ \t\n\x7f\u2028 \U0001f600'}])
def test_what_is_saved_is_what_tomllib_reads(tmp_path: Path, tables: list[dict[str, Any]]) -> None:
    path = tmp_path / "rules.toml"
    save(path, tables)
    read = tomllib.loads(path.read_text("utf-8")).get("rule", [])
    assert read == tables
    for one, other in zip(read, tables, strict=True):
        assert {name: type(value) for name, value in one.items()} == {
            name: type(value) for name, value in other.items()
        }


@pytest.mark.parametrize("text", ["a.b = 1\n", "[a]\nb.c = 1\n", "[[x]]\ny.z = 1\n", "[[x]]\n[x.y]\nz = 1\n"])
def test_dotted_keys_too(text: str) -> None:
    (key,) = leaves(tomllib.loads(text))
    assert line_of(key, key_lines(text)) == text.count("\n")
