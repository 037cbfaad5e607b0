"""Bans as the tools around write them."""

from __future__ import annotations

import time

import pytest
from ctl_runs import Ctl
from hypothesis import given
from hypothesis import strategies as st

from trafficctl.banlines import FOREVER, Line, read

CROWDSEC = """\
id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id
15041,crowdsec,Ip:192.0.2.7,crowdsecurity/ssh-bf,ban,DE,"64496 Example, Inc.",6,3h59m57.5s,false,21
15042,cscli,Range:198.51.100.0/24,manual,ban,,,1,30m,false,22
15043,crowdsec,Ip:192.0.2.8,http,captcha,,,1,30m,false,23
15044,crowdsec,AS:64500,as,ban,,,1,30m,false,24
15045,crowdsec,Ip:192.0.2.9,test,ban,,,1,30m,true,25
15046,crowdsec,Ip:::ffff:192.0.2.10,mapped,ban,,,1,2m,false,26
"""
IPSET = """\
create f2b-sshd hash:ip family inet hashsize 1024 maxelem 65536 timeout 600 bucketsize 12 initval 0xd6
add f2b-sshd 192.0.2.7 timeout 300
add f2b-sshd 192.0.2.8 timeout 0 packets 3 bytes 180 comment "tried 400 passwords"
add f2b-sshd 198.51.100.0/24
"""


def test_crowdsecs_decisions() -> None:
    assert read(CROWDSEC.splitlines()) == (
        [
            Line("192.0.2.7/32", 14397.5, "crowdsecurity/ssh-bf"),
            Line("198.51.100.0/24", 1800.0, "manual"),
            Line("192.0.2.10/32", 120.0, "mapped"),
        ],
        [],
    )


@pytest.mark.parametrize("left", ["177.12554ms", "12.5\u00b5s", "900ns", "0s", "-3s", "-1m2.5s"])
def test_a_decision_that_ends_at_this_moment_keeps_no_others_away(left: str) -> None:
    """As cscli writes what is left of one."""
    lines = [*CROWDSEC.splitlines()[:2], f"15047,cscli,Ip:203.0.113.1,manual,ban,,,1,{left},false,27"]
    assert read(lines) == ([Line("192.0.2.7/32", 14397.5, "crowdsecurity/ssh-bf")], [])


@pytest.mark.parametrize("left", ["", "-", "soon", "1d"])
def test_an_expiration_that_is_none_is_a_mistake(left: str) -> None:
    lines = [CROWDSEC.splitlines()[0], f"15047,cscli,Ip:203.0.113.1,manual,ban,,,1,{left},false,27"]
    assert [mistake.where for mistake in read(lines)[1]] == ["line 2"]


def test_json_is_one_mistake_that_says_what_to_give() -> None:
    found, mistakes = read(["", "[", " {", '  "capacity": 0,'])
    assert (found, [mistake.where for mistake in mistakes]) == ([], ["line 2"])
    assert "-o raw" in mistakes[0].what


def test_a_saved_set() -> None:
    assert read(IPSET.splitlines()) == (
        [
            Line("192.0.2.7/32", 300.0),
            Line("192.0.2.8/32", FOREVER, "tried 400 passwords"),
            Line("198.51.100.0/24"),
        ],
        [],
    )


def test_fail2bans_list_with_and_without_times() -> None:
    def at(ahead: float) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + ahead))

    lines = [
        f"192.0.2.1 \t{at(-100)} + 600 = {at(500)}",
        f"192.0.2.2 \t{at(-100)} + -1 = 9999-12-31 23:59:59",
        f"192.0.2.3 \t{at(-100)} + 60 = {at(-40)}",  # has ended
        "192.0.2.4 192.0.2.5 2001:DB8::1",
    ]
    (first, *others), mistakes = read(lines)
    assert mistakes == []
    assert first.ttl_s == pytest.approx(500, abs=5)
    assert others == [
        Line("192.0.2.2/32", FOREVER),
        Line("192.0.2.4/32"),
        Line("192.0.2.5/32"),
        Line("2001:db8::1/128"),
    ]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("192.0.2.1", Line("192.0.2.1/32")),
        ("192.0.2.1, 10m, a, b", Line("192.0.2.1/32", 600.0, "a, b")),
        ("192.0.2.1 600 tried 400 passwords", Line("192.0.2.1/32", 600.0, "tried 400 passwords")),
        ("192.0.2.1,-1", Line("192.0.2.1/32", FOREVER)),
        ("192.0.2.1,,why", Line("192.0.2.1/32", None, "why")),
    ],
)
def test_a_line(line: str, meant: Line) -> None:
    assert read([line]) == ([meant], [])


@pytest.mark.parametrize(
    "line",
    ["nonsense", "192.0.2.1, soon", "192.0.2.1,0", "add x 192.0.2.1,80", 'add x 192.0.2.1 comment "open', "add x"],
)
def test_what_is_wrong_is_named_by_its_line(line: str) -> None:
    found, mistakes = read(["# heading", "", line, "192.0.2.9"])
    assert found == [Line("192.0.2.9/32")]
    assert [mistake.where for mistake in mistakes] == ["line 3"]


@given(st.lists(st.one_of(st.text(), st.sampled_from([*CROWDSEC.splitlines(), *IPSET.splitlines()])), max_size=5))
def test_no_text_ends_the_reading(lines: list[str]) -> None:
    read(lines)


@pytest.mark.parametrize(
    ("text", "code"), [("", 1), ("\n  \n", 1), ("# none today\n", 0), (CROWDSEC.splitlines()[0], 0)]
)
@pytest.mark.parametrize(("name", "done"), [("ban", "banned"), ("unban", "lifted")])
def test_an_empty_input_is_refused_and_a_list_without_entries_is_not(
    ctl: Ctl, name: str, done: str, text: str, code: int
) -> None:
    ended = ctl(name, "-", stdin=text)
    refused = f"trafficctl: standard input is empty\n  nothing was {done}\n"
    assert (ended.returncode, ended.stderr) == (code, refused if code else "")
    assert ended.stdout.startswith(f"0 {done}") is not bool(code)
