"""Inputs: compressed or not, piped, spoiled, or not there at all."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trafficmond.analyze import source as module
from trafficmond.analyze.formats import FORMATS, format_of
from trafficmond.analyze.parse_errors import ParseErrors
from trafficmond.analyze.sample import Sample
from trafficmond.analyze.source import InputError, Source

TEXT = b"".join(b"line %d\n" % n for n in range(20_000))


def _all(source: Source) -> bytes:
    parts = []
    while part := source.read():
        parts.append(part)
    source.close()
    return b"".join(parts)


def _zstd(content: bytes) -> bytes:
    program = shutil.which("zstd")
    if program is None:
        pytest.skip("needs the zstd program: apt install zstd")
    return subprocess.run([program, "-q", "-c"], input=content, capture_output=True, check=True).stdout


@pytest.mark.parametrize("kind", ["", "gzip", "gzip twice", "zstd"])
def test_compression_is_recognised_by_content(kind: str, tmp_path: Path) -> None:
    content = {
        "": lambda: TEXT,
        "gzip": lambda: gzip.compress(TEXT),
        "gzip twice": lambda: gzip.compress(TEXT[:1000]) + gzip.compress(TEXT[1000:]),
        "zstd": lambda: _zstd(TEXT),
    }[kind]()
    path = tmp_path / "name.txt"
    path.write_bytes(content)
    source = Source(str(path), ParseErrors())
    assert source.compressed == kind.split(" ")[0]
    assert source.head == TEXT[: module.HEAD]
    assert _all(source) == TEXT
    assert source.parse_errors.total == 0


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("cut", [0.5, 0.95])
def test_a_truncated_stream_gives_what_it_has_and_reports_it(kind: str, cut: float, tmp_path: Path) -> None:
    noise = b"noise" + bytes(range(256)) * 40 + TEXT
    content = gzip.compress(noise, 1) if kind == "gzip" else _zstd(noise * 20)
    path = tmp_path / "cut"
    path.write_bytes(content[: int(len(content) * cut)])
    source = Source(str(path), ParseErrors())
    found = _all(source)
    assert (noise * 20).startswith(found)
    assert list(source.parse_errors.kinds) == [f"{kind} stream damaged"]


def test_a_spoiled_gzip_stream_is_damage(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(TEXT))
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / "spoiled.gz"
    path.write_bytes(content)
    source = Source(str(path), ParseErrors())
    assert TEXT.startswith(_all(source)[:100])
    assert source.parse_errors.total == 1


def test_zstd_that_nothing_can_unpack_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + b"\0" * 20)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(InputError, match=r"apt install zstd"):
        Source(str(path), ParseErrors())


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    piped = io.TextIOWrapper(io.BufferedReader(io.BytesIO(gzip.compress(TEXT))))
    monkeypatch.setattr(sys, "stdin", piped)
    source = Source("-", ParseErrors())
    assert (source.name, source.size, source.done) == ("standard input", 0, 0.0)
    assert _all(source) == TEXT


def test_a_device_or_a_pipe_of_nuls_only_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/zero").open("rb") as zeros:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(zeros))
        monkeypatch.setattr(module, "NULS_MAX", 1 << 20)
        for path in ("-", "/dev/zero"):
            with pytest.raises(InputError, match="NUL bytes"):
                Source(path, ParseErrors())


def test_lines_keep_their_numbers_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 100)
    monkeypatch.setattr(module, "LINE_MAX", 1000)
    path = tmp_path / "lines"
    path.write_bytes(b"first\r\n\n" + b"x" * 5000 + b"\nlast but one\nlast")
    source = Source(str(path), ParseErrors())
    assert list(source.lines()) == [(1, b"first"), (2, b""), (4, b"last but one"), (5, b"last")]
    assert [place.where for place in source.parse_errors.places] == ["line 3"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        Source(str(tmp_path / "none"), ParseErrors())
    with pytest.raises(InputError, match="directory"):
        Source(str(tmp_path), ParseErrors())
    with pytest.raises(InputError, match="cannot read /proc/self/mem: Input/output error"):  # opens, as of a bad disk
        Source("/proc/self/mem", ParseErrors())


@pytest.mark.parametrize("content", [b"hello\n", b'{"some": "json"}', b"\0" * 100 + b"x", b"a,b,c\n1,2,3\n"])
def test_an_unknown_format_names_the_known_ones(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(content)
    with pytest.raises(InputError, match="has an unknown format") as error:
        format_of(Source(str(path), ParseErrors()))
    assert all(known.reader.TITLE in str(error.value) for known in FORMATS)


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\n")
    with pytest.raises(InputError, match="is empty"):
        format_of(Source(str(path), ParseErrors()))


def test_every_real_file_has_one_format(data: Path) -> None:
    expected = {
        "original/*traffic*": "traffic log",
        "pcaps/*/*": "packet capture",
        "flows/*conn*": "Zeek",
        "flows/*binetflow": "Argus",
        "logs/suricata*": "Suricata",
        "logs/vpcflow_raw*": "AWS VPC",
        "logs/vpcflow_ocsf*": "OCSF",
        "logs/zeek*": "Zeek",
    }
    for pattern, title in expected.items():
        files = list(data.glob(pattern))
        assert files, pattern
        for file in files:
            head = Source(str(file), ParseErrors()).head
            found = [known.reader.TITLE for known in FORMATS if known.reader.lacks(Sample(head)) == []]
            assert len(found) == 1, (file, found)
            assert found[0].startswith(title)
