"""What people and programs get to see: it fits, it adds up, and nothing foreign gets out of its place."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from reports import HOSTILE, report

from trafficmond import figures
from trafficmond.analyze.render import data as data_render
from trafficmond.analyze.render import page, text, times
from trafficmond.analyze.render.usage import pictures
from trafficmond.analyze.run import analyze
from trafficmond.config.settings import Settings

VOID = {"meta", "wbr", "rect", "line", "polygon", "polyline"}


class _Checker(HTMLParser):
    """Tags balanced; every tag, attribute and text noted."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _checked(html: str) -> _Checker:
    checker = _Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    html = page.render(report())
    checker = _checked(html)
    assert set(checker.tags) & {"script", "link", "img", "iframe", "object", "base", "form"} == set()
    assert not [entry for entry in checker.attributes if entry[1].startswith("on") or entry[1] in ("src", "srcset")]
    links = [value for _, name, value in checker.attributes if name == "href"]
    assert links == ["https://attack.mitre.org/techniques/T1046/"]
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_hostile_text_stays_text() -> None:
    html = page.render(report())
    assert "<script" not in html
    assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e\u2066-\u2069]", html)
    shown = "".join(_checked(html).text)
    assert "alert(" in shown
    assert r"\u202e" in shown
    assert r"\x1b[31m\n" in shown


@pytest.mark.parametrize("technique", ["T1046", "T1498.001", '"><script>', "", "Tabcd", "T1046/../.."])
def test_only_a_real_technique_becomes_a_link(technique: str) -> None:
    made = report("x")
    made["threats"][0]["technique"] = technique
    links = [value for _, name, value in _checked(page.render(made)).attributes if name == "href"]
    expected = re.fullmatch(r"T\d{4}(\.\d{3})?", technique)
    assert links == ([f"https://attack.mitre.org/techniques/{technique.replace('.', '/')}/"] if expected else [])


def test_the_page_shows_the_report_s_numbers() -> None:
    shown = re.sub(r"\s+", " ", " ".join(_checked(page.render(report("eth0"))).text))
    for piece in ("1 threat", "1 high", "33.3 %", "2001:db8:1234:5678:9abc:def0:1234:5678", "30 places", "and 29 more"):
        assert piece in shown
    assert "[2001:db8:1234:5678:9abc:def0:1234:5678]:50000" in shown
    assert "192.0.2.1:8" not in shown  # ICMP has no ports


def test_a_report_of_nothing_is_a_page_too() -> None:
    made = report("x")
    made["threats"] = made["top_sources"] = made["top_destinations"] = []
    made["temporal_analysis"]["timeline"] = []
    made["packet_sizes"]["distribution"] = dict.fromkeys(made["packet_sizes"]["distribution"], 0)
    made["flow_analysis"]["top_flows"] = made["flow_analysis"]["top_services"] = []
    made["summary"]["start_time"] = made["summary"]["end_time"] = None
    made["summary"]["sources"] = []
    assert "No threats found" in page.render(made)
    assert "none found" in text.render(made)


@pytest.mark.parametrize("width", [48, 80, 100, 200])
def test_text_fits_the_terminal(width: int) -> None:
    lines = text.render(report("eth0"), width).splitlines()
    long = [line for line in lines if len(line) > max(width, 70)]
    assert [line for line in long if "2001:db8" not in line] == []


def test_figures_stand_below_each_other_however_long_the_addresses_are() -> None:
    made = report("eth0")
    names = ["192.0.2.7", "2001:db8:aaaa:bbbb:fedc:ba98:7654:3210"]
    shares = [{"packets": 12, "bytes": 3400, "percent": share} for share in (60.0, 40.0)]
    made["top_sources"] = [{"ip": name, **share} for name, share in zip(names, shares, strict=True)]
    made["interface_distribution"] = dict(zip(("eth9", "a-name-longer-than-usual0"), shares, strict=True))
    lines = text.render(made, 80).splitlines()
    for first, second in (names, list(made["interface_distribution"])):
        ends = [line.index("%") for line in lines if line.split()[:1] in ([first], [second])]
        assert len(ends) >= 2
        assert len(set(ends[:2])) == 1


