"""Tables fit any width, lose nothing silently, and colour by meaning only."""

from __future__ import annotations

import re

import pytest
from control_fake import Running
from control_replies import BAN, FLOW, RULE, THREAT
from ctl_runs import Ctl
from hypothesis import given
from hypothesis import strategies as st

from trafficctl.render import columns, table
from trafficctl.render.style import Style
from trafficctl.render.table import Column, clip_middle
from trafficmond.store.query import TOTALS

PLAIN = Style(False)
CHANGE = {
    **{
        "at": 1.7e9,
        "user": "root",
        "login": None,
        "uid": 0,
        "pid": 4711,
        "change": "add-cidr",
        "subject": "192.0.2.0/24",
    },
    **{"before": None, "after": "drop ingress tcp/443 'scanners of the week' until 2026-12-01T14:32:44.147Z"},
}
KINDS: list[tuple[tuple[Column, ...], dict[str, object]]] = [
    (columns.FLOWS, FLOW),
    (columns.RULES, RULE),
    (columns.THREATS, THREAT),
    (columns.BANS, BAN),
    (columns.AUDIT, CHANGE),
]
_SIX = dict.fromkeys(("src_ip", "dst_ip", "cidr", "subject"), "2001:db8:aaaa:bbbb:fedc:ba98:7654:3210")
SIX = [(shown, row | {key: value for key, value in _SIX.items() if key in row}) for shown, row in KINDS]


@pytest.mark.parametrize("width", [60, 80, 160])
@pytest.mark.parametrize(("shown", "row"), KINDS + SIX)
def test_fits(shown: tuple[Column, ...], row: dict[str, object], width: int) -> None:
    hidden: dict[str, int] = {}
    lines = table.lines([row] * 3, shown, width, PLAIN, hidden)
    told = table.note(hidden, width, PLAIN)
    assert max(table.cells(line) for line in lines + told) <= width
    assert bool(told) == any(weight > table.NICE_TO_HAVE for weight in hidden.values())
    if told:
        assert re.fullmatch(r"\(-o csv has everything; no room for: .*\)", " ".join(told))
        assert set(" ".join(told)[37:-1].split(", ")) < {column.title for column in shown}


