"""Usage as people read it."""

from __future__ import annotations

import csv
import io
import time
from argparse import Namespace
from typing import Any

import pytest
from control_fake import Running
from control_replies import USAGE
from ctl_runs import Ctl

from trafficctl.commands import usage
from trafficctl.render import table
from trafficctl.render.style import Style
from trafficctl.render.usage import render

PLAIN = Style(False)


@pytest.mark.parametrize("width", [40, 60, 80, 160, None])
def test_every_width_has_the_figures_and_the_sum(width: int | None) -> None:
    lines = list(render(USAGE, "day", PLAIN, width))
    assert all(table.cells(line) <= (width or 1000) for line in lines)
    text = "\n".join(lines)
    for told in ("DAY", "UP", "DOWN", "2026-11-25", "3 MiB", "12 MiB", "20 MiB"):
        assert told in text, told
    assert [line.split()[0] for line in lines[1:4]] == ["2026-11-25", "2026-11-26", "2026-11-27"]


def test_bars_are_in_proportion_and_nothing_has_none() -> None:
    bars = [line.count("█") + line.count("▒") for line in list(render(USAGE, "day", PLAIN, 100))[1:4]]
    assert bars[1] == 0
    assert 2.5 * bars[0] <= bars[2] <= 3.5 * bars[0]
    down, up = (list(render(USAGE, "day", PLAIN, 100))[3].count(mark) for mark in "█▒")
    assert 3 * up <= down <= 5 * up


def test_a_system_has_its_name() -> None:
    rows = [{**USAGE[0], "period": None, "key": "64500", "as_name": "Example Networks Ltd of Somewhere"}]
    rows += [{**USAGE[1], "period": None, "key": "", "as_name": None}]
    for width, name in ((80, "Example Netw…"), (160, "Example Networks Ltd of Somewhere")):
        lines = list(render(rows, "asn", PLAIN, width))
        assert "AS NAME" in lines[0]
        assert name[:-1] in lines[1]
        assert max(map(len, lines)) <= width
    assert "AS NAME" not in next(render(USAGE, "day", PLAIN, 80))


def test_long_names_of_units_leave_room_for_bars() -> None:
    keys = (
        "docker-" + 5 * "0123456789ab" + "cdef.scope",
        "user@1000.service/app-org.mozilla.firefox-4711-and-more.scope",
    )
    rows = [{**USAGE[0], "period": None, "key": key} for key in keys]
    lines = list(render(rows, "unit", PLAIN, 80))
    assert lines[0].endswith("█ down ▒ up")
    assert [line.split()[0] for line in lines[1:3]] == [
        "docker-0123456789ab….scope",
        "user@1000/app-org.mozilla.firefox-4711-and-…",
    ]


def test_what_is_not_sided_is_reported() -> None:
    rows = [{**USAGE[0], "unsided_bytes": 2048}]
    assert "2 KiB" in list(render(rows, "day", PLAIN, 80))[-1]


def test_keys_of_strangers_cannot_steer_the_terminal() -> None:
    rows = [{**USAGE[0], "period": None, "key": "\x1b[2J"}, {**USAGE[0], "period": None, "key": ""}]
    text = "\n".join(render(rows, "interface", PLAIN, 80))
    assert "\x1b" not in text
    assert "(none)" in text


def test_what_is_asked(ctl: Ctl, running: Running) -> None:
    assert ctl("usage", "--by", "country", "--since", "@1700000000").returncode == 0
    asked: dict[str, Any] = {"kind": "country", "since": 1700000000.0, "limit": 1000}
    assert running.canned.asked[-1] == ("Usage", asked)
    ctl("usage", "--by", "month", "--interface", "eth0", "--since", "@1")
    assert running.canned.asked[-1][1] == {
        **{"period": "month", "kind": "interface", "key": "eth0"},
        **{"since": 1.0, "limit": 1000},
    }
    wrong = ctl("usage", "--by", "country", "--interface", "eth0")
    assert wrong.returncode == 2
    assert "--interface works only with --by hour, day or month" in wrong.stderr


@pytest.mark.parametrize(
    ("option", "said", "key"),
    [
        *(("country", "ch", "CH"), ("country", "(none)", ""), ("country", "(other)", "(other)")),
        *(("asn", "AS64500", "64500"), ("asn", "064500", "64500"), ("asn", "(none)", "")),
    ],
)
def test_which_country_and_system_is_asked_for(ctl: Ctl, running: Running, option: str, said: str, key: str) -> None:
    assert ctl("usage", f"--{option}", said).returncode == 0
    assert (running.canned.asked[-1][1]["kind"], running.canned.asked[-1][1]["key"]) == (option, key)


@pytest.mark.parametrize(
    "wrong",
    [
        *(["--country", "Germany"], ["--country", ""], ["--country", "49"], ["--asn", "4294967296"], ["--asn", "-1"]),
        *(["--asn", ""], ["--asn", "CH"], ["--asn", "²"], ["--interface", ""], ["--unit", ""]),
    ],
)
def test_what_no_sum_can_be_of_is_refused(ctl: Ctl, running: Running, wrong: list[str]) -> None:
    before = len(running.canned.asked)
    done = ctl("usage", *wrong)
    assert (done.returncode, wrong[0] in done.stderr) == (2, True)
    assert len(running.canned.asked) == before


def test_whole_days_and_months_unless_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    now = 1_700_000_000.0
    nothing: dict[str, None] = dict.fromkeys(("since", "until", "interface", "unit", "country", "asn", "limit"))
    begins = {by: usage.question(Namespace(by=by, **nothing), now)["since"] for by in ("hour", "day", "month")}
    assert begins == {"hour": 1699833600.0, "day": 1697414400.0, "month": 1667260800.0}


def test_csv_has_every_field(ctl: Ctl) -> None:
    first, *_ = csv.DictReader(io.StringIO(ctl("usage", "-o", "csv").stdout, newline=""))
    assert first == {key: str(value) for key, value in USAGE[0].items()} | {"as_name": ""}


def test_what_no_database_tells_is_said_beside_the_sums(ctl: Ctl, running: Running) -> None:
    running.canned.replies["Usage"] = {"rows": [], "notes": ["no database tells countries: name one"]}
    done = ctl("usage", "--by", "country")
    assert done.returncode == 0
    assert done.stderr.strip() == "note: no database tells countries: name one"


def test_why_a_unit_has_a_number_is_said(ctl: Ctl, running: Running) -> None:
    running.canned.replies["Usage"] = {"rows": [USAGE[0] | {"period": None, "key": "cgroup 4711"}]}
    assert "such as cgroup 4711: it was removed" in ctl("usage", "--by", "unit").stderr
