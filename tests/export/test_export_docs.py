"""docs/export.md says what is so."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from clickhouse_server import SCHEMA, statements

from trafficctl.fleet.flows import fleet_question
from trafficmond.config.target import parse_target
from trafficmond.export import flow_rows, threat_rows
from trafficmond.export.templates import FIRST_ID, TEMPLATES
from trafficmond.model import FlowQuery, Threat
from trafficmond.store.schema import STORED_COLUMNS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "export.md").read_text("utf-8")


def test_every_element_and_none_else() -> None:
    told: dict[str, int] = {}
    for names, ids in re.findall(r"^\| (`\w+`[^|]*) \| ([\d, ]+) \|", TEXT, re.MULTILINE):
        told.update(zip(re.findall(r"`(\w+)`", names), map(int, ids.split(", ")), strict=True))
    used: dict[str, int] = {}
    for template in TEMPLATES:
        at = 4
        for name in template.layout.names or ():
            element = int.from_bytes(template.record[at : at + 2], "big")
            at += 8 if element & 0x8000 else 4
            if not element & 0x8000:
                used[name] = element
    assert told == used
    assert f"({FIRST_ID} to {FIRST_ID + len(TEMPLATES) - 1})" in TEXT


def test_every_url_is_one() -> None:
    for url in re.findall(r"(?:ipfix\+\w+|clickhouse(?:\+https)?)://[^\s\",`)]+", TEXT):
        parse_target(url.rstrip(":"))  # as in an error


def test_the_question_shown_is_the_one_asked() -> None:
    asked = fleet_question(FlowQuery(since=1_700_000_000.0, group_by=("sensor", "src"), sort="bytes"))
    assert asked.sql in TEXT


def table(name: str) -> tuple[dict[str, str], str]:
    """The columns of a table, but those that are computed, with their types; and what follows them."""
    (made,) = [each for each in statements(SCHEMA.read_text()) if f"TABLE IF NOT EXISTS trafficmon.{name}\n" in each]
    body, _, rest = made.partition("(\n")[2].partition("\n)\n")
    declared = dict(line.strip().rstrip(",").split(" ", 1) for line in body.splitlines())
    return {column: kind for column, kind in declared.items() if " ALIAS " not in kind}, rest


def test_the_tables_have_what_is_sent_and_what_flows_db_has() -> None:
    columns, rest = table("flows")
    assert columns == flow_rows.COLUMNS
    assert set(STORED_COLUMNS) <= {*columns, "src_ip", "dst_ip"}
    assert "PARTITION BY day\nORDER BY (last_seen, batch, row)" in rest
    columns, rest = table("threats")
    assert columns == threat_rows.COLUMNS
    assert {column.name for column in fields(Threat)} <= {*columns, "src_ip", "dst_ip"}
    assert "ReplacingMergeTree(revision)\nPARTITION BY toYYYYMM(day)\nORDER BY (sensor, id)" in rest
