"""A queue on the disk: in order, bounded, whole after a crash."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from trafficmond.export.spool import Spool


def test_what_is_put_comes_out_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a" / "b", 1 << 20)
    for number in range(3):
        spool.put(10 + number, {"batch": f"b{number}"}, b"\n" * number)
    assert (spool.flows, spool.oldest(0)) == (33, spool.oldest(0))
    for number in range(3):
        entry = spool.oldest(0)
        assert entry is not None
        assert not entry.left
        assert spool.read(entry) == ({"batch": f"b{number}", "bytes": number}, b"\n" * number)
        spool.remove(entry)
    assert (spool.oldest(0), spool.flows, spool.bytes, list((tmp_path / "a" / "b").iterdir())) == (None, 0, 0, [])


def test_the_next_process_continues(tmp_path: Path) -> None:
    first = Spool(tmp_path, 1 << 20)
    first.put(7, {"batch": "b"}, b"body")
    (tmp_path / ".000000000002-9.batch.tmp").write_bytes(b"half a fi")  # a crash while it was written
    (tmp_path / "unrelated").write_bytes(b"")
    again = Spool(tmp_path, 1 << 20)
    again.put(8, {"batch": "c"}, b"")
    entry = again.oldest(0)
    assert entry is not None
    assert (entry.left, entry.flows, again.flows) == (True, 7, 15)
    again.remove(entry)
    entry = again.oldest(0)
    assert entry is not None
    assert (entry.left, entry.flows) == (False, 8)
    assert not (tmp_path / ".000000000002-9.batch.tmp").exists()
    assert (tmp_path / "unrelated").exists()


def test_it_is_bounded(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 500)
    spool.put(1, {}, b"x" * 300)
    with pytest.raises(OSError, match="is full"):
        spool.put(1, {}, b"x" * 300)
    assert (len(list(tmp_path.iterdir())), spool.flows) == (1, 1)
    entry = spool.oldest(0)
    assert entry is not None
    spool.remove(entry)
    spool.put(1, {}, b"x" * 300)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]\nx", b'{"bytes": 5}\nabcd', b"\xff\n"])
def test_a_damaged_file_is_distinguished(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "000000000001-3.batch").write_bytes(content)
    spool = Spool(tmp_path, 1 << 20)
    entry = spool.oldest(0)
    assert entry is not None
    with pytest.raises(ValueError):  # noqa: PT011 - json's own are among them
        spool.read(entry)
    assert entry.flows == 3


def test_waiting_for_an_entry(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    threading.Timer(0.1, spool.put, (1, {}, b"")).start()
    assert spool.oldest(5) is not None


def test_a_file_that_a_crash_has_grown_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "000000000001-3.batch").write_bytes(b"{}\n")
    os.truncate(tmp_path / "000000000001-3.batch", 600 << 20)  # zeros that take no space
    entry = Spool(tmp_path, 1 << 20).oldest(0)
    assert entry is not None
    with pytest.raises(ValueError, match="damaged"):
        Spool(tmp_path, 1 << 20).read(entry)
