"""The four formats: the machine's ones are faithful."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from typing import Any

import pytest
from control_fake import Running
from control_replies import FLOW, STATUS, THREAT
from ctl_runs import command, environ
from hypothesis import given
from hypothesis import strategies as st

from trafficctl.render import status, style
from trafficctl.render.columns import FLOWS
from trafficctl.render.output import Output
from trafficmond.analyze.render import data

ROWS: list[dict[str, Any]] = [FLOW, {**FLOW, "rule": 'a "label", with\nall', "packets": 2**63}]


def written(form: str, rows: list[dict[str, Any]], **options: Any) -> str:
    stream = io.StringIO(newline="")
    Output(form, stream, 80).rows(rows, FLOWS, **options)
    return stream.getvalue()


def test_json_is_one_array() -> None:
    assert json.loads(written("json", ROWS)) == ROWS
    assert json.loads(written("json", [])) == []


def test_jsonl_is_a_line_a_row() -> None:
    assert [json.loads(line) for line in written("jsonl", ROWS).splitlines()] == ROWS
    assert written("jsonl", []) == ""


def test_csv_is_rfc_4180_with_every_field() -> None:
    text = written("csv", ROWS)
    assert "\r\n" in text
    first, second = csv.DictReader(io.StringIO(text, newline=""))
    assert list(first) == list(FLOW)
    assert first["rule"] == ""
    assert second["rule"] == 'a "label", with\nall'
    assert int(second["packets"]) == 2**63


def test_csv_without_rows_has_its_header() -> None:
    assert written("csv", [], fields=("a", "b")) == "a,b\r\n"


def test_nested_values_are_json_in_csv() -> None:
    (row,) = csv.DictReader(io.StringIO(written("csv", [THREAT]), newline=""))
    assert json.loads(row["evidence"]) == THREAT["evidence"]


def test_human_rows_count_and_say_when_there_are_none() -> None:
    stream = io.StringIO()
    output = Output("human", stream, 80)
    assert output.rows(iter(ROWS), FLOWS, empty="none") == 2
    assert output.rows(iter([]), FLOWS, empty="none") == 0
    assert stream.getvalue().endswith("none\n")


def test_a_long_answer_is_laid_out_page_by_page() -> None:
    lines = written("human", [FLOW] * 1_100).splitlines()
    assert sum(line.startswith("LAST SEEN") for line in lines) == 3
    assert sum("203.0.113.5:443" in line for line in lines) == 1_100


def test_a_report_in_each_form() -> None:
    texts = {}
    for form in ("human", "json", "jsonl", "csv"):
        stream = io.StringIO(newline="")
        Output(form, stream, 80).report(STATUS, lambda value, *_: [value["version"]])
        texts[form] = stream.getvalue()
    assert texts["human"] == "0.2.0\n"
    assert json.loads(texts["json"]) == json.loads(texts["jsonl"]) == STATUS
    assert texts["jsonl"].count("\n") == 1
    pairs = {row["key"]: row["value"] for row in csv.DictReader(io.StringIO(texts["csv"], newline=""))}
    assert pairs["accounting.seen.packets"] == "123456789"
    assert pairs["interfaces.0.name"] == "eth0"


@given(
    st.recursive(
        st.integers() | st.text() | st.none(),
        lambda inner: st.lists(inner, min_size=1) | st.dictionaries(st.text(), inner, min_size=1),
        max_leaves=20,
    )
)
def test_flattening_loses_no_leaf(value: Any) -> None:
    def leaves(each: Any) -> list[Any]:
        if isinstance(each, dict):
            each = list(each.values())
        return [leaf for inner in each for leaf in leaves(inner)] if isinstance(each, list) else [each]

    assert [leaf for _, leaf in data.leaves(value)] == leaves(value)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "colour"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(stream: io.StringIO, environ: dict[str, str], colour: bool) -> None:
    assert style.wanted(stream, environ) is colour


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("watch", "waiting for events and threats, which are shown as they happen; Ctrl-C ends"),
        ("watch --threats", "waiting for threats, which"),
        (
            "watch --events --host 203.0.113.0/24 --port 22",
            "waiting for events with host 203.0.113.0/24, ports 22, which",
        ),
        ("unban -", "type one address on each line; Ctrl-D ends"),
        ("import --from nft", "paste the rules of nft; Ctrl-D ends"),
    ],
)
def test_a_command_that_waits_says_for_what_on_a_terminal(running: Running, words: str, told: str) -> None:
    near, far = os.openpty()
    with subprocess.Popen(
        command(*words.split()), stdin=far, stdout=subprocess.PIPE, stderr=far, env=environ(running.path)
    ) as waiting:
        os.close(far)
        said = b""
        while b"\n" not in said:
            said += os.read(near, 1000)
        waiting.terminate()
    os.close(near)
    assert said.decode().startswith(f"trafficctl: {told}")


def test_counts_of_status_are_in_groups() -> None:
    store = {"path": "flows.db", "rows": 36_177, "queue": 72_147, "lost_rows": 1_234, "state": "ok"}
    assert status._store(store) == "flows.db, 36,177 rows, 72,147 waiting, 1,234 lost"
    log = {"format": "journal", "written": 5_000, "queue": 6_000, "lost": 7_000}
    assert status._log(log) == "journal, 5,000 written, 6,000 waiting, 7,000 lost"
    export = {"to": "x", "sent": 5_000, "queue": 6_000, "lost": 7_000, "error": None}
    assert status._export(export) == "to x, 5,000 flows sent, 6,000 waiting, 7,000 lost"
