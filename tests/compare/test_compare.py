"""The referee itself: it sees what differs, and says why where somebody knows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

import compare
import referees
from referees import Conversations

SMALL = ("logs", "original")


@pytest.mark.parametrize("folder", SMALL)
def test_nothing_is_unexplained_in_the_small_files(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not compare.DATA.exists():
        pytest.skip(f"needs the test data in {compare.DATA} (logs of others; not in this repository)")
    assert compare.main([str(compare.DATA / folder)]) == 0
    assert "0 unexplained" in capsys.readouterr().out


LOG = (
    "timestamp,src_ip,dst_ip,src_port,dst_port,protocol,protocol_num,packet_size,action\n"
    "1700000000,192.0.2.1,192.0.2.2,40000,443,TCP,6,60,LOG\n"
    "1700000003,192.0.2.2,192.0.2.1,443,40000,TCP,6,1000,LOG\n"
)


def _otherwise(path: Path, change: str) -> Conversations:
    found = referees.own(path)
    ((key, sums),) = found.items()
    if change == "packets":
        sums.packets += 1
    elif change == "bytes":
        sums.bytes -= 1
    elif change == "began":
        sums.began = {("192.0.2.2", 443)}
    elif change == "time":
        sums.last += 0.5
    elif change == "protocol":
        return {(key[0], "udp"): sums}
    return found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("nothing", "no differences"),
        ("packets", "packets 2, by the referee 3"),
        ("bytes", "bytes 1060, by the referee 1059"),
        ("began", "begun by 192.0.2.1 port 40000, by the referee 192.0.2.2 port 443"),
        ("time", "last time 2023-11-14T22:13:23.000Z, by the referee 2023-11-14T22:13:23.500Z"),
        ("protocol", "the referee does not have it"),
    ],
)
def test_each_kind_of_difference_is_seen(
    change: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    monkeypatch.setitem(referees.BY_TITLE, "traffic log (CSV)", lambda _: _otherwise(path, change))
    assert compare.main([str(path)]) == (0 if change == "nothing" else 1)
    assert said in capsys.readouterr().out


def test_nothing_to_compare_is_said(tmp_path: Path) -> None:
    assert compare.main([str(tmp_path)]) == 2
