"""The picture of who exchanged how much with whom: in proportion, whole, and nothing foreign gets out of its place."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reports import HOSTILE, report

from trafficmond.analyze.render import page, text
from trafficmond.analyze.render.exchange import exchange

ROWS: list[dict[str, Any]] = [
    {"left": "nginx.service", "right": "Example Networks", "up": 600, "down": 200},
    {"left": "nginx.service", "right": "Other", "up": 100, "down": 0},
    {"left": "ssh.service", "right": "Other", "up": 0, "down": 100},
]


def beside() -> dict[str, Any]:
    line = {
        "first": 1_763_942_400.0,
        "step": 3600,
        "keys": {"eth0": [[1, 2], [0, 0], [3 << 20, 5 << 20]], HOSTILE: [[1, 1]] * 3},
    }
    return {
        "exchange": {
            "left": "units",
            "right": "networks",
            "rows": [*ROWS, {**ROWS[0], "left": HOSTILE, "right": HOSTILE}],
        },
        "countries": [{"country": "XX", "up": 3, "down": 4}, {"country": None, "up": 1, "down": 0}],
        "usage": {"interface": line},
    }


def drawn(rows: list[dict[str, Any]]) -> str:
    return exchange(rows, "units", "networks")


def heights(svg: str) -> list[list[float]]:
    """Of the bars on each side."""
    found: dict[str, list[float]] = {"0": [], "1000": []}
    for x, top, bottom in re.findall(r'<line class="end c\w" x1="(\d+)" x2="\d+" y1="([\d.]+)" y2="([\d.]+)"', svg):
        found[x].append(float(bottom) - float(top))
    return list(found.values())


def test_bars_are_in_proportion_on_both_sides() -> None:
    left, right = heights(drawn(ROWS))
    assert sum(left) == pytest.approx(sum(right), abs=1)
    assert left[0] / sum(left) == pytest.approx(0.9, abs=0.01)
    assert right[0] / sum(right) == pytest.approx(0.8, abs=0.01)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "left": st.sampled_from([f"unit{n}" for n in range(30)]),
                "right": st.sampled_from([f"net{n}" for n in range(40)]),
                "up": st.integers(0, 10**15),
                "down": st.integers(0, 10**6),
            }
        ),
        max_size=60,
    )
)
def test_any_rows_fit_and_none_is_lost(rows: list[dict[str, Any]]) -> None:
    svg = drawn(rows)
    whole = sum(row["up"] + row["down"] for row in rows)
    assert bool(svg) == bool(whole)
    if not svg:
        return
    tall = float(re.findall(r"--tall:([\d.]+)rem", svg)[0])
    tops = [float(top) for top in re.findall(r'style="top:([\d.]+)%"', svg)]
    assert all(0 <= top <= 100 for top in tops)
    left, right = (re.findall(r"top:([\d.]+)%", part) for part in svg.partition('<ul class="right">')[::2])
    for side in (left, right):
        places = [float(each) for each in side]
        assert len(places) <= 11
        # Words have their room: two lines of a name and a figure, 3.15 rem as the style has them.
        assert all((b - a) / 100 * tall > 3.15 for a, b in itertools.pairwise(places))
    assert svg.count("<path") >= max(len(left), len(right))


def test_small_ends_are_reported_together() -> None:
    rows = [{"left": f"u{n}", "right": f"n{n}", "up": 100 - n, "down": 0} for n in range(30)]
    svg = drawn(rows)
    assert svg.count("<li ") == 8 + 11
    assert svg.count("<b>others</b>") == 2


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not any(name.startswith("on") for name, _ in attrs)
        self.tags.add(tag)
        if tag not in ("meta", "br", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_with_all_of_it_is_balanced_and_runs_nothing() -> None:
    whole = report() | beside()
    whole["top_sources"][0]["about"] = HOSTILE
    html = page.render(whole)
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert not {"script", "img", "iframe", "object"} & parser.tags
    for told in ("Units and networks", "Usage by interface", "Countries", "(none)", "8 MiB"):
        assert told in html, told


def test_a_report_without_it_is_as_before() -> None:
    html = page.render(report())
    assert not {"Countries", "Usage by"} & {word for word in ("Countries", "Usage by") if word in html}
    assert 'class="exchange"' not in html


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_terminal_has_the_figures(width: int) -> None:
    shown = text.render(report() | beside(), width)
    assert "\x1b" not in shown
    for told in ("Usage by interface", "eth0", "5 MiB down", "Countries", "XX"):
        assert told in shown, told


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [48, 60, 80, 160])
def test_names_of_any_length_leave_the_figures_in_columns(width: int, encoding: str) -> None:
    docker = f"docker-{'3f2e' * 16}.scope"
    keys = {"nginx.service": [[1 << 20, 2]], docker: [[3, 4]], "": [[5, 6]], "eth0": [[7 << 30, 9 << 30]]}
    made = report() | {"usage": {"unit": {"first": 1_763_942_400.0, "step": 3600, "keys": keys}}}
    talker = made["top_sources"][0]
    made["top_sources"] = [{**talker, "ip": ip} for ip in ("192.0.2.1", "2001:db8:1234:5678:9abc:def0:1234:5678")]
    shown = text.render(made, width, encoding=encoding)
    assert shown.encode(encoding)
    lines = shown.splitlines()
    units, sources = lines.index("Usage by unit"), lines.index("Top sources (packets, bytes)")
    told = lines[units + 1 : units + 1 + len(keys)]
    assert max(map(len, told)) <= width
    assert len({line.index(" up ") for line in told}) == 1
    assert any(docker in line for line in told) == (width == 160)
    assert width < 80 or len({line.index("%") for line in lines[sources + 1 : sources + 4] if "%" in line}) == 1