def test_text_is_plain_where_nobody_asked_for_colour() -> None:
    assert "\x1b" not in text.render(report(), 80)
    coloured = text.render(report(), 80, colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == text.render(report(), 80)


def test_csv_holds_every_number_and_no_formula() -> None:
    made = report()
    rows = list(csv.reader(io.StringIO(data_render.to_csv(made))))
    assert rows[0] == ["section", "key", "field", "value"]
    found = {tuple(row[:3]): row[3] for row in rows[1:]}
    assert found["summary", "total_packets", ""] == "3"
    assert found["top_sources", "2", "ip"] == "192.0.2.1"
    assert found["protocol_distribution", "TCP", "packets"] == "2"
    assert found["temporal_analysis", "timeline", "3.packets"] == "2"
    assert found["threats", "1", "evidence.ports.2"] == "2"
    assert not [row for row in rows for cell in row if cell.startswith(("=", "+", "@"))]
    assert (
        data_render.to_csv(report("=cmd()")).count("\"'=cmd()") + data_render.to_csv(report("=cmd()")).count(",'=cmd()")
        > 0
    )


def test_json_is_the_report_itself() -> None:
    assert json.loads(data_render.to_json(report())) == report()


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (figures.exact(1234567), "1,234,567"),
        (figures.exact(0.333), "0.333"),
        (figures.size(999), "999 B"),
        (figures.size(1500), "1.46 KiB"),
        (figures.size(123456), "121 KiB"),
        (figures.size(5e12), "4.55 TiB"),
        (figures.span(0.0015), "1.5 ms"),
        (figures.span(59), "59 s"),
        (figures.span(5400), "1 h 30 m"),
        (figures.span(90061), "1 d 1 h"),
        (figures.share(0.04, 100), "<0.1 %"),
        (figures.share(0, 100), "0.0 %"),
        (figures.number(1500), "1.5 k"),
        (figures.many(1, "flow"), "1 flow"),
        (figures.many(2000, "flow"), "2,000 flows"),
        (times.period("2024-11-29T10:00:01.000Z", "2024-11-29T10:00:05.000Z"), "2024-11-29 10:00:01 to 10:00:05 UTC"),
        (times.period("2024-11-29T10:00:01.000Z", "2024-11-30T10:00:05.000Z")[:23], "2024-11-29 10:00:01 to "),
        (times.period(None, None), "-"),
        (figures.plain("a\u202eb\n"), r"a\u202eb\n"),
        (figures.evidence({"a": [1, 2], "b": None, "c": True}), "a: 1, 2, b: -, c: yes"),
    ],
)
def test_figures(made: str, expected: str) -> None:
    assert made == expected


# ---- in a real browser ----

MEASURE = """
<!DOCTYPE html><meta charset="utf-8"><title>measure</title><body style="margin:0"><pre id="out"></pre><script>
const source = new TextDecoder().decode(Uint8Array.from(atob("%s"), c => c.charCodeAt(0)));
const found = {};
function measure(frame, width) {
  const page = frame.contentDocument, root = page.documentElement, view = frame.contentWindow;
  const boxes = [...page.querySelectorAll("main *")].filter(e => !e.closest("svg") && e.tagName != "WBR");
  const over = boxes.filter(e => e.getBoundingClientRect().right > width + 0.5 && e.getBoundingClientRect().width > 0);
  const bars = [...page.querySelectorAll(".plot rect")].map(e => e.getBoundingClientRect());
  const leaves = boxes.filter(e => e.childElementCount == 0 && e.textContent.trim());
  found[width] = {
    scroll: root.scrollWidth, over: over.map(e => e.className || e.tagName), bars: bars.length,
    drawn: bars.filter(b => b.width > 0.2 && b.height > 0.5).length,
    background: view.getComputedStyle(page.body).backgroundColor,
    small: leaves.filter(e => parseFloat(view.getComputedStyle(e).fontSize) < 10.5).length,
  };
  document.getElementById("out").textContent = JSON.stringify(found);
}
for (const width of %s) {
  const frame = document.createElement("iframe");
  frame.style = `border:0;width:${width}px;height:2000px`;
  frame.onload = () => measure(frame, width);
  frame.srcdoc = source;
  document.body.append(frame);
}
</script>
"""


