"""Reading tables by line gives what tomllib gives, or leaves the file to it."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trafficmond.policy import rulefile
from trafficmond.policy.rulefile import read_rule_tables

GOOD = """\
# neighbours
[[rule]]
cidr = "192.0.2.0/24"   # a comment
action = 'drop'
expires = 2027-01-01T00:00:00Z

 [[rule]]  # second
cidr = ["10.0.0.0/8", "10.1.0.0/16"]
action = "drop"
label = "caf\\u00e9"
burst = 1_000
"""


def test_tables_and_lines() -> None:
    found = read_rule_tables(GOOD)
    assert found.tables == tomllib.loads(GOOD)["rule"]
    assert found.headers == [2, 7]
    assert found.line_of(0, "action") == 4
    assert found.line_of(1, "burst") == 11
    assert found.line_of(1, "missing") == 7
    assert rulefile._by_line(GOOD.split("\n")) is not None


@pytest.mark.parametrize(
    "text",
    [
        '[[rule]]\ncidr = [\n  "192.0.2.0/24",\n]\naction = "drop"\n',
        '[[rule]]\ncidr = """\n192.0.2.0/24"""\n',
        "[[rule]]\na.b = 1\na.c = 2\n",
        "[[rule]]\n[rule.x]\ny = 1\n",
        '[["rule"]]\ncidr = "::/0"\n',
        'rule = [{cidr = "::/0"}]\n',
        "[[rule]]\nx = {a = 1}\n",
        "",
        "\r\n# c\r\n[[rule]]\r\ncidr = '::/0'\r\n",
    ],
)
def test_whatever_toml_allows(text: str) -> None:
    found = read_rule_tables(text)
    assert found.tables == tomllib.loads(text).get("rule", [])
    assert len(found.headers) == len(found.tables)


@pytest.mark.parametrize(
    "text",
    [
        '[[rule]]\ncidr = "a"\ncidr = "b"\n',
        '[[rule]]\ncidr = "a\n',
        "[[rule]\n",
        '[[rule]]\ncidr "a"\n',
        "[[rule]]\n# bad \x01\n",
        '[[rule]]\rcidr = "a"\n',
    ],
)
def test_syntax_errors_are_tomllib_s(text: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        read_rule_tables(text)


def test_rule_must_be_an_array_of_tables() -> None:
    for text in ("rule = 1", "[rule]\ncidr = '::/0'", "rule = [1]"):
        with pytest.raises(TypeError):
            read_rule_tables(text)


def test_a_header_within_a_string_gives_no_wrong_lines() -> None:
    text = '[[rule]]\nlabel = """\n[[rule]]\n"""\n[[rule]]\ncidr = "::/0"\n'
    found = read_rule_tables(text)
    assert found.headers == [0, 0]
    assert found.line_of(1, "cidr") == 0


LINE = st.sampled_from(
    (
        "[[rule]]",
        "[[rule]] # c",
        " [[ rule ]]",
        "[rule]",
        "",
        "# c",
        'cidr = "a"',
        "cidr = 'a'",
        'label = "x" # y',
        'label = "#"',
        "action=1",
        "x = [",
        "]",
        '"cidr" = "q"',
        "a.b = 1",
        "t = {x = 1}",
        "[[other]]",
        'm = """',
        '"""',
        "e = 2027-01-01",
        "cidr =",
        '  cidr\t=\t"tab"  ',
        'bad = "\\q"',
        'esc = "\\n"',
        "x = 1 y = 2",
        "= 1",
        "[[rule]]x",
    )
)


@settings(max_examples=400)
@given(st.lists(LINE, max_size=8))
def test_by_line_or_as_a_whole(lines: list[str]) -> None:
    text = "\n".join(lines)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with pytest.raises(tomllib.TOMLDecodeError):
            read_rule_tables(text)
        return
    tables = document.pop("rule", [])
    if not isinstance(tables, list):
        with pytest.raises(TypeError):
            read_rule_tables(text)
        return
    found = read_rule_tables(text)
    assert found.tables == tables
    assert list(found.others) == list(document)
