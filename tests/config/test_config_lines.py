from __future__ import annotations

from trafficmond.config.lines import key_lines, line_of

TEXT = """\
a = 1
"b c" = 2

[t] # comment
x.y = 3
[[log]]
format = 1
[[ log ]]
  format = 2
[detect.port_scan]
ports = 1
"""


def test_lines_by_key() -> None:
    lines = key_lines(TEXT)
    assert [lines[key] for key in ("a", "t", "t.x.y", "log[0].format", "log[1]", "log[1].format")] == [1, 4, 5, 7, 8, 9]
    assert lines["detect.port_scan.ports"] == 11


def test_the_nearest_table_around() -> None:
    lines = key_lines(TEXT)
    assert line_of("log[1].path", lines) == 8
    assert line_of("t.x.z", lines) == 4
    assert line_of("nothing", lines) is None
