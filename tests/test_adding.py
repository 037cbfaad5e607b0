"""How many files a new thing touches, by adding one of each to a copy of the tree (CONTRIBUTING.md has the lists)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tree_copy import TreeCopy


@pytest.fixture
def tree(tmp_path: Path) -> TreeCopy:
    return TreeCopy(tmp_path)


DETECTOR = '''"""One host sends to the discard service: a sign of amusement."""

from __future__ import annotations

from dataclasses import dataclass

from trafficmond.config.declare import setting
from trafficmond.detect.base import DetectorInput, address
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.windows import Columns, Grouped
from trafficmond.flows.batch import Column
from trafficmond.model import Severity, Threat


@dataclass(frozen=True)
class Settings:
    """[detect.discard]"""

    enabled: bool = setting(True, help="Report what is sent to nobody.")
    packets: int = setting(5, min=1, max=1 << 30, help="Packets of one source before it is said.")
    capacity: int = setting(1024, min=64, max=1 << 20, help="Sources watched at once; 40 bytes each.")


class Discard(GroupedDetector[Settings]):
    name = "discard"
    technique = "T1095"
    dedup_key = ("src_ip",)
    suppressed_by = ("port_scan",)
    idle_timeout_s = 600.0
    bannable = True
    fields = (("packets", "f8"),)
    evidence_bonus_s = 60.0

    def choose(self, seen: DetectorInput) -> Columns:
        return seen.flows.take((seen.flows["dport"] == 9) & (seen.flows["d_packets"] > 0))

    def key(self, rows: Columns) -> Column:
        return rows["src"]

    def weight(self, rows: Columns, by: Grouped) -> Column:
        return by.sum(rows["d_packets"])

    def judge(self, found: Entities) -> tuple[Column, Column]:
        found.add(packets=found.kept["d_packets"])
        return found.states("packets") >= self.settings.packets, found.states("packets")

    def threat(self, found: Entities, entity: int) -> Threat:
        one, state = found.first(entity), found.state(entity)
        src = address(one, "src")
        what = {"unit": "packets", "proven": True}
        when = state["since"], found.now[entity]
        return self.found(Severity.HIGH, f"{src} discards", what, src=src, times=when, count=state["packets"])
'''

DETECTOR_TEST = """from detect_traffic import flow, watch

from trafficmond.detect.detectors.discard import Discard


def test_what_is_sent_to_nobody_is_reported() -> None:
    assert watch(Discard).see([flow("203.0.113.9", "192.0.2.1", 9, packets=2)]) == []
    assert watch(Discard).see([flow("203.0.113.9", "192.0.2.1", 9, packets=6)])[0].src_ip == "203.0.113.9"
"""

DETECTOR_PAGE = """
## Discarding: `discard`

**Looks at** packets to port 9. **Why.** Nobody listens there. **What fools it.** Another port.

<!-- declared: discard -->
<!-- end -->
"""

DETECTOR_AT_WORK = """
import json, pathlib, sys
sys.path.insert(0, "tests/detect")
from detect_traffic import T0, flow, flows
from trafficmond.config.load import load_settings
from trafficmond.config.settings import Response as ResponseSettings
from trafficmond.detect.engine import Engine
from trafficmond.detect.registry import DETECTORS, settings_classes
from trafficmond.detect.response import Response

file = pathlib.Path("discard.toml")
file.write_text("[detect.discard]\\npackets = 3\\n")
settings = load_settings(file, detectors=settings_classes())
engine = Engine(settings.detect)
opened = engine.feed(flows([flow("203.0.113.9", "192.0.2.1", 9, packets=4)]), T0)
decided = Response(ResponseSettings(ban="on"), lambda prefix: False).decide(opened[0], T0)
print(json.dumps({
    "order": list(DETECTORS), "packets": settings.detect["discard"].packets, "tables": engine.status()["detectors"],
    "threats": [update.threat.summary for update in opened], "bans": [ban.prefix for ban in decided],
}))
"""


def test_a_detector(tree: TreeCopy) -> None:
    tree.add("trafficmond/detect/detectors/discard.py", DETECTOR)
    tree.add("tests/detect/test_detect_discard.py", DETECTOR_TEST)
    tree.edit("docs/detectors.md", (" show what the detectors find and miss.\n", DETECTOR_PAGE))
    tree.make_docs()

    found = tree.json(DETECTOR_AT_WORK)
    assert found["order"].index("discard") > found["order"].index("port_scan")
    assert (found["packets"], found["threats"]) == (3, ["203.0.113.9 discards"])
    assert found["bans"] == ["203.0.113.9/32"]
    assert found["tables"]["discard"]["entities"] == 1
    page = (tree.root / "docs/detectors.md").read_text()
    assert "| `packets` | integer: 1 to 1073741824 | `5` | Packets of one source before it is said. |" in page
    assert "It is not reported while an open threat of `port_scan` explains it and is as severe." in page
    tree.tests_pass("tests/detect/test_detect_discard.py", "tests/detect/test_detect_docs.py")
    assert len(tree.touched) <= 3


SINK = '''"""Tab-separated values: one line an event."""

from __future__ import annotations

from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.sinks import record
from trafficmond.sinks.writer import FileWriter


class Tsv(FileWriter):
    """The writer of format tsv."""

    def events(self, batch: Batch, names: Names) -> None:
        """One line each."""
        self._file.append("".join("\\t".join(map(str, row)) + "\\n" for row in record.rows(batch, names)).encode())
'''

SINK_TEST = """import time
from pathlib import Path

