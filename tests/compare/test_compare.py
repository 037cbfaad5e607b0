"""The referee itself: it sees what differs, and says why where somebody knows."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "analyze"))

import compare
import dissected
import referees
from captures import AT, ethernet, ipv4, ipv6, pcap, tcp, udp
from conversations import Conversations
from explained import EXPLAINED

SMALL = ("logs", "original")


@pytest.mark.parametrize("folder", SMALL)
def test_nothing_is_unexplained_in_the_small_files(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not compare.DATA.exists():
        pytest.skip(f"needs the test data in {compare.DATA} (logs of others; not in this repository)")
    assert compare.main([str(compare.DATA / folder)]) == 0
    assert "0 unexplained" in capsys.readouterr().out


@pytest.mark.parametrize("file", sorted({name for name, *_ in EXPLAINED}))
def test_each_explanation_is_of_a_difference_that_is_there(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = list(compare.DATA.rglob(file))
    if not found:
        pytest.skip(f"needs {file} in {compare.DATA} (captures and logs of others; not in this repository)")
    if shutil.which("tshark") is None:
        pytest.skip("needs tshark")
    assert compare.main([str(found[0])]) == 0
    said = capsys.readouterr().out
    for name, printed, why in EXPLAINED:
        assert name != file or (re.search(printed, said) and why in said)


def _frames(change: str) -> list[tuple[float, bytes]]:
    there, back = ipv4(tcp(40000, 443)), ipv4(tcp(443, 40000, 0x12), src="198.51.100.2", dst="192.0.2.1")
    asks = ethernet(ipv6(bytes([135, 0]) + bytes(22), 58, dst="ff02::1:ff00:2"), 0x86DD)
    tells = ethernet(ipv6(bytes([136, 0]) + bytes(22), 58, dst="ff02::1"), 0x86DD)
    frames = [ethernet(there), ethernet(back), ethernet(ipv4(udp(), 17)), asks, tells, ethernet(b"\0" * 28, 0x0806)]
    if change == "answer first":
        frames[0], frames[1] = frames[1], frames[0]
    elif change == "short":
        frames.append(ethernet(ipv4(tcp()[:12])))
    elif change == "only short":
        frames = [ethernet(ipv4(tcp()[:12]))]
    elif change == "fragments":
        more, last = bytearray(ipv4(udp() + bytes(5), 17)), bytearray(ipv4(bytes(16), 17))
        more[6], last[7] = 0x20, 2
        frames += [ethernet(bytes(more)), ethernet(bytes(last))]
    elif change == "extension":
        frames.append(ethernet(ipv6(bytes([44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 7]) + udp(), 0), 0x86DD))
    elif change == "mapped":
        frames.append(ethernet(ipv6(udp(), 17, dst="::ffff:192.0.2.2"), 0x86DD))
    return [(AT + at / 8, frame) for at, frame in enumerate(frames)]


@pytest.mark.parametrize("change", ["", "answer first", "short", "only short", "fragments", "extension", "mapped"])
@pytest.mark.parametrize("form", [{}, {"order": ">", "magic": 0xA1B23C4D}, {"magic": 0xA1B2CD34}])
def test_tshark_and_the_report_say_the_same(
    change: str, form: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("needs tshark")
    path = tmp_path / "capture"
    path.write_bytes(pcap(_frames(change), **form))
    assert compare.main([str(path)]) == 0, capsys.readouterr().out
    assert "no differences" in capsys.readouterr().out


def test_a_packet_more_is_a_difference_to_tshark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("needs tshark")
    whole, less = tmp_path / "whole", tmp_path / "less"
    whole.write_bytes(pcap(_frames("")))
    less.write_bytes(pcap(_frames("")[1:]))
    monkeypatch.setitem(referees.BY_TITLE, "packet capture (pcap, pcapng)", lambda _: dissected.tshark(less))
    said = [line for line, _ in compare.differences(whole, "packet capture (pcap, pcapng)")]
    named = "tcp 192.0.2.1 port 40000 and 198.51.100.2 port 443"
    assert f"{named}: packets 2, by the referee 1" in said
    assert any(line.startswith(f"{named}: first time") for line in said)


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
