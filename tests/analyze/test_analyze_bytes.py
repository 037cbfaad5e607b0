"""Containers of bytes: what is whole is read up to its last record, and what is not is told with its place."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from trafficmond.analyze.formats import format_of
from trafficmond.analyze.parse_errors import ParseErrors
from trafficmond.analyze.run import analyze
from trafficmond.analyze.source import InputError, Source
from trafficmond.config.settings import Settings

_NOISE = random.Random(1)
EVENTS = [
    {
        **{"timestamp": 1700000000 + n // 100, "src_ip": f"192.0.2.{n % 250}", "dst_ip": "198.51.100.7"},
        **{"src_port": _NOISE.randrange(1024, 65536), "dst_port": 443, "protocol": "TCP", "protocol_num": 6},
        **{"packet_size": 40 + _NOISE.randrange(1400), "action": "LOG", "interface": "eth0"},
    }
    for n in range(20_000)
]
TEXT = b"".join(json.dumps(event).encode() + b"\n" for event in EVENTS)


def _read(content: bytes, tmp_path: Path) -> tuple[bytes, ParseErrors]:
    path = tmp_path / "input"
    path.write_bytes(content)
    source = Source(str(path), ParseErrors())
    parts = []
    while part := source.read():
        parts.append(part)
    source.close()
    return b"".join(parts), source.parse_errors


def _as_far_as_zlib(content: bytes) -> bytes:
    found, member = [], zlib.decompressobj(wbits=31)
    for at in range(0, len(content), 16):
        found.append(member.decompress(content[at : at + 16]))
    return b"".join(found) + member.flush()


@pytest.mark.parametrize("lines", [200, 2000, 20_000])
@pytest.mark.parametrize("cut", [1, 7, 20, 100, 5000])
def test_gzip_cut_short_gives_all_that_zcat_gives(lines: int, cut: int, tmp_path: Path) -> None:
    text = b"".join(TEXT.splitlines(keepends=True)[:lines])
    content = gzip.compress(text)
    content = content[: -min(cut, len(content) // 2)]
    found, parse_errors = _read(content, tmp_path)
    assert found == _as_far_as_zlib(content)
    assert parse_errors.total == 1
    assert parse_errors.places[0].where == f"offset {len(found)}"
    assert "is cut off" in parse_errors.places[0].what


@pytest.mark.parametrize("behind", [b"garbage", b"\x1f\x8bno", b"x" * 200_000], ids=["short", "like one", "long"])
@pytest.mark.parametrize("members", [1, 3])
def test_what_stands_behind_gzip_is_said(behind: bytes, members: int, tmp_path: Path) -> None:
    third = len(TEXT) // members + 1
    content = b"".join(gzip.compress(TEXT[at : at + third]) for at in range(0, len(TEXT), third))
    found, parse_errors = _read(content + behind, tmp_path)
    assert found == TEXT
    assert parse_errors.total == 1
    assert f"follows after member {members}" in parse_errors.places[0].what


def test_zeros_behind_gzip_are_padding(tmp_path: Path) -> None:
    assert _read(gzip.compress(TEXT) + b"\0" * 100_000, tmp_path)[1].total == 0


def test_a_member_cut_in_the_middle_does_not_hide_the_next(tmp_path: Path) -> None:
    """As a log holds it whose writer was killed and began again."""
    first = gzip.compress(TEXT[:200_000])
    found, parse_errors = _read(first[:-3000] + gzip.compress(b"next\n" * 1000), tmp_path)
    assert found.endswith(b"next\n" * 1000)
    assert parse_errors.total == 1


def test_a_spoiled_byte_costs_what_is_behind_it(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(TEXT))
    content[len(content) // 2] ^= 0xFF
    found, parse_errors = _read(bytes(content), tmp_path)
    assert len(found) > len(TEXT) // 3
    assert parse_errors.total == 1


PROGRAMS = {"zstd": "zstd", "xz": "xz-utils", "bzip2": "bzip2", "lz4": "lz4", "lzip": "lzip"}


def _pack(program: str, content: bytes, *options: str) -> bytes:
    if shutil.which(program) is None:
        pytest.skip(f"needs the {program} program: apt install {PROGRAMS[program]}")
    return subprocess.run([program, "-q", "-c", *options], input=content, capture_output=True, check=True).stdout


def _zstd(content: bytes) -> bytes:
    return _pack("zstd", content)


@pytest.mark.parametrize("kind", [0x50, 0x5F])
def test_zstd_that_begins_with_a_frame_to_skip(kind: int, tmp_path: Path) -> None:
    """As pzstd writes it (RFC 8878, 3.1.2)."""
    skipped = bytes((kind,)) + b"\x2a\x4d\x18\x04\0\0\0abcd"
    assert _read(skipped + _zstd(TEXT) + skipped + _zstd(b"more\n"), tmp_path) == (TEXT + b"more\n", ParseErrors())


@pytest.mark.parametrize("kind", ["two frames", "garbage behind", "cut"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_ends_of_what_other_programs_compressed(kind: str, program: str, tmp_path: Path) -> None:
    content = _pack(program, TEXT, *_IN_SMALL_BLOCKS.get(program, ()))
    if kind == "two frames":
        assert _read(content + _pack(program, b"more\n"), tmp_path) == (TEXT + b"more\n", ParseErrors())
    elif kind == "garbage behind":
        found, parse_errors = _read(content + b"garbage", tmp_path)
        assert (found, parse_errors.total) == (TEXT, 0 if program in _PASS_OVER_GARBAGE else 1)
    else:
        found, parse_errors = _read(content[:-1000], tmp_path)
        assert TEXT.startswith(found)
        # They write a block at a time; how much lzip drops that it had not written yet depends on the moment.
        assert program == "lzip" or len(found) > len(TEXT) - 1_100_000
        assert parse_errors.total == 1


_PASS_OVER_GARBAGE = ("bzip2", "lzip")
_IN_SMALL_BLOCKS = {"lz4": ("-B4",)}


def test_lzma_is_read_with_xz(tmp_path: Path) -> None:
    assert _read(_pack("xz", TEXT, "--format=lzma"), tmp_path) == (TEXT, ParseErrors())


@pytest.mark.parametrize(
    ("content", "name", "what"),
    [
        (b"\x28\xb5\x2f\xfd\0\xa8\1\0\0", "zstd", "memory"),  # a window of 2 GiB
        (b"\x1f\x8b\x08 these are no flags", "gzip", "header"),
    ],
    ids=["zstd", "gzip"],
)
def test_what_cannot_be_unpacked_is_not_called_empty(content: bytes, name: str, what: str, tmp_path: Path) -> None:
    if name == "zstd":
        _zstd(b"")
    path = tmp_path / "in"
    path.write_bytes(content)
    source = Source(str(path), ParseErrors())
    with pytest.raises(InputError, match=f"nothing of in can be unpacked: .*{what}") as caught:
        format_of(source)
    source.close()
    assert caught.value.hint.endswith(f"{name} -t {path}")


@pytest.mark.parametrize("kind", ["plain", "gzip", "zstd"])
def test_standard_input_is_unpacked_as_well(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"plain": bytes, "gzip": gzip.compress, "zstd": _zstd}[kind](TEXT)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
    report = analyze(["-"], Settings(), 0.0)
    assert report["summary"]["total_packets"] == len(EVENTS)
    assert report["damage"]["total"] == 0


# ---- beginnings ----

ZEEK = (
    "#separator \\x09\n#path\tconn\n#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\t"
    "orig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes\n1700000000.1\tC9\t192.0.2.10\t5353\t198.51.100.53\t53\tudp\t"
    "SF\t1\t60\t1\t200\n"
)
ARGUS = (
    "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,SrcPkts,TotPkts,TotBytes\n"
    "2023/11/14 22:13:20.5,1,udp,192.0.2.10,5353,<->,198.51.100.53,53,CON,1,2,260\n"
)
VPC = "2 123456789012 eni-0aa 192.0.2.10 198.51.100.7 40000 53 17 2 260 1700000000 1700000060 ACCEPT OK\n"
EVE = json.dumps(
    {
        **{"timestamp": "2023-11-14T22:13:20.500000+0000", "flow_id": 1, "event_type": "flow", "proto": "UDP"},
        **{"src_ip": "192.0.2.10", "src_port": 5353, "dest_ip": "198.51.100.53", "dest_port": 53},
        "flow": {"pkts_toserver": 1, "pkts_toclient": 1, "bytes_toserver": 60, "bytes_toclient": 200},
    }
)
ZEEK_JSON = json.dumps(
    {
        **{"ts": 1700000000.1, "id.orig_h": "192.0.2.10", "id.orig_p": 5353, "id.resp_h": "198.51.100.53"},
        **{"id.resp_p": 53, "proto": "udp", "conn_state": "SF", "orig_pkts": 1, "orig_ip_bytes": 60},
        **{"resp_pkts": 1, "resp_ip_bytes": 200},
    }
)
OWN = "".join(json.dumps({**EVENTS[0], "packet_size": size}) + "\n" for size in (60, 200))
CSV = "timestamp,src_ip,dst_ip,src_port,dst_port,protocol,packet_size,action\n" + "".join(
    f"1700000000,192.0.2.10,198.51.100.53,5353,53,UDP,{size},LOG\n" for size in (60, 200)
)
EVERY = {
    **{"zeek": ZEEK, "argus": ARGUS, "vpc": VPC, "eve": EVE, "zeek json": ZEEK_JSON, "own": OWN, "csv": CSV},
}
BEFORE = {
    "nothing": b"",
    "mark": b"\xef\xbb\xbf",
    "nuls": b"\0" * 100_000,
    "nuls and mark": b"\0" * 5 + b"\xef\xbb\xbf",
    "half a line": b'7,"b":"x","c":{"d":[1,2]}}\n',
    "a long half": b"x" * 300_000 + b'"}\n',
    "empty lines": b"\r\n\r\n",
}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("name", EVERY)
def test_every_log_begins_where_it_begins(name: str, before: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(BEFORE[before] + EVERY[name].encode())
    report = analyze([str(path)], Settings(), 0.0)
    assert (report["summary"]["total_packets"], report["summary"]["total_bytes"]) == (2, 260)
    assert report["damage"]["total"] == (1 if "half" in before else 0)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("name", EVERY)
def test_every_log_as_windows_writes_it(name: str, ending: str, encoding: str, tmp_path: Path) -> None:
    text = EVERY[name].replace("\n", ending)
    path = tmp_path / "log"
    path.write_bytes((text if encoding == "utf-16" else "\ufeff" + text).encode(encoding))
    report = analyze([str(path)], Settings(), 0.0)
    assert report["summary"]["total_bytes"] == 260
    assert report["damage"]["total"] == 0


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("ending", ["\r", "\n\r", "\r\r\n"])
def test_every_log_with_other_ends_of_lines(name: str, ending: str, tmp_path: Path) -> None:
    """Of old Macs, and of what was converted in the wrong direction or twice."""
    path = tmp_path / "log"
    path.write_bytes(EVERY[name].replace("\n", ending).encode())
    report = analyze([str(path)], Settings(), 0.0)
    assert (report["summary"]["total_bytes"], report["damage"]["total"]) == (260, 0)


@pytest.mark.parametrize("name", ["eve", "zeek json", "own"])
@pytest.mark.parametrize("raw", ["a\tb", "a\x1b[0m"])
def test_a_text_may_have_control_characters(name: str, raw: str, tmp_path: Path) -> None:
    """Which JSON forbids, and some shippers leave. What is cut off in a text is still damage, and nothing else."""
    path = tmp_path / "log"
    path.write_text(EVERY[name].replace("{", '{"note": "' + raw + '", '))
    assert analyze([str(path)], Settings(), 0.0)["summary"]["total_bytes"] == 260
    path.write_text('{"note": "half' + "\n" + EVERY[name])
    report = analyze([str(path)], Settings(), 0.0)
    assert (report["summary"]["total_bytes"], report["damage"]["total"]) == (260, 1)


@pytest.mark.parametrize("name", ["eve", "zeek json"])
def test_a_first_record_may_be_long(name: str, tmp_path: Path) -> None:
    long = json.dumps({**json.loads(EVERY[name]), "payload": "x" * 900_000, "flow_id": 2})
    path = tmp_path / "log"
    path.write_text(long + "\n" + EVERY[name])
    assert analyze([str(path)], Settings(), 0.0)["summary"]["total_bytes"] == 520


def test_joined_files_with_a_mark_each(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"\xef\xbb\xbf" + EVERY["zeek"].replace("C9", uid).encode() for uid in ("C8", "C9")))
    assert analyze([str(path)], Settings(), 0.0)["summary"]["total_bytes"] == 520
    path.write_bytes(b"\xef\xbb\xbf" + OWN.encode() + b"\xef\xbb\xbf" + OWN.encode())
    assert analyze([str(path)], Settings(), 0.0)["damage"]["total"] == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("srcaddr dstaddr protocol packets bytes\n192.0.2.1 192.0.2.2 6 1 60\n", "AWS VPC flow log, but lacks start"),
        (ARGUS.replace("TotPkts", "Pakete"), "Argus binetflow, but lacks totpkts"),
        (CSV.replace("packet_size", "length"), "traffic log (CSV), but lacks packet_size"),
        (
            json.dumps({**EVENTS[0], "action": "LOG"}).replace('"action"', '"verdict"'),
            "traffic log (JSON), but lacks action",
        ),
        ("PK\x03\x04", "unzip -p"),
        ("7z\xbc", "has an unknown format"),
        ("__CURSOR=s=1\n__REALTIME_TIMESTAMP=1\n", "a journal in its export format"),
        ("snoop\0\0\0\0\0\2", "tshark"),
        ("\ufd37", "has an unknown format"),
    ],
)
def test_an_unknown_file_is_refused_with_what_it_is_like_and_lacks(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        format_of(Source(str(path), ParseErrors()))
    assert said in f"{error.value}; {error.value.hint}"
