"""What is told in a terminal of 80 columns fits in it, and nothing of it is lost."""

from __future__ import annotations

import pytest

from trafficctl import parser
from trafficctl.commands import COMMANDS
from trafficctl.render import columns, table
from trafficctl.render.style import Style


def _help(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        parser.parse([*command.split(), "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_help_fits_and_says_the_same_at_every_width(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    wide = _help(command, capsys)
    monkeypatch.setenv("COLUMNS", "80")
    narrow = _help(command, capsys)
    assert max(map(len, narrow.splitlines())) <= 80
    assert narrow.replace(" \\\n", " ").split() == wide.replace(" \\\n", " ").split()


def test_an_example_that_is_too_long_continues_behind_a_backslash(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = _help("flows", capsys)
    assert "--port 22,8000-8100 \\\n      --src '!10.0.0.0/8'\n" in told
    assert "  trafficctl flows --since 10m --names         hosts by name\n" in told


def test_a_change_is_reported_whole_below_its_row_where_the_table_is_too_wide() -> None:
    entry = {"at": 1.7e9, "user": "root", "uid": 0, "pid": 12, "change": "reload", "subject": "/etc/trafficmon/x.toml"}
    entry |= {"before": "3 rules, 2 lists, 5000 prefixes", "after": "3 rules, 2 lists, 5001 prefixes", "login": None}
    told = table.lines([entry, {**entry, "before": None}], columns.AUDIT, 80, Style(False))
    assert max(map(len, told)) <= 80
    assert "before: 3 rules, 2 lists, 5000 prefixes; after: 3 rules, 2 lists, 5001" in "".join(told)
    assert "    after: 3 rules, 2 lists, 5001 prefixes" in told
    assert len(table.lines([entry], columns.AUDIT, 200, Style(False))) == 2