from sink_events import NAMES, event, threat

from trafficmond.config.streams import Log
from trafficmond.sinks.fanout import make_sink


def test_tabs(tmp_path: Path) -> None:
    sink = make_sink(Log(format="tsv", path=tmp_path / "t.tsv"))
    sink.start()
    sink.emit(event(), NAMES)
    sink.threat(threat(), "opened")
    sink.finish(time.monotonic() + 5)
    sink.join(time.monotonic() + 5)
    assert (tmp_path / "t.tsv").read_text().split("\\t")[2:4] == ["203.0.113.5", "192.168.1.100"]
"""

SINK_AT_WORK = """
import json, pathlib
from trafficmond.config.flags import parse_flags
from trafficmond.config.load import load_settings

file = pathlib.Path("tsv.toml")
file.write_text('[[log]]\\nformat = "tsv"\\n')
print(json.dumps([load_settings(file).logs[0].format,
                  load_settings(file, parse_flags(["--log-format", "tsv"])).logs[0].format,
                  load_settings(None, parse_flags(["--log-file", "x.tsv"])).logs[0].format]))
"""


def test_a_sink(tree: TreeCopy) -> None:
    row = '    Format("tsv", "tsv:Tsv", "tab-separated values, events only", (".tsv",)),\n'
    tree.add("trafficmond/sinks/tsv.py", SINK)
    tree.edit(
        "trafficmond/config/formats.py",
        ('    Format("csv", "csv:Csv", "comma-separated values, events only", (".csv",)),\n', row),
    )
    tree.add("tests/sinks/test_sinks_tsv.py", SINK_TEST)
    tree.edit("docs/logs.md", ("It holds events only.\n", "- **`tsv`**: the same with tabs, without a header.\n"))
    tree.make_docs()

    assert tree.json(SINK_AT_WORK) == ["tsv"] * 3
    assert "tsv" in tree.run("-m", "trafficmond", "--help")
    assert "tsv (tab-separated values, events only)" in (tree.root / "docs/configuration.md").read_text()
    assert re.search(r"tsv\s+(# )?\(tab-", (tree.root / "etc/trafficmond.toml").read_text())
    tree.tests_pass("tests/sinks/test_sinks_tsv.py", "tests/sinks/test_sinks_formats.py", "-k", "tabs or described")
    assert len(tree.touched) <= 4


READER = '''"""Counts of a switch: time, source, destination, packets and bytes, one flow a line behind a mark."""

from __future__ import annotations

from collections.abc import Iterator

from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.rows import Records, recorded
from trafficmond.analyze.sample import Lacks, Sample
from trafficmond.analyze.source import Source
from trafficmond.analyze.values import address, count, moment
from trafficmond.flows.batch import Batch
from trafficmond.protocols import UDP

TITLE = "switch counts"

_MARK = "#switch-counts"


def lacks(sample: Sample) -> Lacks:
    """What keeps a file that begins so from holding such counts."""
    return [] if sample.lines[0] == _MARK else None


def read(source: Source, stats: RunStats) -> Iterator[Batch]:
    """RECORD rows, one a line."""
    return recorded(source.lines(), _add, source, "no counts")


def _add(line: bytes, records: Records) -> None:
    if not line.startswith(b"#"):
        at, src, dst, packets, octets = line.decode().split()
        sizes = count(packets), count(octets), 0
        records.add(address(src), address(dst), (1024, 9), UDP, (moment(at), moment(at)), sizes)
'''

READER_TEST = """from pathlib import Path

from trafficmond.analyze.run import analyze
from trafficmond.config.settings import Settings


def test_counts(tmp_path: Path) -> None:
    file = tmp_path / "counts"
    file.write_text("#switch-counts\\n1700000000 192.0.2.1 192.0.2.2 3 300\\nnonsense\\n")
    report = analyze([str(file)], Settings(), 0.0)
    assert report["summary"]["total_packets"] == 3
"""


def test_an_input_format(tree: TreeCopy) -> None:
    tree.add("trafficmond/analyze/readers/switch.py", READER)
    tree.edit(
        "trafficmond/analyze/formats.py",
        ("\nFORMATS = (\n", '    Format("switch", records=True),\n'),
    )
    tree.add("tests/analyze/test_analyze_switch.py", READER_TEST)
    tree.edit("docs/analyze.md", ("| format | tried with | notes |\n|---|---|---|\n", "| switch counts | a toy | |\n"))

    (tree.root / "counts").write_text("#switch-counts\n1700000000 192.0.2.1 192.0.2.2 3 300\nnonsense\n")
    summary = json.loads(tree.run("-m", "trafficctl", "-o", "json", "analyze", "counts"))["summary"]
    assert summary["sources"][0]["format"] == "switch counts"
    assert (summary["total_bytes"], summary["damaged"]) == (300, 1)
    tree.tests_pass("tests/analyze/test_analyze_switch.py", "tests/analyze/test_analyze_source.py")
    assert len(tree.touched) <= 4
