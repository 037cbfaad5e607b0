"""Files of the daemon's own: what stands in the place of one never holds anybody up."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from trafficmond import files


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(path))


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        Path.mkdir,
        _socket,
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/dev/ptmx"),
    ],
)
@pytest.mark.parametrize("use", [files.read, lambda path: files.append(path, "x")])
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], None], use: Callable[[Path], object]
) -> None:
    path = tmp_path / "state"
    make(path)
    with pytest.raises(OSError, match="state"):
        use(path)


def test_a_file_is_read_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert [files.append(path, text) for text in ("one\n", "two\n")] == [4, 8]
    assert files.read(path) == b"one\ntwo\n"


def test_what_a_full_disk_takes_in_part_is_not_appended(tmp_path: Path) -> None:
    """Half a line would spoil the next one, and with it the whole file."""
    path = tmp_path / "lines"
    files.append(path, "one\n")
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9, usual[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            files.append(path, "two, a longer line\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert files.append(path, "three\n") == 10
    assert path.read_text() == "one\nthree\n"


def test_a_damaged_file_that_has_grown_is_not_read(tmp_path: Path) -> None:
    """A gigabyte of zeros, as a crash may leave, took the memory of a start and half a minute."""
    path = tmp_path / "in-force.json"
    path.write_text("{}")
    os.truncate(path, 1 << 30)
    with pytest.raises(OSError, match="larger than 512 MiB"):
        files.read(path)
