"""OpenMetrics text as the specification has it, and the older format that other tools read."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from metrics_status import COUNTERS, STATUS

from trafficmond.metrics.families import families
from trafficmond.metrics.text import Family, openmetrics, prometheus

TEXT = openmetrics(families(STATUS, COUNTERS))


def test_a_family_of_each_kind() -> None:
    made = openmetrics(
        [
            Family("x_bytes", "counter", 'says "a\\b"\nand more', (({"to": 'q"\\\n'}, 3),)),
            Family("y", "gauge", "why", (({}, 0.5),)),
            Family("z", "gauge", "nothing to tell", ()),
        ]
    )
    assert made.splitlines() == [
        "# TYPE x_bytes counter",
        "# UNIT x_bytes bytes",
        '# HELP x_bytes says \\"a\\\\b\\"\\nand more',
        'x_bytes_total{to="q\\"\\\\\\n"} 3',
        "# TYPE y gauge",
        "# HELP y why",
        "y 0.5",
        "# EOF",
    ]


def test_the_older_format_names_a_counter_the_same_everywhere() -> None:
    made = openmetrics(
        [Family("x_bytes", "counter", "what it is", (({}, 3),)), Family("y", "gauge", "why", (({}, 1),))]
    )
    assert prometheus(made).splitlines() == [
        "# TYPE x_bytes_total counter",
        "# HELP x_bytes_total what it is",
        "x_bytes_total 3",
        "# TYPE y gauge",
        "# HELP y why",
        "y 1",
        "# EOF",
    ]


def test_the_grammar_of_every_line() -> None:
    """Section "ABNF" of the specification, as far as it is used."""
    label = r'[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"'
    sample = re.compile(rf"[a-zA-Z_:][\w:]*(?:\{{{label}(?:,{label})*\}})? -?[0-9][0-9.e+-]*")
    meta = re.compile(r"# (?:TYPE [a-z_]+ (?:counter|gauge)|UNIT [a-z_]+ [a-z]+|HELP [a-z_]+ .*)")
    lines = TEXT.splitlines()
    assert lines[-1] == "# EOF"
    assert all((meta if line.startswith("#") else sample).fullmatch(line) for line in lines[:-1])
    assert len({line.rpartition(" ")[0] for line in lines}) == len(lines), "a sample is told once"


def test_families_are_whole_and_named_by_the_conventions() -> None:
    at = ""
    for line in TEXT.splitlines()[:-1]:
        if line.startswith("# TYPE"):
            _, _, at, kind = line.split()
            assert at.startswith("trafficmon_")
            assert not at.endswith("_total")
        elif not line.startswith("#"):
            name = re.split(r"[{ ]", line)[0]
            assert name == (f"{at}_total" if kind == "counter" else at)


def test_promtool_finds_nothing_to_say() -> None:
    if not shutil.which("promtool"):
        pytest.skip("needs promtool; run: apt-get install prometheus")
    done = subprocess.run(["promtool", "check", "metrics"], input=prometheus(TEXT), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
