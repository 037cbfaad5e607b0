from __future__ import annotations

import os
from pathlib import Path

import pytest

from trafficmond.config.streams import Log
from trafficmond.sinks import files
from trafficmond.sinks.array import ArrayFile
from trafficmond.sinks.files import LineFile, Stream, cut_half_line, is_stream


def log(path: Path, rotate_size: int = 0) -> Log:
    return Log(format="jsonl", path=path, rotate_size=rotate_size, compress=False)


def rotated(path: Path) -> list[str]:
    return [p.read_text() for p in sorted(path.parent.glob(path.name + ".*"))]


def test_lines_are_appended_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "deep/er/t.jsonl"
    for text in (b"one\n", b"two\nthree\n"):
        file = LineFile(log(path))
        file.append(text)
        file.close()
    assert path.read_text() == "one\ntwo\nthree\n"
    assert path.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize(
    ("left", "kept"),
    [(b"one\ntwo", b"one\n"), (b"half", b""), (b"one\n" + b"x" * 200_000, b"one\n"), (b"one\n\0\0\0", b"one\n")],
)
def test_a_half_line_that_a_crash_left_is_cut(tmp_path: Path, left: bytes, kept: bytes) -> None:
    path = tmp_path / "t"
    path.write_bytes(left)
    file = LineFile(log(path))
    file.append(b"next\n")
    file.close()
    assert path.read_bytes() == kept + b"next\n"


def test_what_is_whole_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"one\ntwo\n")
    fd = os.open(path, os.O_RDWR)
    cut_half_line(fd)
    os.close(fd)
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_new_file_begins_before_the_size_is_passed(tmp_path: Path) -> None:
    path = tmp_path / "t"
    file = LineFile(log(path, 30), b"head\n", clock=lambda: 0.0)
    for number in range(6):
        file.append(b"%09d\n" % number)
    file.close()
    assert rotated(path) == ["head\n000000000\n000000001\n", "head\n000000002\n000000003\n"]
    assert path.read_text() == "head\n000000004\n000000005\n"


def test_a_line_larger_than_the_limit_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "t"
    file = LineFile(log(path, 10), clock=lambda: 0.0)
    file.append(b"x" * 50 + b"\n")
    file.append(b"y\n")
    assert (len(rotated(path)), path.read_text()) == (1, "y\n")


def test_a_header_comes_once_and_another_ones_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("other,head\n1,2\n")
    for _ in range(2):
        file = LineFile(log(path), b"head\n", clock=lambda: 0.0)
        file.append(b"row\n")
        file.close()
    assert path.read_text() == "head\nrow\nrow\n"
    assert rotated(path) == ["other,head\n1,2\n"]


@pytest.mark.parametrize("tell", [True, False])
def test_a_file_moved_by_logrotate_is_begun_anew(tmp_path: Path, tell: bool) -> None:
    path = tmp_path / "t"
    file = LineFile(log(path))
    file.append(b"one\n")
    path.rename(tmp_path / "moved")
    if tell:
        file.reopen()
    file.append(b"two\n")
    assert ((tmp_path / "moved").read_text(), path.read_text()) == ("one\n", "two\n")


def test_a_file_truncated_by_copytruncate_continues(tmp_path: Path) -> None:
    path = tmp_path / "t"
    file = LineFile(log(path), b"head\n")
    file.append(b"one\n")
    os.truncate(path, 0)
    file.append(b"two\n")
    assert path.read_text() == "head\ntwo\n"
    assert file.shortened == 1


def test_a_file_cut_in_the_middle_of_a_line_continues_with_whole_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t"
    file = LineFile(log(path))
    file.append(b"one\ntwo\nthree\n")
    os.truncate(path, 6)
    file.append(b"four\n")
    assert path.read_text() == "one\nfour\n"
    assert file.shortened == 1
    assert "shortened by another program" in caplog.text


def test_a_failed_write_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t"
    file = LineFile(log(path))
    file.append(b"one\n")
    write = os.write
    calls = iter([lambda fd, data: write(fd, data[:2]), lambda _fd, _data: (_ for _ in ()).throw(OSError(28, "full"))])
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", lambda fd, data: next(calls)(fd, data))
        with pytest.raises(OSError, match="full"):
            file.append(b"two\n")
    assert path.read_text() == "one\n"
    file.append(b"two\n")
    assert path.read_text() == "one\ntwo\n"


def test_a_stream_continues_where_a_failed_write_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    stream = Stream(fd=writer)
    write = os.write
    calls = iter([lambda fd, data: write(fd, data[:2]), lambda _fd, _data: (_ for _ in ()).throw(OSError(11, "busy"))])
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", lambda fd, data: next(calls)(fd, data))
        with pytest.raises(OSError, match="busy"):
            stream.append(b"line\n")
    stream.append(b"line\n")
    stream.append(b"next\n")
    os.close(writer)
    assert os.read(reader, 100) == b"line\nnext\n"
    os.close(reader)


@pytest.mark.parametrize("form", ["jsonl", "csv", "json"])
@pytest.mark.parametrize("there", ["a pipe", "a link to a device", "a folder"])
def test_what_takes_the_place_of_a_log_is_neither_written_nor_rotated(tmp_path: Path, form: str, there: str) -> None:
    path = tmp_path / "log"
    file = ArrayFile(log(path)) if form == "json" else LineFile(log(path), b"header\n" if form == "csv" else b"")
    file.append(b"{}\n")
    path.unlink()
    if there == "a pipe":
        os.mkfifo(path)
    elif there == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/full")
    before = path.lstat()
    with pytest.raises(OSError, match="directory" if there == "a folder" else "not a regular file"):
        file.append(b"{}\n")
    assert path.lstat().st_ino == before.st_ino
    assert [each for each in tmp_path.iterdir() if not each.name.startswith(".")] == [path]


def test_what_is_a_stream(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    assert [is_stream(p) for p in (None, tmp_path / "pipe", Path("/dev/null"))] == [True, True, True]
    files = (tmp_path / "file", tmp_path / "none", tmp_path / ("n" * 256))
    assert [is_stream(p) for p in files] == [False, False, False]