def test_what_is_only_nice_to_have_is_not_missed_and_the_rest_is_named_once(
    ctl: Ctl, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of many pages has one note, one that lacks little has none."""
    monkeypatch.setenv("COLUMNS", "60")
    running.canned.flow_rows = 1200
    assert ctl("flows", "--limit", "1200").stdout.count("no room") == 1
    assert ctl("explain", "203.0.113.5").stdout.count("no room") == 1
    monkeypatch.setenv("COLUMNS", "80")
    assert "no room" not in ctl("audit").stdout + ctl("status").stdout


def test_the_reason_of_a_ban_is_below_it_if_there_is_no_room() -> None:
    ban = {**BAN, "cidr": "2001:db8:aaaa:bbbb:fedc:ba98:7654:3210/128", "reason": "login attempts at the mail server"}
    assert "    reason: login attempts at the mail server" in table.lines([ban], columns.BANS, 80, PLAIN)


def test_long_addresses_leave_the_rest_readable() -> None:
    source, target = "2001:db8:aaaa:bbbb:fedc:ba98:7654:3210", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:1111"
    summary = f"{source} tried about 506 ports of {target}"
    threat = {**THREAT, "src_ip": source, "dst_ip": target, "summary": summary}
    told = " ".join(" ".join(table.lines([threat], columns.THREATS, 80, PLAIN)).split())
    assert f"summary: {summary}" in told
    (_, row, *_) = table.lines([{**RULE, "cidr": target, "prefixes": 1}], columns.RULES, 80, PLAIN)
    assert row.startswith(target)


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_telling_columns_stay(width: int) -> None:
    (head, row, *_) = table.lines([FLOW], columns.FLOWS, width, PLAIN)
    assert {"FROM", "TO", "TOTAL"} <= set(head.split())
    assert ("192.0.2.10:51000" if width == 160 else "192.0.2.10 ") in row
    assert "203.0.113.5:443" in row
    (head, row, *_) = table.lines([THREAT], columns.THREATS, width, PLAIN)
    assert str(THREAT["id"]) in row
    assert "FROM" in head
    assert str(THREAT["src_ip"]) in row
    (head, row, *_) = table.lines([RULE], columns.RULES, width, PLAIN)
    assert "203.0.113.0/24" in row


def test_in_80_columns_flows_say_whose_they_are_and_what_was_dropped() -> None:
    server = {"unit": "postgresql@17-main.service", "src_port": 53, "src_ip": "192.0.2.2", "dst_port": 40000}
    app = {"unit": "user@1000.service/sync.scope", "action": "monitor"}
    many = {"first_seen": 1.0, "last_seen": 2.0}  # a date, which is wider than a time of today
    rows = [{**FLOW, **many, **more, "protocol": "TCP"} for more in (server, app, {"unit": None, "action": "drop"})]
    (head, first, second, third, *_) = table.lines(rows, columns.FLOWS, 80, PLAIN)
    assert head.split() == ["LAST", "SEEN", "FROM", "TO", "PROTO", "ACTION", "TOTAL", "UNIT"]
    assert ("192.0.2.2:53" in first, "postgres" in first, "192.0.2.10 " in second) == (True, True, True)
    assert ("monitor" in second, " drop " in third, "(none)" in third) == (False, True, True)
    passed = [{**row, "action": "monitor"} for row in rows]
    head = table.lines(passed, columns.FLOWS, 80, PLAIN)[0]
    assert ("ACTION" in head, "PROTO" in head) == (False, True)
    (head, first, *_) = table.lines(rows, columns.FLOWS, 250, PLAIN)
    assert ("postgresql@17-main.service" in first, "drop" in first) == (True, False)


def test_a_group_by_port_says_what_icmp_has_in_its_place() -> None:
    totals = dict.fromkeys(TOTALS, 1)
    shown = columns.grouped_columns(("protocol", "src_port", "dst_port", *TOTALS))
    rows = [
        {"protocol": "TCP", "src_port": 40000, "dst_port": 443, "dst_service": "https", **totals},
        {"protocol": "ICMP", "src_port": 3, "dst_port": 1, **totals},
        {"protocol": "GRE", "src_port": 0, "dst_port": 0, **totals},
    ]
    told = [line.split("  ") for line in table.lines(rows, shown, 160, PLAIN)[1:]]
    found = [[part.strip() for part in line if part][:3] for line in told]
    assert found == [["TCP", "40000", "https"], ["ICMP", "type 3", "code 1"], ["GRE", "(none)", "(none)"]]


@given(
    st.integers(1, 120),
    st.lists(st.fixed_dictionaries({"a": st.text(max_size=40), "b": st.integers(), "c": st.text(max_size=40)})),
)
def test_never_wider_than_it_may_be(width: int, rows: list[dict[str, object]]) -> None:
    shown = [Column("a", "A", shrinks_to=5, weight=9), Column("b", "B", right=True), Column("c", "C", shrinks_to=3)]
    lines = table.lines(rows, shown, width, PLAIN)
    assert all(table.cells(line) <= width for line in lines)
    assert "".join(lines[len(rows) + 1 :])[:1] in ("", "(")


def test_without_a_limit_nothing_is_cut() -> None:
    lines = table.lines([{"a": "x" * 500}], [Column("a", "A", shrinks_to=5)], None, PLAIN)
    assert lines[1] == "x" * 500


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (columns.FLOWS, ("SENT", "RECEIVED", "TOTAL")),
        (columns.grouped_columns(["host", *TOTALS]), ("SENT", "RECEIVED", "TOTAL")),
        (columns.grouped_columns(["src_ip", *TOTALS]), ("DOWN", "UP", "TOTAL")),
    ],
)
def test_flows_show_who_sent_what_and_no_word_means_two_numbers(shown: list[Column], words: tuple[str, ...]) -> None:
    row = FLOW | {"packets": 3, "reply_packets": 40, "bytes": 100, "reply_bytes": 5000, "host": "192.0.2.1"}
    row |= {"up_bytes": 5000, "down_bytes": 100}
    head, told = table.lines([row], shown, None, PLAIN)
    cells = dict(zip(re.split(r"\s{2,}", head.strip()), re.split(r"\s{2,}", told.strip()), strict=True))
    assert [cells[word] for word in words] == ["100 B", "4.88 KiB", "4.98 KiB"]
    assert not {"PACKETS", "BYTES"} & set(cells)  # in JSON, CSV and SQL they mean what was sent


@pytest.mark.parametrize("width", [60, 80, 160])
@pytest.mark.parametrize(
    "keys", [("unit",), ("unit", "process"), ("unit", "peer", "dst_port"), ("host", "unit"), ("src_ip", "dst_ip")]
)
def test_what_tells_groups_apart_stays(keys: tuple[str, ...], width: int) -> None:
    """Whatever else has no room: two rows that look alike answer nothing. Where there is none of it, that is said."""
    of = dict.fromkeys(("host", "peer", "src_ip", "dst_ip"), "2001:db8:1234:5678:9abc:def0:1234:5678")
    of |= {"unit": f"docker-{'3f2e' * 16}.scope", "process": "systemd-resolve", "dst_port": "8443"}
    row = {**FLOW, **dict.fromkeys(TOTALS, 10**9), **of}
    rows = [row, row | dict.fromkeys(keys)]
    shown = columns.grouped_columns([*keys, *TOTALS])
    head, _, none, *_ = table.lines(rows, shown, width, PLAIN)
    titles = [column.title for column in shown[: len(keys)]]
    assert re.split(r"\s{2,}", head)[: len(keys)] == titles
    assert re.split(r"\s{2,}", none)[: len(keys)] == ["(none)"] * len(keys)


def test_empty_columns_are_left_out() -> None:
    shown = [Column("a", "A"), Column("b", "B"), Column("c", "C")]
    assert table.lines([{"a": 1, "b": None, "c": 3}], shown, 80, PLAIN) == ["A  C", "1  3"]


def test_a_unit_that_is_not_known_is_reported_as_such_beside_one_that_is() -> None:
    named, unnamed = {**FLOW, "unit": "nginx.service"}, {**FLOW, "unit": None}
    for shown in (columns.FLOWS, columns.grouped_columns(["unit", "flows"])):
        head, first, second = table.lines([named, unnamed], shown, None, PLAIN)
        at = head.index("UNIT")
        assert (first[at:].split()[0], second[at:].split()[0]) == ("nginx.service", "(none)")
    assert "UNIT" not in table.lines([unnamed], columns.FLOWS, None, PLAIN)[0]


def test_numbers_stand_right() -> None:
    shown = [Column("n", "NUMBER", right=True)]
    assert table.lines([{"n": 5}, {"n": 1234567}], shown, 80, PLAIN) == [" NUMBER", "      5", "1234567"]


def test_colour_does_not_move_anything() -> None:
    row = {**RULE, "label": "drop"}
    plain = table.lines([row], columns.RULES, 80, PLAIN)
    coloured = table.lines([row], columns.RULES, 80, Style(True))
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in coloured] == plain
    assert coloured[1].count("\x1b[31mdrop\x1b[0m") == 1  # the action, not the label


def test_wide_and_combining_characters_are_measured() -> None:
    assert table.cells("日本") == 4
    assert table.cells("é") == 1
    assert table.clip("日本語", 5) == "日本…"
    assert table.clip("libpod-0123456789ab….scope", 22) == "libpod-0123456789ab…"
    assert table.pad("日本", 6) == "日本  "
    assert table.clip("abc", 0) == ""


def test_hostile_labels_are_shown_as_text() -> None:
    lines = table.lines([{**RULE, "label": "\x1b]0;owned\x07\r\n"}], columns.RULES, 160, PLAIN)
    assert len(lines) == 2
    assert lines[1].isprintable()


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("/etc/a.toml:3", 20, "/etc/a.toml:3"),
        ("/etc/a.toml:3", 9, "/e…toml:3"),
        ("漢字:3", 4, "…:3"),
        ("2001:db8:1:2:3:4:5:6", 15, "2001…:2:3:4:5:6"),
        ("abc", 0, ""),
    ],
)
def test_an_address_or_a_path_is_cut_in_the_middle(text: str, width: int, shown: str) -> None:
    assert clip_middle(text, width) == shown
