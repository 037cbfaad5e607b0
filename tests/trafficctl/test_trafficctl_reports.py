"""What is told to a person: status, a threat, an explanation, mistakes, findings; at several widths."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from control_replies import CONTROL, EXPLANATION, STATUS, T0, THREAT, TOLD_THREAT

from trafficctl.commands import check, doctor
from trafficctl.render import columns, detail, events, status, table
from trafficctl.render.style import Style

PLAIN = Style(False)
WIDTHS = [60, 80, 160]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def fitting(lines: Iterable[str], width: int) -> str:
    told = list(lines)
    assert all(table.cells(line) <= width for line in told), told
    return "\n".join(told)


@pytest.mark.parametrize("width", WIDTHS)
def test_status(width: int) -> None:
    text = fitting(status.render(STATUS, PLAIN, width, now=T0 + 3_725), width)
    assert text.startswith("trafficmond 0.2.0, process 4242, up 1 h 2 m")
    assert "3 rules, 1 list, 4,567 prefixes, 1 ban" in text
    assert "123,456,789" in text  # accounting is to the packet
    assert "eth0" in text
    assert "not in force" not in text


def test_the_first_line_of_an_explanation_is_right_where_services_decide() -> None:
    told = copy.deepcopy(EXPLANATION)
    (rule, default) = told["decisions"]
    ports = {"wins": False, "why": "it decides for these alone"}
    told["decisions"] = [
        {**rule, **ports, "kind": "ban", "ports": ["tcp/22"]},
        {**rule, **ports, "action": "allow", "ports": ["tcp/443", "tcp/80"]},
        {**default, "action": "drop", "wins": True, "why": None},
    ]
    told |= {"action": "drop", "reason": "default"}
    head = next(detail.render_explanation(told, PLAIN, None))
    assert head == (
        "packets from 203.0.113.5: drop tcp/22 (by ban), allow tcp/443, tcp/80 (by rule), drop all else (by default)"
    )
    told["service"] = "udp/53"
    assert next(detail.render_explanation(told, PLAIN, None)).endswith("for udp/53: drop (by default)")


def test_status_tells_what_is_wrong() -> None:
    sick = copy.deepcopy(STATUS)
    sick["config"] |= {"error": "1 mistake", "mistakes": [{"where": "a.toml:3", "what": "is odd"}]}
    sick["store"] |= {"lost_rows": 7, "state": "the disk is full"}
    sick["logs"][0] |= {"lost": 5}
    sick["warnings"] = ["eth1 vanished"]
    sick["control"] = {**CONTROL, "refused": 3, "lost_records": 12}
    coloured = "\n".join(status.render(sick, Style(True), 100, now=T0))
    text = " ".join(re.sub(r"\x1b\[\d+m", "", coloured).split())
    for told in (
        "eth1 vanished",
        "not in force",
        "a.toml:3: is odd",
        "7 lost (the disk is full)",
        "5 lost",
        "1 client, 3 refused, 12 records",
    ):
        assert told in text
    assert coloured.count("\x1b[31m") >= 4


def test_a_log_that_works_is_not_red() -> None:
    well = copy.deepcopy(STATUS)
    well["logs"][0] |= {"lost": 0, "state": ""}  # as the daemon answers
    (line,) = (line for line in status.render(well, Style(True), 100, now=T0) if "0 lost" in line and "written" in line)
    assert "\x1b[31m" not in line


def test_an_explanation_tells_what_is_in_shadow_however_narrow() -> None:
    told = copy.deepcopy(EXPLANATION)
    told["decisions"][0] |= {"action": "drop", "shadow": True, "wins": False}
    assert "drop, in shadow" in "\n".join(detail.render_explanation(told, PLAIN, 80))


def test_mistakes_are_reported_once_and_in_line() -> None:
    sick = copy.deepcopy(STATUS)
    wrong = [{"where": f"a.toml:{line}", "what": "is odd"} for line in range(1, 9)]
    sick["config"] |= {"error": "a.toml:1: is odd (and 7 more); run trafficctl check", "mistakes": wrong}
    told = list(status.render(sick, PLAIN, 80, now=T0))
    assert sum("a.toml:1:" in line for line in told) == 1
    first = next(index for index, line in enumerate(told) if line.startswith("not in force "))
    values = told[first : first + 6]
    column = values[0].index("a.toml:1")
    assert [line[column:].split(":")[0] for line in values[:5]] == ["a.toml"] * 5
    assert values[5][column:] == "and 3 more"
    assert "after a reboot too" in " ".join(line[column:] for line in told[:9])
    assert first == 0  # before all else
    sick["config"]["not_kept"] = "the next start will not find it"
    told = " ".join(" ".join(status.render(sick, PLAIN, 200, now=T0)).split())
    assert "stays in force, but the next start will not find it; trafficctl check" in told
    assert "after a reboot too" not in told
    sick["config"] |= {"mistakes": None}
    assert any("and 7 more" in line for line in status.render(sick, PLAIN, 120, now=T0))


def test_a_rule_of_several_prefixes_shows_the_first_and_how_many_more() -> None:
    rule = {"cidr": "192.0.2.0/24", "kind": "rule", "action": "drop", "label": "office", "prefixes": 3}
    listed = {"cidr": "/etc/x.netset", "kind": "list", "action": "drop", "prefixes": 900}
    told = table.lines([rule, listed], columns.RULES, 120, PLAIN)
    assert told[1].startswith("192.0.2.0/24 +2  ")
    assert told[2].startswith("x.netset  ")


@pytest.mark.parametrize("width", WIDTHS)
def test_threat(width: int) -> None:
    told = TOLD_THREAT
    text = fitting(detail.render_threat(told, PLAIN, width), width)
    assert text.startswith("high port_scan (T1046), opened")
    for part in ("250 ports", "22, 23, 80", "WHAT WAS DONE", "would have banned", "FLOWS", "203.0.113.5:443"):
        assert part in text


def test_a_threat_of_many_flows_shows_some() -> None:
    told = {**TOLD_THREAT, "flows": TOLD_THREAT["flows"] * 50}
    told["threat"] = {**THREAT, "evidence": {"unit": "ports", "proven": False, "answered": True}}
    lines = list(detail.render_threat(told, PLAIN, 100))
    assert sum("203.0.113.5:443" in line for line in lines) == 20
    assert lines[-1] == "(and 30 more; -o json has them)"
    assert not any(line.startswith("unit") for line in lines)
    assert [line.split() for line in lines if line.startswith(("proven", "answered"))] == [
        ["proven", "no"],
        ["answered", "yes"],
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_explanation(width: int) -> None:
    told = EXPLANATION
    lines = list(detail.render_explanation(told, PLAIN, width))
    text = fitting(lines, width)
    assert lines[0] == "packets from 203.0.113.5: drop (by rule)"
    (winner,) = [line for line in lines if line.startswith("=>")]
    assert "203.0.113.0/24" in winner
    assert "4,321 dropped" in text
    assert "trafficctl add-cidr 203.0.113.5/32" in " ".join(text.split())


def test_mistakes_stand_under_their_lines() -> None:
    wrong = {"path": "a.toml", "line": 3, "what": "no such key", "text": "\tcolour = 1"}
    checked = {"path": "a.toml", "rules": 0, "lists": 0, "prefixes": 0, "mistakes": [wrong], "notes": []}
    assert list(check.render(checked, PLAIN, 60)) == [
        "a.toml",
        "     3 |     colour = 1",
        "       ^ no such key",
        "a.toml: 1 mistake; the daemon would keep the rules in force",
    ]
    absolute = {**checked, "mistakes": [{**wrong, "path": str(Path("a.toml").absolute())}]}
    assert list(check.render(absolute, PLAIN, 60))[-1].startswith("a.toml: 1 mistake;")
    assert list(check.render({**checked, "path": "b.toml"}, PLAIN, 60))[-1].startswith(
        "b.toml with the files that it names: 1 mistake;"
    )


def test_findings_end_with_their_sum() -> None:
    rows = [
        {"subject": "kernel", "state": "ok", "what": "Linux", "advice": ""},
        {"subject": "clock", "state": "warn", "what": "off " * 30, "advice": "turn it on"},
    ]
    lines = list(doctor.render(rows, PLAIN, 60))
    fitting(lines, 60)
    assert lines[0] == "ok    kernel  Linux"
    assert any(line.strip() == "-> turn it on" for line in lines)
    assert lines[-1] == "1 warn, 1 ok"


def test_event_lines() -> None:
    event: dict[str, Any] = {
        "timestamp": T0 + 0.25,
        "action": "DROP",
        "interface": "eth0",
        "protocol": "TCP",
        "src_ip": "203.0.113.5",
        "src_port": 4711,
        "dst_ip": "2001:db8::1",
        "dst_port": 22,
        "packet_size": 60,
        "rule": "bad\nneighbours",
    }
    told = events.event_line(event, PLAIN)
    assert told == ("22:13:20.250 drop    eth0 TCP 203.0.113.5:4711 -> [2001:db8::1]:22 60 B rule bad\\nneighbours")
    wide = {**event, "src_ip": "2001:db8:1111:2222:3333:4444:5555:6666"}
    lines = events.fitted(events.event_line, wide, PLAIN, 80)
    assert [len(line) <= 80 for line in lines] == [True, True]
    assert (lines[0][:28], lines[1][:13].strip()) == ("22:13:20.250 drop    eth0 TC", "")
    assert events.fitted(events.event_line, wide, PLAIN, None) == [events.event_line(wide, PLAIN)]
    ping = {**event, "action": "LOG", "protocol": "ICMP", "src_port": 8, "dst_port": 0, "rule": None}
    assert "monitor eth0 ICMP 203.0.113.5 -> 2001:db8::1 60 B" in events.event_line(ping, PLAIN)