def _browser(tmp_path: Path, *arguments: str) -> str:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs a real browser: apt install chromium")
    command = [
        *(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", *arguments),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def _measured(html: str, tmp_path: Path, *arguments: str, widths: tuple[int, ...] = (800,)) -> list[dict[str, Any]]:
    """What the browser says of the page at each width; the page's own ban on scripts is lifted for the measuring."""
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    outer = tmp_path / "measure.html"
    outer.write_text(MEASURE % (base64.b64encode(free.encode()).decode(), list(widths)))
    dom = _browser(tmp_path, "--window-size=1400,2000", *arguments, "--dump-dom", outer.as_uri())
    found = re.search(r'<pre id="out">(\{.*?\})</pre>', dom)
    assert found, dom[-2000:]
    measured = json.loads(found[1].replace("&amp;", "&").replace("&quot;", '"'))
    return [measured[str(width)] for width in widths]


def test_the_page_fits_every_screen(tmp_path: Path) -> None:
    html = page.render(report("a label without a single place to break it in " + "x" * 120))
    widths = (320, 390, 768, 1280)
    for width, measured in zip(widths, _measured(html, tmp_path, widths=widths), strict=True):
        assert measured["scroll"] == width
        assert measured["over"] == []
        assert measured["small"] == 0
        assert measured["bars"] == measured["drawn"] == 6


def test_the_page_is_dark_where_the_reader_is(tmp_path: Path) -> None:
    (light,) = _measured(page.render(report("x")), tmp_path)
    (dark,) = _measured(page.render(report("x")), tmp_path, "--blink-settings=preferredColorScheme=0")
    assert (light["background"], dark["background"]) == ("rgb(246, 247, 249)", "rgb(16, 21, 28)")


def test_a_real_report_is_drawn_at_phone_and_desktop_width(data: Path, tmp_path: Path) -> None:
    made = analyze([str(data / "pcaps/attacks/vscan_xscan_vuln_scanner.pcap")], Settings(), 0.0)
    html = page.render(made)
    filled = sum(bin_["packets"] > 0 for bin_ in made["temporal_analysis"]["timeline"])
    for width, measured in zip((390, 1280), _measured(html, tmp_path, widths=(390, 1280)), strict=True):
        assert (measured["scroll"], measured["over"], measured["drawn"]) == (width, [], filled)
    file, picture = tmp_path / "report.html", tmp_path / "report.png"
    file.write_text(html)
    _browser(tmp_path, "--window-size=1280,1600", f"--screenshot={picture}", file.as_uri())
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 40_000


def test_the_page_prints(tmp_path: Path) -> None:
    file, printed = tmp_path / "report.html", tmp_path / "report.pdf"
    file.write_text(page.render(report("x")))
    _browser(tmp_path, f"--print-to-pdf={printed}", "--no-pdf-header-footer", file.as_uri())
    assert printed.read_bytes().startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes())) <= 4


def test_hostile_is_hostile() -> None:
    """The label above must keep what the tests lean on."""
    assert all(piece in HOSTILE for piece in ("<script>", "\u202e", "\x1b", "\n", '"', "&"))


def test_hours_that_are_too_few_to_draw_are_sums() -> None:
    def page(hours: int) -> str:
        keys = {"nginx.service": [(10, 2000)] * hours, "kernel": [(0, 1)] * hours}
        return "".join(pictures({"usage": {"unit": {"first": 0.0, "step": 3600.0, "keys": keys}}}))

    assert ("Bytes up and down over time" in page(3), "Bytes up and down over time" in page(2)) == (True, False)
    assert re.findall(r'"name">(.*?)</span><span class="number">(.*?)<', page(2)) == [
        ("nginx", "20 B"),
        ("kernel", "0 B"),
    ]
